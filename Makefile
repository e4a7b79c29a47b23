# Two commands do everything on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed
DEMO ?= runs-demo
# The networks are small: one thread per process is fastest, two fight each other.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo install lint types test test-lowest slow browser docs wheel clean

help:
	@echo "make demo    install, then collect, fit, evaluate and draw on the embedded Risky PointMass world"
	@echo "make test    install, then lint, types and tests"
	@echo "make test-lowest  the tests under the lowest versions that pyproject.toml allows (gigabytes: torch with CUDA)"
	@echo "make slow    the long tests"
	@echo "make browser the tests of the dashboard and of the documentation in headless Chromium"
	@echo "make docs    the documentation site, in docs/_build/html"
	@echo "make wheel   build the wheel, install it alone and run it"
	@echo "make clean   remove the virtual environments and the demo's runs"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	mkdir -p $(DEMO)
	MINARI_DATASETS_PATH=$(abspath $(DEMO))/datasets $(BIN)/cdsa collect --task risky-pointmass --overwrite
	MINARI_DATASETS_PATH=$(abspath $(DEMO))/datasets $(BIN)/cdsa fit --config configs/risky_pointmass.yaml --trainer.max_steps 3000 --runs $(DEMO)
	MINARI_DATASETS_PATH=$(abspath $(DEMO))/datasets $(BIN)/cdsa evaluate --baseline shortest_path --task risky-pointmass --episodes 1000 --runs $(DEMO)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest

# What pyproject.toml names comes as old as it allows, what that in turn needs as new as fits.
test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e ".[dev]"
	PATH="$(abspath $(LOWEST))/bin:$$PATH" $(LOWEST)/bin/python -m pytest

slow: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,sb3]"
	$(BIN)/python -m pytest -m slow

browser: docs
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ echo "make browser needs Chromium: apt-get install -y chromium" >&2; exit 1; }
	$(BIN)/python -m pytest -m browser

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -c docs . docs/_build/html

wheel:
	PYTHON=$(PYTHON) .ci/wheel

clean:
	rm -rf $(VENV) $(LOWEST) $(DEMO) docs/_build

"""The architecture as a test: imports point downwards, inside functions too.

`LAYERS` gives each part of the package its layer. A part may import lower layers and itself; of its own layer only
what `BESIDE` lists. A part that is in no table fails: whoever adds one says where it belongs.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"cdsa_lightning": ROOT / "cdsa_lightning", "cdsa_baselines": ROOT / "baselines" / "cdsa_baselines"}

LAYERS = {
    "arrays": 0,
    "errors": 0,
    "files": 0,
    "inspection": 0,
    "resources": 0,
    "untrusted": 0,
    "footers": 0,
    "allowance": 0,
    "tables": 0,
    "storages": 0,
    "torch_files": 0,
    "core": 0,
    "envs": 0,
    "sources": 0,
    "metrics": 0,
    "reference": 0,
    "tracking": 0,
    "tasks": 1,
    "presets": 1,
    "alarm": 1,
    "deploy": 1,
    "monitor": 1,
    "prometheus": 1,
    "comparison": 1,
    "runtime": 1,
    "table": 1,
    "mapping": 1,
    "weighting": 1,
    "acting": 2,
    "checkpoints": 2,
    "collection": 2,
    "data": 2,
    "export": 2,
    "progress": 2,
    "journal": 2,
    "recipes": 2,
    "replay": 2,
    "logged": 2,
    "registry": 2,
    "rollout": 2,
    "runs": 2,
    "shards": 2,
    "stepping": 2,
    "updates": 2,
    "training": 2,
    "audit": 3,
    "evaluation": 3,
    "fitting": 3,
    "animation": 4,
    "arms": 4,
    "callbacks": 4,
    "dashboard": 4,
    "grid": 4,
    "plots": 4,
    "records": 4,
    "report": 4,
    "tuning": 4,
    "calls": 5,
    "cli": 5,
    "commands": 5,
    "given": 5,
}
"""Part of cdsa_lightning -> layer."""

BESIDE = {
    "checkpoints": {"data"},
    "core": {"errors", "files", "untrusted"},
    "torch_files": {"storages", "untrusted"},
    "files": {"errors", "untrusted"},
    "envs": {"errors"},
    "sources": {"errors", "tables", "untrusted"},
    "footers": {"untrusted"},
    "tables": {"footers", "untrusted"},
    "allowance": {"errors"},
    "metrics": {"errors"},
    "reference": {"errors"},
    "tracking": {"errors"},
    "resources": {"errors"},
    "mapping": {"table"},
    "weighting": {"table"},
    "monitor": {"alarm"},
    "prometheus": {"monitor"},
    "deploy": {"monitor"},
    "collection": {"rollout", "shards"},
    "recipes": {"collection", "shards"},
    "replay": {"acting", "data", "journal", "shards"},
    "rollout": {"acting"},
    "logged": {"data"},
    "stepping": {"checkpoints", "data", "updates"},
    "training": {"data", "runs", "stepping"},
    "arms": {"tuning"},
    "report": {"records"},
    "grid": {"plots", "records"},
    "calls": {"commands", "given"},
    "cli": {"commands"},
    "given": {"commands"},
}
"""Part -> parts of its own layer that it may import."""

BASELINES_MAY_IMPORT = {"core", "tasks", "data", "stepping", "errors", "inspection"}
BASELINES_MAY_IMPORT |= {"allowance", "storages", "torch_files", "untrusted"}
CORE_MAY_IMPORT = {"torch", "jaxtyping"}
CORE_FILES_MAY_ALSO_IMPORT = {"policy.py": {"numpy"}, "artifact.py": {"numpy", "safetensors"}}


def imported_modules(tree, module, is_package):
    """(line, dotted name) of all that is imported in `tree`; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node.lineno, str(node.args[0].value)


def arrow_problem(module, target):
    """What is wrong with `module` importing `target`; empty where nothing is."""
    package, part = (module.split(".") + [""])[:2]
    to_package, to_part = (target.split(".") + [""])[:2]
    if to_package not in PACKAGES or target == "cdsa_lightning.__version__":
        return ""
    if package == "cdsa_baselines":
        if to_package == "cdsa_baselines":
            private = to_part.startswith("_") or target.startswith("cdsa_baselines.foreign._")
            return "" if private else "a baseline imports another; what they share belongs into a private module"
        return "" if to_part in BASELINES_MAY_IMPORT else f"baselines import {sorted(BASELINES_MAY_IMPORT)} alone"
    if to_package == "cdsa_baselines":
        return "baselines are reached through the registry alone"
    if not part:
        return ""  # The package's front door stands above all layers.
    if part not in LAYERS or to_part not in LAYERS:
        return f"{part if part not in LAYERS else to_part!r} is in no layer: add it to LAYERS"
    if part == to_part or LAYERS[to_part] < LAYERS[part] or to_part in BESIDE.get(part, set()):
        return ""
    direction = "upwards" if LAYERS[to_part] > LAYERS[part] else "sideways"
    return f"{part} (layer {LAYERS[part]}) imports {direction} {to_part} (layer {LAYERS[to_part]})"


def core_problem(file, target):
    """What is wrong with a file of core importing `target`; empty where nothing is."""
    top = target.split(".")[0]
    allowed = CORE_MAY_IMPORT | CORE_FILES_MAY_ALSO_IMPORT.get(file, set()) | sys.stdlib_module_names
    return "" if top in allowed or top in PACKAGES else f"core is torch alone, {file} imports {top}"


def problems(module, file, source, is_package=False):
    """All arrows of one module that point the wrong way."""
    found = []
    for line, target in imported_modules(ast.parse(source), module, is_package):
        texts = [arrow_problem(module, target)]
        if module.startswith("cdsa_lightning.core"):
            texts.append(core_problem(Path(file).name, target))
        found += [f"{file}:{line}: {text} ({target})" for text in texts if text]
    return found


def modules():
    """(dotted name, path) of every module of both packages."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            names = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(names[:-1] if names[-1] == "__init__" else names)]), path


def test_imports_point_downwards():
    found = []
    for module, path in modules():
        name = str(path.relative_to(ROOT))
        found += problems(module, name, path.read_text(encoding="utf-8"), path.name == "__init__.py")
    assert not found, "\n" + "\n".join(found)


def test_every_module_has_a_layer():
    parts = {module.split(".")[1] for module, _ in modules() if module.startswith("cdsa_lightning.")}
    assert parts <= set(LAYERS), f"in no layer: {sorted(parts - set(LAYERS))}"


def test_what_stands_side_by_side_forms_no_circle():
    def reached(part, path):
        assert part not in path, f"circle: {' -> '.join([*path, part])}"
        for other in BESIDE.get(part, ()):
            assert LAYERS[other] == LAYERS[part], f"{part} -> {other} does not stand beside"
            reached(other, [*path, part])

    for part in BESIDE:
        reached(part, [])


@pytest.mark.parametrize(
    ("module", "source", "text"),
    [
        ("cdsa_lightning.tasks", "from cdsa_lightning.rollout import rollout", "upwards rollout"),
        (
            "cdsa_lightning.tasks",
            "def f():\n    import cdsa_lightning.cli",
            "x.py:2: tasks (layer 1) imports upwards cli",
        ),
        ("cdsa_lightning.rollout", "from cdsa_lightning import registry", "sideways registry"),
        ("cdsa_lightning.core.nets", "from ..tasks import get_task", "upwards tasks"),
        ("cdsa_lightning.core.nets", "from cdsa_lightning.envs import Lanes", "sideways envs"),
        ("cdsa_lightning.core.nets", "import lightning.pytorch", "core is torch alone"),
        ("cdsa_lightning.core.nets", "import numpy as np", "core is torch alone"),
        ("cdsa_lightning.cli", "import_module('cdsa_baselines.iql')", "through the registry alone"),
        ("cdsa_lightning.plots", "from cdsa_lightning.elsewhere import x", "'elsewhere' is in no layer"),
        ("cdsa_lightning.elsewhere", "from cdsa_lightning.errors import InputError", "'elsewhere' is in no layer"),
        ("cdsa_lightning.plots", "from cdsa_lightning import correct", "'correct' is in no layer"),
        ("cdsa_baselines.iql", "from cdsa_lightning.rollout import rollout", "baselines import"),
        ("cdsa_baselines.iql", "from cdsa_baselines.mlp import load", "a baseline imports another"),
        ("cdsa_baselines.iql", "from cdsa_baselines.mlp import _plain", "a baseline imports another"),
        ("cdsa_baselines.iql", "import cdsa_lightning", "baselines import"),
    ],
)
def test_a_wrong_arrow_is_found_with_its_line(module, source, text):
    (found, *_) = problems(module, "x.py", source)
    assert found.startswith("x.py:")
    assert text in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cdsa_lightning.rollout", "import torch\nfrom cdsa_lightning.core.policy import act"),
        ("cdsa_lightning.core.nets", "from .losses import x\nimport torch, math"),
        ("cdsa_lightning.training", "from cdsa_lightning import __version__"),
        ("cdsa_lightning", "from cdsa_lightning.cli import main"),
        (
            "cdsa_baselines.foreign.sb3",
            "from cdsa_baselines.foreign._zip import x\nfrom cdsa_lightning.tasks import Task",
        ),
    ],
)
def test_a_right_arrow_is_let_pass(module, source):
    assert problems(module, "x.py", source) == []


def test_files_are_at_most_300_lines_long():
    folders = [*PACKAGES.values(), ROOT / "tests", ROOT / "benchmarks"]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for f in folders for path in f.rglob("*.py")}
    long = {str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > 300}
    assert not long

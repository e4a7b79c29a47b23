"""Headers, sidecars, settings and records that are well formed and say something else: read, or InputError."""

import json
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.tuning.choice import read_choice
from fuzz.readers import READERS
from fuzz.strategies import FILES, VALUES, edited

FEW = settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
CASES = [
    ("corrector", "*.safetensors"),
    ("runtime", "*.safetensors"),
    ("fused", "*.safetensors"),
    ("mlp .npz", "*.json"),
    ("d3rlpy .pt", "params.json"),
    ("sb3", "agent.json"),
    ("torchscript", "net.json"),
    ("corl", "config.yaml"),
    ("coefficients", "*.json"),
    ("returns .json", "*.json"),
    ("report", "report.json"),
    ("dashboard evaluation", "report.json"),
    ("specification", "*.json"),
    ("configuration", "*.yaml"),
    ("grid", "grid.yaml"),
    ("newest evaluation", "report.json"),
    ("fingerprints", "*.json"),
    ("cell record", "done.json"),
]
PASSED_BY = {"newest evaluation", "fingerprints", "cell record"}
"""What these read is looked for again, or made again, where it is not there."""


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_what_is_well_formed_is_read_or_refused(name, pattern):
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.make(Path(place))
        (file,) = Path(place).rglob(pattern)
        content, (value_of, content_of) = file.read_bytes(), FILES[file.suffix]
        reader.read(reader.path(Path(place)))
        refused = []

        @FEW
        @given(edited(value_of(content)))
        def reads(value):
            file.write_bytes(content_of(content, value))
            try:
                reader.read(reader.path(Path(place)))
            except InputError as error:
                refused.append(str(error))

        reads()
        assert all(refused) and bool(refused) != (name in PASSED_BY)


@FEW
@given(st.dictionaries(st.sampled_from([*Coefficients().to_dict(), "x"]), VALUES))
def test_coefficients_of_any_value_are_taken_or_refused(value):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "coefficients.json"
        path.write_text(json.dumps({"coefficients": value}))
        try:
            assert isinstance(read_choice(path).coefficients, Coefficients)
        except InputError as error:
            assert str(error)


def test_steps_without_end_are_refused(tmp_path):
    (tmp_path / "c.json").write_text('{"coefficients": {"num_steps": Infinity}}')
    with pytest.raises(InputError, match="num_steps"):
        read_choice(tmp_path / "c.json")

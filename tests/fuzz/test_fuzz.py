"""Readers against attacks and damage, each in processes of its own: read or InputError, within memory and time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.readers import READERS

SECONDS = float(os.environ.get("FUZZ_SECONDS", "60"))
"""Of damage for each reader; the attacks come first, however long they take."""
PASS_OVER = {"fingerprints", "newest evaluation"}
"""Readers of what can be made anew: they take a damaged file for none, and go on."""


def fuzz(*options):
    """What the worker tells of each reader that the options name."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tests), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fuzz.worker", *options]
    done = subprocess.run(command, env=environment, cwd=tests, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(told):
    return [f"{one['index']} {one['input']}: {one['wrong']}" for one in told["told"] if one["wrong"]]


def test_a_hundred_hostile_inputs_are_read_or_refused():
    for told in fuzz("coefficients", "runtime", "fused", "replay journal", "Minari Arrow", "--count", "100"):
        assert wrong(told) == []
        assert told["read"] + told["refused"] == 100 and told["refused"] > 20


def test_a_little_damage_to_the_files_of_every_reader_is_read_or_refused():
    found = fuzz(*READERS, "--first", "1000", "--count", "10")
    assert [told["reader"] for told in found] == list(READERS)
    for told in found:
        assert wrong(told) == [] and told["read"] + told["refused"] == 10, told["reader"]
    assert sum(told["refused"] for told in found) > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_hostile_inputs_are_read_or_refused(name):
    (told,) = fuzz(name, "--seconds", str(SECONDS))
    assert wrong(told) == []
    assert told["read"] + told["refused"] > 100
    assert (told["refused"] == 0) == (name in PASS_OVER)

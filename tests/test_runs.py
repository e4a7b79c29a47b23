"""Run directories: each run has its own, and later commands find the newest."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pytest
import torch

from cdsa_lightning import runs
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.errors import InputError
from cdsa_lightning.runs import CHECKPOINT, CORRECTOR, new_run, newest_checkpoint, newest_corrector


@pytest.fixture
def noon(monkeypatch):
    """A clock that stands still."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 11, 22, 12, 0, 0)

    monkeypatch.setattr(runs, "datetime", Clock)


def put(path: Path, seconds: int) -> Path:
    """A file of that age of modification."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.read_bytes() if path.exists() else b"")
    os.utime(path, (seconds, seconds))
    return path


def put_corrector(path: Path, preset: str, seconds: int) -> Path:
    networks = Networks(2, 1, NetworkSettings(), [torch.Generator().manual_seed(0)])
    corrector = Corrector(networks, [-1.0], [1.0], 2)
    corrector.info = {"task": path.parents[2].name, "preset": preset}
    path.parent.mkdir(parents=True)
    save_corrector(corrector, path)
    return put(path, seconds)


def test_runs_of_the_same_second_have_different_directories(tmp_path, noon):
    made = [new_run("hopper-random", "cdsa", tmp_path) for _ in range(3)]
    assert [path.name for path in made] == ["20261122-120000", "20261122-120000-2", "20261122-120000-3"]
    assert all(path.is_dir() and path.parent == tmp_path / "hopper-random" / "cdsa" for path in made)


def test_the_newest_checkpoint_is_that_of_the_newest_file(tmp_path):
    assert newest_checkpoint("iql", root=tmp_path) is None
    old = put(tmp_path / "hopper-random" / "iql" / "2" / CHECKPOINT, 100)
    new = put(tmp_path / "hopper-medium" / "iql" / "1" / CHECKPOINT, 200)
    put(tmp_path / "hopper-medium" / "por" / "3" / CHECKPOINT, 300)
    assert newest_checkpoint("iql", root=tmp_path) == new
    assert newest_checkpoint("iql", "hopper-random", tmp_path) == old
    os.utime(old, (400, 400))  # a resumed run is newer than one begun after it
    assert newest_checkpoint("iql", root=tmp_path) == old


def test_of_files_of_the_same_moment_the_later_run_is_taken(tmp_path):
    for name in ("20261122-120000", "20261122-120000-2"):
        put(tmp_path / "hopper-random" / "iql" / name / CHECKPOINT, 100)
    assert newest_checkpoint("iql", root=tmp_path).parent.name == "20261122-120000-2"


def test_the_newest_corrector_is_chosen_by_task_and_preset(tmp_path):
    assert newest_corrector(root=tmp_path) is None
    paper = put_corrector(tmp_path / "hopper-random" / "cdsa" / "1" / CORRECTOR, "paper", 100)
    robust = put_corrector(tmp_path / "hopper-random" / "cdsa" / "2" / CORRECTOR, "robust", 200)
    other = put_corrector(tmp_path / "hopper-medium" / "cdsa" / "3" / CORRECTOR, "robust", 300)
    assert newest_corrector(root=tmp_path) == other
    assert newest_corrector("hopper-random", root=tmp_path) == robust
    assert newest_corrector("hopper-random", "paper", tmp_path) == paper
    assert newest_corrector("hopper-medium", "paper", tmp_path) is None


def test_a_damaged_corrector_does_not_hide_a_good_one(tmp_path):
    good = put_corrector(tmp_path / "hopper-random" / "cdsa" / "1" / CORRECTOR, "paper", 100)
    put(tmp_path / "hopper-random" / "cdsa" / "2" / CORRECTOR, 200)
    assert newest_corrector(root=tmp_path) == good


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(InputError, match="Cannot make the run directory"):
        new_run("hopper-medium", "cdsa", tmp_path / "runs")

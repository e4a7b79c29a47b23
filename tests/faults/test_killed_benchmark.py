"""`cdsa benchmark` killed at twenty random moments: what is done stays so, and all records are the undisturbed ones."""

from __future__ import annotations

from itertools import count

import pytest

from cdsa_lightning import records
from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.grid.cells import read_record
from cdsa_lightning.grid.nodes import DONE, done_record
from faults.killing import survive, undisturbed
from grid_files import same_records, write_grid

READERS = {"last.ckpt": read_checkpoint, "corrector.safetensors": load_corrector, "record.parquet": read_record}


@pytest.mark.slow
def test_killed_at_twenty_moments_a_grid_ends_with_the_undisturbed_records(tmp_path):
    grid = write_grid(tmp_path)
    numbers, finished = count(), {}

    def fresh():
        finished.clear()
        root = tmp_path / f"run{next(numbers)}"
        root.mkdir()
        return root

    def words(root):
        return ["benchmark", "--config", str(grid), "--output", str(root / "out"), "--workers", "1"]

    def whole(root):
        """Every file is whole, every node that was done is the same still."""
        for path in (root / "out").rglob("*"):
            if path.name in READERS:
                READERS[path.name](path)
        done = {path: path.stat().st_mtime_ns for path in (root / "out").glob(f"*/*/*/{DONE}")}
        for path in done:
            assert done_record(root / "out", str(path.parent.relative_to(root / "out")))
            if path.parts[-4] == "cell":
                records.load(path.parent)
        assert finished.items() <= done.items()
        finished.update(done)

    def same(one, two):
        assert same_records(one / "out", two / "out")
        for name in ("table.md", "table.tex", "aggregates.json"):
            assert (one / "out" / name).read_bytes() == (two / "out" / name).read_bytes()

    root = fresh()
    assert survive(words, fresh, undisturbed(words(root), root), whole, same) >= 1

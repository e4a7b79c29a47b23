"""A full disk and a read-only folder: one sentence, status 2, and what was there before is as it was.

The disk answers through an audit hook (`sitecustomize`), which binds the superuser as well.
"""

from __future__ import annotations

import errno
import shutil

import numpy as np
import pytest

from evaluation_files import TASK, kept, leave, write_data
from faults.killing import PATIENCE, finish, log, start
from grid_files import write_record

RUN = ("--wandb", "off", "--episodes", "2")
COMMANDS = {
    "collect": "collect --task hopper-random --baseline random --steps 2000 --lanes 2",
    "fit": f"fit --data.task {TASK} --data.source SOURCE --data.batch_size 16 --model.seeds [0] --wandb off"
    " --trainer.accelerator cpu --trainer.max_steps 40 --model.inner_steps 10 --checkpoint_every 10",
    "evaluate": "evaluate --baseline shortest_path --wandb off --episodes 2 --output out",
    "audit": "audit --baseline shortest_path --episodes 0 --rows 50 --output out",
    "tune": "tune --baseline shortest_path --rows 50 --output out",
    "plot": "plot field --output out",
    "animate": "animate --baseline shortest_path --output out/a.gif",
    "dashboard": "dashboard --wandb off",
    "table": "table record --output out",
    "benchmark": "benchmark --config grid.yaml --output out --workers 1",
}
ERRORS = {errno.ENOSPC: "No space left on device", errno.EROFS: "Read-only file system"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A corrector that is in use, its data, and a grid of an untrained baseline."""
    folder = tmp_path / "root"
    folder.mkdir()
    leave(folder, monkeypatch)
    kept("1", source=write_data(folder))
    write_record(folder / "record", TASK, "shortest_path", {"base": [[1.0, 2.0]]})
    (folder / "grid.yaml").write_text(
        f"tasks: [{TASK}]\nbaselines: {{shortest_path: {{}}}}\narms: [base]\nseeds: [0]\nepisodes: 2\n"
        f"sources: {{{TASK}: 'npz:{folder / 'data.npz'}'}}\n"
    )
    return folder


def words(command, root):
    return COMMANDS[command].replace("SOURCE", f"npz:{root / 'data.npz'}").split()


def content(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(command, root, step, number):
    """Run the command on a disk that refuses from that step on; what it said, once it was seen to be in order."""
    process = start(words(command, root), root, step=step, errno=number)
    process.join(PATIENCE)
    said = log(root)
    assert "Traceback" not in said
    if process.exitcode == 1:  # a cell that could not be written; the others would go on
        assert command == "benchmark" and ERRORS[number] in said.partition("failed")[2]
    else:
        assert process.exitcode == 2, said
        (line,) = (line for line in said.splitlines() if line.startswith("cdsa: error: "))
        assert ERRORS[number] in line
    root.with_suffix(".log").unlink()
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_folder_is_told_and_nothing_is_left(command, root):
    if command == "dashboard":
        finish(words("evaluate", root)[:-2], root)
        root.with_suffix(".log").unlink()
    before = content(root)
    refused(command, root, 1, errno.EROFS)
    assert content(root) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_fills_up_at_any_moment_costs_nothing_that_was_there(command, root):
    if command == "dashboard":
        finish(words("evaluate", root)[:-2], root)
    finish(words(command, root), root)
    steps = root.with_suffix(".count").stat().st_size
    root.with_suffix(".log").unlink()
    for folder in ("out", "store"):  # what was made goes aside, so that it is made again
        if (root / folder).exists():
            (root / folder).rename(root / f"{folder}-before")
    before = content(root)
    for step in np.random.default_rng(0).integers(1, max(2, steps), 5):
        refused(command, root, int(step), errno.ENOSPC)
        assert before.items() <= content(root).items()
        assert not list(root.rglob("*.partial"))
        for folder in ("out", "store"):
            shutil.rmtree(root / folder, ignore_errors=True)

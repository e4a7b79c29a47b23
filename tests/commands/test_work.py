"""One node of a grid, made on this machine or out of a storage and into it."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.collection import checkpoint_sha256
from cdsa_lightning.commands import fit, work
from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.cells import read_record
from cdsa_lightning.grid.facts import Facts
from cdsa_lightning.grid.nodes import DONE, done_record, expand, finish
from cdsa_lightning.grid.schedule import estimate
from cdsa_lightning.grid.settings import read_grid
from cdsa_lightning.grid.storage import Mirror, Storage
from grid_files import CONFIGS, write_grid

SHORT = {"data.batch_size": 16, "checkpoint_every": 10, "model.inner_steps": 10}


def planned(tmp_path, name, config, **options):
    """A baseline's training and its evaluation; and the storage in which they meet."""
    how = {"config": str(CONFIGS / "baselines" / config), "max_steps": 40, "options": SHORT | options}
    grid = read_grid(write_grid(tmp_path, baselines={name: how}, corrector=None, arms=["base"]))
    train, cell = expand(grid, Facts(grid.sources))
    storage = Storage(f"file://{tmp_path / 'kept'}")
    return train, cell, storage, storage.mark()


@pytest.fixture
def plan(tmp_path):
    return planned(tmp_path, "bc", "bc.yaml")


def checkpoints(storage):
    return sorted(name for name in storage.names() if name.endswith("last.ckpt"))


def weights(root, node):
    path = Path(root) / node.path / done_record(Path(root), node.path)["made"]["file"]
    return read_checkpoint(path)["state_dict"]


def same_weights(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def cut(monkeypatch, after, error):
    """Let a training end with `error` at its checkpoint number `after`, as if it were interrupted there."""
    kept, count = fit.SafeCheckpointIO.save_checkpoint, []

    def save(self, checkpoint, path, storage_options=None):
        kept(self, checkpoint, path, storage_options)
        count.append(path)
        if len(count) == after:
            raise error

    monkeypatch.setattr(fit.SafeCheckpointIO, "save_checkpoint", save)


def test_what_is_made_far_away_equals_what_is_made_here(plan, tmp_path):
    train, cell, storage, mark = plan
    here = tmp_path / "here"
    for node in (train, cell):
        work.do(node, here)
        work.do_far(node, storage.url, mark)
    there = tmp_path / "kept"
    assert same_weights(weights(here, train), weights(there, train))
    one, two = (read_record(root / cell.path / "record.parquet").to_pydict() for root in (here, there))
    assert all(np.array_equal(one[key], two[key]) for key in one if key != "seconds")
    said = json.loads((there / cell.path / "report.json").read_text())["about"]
    assert said["checkpoint"] == f"{storage.url}/{checkpoints(storage)[0]}"  # not one that is gone
    before = {path: path.stat().st_mtime_ns for path in there.rglob("*")}
    work.do_far(train, storage.url, mark)  # called again, as after a lost answer
    assert {path: path.stat().st_mtime_ns for path in there.rglob("*")} == before


@pytest.mark.parametrize("damaged", [False, True])
def test_a_training_that_was_cut_off_goes_on_from_the_storage(plan, tmp_path, monkeypatch, damaged):
    train, _, storage, mark = plan
    with monkeypatch.context() as patch:
        cut(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            work.do_far(train, storage.url, mark)
    (first,) = checkpoints(storage)
    assert f"{train.path}/{DONE}" not in storage.names()
    path = tmp_path / "kept" / first
    assert read_checkpoint(path)["global_step"] == 20
    if damaged:  # by a file system that shows half a file
        path.write_bytes(path.read_bytes()[:1000])
    work.do_far(train, storage.url, mark)
    assert ("Starts anew: " in (tmp_path / "kept" / train.path / "log.txt").read_text()) == damaged
    (last,) = checkpoints(storage)
    assert last == first or damaged  # one run, gone on with
    work.do(train, tmp_path / "here")
    assert same_weights(weights(tmp_path / "here", train), weights(tmp_path / "kept", train))


def test_a_training_is_one_process_whatever_started_its_worker(plan, tmp_path, monkeypatch):
    train, *_ = plan
    monkeypatch.setenv("SLURM_NTASKS", "7")  # which Lightning would refuse
    monkeypatch.setenv("SLURM_JOB_NAME", "grid")
    work.do(train, tmp_path)
    assert done_record(tmp_path, train.path)


def test_steps_taken_before_count_neither_as_left_nor_as_done_now(plan, tmp_path, monkeypatch):
    train, *_ = plan
    finish(tmp_path, replace(train, settings=train.settings | {"seeds": [8, 9]}), 8.0, {})  # 40 steps
    assert estimate([train], tmp_path) == {train.path: pytest.approx(8.0)}
    with monkeypatch.context() as patch:
        cut(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            work.do(train, tmp_path)
    assert estimate([train], tmp_path) == {train.path: pytest.approx(2.0)}  # 10 of them
    (checkpoint,) = (tmp_path / train.path).glob("**/last.ckpt")
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:1000])
    assert estimate([train], tmp_path) == {train.path: pytest.approx(8.0)}
    checkpoint.write_bytes(content)
    work.do(train, tmp_path)
    assert done_record(tmp_path, train.path)["amount"] == 10


def test_experience_of_its_own_goes_along_with_a_training_that_was_cut_off(tmp_path, monkeypatch):
    train, _, storage, mark = planned(tmp_path, "sac", "sac_risky.yaml", **{"data.random_steps": 32})
    with monkeypatch.context() as patch:
        cut(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            work.do_far(train, storage.url, mark)
    assert any("/replay/rows-" in name for name in storage.names())
    work.do_far(train, storage.url, mark)
    work.do(train, tmp_path / "here")
    assert same_weights(weights(tmp_path / "here", train), weights(tmp_path / "kept", train))


def test_checkpoints_are_sent_while_a_training_runs(plan, tmp_path, monkeypatch):
    train, _, storage, mark = plan
    kept, seen = Mirror.send, []

    def send(self):
        kept(self)
        seen.extend(checkpoints(storage))

    monkeypatch.setattr(Mirror, "send", send)
    original = fit.main

    def main(argv):
        original(argv)
        deadline = time.monotonic() + 60
        while not seen:  # the training is over, its worker is not
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert f"{train.path}/{DONE}" not in storage.names()

    monkeypatch.setattr(fit, "main", main)
    work.do_far(train, storage.url, mark, every=0.01)
    assert done_record(tmp_path / "kept", train.path)


def test_other_data_under_the_same_name_are_refused(plan, tmp_path):
    train, _, storage, mark = plan
    source = Path(train.about["source"].removeprefix("npz:"))
    with np.load(source) as file:
        arrays = dict(file)
    arrays["rewards"] = arrays["rewards"] + 1
    np.savez(source, **arrays)
    for make in (lambda: work.do(train, tmp_path / "here"), lambda: work.do_far(train, storage.url, mark)):
        with pytest.raises(InputError, match="The data of 'risky-pointmass' on .* are others than those of the plan"):
            make()
    source.unlink()
    with pytest.raises(InputError, match="On .*: There is no file .*data.npz"):
        work.do_far(train, storage.url, mark)
    assert checkpoints(storage) == []


def test_what_cannot_be_made_far_away_is_told(plan, tmp_path):
    _, cell, storage, mark = plan
    with pytest.raises(InputError, match="is not the one of the program that started the grid"):
        work.do_far(cell, str(tmp_path / "elsewhere"), mark)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(InputError, match=r"Cannot reach .*train/risky-pointmass/bc-.*/done.json"):
        work.do_far(cell, storage.url, mark)


def test_another_checkpoint_than_the_one_of_the_plan_is_refused(plan, tmp_path):
    train, cell, *_ = plan
    work.do(train, tmp_path)
    path = tmp_path / train.path / done_record(tmp_path, train.path)["made"]["file"]
    given = replace(cell, needs={}, about=cell.about | {"checkpoint": str(path)})
    given = replace(given, settings=cell.settings | {"checkpoint": checkpoint_sha256(path)})
    work.do(given, tmp_path)
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="The checkpoint .*last.ckpt on .* is another than that of the plan"):
        work.do(given, tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="there is no checkpoint .*last.ckpt. Bring it there"):
        work.do(given, tmp_path)

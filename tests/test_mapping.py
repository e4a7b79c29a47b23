"""Tables in files: made once, found again, never taken for whole when they are not, and drawn from as from memory."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cdsa_lightning import mapping, table
from cdsa_lightning.data import TransitionData
from cdsa_lightning.errors import InputError
from cdsa_lightning.mapping import gathered, map_table
from cdsa_lightning.sources import load_transitions, store
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.training import CDSAModule
from test_data import chunks
from training_data import TASK, train, write_npz


def ready(source, **settings):
    data = TransitionData(TASK, source, batch_size=16, **settings)
    data.setup("fit")
    return data


def episodes(lengths):
    rng = np.random.default_rng(0)
    for i, length in enumerate(lengths):
        obs = rng.uniform(size=(length + 1, 4)).astype(np.float32)
        action = rng.uniform(-0.1, 0.1, size=(length, 2)).astype(np.float32)
        yield Episode(obs, action, rng.normal(size=length).astype(np.float32), i % 2 == 0, i % 2 == 1)


@pytest.fixture
def minari(tmp_path, monkeypatch):
    """Episodes of different lengths in the local store, read in blocks of seven rows."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.setattr(table, "BLOCK", 7)

    def write(data_format="hdf5", lengths=(3, 20, 1, 8, 5, 16)):
        bound = np.full(2, 0.1, np.float32)
        options = {"obs_dim": 4, "data_format": data_format}
        store.write_dataset("test/made-v0", episodes(lengths), -bound, bound, {}, overwrite=True, **options)
        return "minari:test/made-v0"

    return write


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.parametrize("settings", [{}, {"weights": "return"}, {"weights": "safety"}, {"top_fraction": 0.5}], ids=str)
def test_the_same_batches_come_out_of_a_file_as_out_of_memory(minari, tmp_path, data_format, settings):
    source = minari(data_format)
    held, mapped = ready(source, **settings), ready(source, memory_map=str(tmp_path / "maps"), **settings)
    assert mapped.info == held.info and torch.equal(mapped.rows, held.rows)
    assert torch.equal(mapped.sample(7), held.sample(7)) and len(mapped.sample(7)) == 7
    pairs = list(zip(chunks(mapped), chunks(held), strict=True))
    assert len(pairs) == 3 and all(torch.equal(a, b) for a, b in pairs)
    rest = zip(chunks(mapped, step=17, world=2, rank=1), chunks(held, step=17, world=2, rank=1), strict=True)
    assert all(torch.equal(a, b) and a.shape[2] == 8 for a, b in rest)


def test_statistics_of_blocks_are_those_of_the_whole(minari):
    source = minari()
    info, data = ready(source).info, load_transitions(source)
    for name, array in (("obs", data.obs), ("action", data.action)):
        np.testing.assert_allclose(getattr(info, f"{name}_mean"), array.mean(0, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(getattr(info, f"{name}_std"), array.std(0, dtype=np.float64), rtol=1e-12)
    returns = data.episode_returns()
    assert (info.mean_return, info.min_return, info.max_return) == (returns.mean(), returns.min(), returns.max())
    assert info.fingerprint == data.fingerprint and info.transitions == 53


def test_a_fit_from_a_file_ends_with_the_weights_of_one_from_memory(tmp_path):
    npz, weights = write_npz(tmp_path / "data.npz", 500), []
    for name, settings in (("held", {}), ("mapped", {"memory_map": str(tmp_path / "maps")})):
        module = CDSAModule(seeds=(0, 1))
        train(module, npz, 30, tmp_path / name, **settings)
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


TWO = """
import pathlib, sys
from cdsa_lightning.training import CDSAModule
from training_data import train
npz, root, maps = map(pathlib.Path, sys.argv[1:])
options = {"strategy": "ddp", "devices": 2, "precision": "64-true", "memory_map": str(maps)}
train(CDSAModule("robust", seeds=(0, 1)), npz, 100, root, **options)
"""


@pytest.mark.slow
def test_two_processes_on_one_file_equal_one_that_holds_its_data(tmp_path):
    npz, maps = write_npz(tmp_path / "data.npz", 500), tmp_path / "maps"
    module = CDSAModule("robust", seeds=(0, 1))
    train(module, npz, 100, tmp_path / "one", precision="64-true")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    (tmp_path / "two.py").write_text(TWO)
    command = [sys.executable, str(tmp_path / "two.py"), str(npz), str(tmp_path / "two"), str(maps)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(maps.glob("*.rows"))) == 1
    states = torch.load(tmp_path / "two" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in module.state_dict().items():
        torch.testing.assert_close(states[name], value, atol=1e-6, rtol=0, msg=name)


def test_a_second_run_finds_the_file_and_changed_data_make_a_new_one(minari, tmp_path, monkeypatch):
    source, folder = minari(), tmp_path / "maps"
    accept = lambda data, source: data  # noqa: E731
    first = map_table(source, folder, 1.0, accept)
    with monkeypatch.context() as patched:
        patched.setattr(mapping, "read_table", lambda *_: pytest.fail("read again"))
        again = map_table(source, folder, 1.0, accept)
    assert np.array_equal(again.rows, first.rows) and again.facts == first.facts
    assert np.array_equal(again.lengths, first.lengths) and not again.rows.flags.writeable
    minari(lengths=(4, 4))
    assert len(map_table(source, folder, 1.0, accept)) == 8
    assert len(list(folder.glob("*.rows"))) == 2


@pytest.mark.parametrize("damage", ["no sidecar", "cut file", "grown file", "garbled sidecar", "no file"])
def test_half_a_table_is_made_again(minari, tmp_path, damage):
    source, folder = minari(), tmp_path / "maps"
    whole = ready(source, memory_map=str(folder)).rows.clone()
    (rows,), (sidecar,) = folder.glob("*.rows"), folder.glob("*.json")
    if damage == "cut file":
        os.truncate(rows, rows.stat().st_size - 4)
    elif damage == "grown file":
        rows.write_bytes(bytes(8) + rows.read_bytes())
    elif damage == "garbled sidecar":
        sidecar.write_text(sidecar.read_text()[:-40])
    else:
        (sidecar if damage == "no sidecar" else rows).unlink()
    assert torch.equal(ready(source, memory_map=str(folder)).rows, whole)


KILLED = """
import os, signal, sys
from cdsa_lightning import table
from cdsa_lightning.data import TransitionData
table.BLOCK = 1
seen = table.Moments.add
def add(self, block):
    self.calls = getattr(self, "calls", 0) + 1
    if self.calls == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    seen(self, block)
table.Moments.add = add
TransitionData("risky-pointmass", sys.argv[1], memory_map=sys.argv[2]).load()
"""


def test_a_program_killed_while_it_makes_a_table_leaves_nothing_that_counts(minari, tmp_path):
    source, folder = minari(), tmp_path / "maps"
    command = [sys.executable, "-c", KILLED, source, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr[-2000:]
    assert list(folder.glob(".*.partial")) and not list(folder.glob("*.rows"))
    mapped = ready(source, memory_map=str(folder))
    assert torch.equal(mapped.rows, ready(source).rows)
    assert not list(folder.glob(".*.partial"))


def test_programs_that_want_the_same_table_make_it_once(minari, tmp_path, monkeypatch):
    source, made = minari(), []
    whole = mapping.read_table
    monkeypatch.setattr(mapping, "read_table", lambda *given: made.append(1) or whole(*given))
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda _: map_table(source, tmp_path, 1.0, lambda *_: None), range(4)))
    assert len(made) == 1 and all(np.array_equal(found.rows, tables[0].rows) for found in tables)


def test_a_full_disk_is_told_with_the_size_that_is_needed(minari, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(mapping, "read_table", lambda source, allocate, accept: allocate(10**9, 27))
    with pytest.raises(InputError, match=r"1000000000 transitions needs 108.0 GB in .* GB are free .*No space left"):
        map_table(minari(), tmp_path / "maps", 1.0, lambda *_: None)
    assert not [path for path in (tmp_path / "maps").iterdir() if path.suffix != ".lock"]


def test_a_folder_that_cannot_be_written_is_told(minari, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write into .*file/maps: Not a directory. Name another folder"):
        map_table(minari(), tmp_path / "file" / "maps", 1.0, lambda *_: None)


def test_data_that_do_not_fit_the_task_are_refused_before_anything_is_written(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"obs": rng.normal(size=(9, 5)), "next_obs": rng.normal(size=(9, 5)), "actions": np.zeros((9, 2))}
    np.savez(tmp_path / "wide.npz", rewards=np.zeros(9), terminals=np.zeros(9, bool), **arrays)
    data = TransitionData(TASK, f"npz:{tmp_path / 'wide.npz'}", memory_map=str(tmp_path / "maps"))
    with pytest.raises(InputError, match="5 observation and 2 action entries"):
        data.load()
    assert not list((tmp_path / "maps").glob("*.rows"))
    with pytest.raises(InputError, match="minari:test/none-v0 is not on this machine"):
        TransitionData(TASK, "minari:test/none-v0", memory_map=str(tmp_path)).load()


@pytest.mark.parametrize("name", ["obs", "actions", "rewards", "next_obs"])
def test_numbers_that_are_not_finite_are_found_block_by_block(tmp_path, monkeypatch, name):
    monkeypatch.setattr(table, "BLOCK", 7)
    arrays = dict(np.load(write_npz(tmp_path / "data.npz", 60)))
    arrays[name][23], arrays[name][41] = np.nan, np.inf
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=rf"{name.rstrip('s')}s? holds \d+ values that are NaN or infinite.* row 23\."):
        TransitionData(TASK, f"npz:{tmp_path / 'data.npz'}").load()


def test_every_number_is_looked_at_once_and_flags_that_are_not_finite_are_found(monkeypatch):
    monkeypatch.setattr(table, "BLOCK", 7)
    rows, seen, finite = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32), [], table.Table._finite
    rows[:, -1] = np.arange(20) % 5 == 4
    made, bad = table.Table(rows, 4, np.array([5, 5, 10])), rows.copy()
    monkeypatch.setattr(table.Table, "_finite", lambda *given: seen.append(given[1:]) or finite(*given))
    assert made.facts.mean_return == pytest.approx(rows[:, -2].sum(dtype=np.float64) / 3)
    names = ("obs", "action", "reward", "next_obs", "terminated")
    assert sorted(seen, key=str) == sorted(((name, span) for name in names for span in table.spans(20)), key=str)
    bad[11, -1] = np.nan
    with pytest.raises(InputError, match=r"terminated holds 1 values that are NaN or infinite, first in row 11"):
        _ = table.Table(bad, 4, np.array([20])).facts


def test_gathered_rows_are_in_the_order_of_their_indices():
    rows = torch.arange(600.0).reshape(200, 3)
    indices = [torch.randint(200, (2, 5, 7), generator=torch.Generator().manual_seed(i)) for i in range(4)]
    found = list(gathered(rows, iter(indices), torch.device("cpu")))
    assert len(found) == 4 and all(torch.equal(a, rows[i]) for a, i in zip(found, indices, strict=True))
    assert list(gathered(rows, iter([]), torch.device("cpu"))) == []


def test_the_sidecar_names_the_data(minari, tmp_path):
    source = minari()
    info = ready(source, memory_map=str(tmp_path / "maps")).info
    (sidecar,) = (tmp_path / "maps").glob("*.json")
    about = json.loads(sidecar.read_text())
    assert (about["source"], about["rows"], about["width"]) == (source, 53, 12)
    assert about["facts"]["fingerprint"] == info.fingerprint

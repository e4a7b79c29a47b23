"""Rows read block by block become the transitions that they become when they are held whole."""

import itertools
import zipfile

import h5py
import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import d4rl, load_transitions, rows
from cdsa_lightning.sources.rows import Column, fill_rows, from_rows
from cdsa_lightning.sources.transitions import Filled, loaded

EXTRA = ("next_obs", "timeout", "episode")
SIGNS = [names for count in (1, 2, 3) for names in itertools.combinations(EXTRA, count)]
KEYS = {"obs": "observations", "action": "actions", "reward": "rewards", "terminated": "terminals"}
MORE = {"next_obs": "next_observations", "timeout": "timeouts"}


def drawn(rng, total):
    """Rows whose ends, gaps and repeated observations fall anywhere; observations differ in float64 alone."""
    obs = rng.integers(3, size=(total, 2)) + 1e-9 * rng.integers(2, size=(total, 2))
    next_obs = np.concatenate([obs[1:], obs[:1]])
    astray = rng.random(total) < 0.3
    next_obs[astray] += 1e-9
    arrays = {"obs": obs, "action": rng.normal(size=(total, 1)), "reward": rng.normal(size=total)}
    arrays |= {"terminated": rng.random(total) < 0.2, "next_obs": next_obs, "timeout": rng.random(total) < 0.3}
    return arrays | {"episode": np.cumsum(rng.random(total) < 0.4)}


def block_by_block(arrays):
    columns = {
        name: Column(array.shape, array.dtype, lambda low, high, array=array: array[low:high])
        for name, array in arrays.items()
    }
    return loaded(lambda room: Filled(fill_rows(columns, room, "test"), "", "npz", {}))


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("signs", SIGNS, ids="+".join)
def test_blocks_of_any_size_give_what_the_whole_gives(monkeypatch, signs, block):
    monkeypatch.setattr(rows, "BLOCK", block)
    rng, dropped = np.random.default_rng(0), 0
    for total in [*range(2, 12), 40, 64, 65]:
        arrays = {name: array for name, array in drawn(rng, total).items() if name not in EXTRA or name in signs}
        try:
            whole = from_rows(**arrays)
        except InputError as error:  # every row was dropped
            with pytest.raises(InputError, match="no transitions"):
                block_by_block(arrays)
            assert "no transitions" in str(error)
            continue
        read = block_by_block(arrays)
        assert read.fingerprint == whole.fingerprint and np.array_equal(read.episode, whole.episode)
        dropped += total - len(whole)
    assert dropped > 0 or signs == ("next_obs",)  # s' of every row is known there


@pytest.mark.parametrize("kind", ["stored", "deflated", "columns"])
def test_an_npz_file_read_in_blocks_holds_what_was_saved(monkeypatch, tmp_path, kind):
    monkeypatch.setattr(rows, "BLOCK", 7)
    arrays = drawn(np.random.default_rng(1), 50)
    order = np.asfortranarray if kind == "columns" else np.asarray
    saved = {key: order(array) for key, array in {**arrays, "unrelated": np.ones((3, 3))}.items()}
    names = {"action": "actions", "reward": "rewards", "timeout": "timeouts"}
    save = np.savez_compressed if kind == "deflated" else np.savez
    save(tmp_path / "data.npz", **{names.get(key, key): array for key, array in saved.items()})
    assert load_transitions(f"npz:{tmp_path / 'data.npz'}").fingerprint == from_rows(**arrays).fingerprint


@pytest.mark.parametrize("stored", [{}, {"chunks": True, "compression": "gzip"}], ids=["plain", "chunks"])
def test_a_d4rl_file_read_in_blocks_holds_what_was_saved(monkeypatch, tmp_path, stored):
    monkeypatch.setattr(rows, "BLOCK", 7)
    arrays = {name: array for name, array in drawn(np.random.default_rng(2), 50).items() if name != "episode"}
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for name, array in arrays.items():  # rewards and flags as tables of one column, as some files have them
            table = array.reshape(-1, 1) if array.ndim == 1 else array
            file.create_dataset((KEYS | MORE)[name], data=table, **stored)
    read = d4rl._read(tmp_path / "data.hdf5", "test")
    assert read.fingerprint == from_rows(**arrays).fingerprint


@pytest.mark.parametrize("name", ["timeout", "episode"])
def test_a_table_of_flags_is_refused(name):
    arrays = drawn(np.random.default_rng(0), 9)
    with pytest.raises(InputError, match=rf"{name} has shape \(9, 1\), but there are 9 observations"):
        from_rows(**arrays | {name: arrays[name].reshape(-1, 1)})


def test_a_file_that_ends_early_is_told(tmp_path):
    """An array whose header announces more rows than the member holds, though fewer than 64 KiB."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (6, 2)}
    whole = {"actions": np.ones((6, 1)), "rewards": np.ones(6), "terminals": np.zeros(6), "episode": np.arange(6)}
    np.savez(tmp_path / "data.npz", **whole)
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as archive, archive.open("obs.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(np.ones(11).tobytes())
    with pytest.raises(InputError, match="cannot be read as an .npz file"):
        load_transitions(f"npz:{tmp_path / 'data.npz'}")

"""A bit that flips in a file of ours is noticed, or changes nothing that is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_lightning import records
from cdsa_lightning.checkpoints import SafeCheckpointIO, read_checkpoint
from cdsa_lightning.core.artifact import load_corrector, save_corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import UNSEALED, digest_of, intact, seal, write_json
from cdsa_lightning.grid.cells import RECORD, read_record
from cdsa_lightning.grid.gathered import gather, keep
from cdsa_lightning.grid.nodes import DONE, done_record
from cdsa_lightning.journal import Journal
from cdsa_lightning.shards import Piece, _load, _save
from cdsa_lightning.sources.transitions import Episode
from drawn import report
from grid_files import write_record
from known_networks import random_corrector

FLIPS = 120


def same(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, dict):  # the name of the digest may be what was hit
        return all(key in two and same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return one == two


def checkpoint(folder):
    weights = {"weight": torch.randn(50, 20)}
    said = {"run_name": "clone", "data": {"task": "box"}, "hyper_parameters": {"lr": 0.1}, "state_dict": weights}
    SafeCheckpointIO().save_checkpoint(said, folder / "last.ckpt")
    return folder / "last.ckpt", lambda: read_checkpoint(folder / "last.ckpt")


def corrector(folder):
    path = save_corrector(random_corrector(), folder / "corrector.safetensors")

    def read():
        found = load_corrector(path)
        return dict(found.state_dict()), found.coefficients.to_dict(), found.info

    return path, read


def evaluation(name):
    def make(folder):
        records.save(report(), folder, {"corrector": "c"})

        def read():
            found = records.load(folder)
            traces = [[vars(trace) for trace in arm.traces] for arm in found.arms.values()]
            return found.to_json(), [arm.returns for arm in found.arms.values()], traces

        return folder / name, read

    return make


def record(folder):
    cell = write_record(folder / "cell", "t", "b", {"base": [[1.0, 2.0], [3.0, 4.0]]})
    made = {"file": RECORD, "sha256": digest_of(cell / RECORD)}
    write_json({**UNSEALED, "path": "cell", "made": made}, cell / DONE)
    return cell / RECORD, lambda: read_record(cell / RECORD).to_pydict()


def gathered(folder):
    write_record(folder / "cell", "t", "b", {"base": [[1.0, 2.0], [3.0, 4.0]]})
    path = keep(gather([folder / "cell"]), folder / "kept")
    return path, lambda: gather([folder / "kept"]).to_pydict()


def done(folder):
    record(folder)

    def read():
        if (said := done_record(folder, "cell")) is None:
            raise InputError("not done")
        return {key: value for key, value in said.items() if key not in UNSEALED}

    return folder / "cell" / DONE, read


def replay(folder):
    def journal():
        return Journal(folder, 2, 3, 100, torch.device("cpu"))

    first = journal()
    first.append(np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32))
    first.save()

    def read():
        again = journal()
        again.load(60)
        return again.latest(60)

    return next(folder.glob("rows-*.npy")), read


def shard(folder):
    rng = np.random.default_rng(0)
    episode = Episode(rng.normal(size=(41, 3)), rng.normal(size=(40, 2)), rng.normal(size=40), True, False)
    _save(folder, 0, [Piece(episode)], lambda steps: None)
    return next(folder.glob("shard-*.npz")), lambda: _load(folder, 0)


KINDS = {
    "checkpoint": checkpoint,
    "corrector": corrector,
    "report": evaluation("report.json"),
    "episodes": evaluation("episodes.parquet"),
    "traces": evaluation("traces.npz"),
    "record": record,
    "gathered": gathered,
    "done": done,
    "replay": replay,
    "shard": shard,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_changes_nothing(kind, tmp_path):
    path, read = KINDS[kind](tmp_path)
    content, expected = path.read_bytes(), read()
    rng, refused = np.random.default_rng(0), 0
    for position in rng.integers(0, len(content), FLIPS):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert same(expected, read()), f"silently changed by a bit of byte {position}"
        except InputError:
            refused += 1
    assert refused > FLIPS / 2
    path.write_bytes(content)
    assert same(expected, read())


def test_a_seal_covers_every_byte_and_files_without_one_are_taken():
    sealed = seal(b'{"digest": "' + UNSEALED["digest"].encode() + b'", "a": [1, 2]}')
    assert intact(sealed) and UNSEALED["digest"].encode() not in sealed
    for position in (0, 12, 40, 75, 80, len(sealed) - 1):
        assert not intact(sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :])
    assert intact(b'{"a": 1}') and seal(b'{"a": 1}') == b'{"a": 1}'


def test_a_corrector_of_an_earlier_version_is_still_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cdsa_lightning.core.artifact.UNSEALED", {})
    path = save_corrector(random_corrector(), tmp_path / "old.safetensors")
    assert b"digest" not in path.read_bytes()[:2000]
    load_corrector(path)

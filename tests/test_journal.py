"""The replay buffer on disk: what was appended comes back, whatever was saved after it is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_lightning.errors import InputError
from cdsa_lightning.journal import Journal


def journal(folder, capacity=10):
    return Journal(folder, 2, 3, capacity, torch.device("cpu"))


def block(start, count):
    """Rows whose entries are their numbers, another sign for the second seed."""
    rows = np.repeat(np.arange(start, start + count, dtype=np.float32)[None, :, None], 3, axis=2)
    return np.concatenate((rows, -rows))


def numbers(rows):
    assert torch.equal(rows[1], -rows[0])
    return rows[0, :, 0].tolist()


def test_the_latest_rows_are_held_in_order(tmp_path):
    log = journal(tmp_path)
    for start in range(0, 24, 4):
        log.append(block(start, 4))
    assert (log.total, log.held) == (24, 10)
    assert numbers(log.latest(10)) == list(range(14, 24))


def test_saved_rows_come_back_and_later_ones_do_not(tmp_path):
    log = journal(tmp_path)
    for start in range(0, 8, 2):
        log.append(block(start, 2))
        log.save()
    again = journal(tmp_path)
    again.load(6)  # what a checkpoint of that moment says
    assert numbers(again.latest(6)) == list(range(6))
    again.append(100 + block(6, 2) * 0)
    again.save()
    third = journal(tmp_path)
    third.load(8)
    assert third.rows[0, :8, 0].tolist() == [0, 1, 2, 3, 4, 5, 100, 100]


def test_more_rows_than_the_capacity_all_reach_the_disk(tmp_path):
    log = journal(tmp_path, capacity=4)
    for start in range(0, 12, 3):
        log.append(block(start, 3))
    log.save()
    again = journal(tmp_path, capacity=100)
    again.load(12)
    assert numbers(again.latest(12)) == list(range(12))
    small = journal(tmp_path, capacity=4)
    small.load(12)
    assert numbers(small.latest(4)) == [8, 9, 10, 11]


def test_a_missing_or_damaged_file_is_named(tmp_path):
    log = journal(tmp_path)
    for start in (0, 3):
        log.append(block(start, 3))
        log.save()
    first, second = sorted(tmp_path.glob("*.npy"))
    second.write_bytes(second.read_bytes()[:40])
    with pytest.raises(InputError, match="damaged"):
        journal(tmp_path).load(6)
    first.unlink()
    with pytest.raises(InputError, match="ends at row 0 of 6"):
        journal(tmp_path).load(6)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    log = journal(tmp_path / "file" / "replay")
    log.append(block(0, 1))
    with pytest.raises(InputError, match="Cannot write the replay buffer"):
        log.save()

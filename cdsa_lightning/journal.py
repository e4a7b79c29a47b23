"""A replay buffer that survives: a ring of rows in memory, and on disk files that are only ever added to.

A checkpoint needs to keep a number alone, how many rows there were: the files hold all of them, in order. Rows written
after a checkpoint that was never finished are left out when the run goes on, and written anew. A file's name ends with
the CRC-32 of its rows.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file
from cdsa_lightning.untrusted import read_npy

__all__ = ["Journal"]


class Journal:
    """Rows [E, n, D] in the order of their arrival, the latest `capacity` of each seed in memory.

    Args:
        folder: Where the files go; made when the first is written.
        seeds: E.
        width: D.
        capacity: Rows in memory.
        device: Where the rows lie.
    """

    def __init__(self, folder: Path, seeds: int, width: int, capacity: int, device: torch.device) -> None:
        self.folder, self.capacity = folder, capacity
        self.rows = torch.empty(seeds, capacity, width, device=device)  # pages are taken as they are written to
        self.total = self.saved = 0

    @property
    def held(self) -> int:
        """How many rows of each seed are in memory."""
        return min(self.total, self.capacity)

    def append(self, block: np.ndarray) -> None:
        """Add rows [E, n, D], n at most the capacity; the oldest make room."""
        count = block.shape[1]
        if self.total + count - self.saved > self.capacity:
            self.save()  # what is overwritten now was not on disk yet
        at, new = self.total % self.capacity, torch.from_numpy(block)
        head = min(count, self.capacity - at)
        self.rows[:, at : at + head] = new[:, :head].to(self.rows.device)
        self.rows[:, : count - head] = new[:, head:].to(self.rows.device)
        self.total += count

    def latest(self, count: int) -> Tensor:
        """The newest `count` rows [E, count, D], oldest first; at most what is held."""
        index = torch.arange(self.total - count, self.total, device=self.rows.device) % self.capacity
        return self.rows[:, index]

    def save(self) -> None:
        """Bring all rows to the disk.

        Raises:
            InputError: they cannot be written.
        """
        if self.saved == self.total:
            return
        rows = np.ascontiguousarray(self.latest(self.total - self.saved).cpu().numpy())
        path = self.folder / f"rows-{self.saved:012d}-{self.total:012d}-{zlib.crc32(rows.data):08x}.npy"
        with whole_file(path, "the replay buffer") as place, place.open("wb") as file:
            np.save(file, rows)
        self.saved = self.total

    def load(self, total: int) -> None:
        """The first `total` rows again, as they were when that many had been saved.

        Raises:
            InputError: files are missing or damaged.
        """
        found: dict[int, tuple[int, Path]] = {}
        for path in sorted(self.folder.glob("rows-*.npy")):
            if match := re.fullmatch(r"rows-(\d+)-(\d+)(-[0-9a-f]{8})?\.npy", path.name):
                start, stop = int(match[1]), int(match[2])
                if stop > total:
                    path.unlink()  # of steps that no checkpoint knows
                else:
                    found[start] = (stop, path)
        while self.total < total:
            if self.total not in found:
                raise InputError(
                    f"The replay buffer in {self.folder} ends at row {self.total} of {total}; the checkpoint cannot be "
                    "resumed without it. Restore the folder beside the checkpoint, or start afresh without --ckpt_path."
                )
            stop, path = found[self.total]
            self.saved = self.total  # what `append` overwrites is on disk
            self._read(path, stop - self.total)
        self.saved = self.total

    def _read(self, path: Path, count: int) -> None:
        try:
            block = read_npy(path)
        except (OSError, ValueError) as error:
            raise InputError(f"The replay buffer {path} is damaged: {error}.") from None
        if block.dtype != np.float32:
            raise InputError(f"The replay buffer {path} holds {block.dtype}, expected float32.")
        if block.shape != (self.rows.shape[0], count, self.rows.shape[2]):
            wanted = (self.rows.shape[0], count, self.rows.shape[2])
            raise InputError(f"The replay buffer {path} holds {block.shape} numbers, expected {wanted}.")
        sum_of_rows = path.stem.split("-")[3:]  # earlier files have none
        if sum_of_rows and sum_of_rows != [f"{zlib.crc32(np.ascontiguousarray(block).data):08x}"]:
            raise InputError(f"The replay buffer {path} is damaged: its rows are not those that were written.")
        for start in range(0, count, self.capacity):
            self.saved = self.total
            self.append(block[:, start : start + self.capacity])

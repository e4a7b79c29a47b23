"""Episodes of a Minari HDF5 file: read straight into the arrays that will hold them, and written.

h5py's low-level interface: the comfortable one costs several times what the reading or writing does, episode after
episode. Arrays are written unchunked, which makes a file of short episodes a quarter as large.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5s, h5t

from cdsa_lightning.sources.hdf5 import open_dataset, plain_bytes
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.untrusted import regular_file, room

__all__ = ["HDF5Episodes", "write_episodes"]


class HDF5Episodes:
    """The episodes of ``main_data.hdf5``; a context manager.

    Args:
        path: The data folder.
        count: Episodes in it.
        parts: Entries of a dictionary observation to join, with how many of their columns; None for plain vectors.
    """

    def __init__(self, path: Path, count: int, parts: list[tuple[str, int | None]] | None) -> None:
        self.count = count
        self.dropped = 0
        self._names = [("observations", None)] if parts is None else [(f"observations/{key}", n) for key, n in parts]
        file = path / "main_data.hdf5"
        with regular_file(file):  # HDF5 would wait for whoever writes to a pipe
            self._file, self.room = h5py.File(file, "r"), room(file.stat().st_size)

    def __enter__(self) -> HDF5Episodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def dims(self) -> tuple[int, int]:
        """S and A."""
        widths = [_width(self._open(0, name)) for name, _ in self._names]
        kept = [width if n is None else min(n, width) for width, (_, n) in zip(widths, self._names, strict=True)]
        return sum(kept), _width(self._open(0, "actions"))

    def read_into(self, index: int, arrays: dict[str, np.ndarray], row: int) -> int:
        """Read episode `index` into `arrays` from `row` on.

        Returns:
            How many rows were filled.
        """
        obs = self._observations(index)
        rewards = self._open(index, "rewards")
        if rewards.rank != 1:
            raise ValueError(f"episode {index}: rewards of shape {rewards.shape}, expected one a step")
        steps = rewards.shape[0]
        rows = min(steps, len(obs) - 1)
        self.dropped += steps - rows
        low, high = row, row + rows
        if high > len(arrays["reward"]):
            raise ValueError(f"episode {index} lies beyond the announced number of transitions")
        arrays["obs"][low:high] = obs[:rows]
        arrays["next_obs"][low:high] = obs[1 : rows + 1]
        self._copy(index, rewards, arrays["reward"][low:high], steps)
        self._copy(index, self._open(index, "actions"), arrays["action"][low:high], steps)
        self._copy(index, self._open(index, "terminations"), arrays["terminated"][low:high], steps, np.bool_)
        return rows

    def _open(self, index: int, name: str) -> h5d.DatasetID:
        data = open_dataset(self._file.id, f"episode_{index}/{name}".encode())
        if plain_bytes(data) > self.room:
            raise ValueError(f"episode {index} announces {data.shape} numbers, more than the file can stand for")
        return data

    def _observations(self, index: int) -> np.ndarray:
        tables = []
        for name, columns in self._names:
            data = self._open(index, name)
            if data.rank != 2:
                raise ValueError(f"episode {index}: {name} is no table but {data.shape}")
            table = np.empty(data.shape, np.float32)
            data.read(h5s.ALL, h5s.ALL, table)
            tables.append(table[:, :columns])
        return tables[0] if len(tables) == 1 else np.concatenate(tables, axis=1)

    def _copy(self, index: int, data: h5d.DatasetID, target: np.ndarray, steps: int, dtype: type = np.float32) -> None:
        # HDF5 writes as many numbers as the file announces, so the room for them is checked before.
        if data.shape != (steps, *target.shape[1:]):
            raise ValueError(f"episode {index}: an array of shape {data.shape}, expected {(steps, *target.shape[1:])}")
        if len(target) == steps and target.flags.c_contiguous and target.dtype == dtype:
            data.read(h5s.ALL, h5s.ALL, target)
            return
        whole = np.empty(data.shape, dtype)
        data.read(h5s.ALL, h5s.ALL, whole)
        target[:] = whole[: len(target)]


def _width(data: h5d.DatasetID) -> int:
    if data.rank != 2:
        raise ValueError(f"a table is wanted, and there is an array of shape {data.shape}")
    return data.shape[1]


def write_episodes(file: Path, episodes: Iterable[Episode]) -> tuple[int, int]:
    """Write episodes into a new file, in Minari's layout.

    Args:
        file: Replaced.
        episodes: In order.

    Returns:
        How many episodes and steps were written.

    Raises:
        OSError: the disk is full.
    """
    number = steps = 0
    with h5py.File(file, "w") as opened:
        for number, episode in enumerate(episodes, start=1):
            group = h5g.create(opened.id, f"episode_{number - 1}".encode())
            length = len(episode.reward)
            for name, value in (("id", number - 1), ("total_steps", length)):
                attribute = h5a.create(group, name.encode(), h5t.NATIVE_INT64, h5s.create(h5s.SCALAR))
                attribute.write(np.array(value, np.int64))
            ends = np.zeros((2, length), dtype=bool)
            ends[:, -1] = episode.terminated, episode.truncated
            _write(group, "observations", episode.obs, np.float32)
            _write(group, "actions", episode.action, np.float32)
            _write(group, "rewards", episode.reward, np.float32)
            _write(group, "terminations", ends[0], np.bool_)
            _write(group, "truncations", ends[1], np.bool_)
            steps += length
    return number, steps


def _write(group: h5g.GroupID, name: str, values: np.ndarray, dtype: type) -> None:
    values = np.ascontiguousarray(values, dtype=dtype)
    kind = h5t.py_create(values.dtype, logical=True)
    h5d.create(group, name.encode(), kind, h5s.create_simple(values.shape)).write(h5s.ALL, h5s.ALL, values)

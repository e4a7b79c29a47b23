"""Episodes of a Minari Arrow (or Parquet) data set: one small file per episode, memory-mapped, copied column by column.

Minari pads actions, rewards and flags by one row to the length T + 1 of the observations.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from cdsa_lightning.tables import read_arrow, read_parquet
from cdsa_lightning.untrusted import room

__all__ = ["ArrowEpisodes"]


class ArrowEpisodes:
    """The episode folders ``0/``, ``1/``, ... of a data folder; a context manager, as `HDF5Episodes`."""

    def __init__(self, path: Path, count: int, parts: list[tuple[str, int | None]] | None) -> None:
        self.count = count
        self.dropped = 0
        self._path = path
        self._parts = parts
        self.room = room(sum(file.stat().st_size for file in path.glob("*/part-*")))

    def __enter__(self) -> ArrowEpisodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every file is closed as soon as it was read."""

    def dims(self) -> tuple[int, int]:
        """S and A."""
        table = self._table(0)
        return self._observations(table).shape[1], _matrix(table["actions"]).shape[1]

    def read_into(self, index: int, arrays: dict[str, np.ndarray], row: int) -> int:
        """Read episode `index` into `arrays` from `row` on.

        Returns:
            How many rows were filled.
        """
        table = self._table(index)
        obs = self._observations(table)
        rows = table.num_rows - 1
        low, high = row, row + rows
        if high > len(arrays["reward"]):
            raise ValueError(f"episode {index} lies beyond the announced number of transitions")
        arrays["obs"][low:high] = obs[:-1]
        arrays["next_obs"][low:high] = obs[1:]
        arrays["action"][low:high] = _matrix(table["actions"])[:-1]
        arrays["reward"][low:high] = _numbers(table["rewards"])[:-1]
        arrays["terminated"][low:high] = _numbers(table["terminations"])[:-1]
        return rows

    def _table(self, index: int) -> pa.RecordBatch:
        folder = f"{self._path}/{index}"
        files = sorted(name for name in os.listdir(folder) if name.startswith("part-"))
        batches = [batch for name in files for batch in _batches(f"{folder}/{name}")]
        if len(batches) > 1:
            batches = pa.Table.from_batches(batches).combine_chunks().to_batches()
        if not batches or batches[0].num_rows < 1:
            raise ValueError(f"episode {index} holds no rows")
        return batches[0]

    def _observations(self, table: pa.RecordBatch) -> np.ndarray:
        column = table["observations"]
        if self._parts is None:
            return _matrix(column)
        if not pa.types.is_struct(column.type):
            raise ValueError(f"the observations are {column.type}, expected a dictionary")
        return np.concatenate([_matrix(column.field(key))[:, :columns] for key, columns in self._parts], axis=1)


def _batches(file: str) -> list[pa.RecordBatch]:
    if file.endswith(".parquet"):
        return read_parquet(file).to_batches()
    return read_arrow(file)


def _matrix(column: pa.Array) -> np.ndarray:
    """A fixed-size list column as [rows, size], without a copy."""
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise ValueError(f"a column holds {column.type}, expected rows of numbers of one length")
    return _numbers(column.flatten()).reshape(len(column), column.type.list_size)


def _numbers(column: pa.Array) -> np.ndarray:
    """A column of numbers or truth values."""
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)) or column.null_count:
        raise ValueError(f"a column holds {kind}, expected numbers without gaps")
    return column.to_numpy(zero_copy_only=False)

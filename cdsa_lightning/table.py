r"""The transitions of a data set as one table, and what is told about them: read once, held once.

    rows[i] = obs | action | next_obs | reward | terminated,      [N, S + A + S + 2] float32

A source is read straight into its columns (`sources.fill`), so that reading costs no second copy. Everything told about
the data is gathered in blocks of rows, with nothing kept that grows with N: the table may lie in a file that is larger
than memory (`mapping`). Mean and deviation of blocks are merged with (Chan, Golub, LeVeque 1979)

    M = M1 + M2 + d^2 n1 n2 / (n1 + n2),      d = mean2 - mean1,      M = sum (x - mean)^2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import Transitions, fill
from cdsa_lightning.sources.transitions import digest

__all__ = ["Accept", "Allocate", "Facts", "Moments", "Table", "best_episodes", "in_memory", "read_table", "spans"]

BLOCK = 1 << 16
"""Rows that are looked at together."""

Allocate = Callable[[int, int], np.ndarray]
"""A new float32 array of so many rows and columns."""


class Widths(NamedTuple):
    """S and A of data that are about to be read."""

    obs_dim: int
    action_dim: int


Accept = Callable[[Any, str], Any]
"""Called with something that has `obs_dim` and `action_dim`, and its source; raises where they are not wanted."""


def in_memory(rows: int, columns: int) -> np.ndarray:
    """An array of its own."""
    return np.empty((rows, columns), np.float32)


def spans(rows: int) -> Iterator[slice]:
    """Blocks of rows, in order."""
    return (slice(low, min(low + BLOCK, rows)) for low in range(0, rows, BLOCK))


@dataclass(frozen=True)
class Facts:
    """What is told about a table, all plain values; deviations of entries that never change are 1."""

    fingerprint: str
    transitions: int
    mean_return: float
    min_return: float
    max_return: float
    obs_mean: list[float]
    obs_std: list[float]
    action_mean: list[float]
    action_std: list[float]


class Moments:
    """Mean and deviation of rows that come in blocks, in float64."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, block: np.ndarray) -> None:
        """Take in more rows, [n] or [n, D]."""
        count, mean = len(block), block.mean(0, dtype=np.float64)
        away, total = mean - self.mean, self.count + count
        self.squares = self.squares + np.square(block - mean).sum(0) + away**2 * self.count * count / total
        self.mean, self.count = self.mean + away * count / total, total

    @property
    def std(self) -> np.ndarray:
        """Of all rows so far, divided by their number."""
        return np.sqrt(self.squares / self.count)


@dataclass(frozen=True, eq=False)
class Table:
    """N transitions, episode after episode.

    Args:
        rows: [N, S + A + S + 2] float32; see the module.
        obs_dim: S.
        lengths: Rows of each episode, [episodes] int64.
        source, provenance: As in `Transitions`.
        known: What is told about it, where that was gathered before.
    """

    rows: np.ndarray
    obs_dim: int
    lengths: np.ndarray
    source: str = ""
    provenance: str = "npz"
    known: Facts | None = None

    @classmethod
    def of(cls, data: Transitions) -> Table:
        """A table of transitions that are in memory, beside them."""
        rows = in_memory(len(data), 2 * data.obs_dim + data.action_dim + 2)
        for name, column in columns(rows, data.obs_dim).items():
            column[:] = getattr(data, name)
        return cls(rows, data.obs_dim, np.bincount(data.episode), data.source, data.provenance)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def action_dim(self) -> int:
        """A."""
        return self.rows.shape[1] - 2 * self.obs_dim - 2

    @property
    def obs(self) -> np.ndarray:
        """[N, S], a view of the rows; so are the others."""
        return self._kept["obs"]

    @property
    def action(self) -> np.ndarray:
        """[N, A]."""
        return self._kept["action"]

    @property
    def next_obs(self) -> np.ndarray:
        """[N, S]."""
        return self._kept["next_obs"]

    @property
    def reward(self) -> np.ndarray:
        """[N]."""
        return self._kept["reward"]

    @cached_property
    def _kept(self) -> dict[str, np.ndarray]:
        return columns(self.rows, self.obs_dim)

    @cached_property
    def returns(self) -> np.ndarray:
        """The undiscounted return of every episode, [episodes] float64."""
        return self._sums(self.reward)

    def _sums(self, reward: np.ndarray) -> np.ndarray:
        """Of every episode, [episodes] float64."""
        edges, first, found = np.append(0, np.cumsum(self.lengths)), 0, []
        while first < len(self.lengths):  # whole episodes, about a block of them at a time
            last = max(first + 1, int(np.searchsorted(edges, edges[first] + BLOCK, side="right")) - 1)
            index = np.repeat(np.arange(last - first), self.lengths[first:last])
            found.append(np.bincount(index, reward[edges[first] : edges[last]], last - first))
            first = last
        return np.concatenate(found)

    @cached_property
    def facts(self) -> Facts:
        """What is told about the data; the rows are read three times.

        The fingerprint takes one column after the other. Rewards and flags are copied as the first goes by, 5 bytes a
        row, and need no reading of the rows for themselves.

        Raises:
            InputError: there are no rows, or numbers that are NaN or infinite.
        """
        if self.known is not None:
            return self.known
        if not len(self) or not self.obs_dim or not self.action_dim:
            raise InputError(
                f"{self._called}: no transitions in it (observations {self.obs.shape}, actions {self.action.shape})."
            )
        moments = {"obs": Moments(), "action": Moments()}
        count = len(self)
        # terminated: 0 and 1 in the rows, and told as what it means
        narrow = {"reward": np.empty(count, np.float32), "terminated": np.empty(count, bool)}
        arrays = [
            (name, narrow.get(name, column).dtype, column.shape, self._seen(name, moments, narrow))
            for name, column in self._kept.items()
        ]
        arrays.append(("episode", np.dtype(np.int64), (count,), self._episodes()))
        fingerprint = digest(arrays)
        told: dict[str, Any] = {}
        for name, found in moments.items():
            std = found.std
            std[std < 1e-6] = 1.0  # an entry that never changes says nothing; dividing by its deviation would shout it
            told |= {f"{name}_mean": found.mean.tolist(), f"{name}_std": std.tolist()}
        returns = self._sums(narrow["reward"])
        return Facts(fingerprint, count, float(returns.mean()), float(returns.min()), float(returns.max()), **told)

    def _seen(self, name: str, moments: dict[str, Moments], narrow: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks of a column, counted in where its moments are wanted.

        Those of the first column bring what `narrow` holds, out of which later ones are read.
        """
        for span in spans(len(self)):
            if name == "obs":
                for other, copy in narrow.items():
                    copy[span] = self._finite(other, span)
            block = narrow[name][span] if name in narrow else self._finite(name, span)
            if name in moments:
                moments[name].add(block)
            yield block

    def _finite(self, name: str, span: slice) -> np.ndarray:
        """Rows of a column, together, seen to be finite."""
        block = np.ascontiguousarray(self._kept[name][span])
        # A float64 sum of float32 values cannot overflow, so it is finite exactly when every entry is.
        if not np.isfinite(block.sum(dtype=np.float64)):
            raise self._not_finite(name)
        return block

    def _not_finite(self, name: str) -> InputError:
        count, first = 0, -1
        for span in spans(len(self)):
            bad = ~np.isfinite(self._kept[name][span].reshape(span.stop - span.start, -1))
            if first < 0 and bad.any():
                first = span.start + int(np.flatnonzero(bad.any(axis=1))[0])
            count += int(bad.sum())
        return InputError(
            f"{self._called}: {name} holds {count} values that are NaN or infinite, first in row {first}. "
            "Remove those episodes from the data."
        )

    @property
    def _called(self) -> str:
        return self.source or "the data"

    def _episodes(self) -> Iterator[np.ndarray]:
        edges = np.cumsum(self.lengths)
        for span in spans(len(self)):
            yield np.searchsorted(edges, np.arange(span.start, span.stop), side="right")


def columns(rows: np.ndarray, obs_dim: int) -> dict[str, np.ndarray]:
    """The parts of packed rows by name, in the order of `Transitions`, as views."""
    width = rows.shape[1]
    return {
        "obs": rows[:, :obs_dim],
        "action": rows[:, obs_dim : width - obs_dim - 2],
        "reward": rows[:, width - 2],
        "next_obs": rows[:, width - obs_dim - 2 : width - 2],
        "terminated": rows[:, width - 1],
    }


def read_table(source: str, allocate: Allocate, accept: Accept) -> Table:
    """A source as a table, read straight into what `allocate` gives, once its widths are accepted.

    Raises:
        InputError: as `load_transitions`.
    """
    made: list[tuple[np.ndarray, int]] = []

    def room(count: int, obs_dim: int, action_dim: int) -> dict[str, np.ndarray]:
        accept(Widths(obs_dim, action_dim), source)
        made.append((allocate(count, 2 * obs_dim + action_dim + 2), obs_dim))
        return columns(*made[0])

    filled = fill(source, room)
    ((rows, obs_dim),) = made
    table = Table(rows[: filled.lengths.sum()], obs_dim, filled.lengths, filled.source, filled.provenance)
    _ = table.facts  # looks at every number
    return table


def best_episodes(table: Table, fraction: float, allocate: Allocate = in_memory) -> Table:
    """The share `fraction` of the episodes with the highest returns, one at least; of equals the first come first."""
    total = len(table.lengths)
    count = max(1, round(fraction * total))
    chosen = np.sort(np.argsort(-table.returns, kind="stable")[:count])
    lengths = table.lengths[chosen]
    rows, edges, row = allocate(int(lengths.sum()), table.rows.shape[1]), np.cumsum(table.lengths), 0
    for last, length in zip(edges[chosen], lengths, strict=True):
        rows[row : row + length] = table.rows[last - length : last]
        row += length
    source = f"{table.source} (best {count} of {total} episodes)"
    return Table(rows, table.obs_dim, lengths, source, table.provenance)

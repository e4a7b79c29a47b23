r"""Transitions (s, a, r, s', terminated) as flat arrays, rows in time order.

``terminated`` is true only where the world ended. A time limit ends an episode but not the world, so its last row still
bootstraps. No row pairs observations of two episodes; `rows` sees to both where episodes are not told apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cdsa_lightning.errors import InputError

__all__ = ["Episode", "Filled", "Room", "Transitions", "digest", "loaded", "separate"]

_ARRAYS = ("obs", "action", "reward", "next_obs", "terminated", "episode")


Room = Callable[[int, int, int], dict[str, np.ndarray]]
"""Where the transitions of a source shall lie: for the largest number of rows that there may be, S and A, the arrays to
fill, obs [rows, S], action [rows, A], reward [rows], next_obs [rows, S], terminated [rows] (0 and 1 of any type)."""


class Filled(NamedTuple):
    """What was read into a `Room`: the rows of each episode in order, [episodes] int64, and where they come from."""

    lengths: np.ndarray
    source: str
    provenance: str
    metadata: dict[str, Any]


def separate(rows: int, obs_dim: int, action_dim: int) -> dict[str, np.ndarray]:
    """A `Room` in memory, every array of its own."""
    return {
        "obs": np.empty((rows, obs_dim), np.float32),
        "action": np.empty((rows, action_dim), np.float32),
        "reward": np.empty(rows, np.float32),
        "next_obs": np.empty((rows, obs_dim), np.float32),
        "terminated": np.empty(rows, bool),
    }


def loaded(fill: Callable[[Room], Filled]) -> Transitions:
    """What `fill` reads, in memory, seen to be finite.

    Raises:
        InputError: as `fill`, or numbers that are NaN or infinite.
    """
    arrays: dict[str, np.ndarray] = {}

    def room(rows: int, obs_dim: int, action_dim: int) -> dict[str, np.ndarray]:
        arrays.update(separate(rows, obs_dim, action_dim))
        return arrays

    lengths, source, provenance, metadata = fill(room)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    held = {name: array[: len(episode)] for name, array in arrays.items()}
    data = Transitions(**held, episode=episode, source=source, provenance=provenance, metadata=metadata)
    return data.validate()


class Episode(NamedTuple):
    """One episode: obs [T+1, S], action [T, A], reward [T], and how it ended."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    truncated: bool


@dataclass(frozen=True, eq=False)
class Transitions:
    """N transitions of one dataset.

    Attributes:
        obs: Observations, [N, S] float32, in the environment's units.
        action: Actions, [N, A] float32, in the environment's units.
        reward: Rewards, [N] float32.
        next_obs: Observations after the action, [N, S] float32.
        terminated: True where the world ended, [N] bool; false at time limits.
        episode: 0-based index of each row's episode, [N] int64, rows in time order.
        source: What the data were loaded from.
        provenance: ``d4rl-v2``, ``minari``, ``regenerated`` or ``npz``.
        metadata: What the store says about the data.
    """

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminated: np.ndarray
    episode: np.ndarray
    source: str = ""
    provenance: str = "npz"
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def obs_dim(self) -> int:
        """S, the number of observation entries."""
        return self.obs.shape[1]

    @property
    def action_dim(self) -> int:
        """A, the number of action entries."""
        return self.action.shape[1]

    @property
    def num_episodes(self) -> int:
        """How many episodes the rows belong to."""
        return int(self.episode[-1]) + 1

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all arrays (hexadecimal): equal for equal data, wherever they were loaded from."""
        arrays = ((name, getattr(self, name)) for name in _ARRAYS)
        return digest((name, array.dtype, array.shape, [array]) for name, array in arrays)

    def episode_returns(self, whole_only: bool = False) -> np.ndarray:
        """The undiscounted return of every episode, [episodes] float64.

        Args:
            whole_only: Leave out the episodes that a collection cut short (`metadata["cdsa"]["cut_episodes"]`); all are
                returned where nothing else remains.
        """
        returns = np.bincount(self.episode, weights=self.reward, minlength=self.num_episodes)
        cut = self.metadata.get("cdsa", {}).get("cut_episodes", []) if whole_only else []
        return np.delete(returns, cut) if len(cut) < len(returns) else returns

    def episodes(self) -> Iterator[Episode]:
        """Every episode in turn, with its T + 1 observations."""
        edges = np.flatnonzero(np.diff(self.episode)) + 1
        for low, high in zip([0, *edges], [*edges, len(self)], strict=True):
            obs = np.concatenate([self.obs[low:high], self.next_obs[high - 1 : high]])
            ended = bool(self.terminated[high - 1])
            yield Episode(obs, self.action[low:high], self.reward[low:high], ended, not ended)

    def validate(self) -> Transitions:
        """Itself, when every array has its shape and type and every number is finite.

        Raises:
            InputError: which array, how many of its entries, and the first row.
        """
        where = self.source or "the data"
        if self.obs.ndim != 2 or self.action.ndim != 2:
            raise InputError(
                f"{where}: observations and actions must be tables [N, S] and [N, A], got shapes {self.obs.shape} and "
                f"{self.action.shape}."
            )
        rows = len(self.obs)
        if rows == 0 or self.obs_dim == 0 or self.action_dim == 0:
            raise InputError(
                f"{where}: no transitions in it (observations {self.obs.shape}, actions {self.action.shape})."
            )
        expected = {"next_obs": self.obs.shape, "action": (rows, self.action_dim)}
        for name in _ARRAYS:
            array = getattr(self, name)
            if array.shape != expected.get(name, self.obs.shape if name == "obs" else (rows,)):
                raise InputError(
                    f"{where}: {name} has shape {array.shape}, which does not fit observations {self.obs.shape}."
                )
            if array.dtype.kind == "f":
                _require_finite(where, name, array)
        more = self.episode[1:] - self.episode[:-1]
        if self.episode[0] != 0 or more.min(initial=0) < 0 or more.max(initial=0) > 1:
            raise InputError(f"{where}: episodes must be numbered 0, 1, 2, ... with their rows together.")
        return self


def digest(arrays: Iterable[tuple[str, np.dtype, tuple[int, ...], Iterable[np.ndarray]]]) -> str:
    """The fingerprint of arrays that come in pieces.

    Args:
        arrays: Name, type and shape of each, and its rows in order, of that type.
    """
    total = hashlib.sha256()
    for name, dtype, shape, pieces in arrays:
        total.update(f"{name} {dtype.str} {shape};".encode())
        for piece in pieces:
            total.update(np.ascontiguousarray(piece).data.cast("B"))
    return total.hexdigest()


def _require_finite(where: str, name: str, array: np.ndarray) -> None:
    # A float64 sum of float32 values cannot overflow, so it is finite exactly when every entry is: one pass, no copy.
    if np.isfinite(array.sum(dtype=np.float64)):
        return
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))[0])
        raise InputError(
            f"{where}: {name} holds {int(bad.sum())} values that are NaN or infinite, first in row {row}. "
            "Remove those episodes from the data."
        )

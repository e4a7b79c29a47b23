"""Rows in time order, whose episodes nobody has told apart, as transitions: all at once, or block by block.

Two facts decide whether data are usable, and both are settled here rather than by every reader:

* ``terminated`` is true only where the world ended. A time limit ends an episode but not the world, so its last row
  still bootstraps.
* No row pairs observations of two episodes. Where the true next observation of an episode's last row was not recorded,
  the row is dropped; if it is terminal, where s' is never bootstrapped from, it keeps its own observation as s'.

What becomes of a row hangs on the one after it, so every block carries the first row of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources.transitions import Room, Transitions

__all__ = ["Column", "fill_rows", "from_rows"]

BLOCK = 1 << 16
"""Rows that are read together."""


@dataclass(frozen=True)
class Column:
    """One array of a file.

    Args:
        shape: [N, ...].
        dtype: Of its entries.
        take: Rows [low, high); low is where the rows before them ended.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    take: Callable[[int, int], np.ndarray]


def fill_rows(columns: Mapping[str, Column], room: Room, where: str) -> np.ndarray:
    """Read rows into `room` as `from_rows` would have them; the numbers are left unchecked.

    Args:
        columns: By the names of `from_rows`'s arguments.
        room: Called once.
        where: How an error calls the data.

    Returns:
        Rows of each episode, [episodes] int64.

    Raises:
        InputError: the shapes do not fit together, or nothing tells where episodes end.
    """
    _require_rows(where, columns)
    total = columns["obs"].shape[0]
    arrays = room(total, columns["obs"].shape[1], columns["action"].shape[1])
    found: list[np.ndarray] = []
    part, row, begun = {name: np.empty((0, *c.shape[1:]), c.dtype) for name, c in columns.items()}, 0, 0
    for low in range(0, total, BLOCK):
        high = min(low + BLOCK, total)
        part = {name: np.concatenate([part[name], column.take(low, high)]) for name, column in columns.items()}
        next_obs, terminated, ends, keep = _settled(part)
        count = len(ends) - (high < total)  # the last row of all but the last block waits for the one after it
        kept = np.flatnonzero(keep[:count])
        rows = slice(row, row + len(kept))
        for name, values in {**part, "next_obs": next_obs, "terminated": terminated}.items():
            if name in arrays:
                arrays[name][rows] = values[kept]
        index = np.cumsum(ends[:count]) - ends[:count]  # the episodes that ended before a row
        lengths = np.bincount(index[kept], minlength=int(ends[:count].sum()) + 1)
        lengths[0] += begun
        found.append(lengths[:-1])
        row, begun = rows.stop, int(lengths[-1])
        part = {name: values[count:].copy() for name, values in part.items()}
    lengths = np.append(np.concatenate(found), begun)
    return lengths[lengths > 0]


def from_rows(
    obs: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    next_obs: np.ndarray | None = None,
    timeout: np.ndarray | None = None,
    episode: np.ndarray | None = None,
    **about: Any,
) -> Transitions:
    """Transitions from rows in time order whose episodes are marked by flags, by numbers, or by their observations.

    An episode ends at a terminal, at a timeout, where the episode number changes, and, with neither numbers nor
    certainty about the flags, where the next observation of a row is not the observation of the row after it.

    Args:
        obs: [N, S]. action: [N, A]. reward: [N]. terminated: [N] bool.
        next_obs: [N, S]; where None they are taken from the row after, and the last row of an episode is dropped.
        timeout: [N] bool, true at an episode's last row under a time limit.
        episode: [N], any numbers that differ between neighbouring episodes.
        about: source, provenance, metadata.

    Raises:
        InputError: shapes differ, values are not finite, or nothing tells where episodes end.
    """
    given = {"obs": obs, "action": action, "reward": reward, "terminated": terminated}
    given |= {} if next_obs is None else {"next_obs": next_obs}
    given |= {} if timeout is None else {"timeout": timeout}
    given |= {} if episode is None else {"episode": episode}
    _require_rows(about.get("source") or "the data", given)
    next_obs, terminated, ends, keep = _settled(given)
    index = np.concatenate([[0], np.cumsum(ends[:-1])])
    if not keep.all():
        obs, action, reward, next_obs, terminated = (x[keep] for x in (obs, action, reward, next_obs, terminated))
        index = index[keep]
        # An episode whose only row was dropped leaves a gap in the numbers.
        index = np.concatenate([[0], np.cumsum(np.diff(index) > 0)]) if len(index) else index
    o, a, r, n = (np.ascontiguousarray(x, dtype=np.float32) for x in (obs, action, reward, next_obs))
    return Transitions(o, a, r, n, terminated, index.astype(np.int64), **about).validate()


def _require_rows(where: str, given: Mapping[str, Any]) -> None:
    """See that arrays fit together as the arguments of `from_rows`, by their `shape` and `dtype`.

    Raises:
        InputError: they do not, or nothing tells where episodes end.
    """
    shapes = {name: array.shape for name, array in given.items()}
    for name in ("obs", "action", "reward"):
        if given[name].dtype.kind not in "fiub":
            raise InputError(f"{where}: {name} holds {given[name].dtype}, not numbers.")
    obs, action, reward, terminated = (shapes[name] for name in ("obs", "action", "reward", "terminated"))
    if (len(obs), len(action), len(reward), len(terminated)) != (2, 2, 1, 1):
        raise InputError(
            f"{where}: observations and actions must be tables [N, S] and [N, A], rewards and terminals columns [N]; "
            f"got shapes {obs}, {action}, {reward} and {terminated}."
        )
    rows = obs[0]
    for name, shape in shapes.items():
        if shape[:1] != (rows,) or (name in ("timeout", "episode") and len(shape) != 1):
            raise InputError(f"{where}: {name} has shape {shape}, but there are {rows} observations.")
    if not {"next_obs", "timeout", "episode"} & set(shapes):
        raise InputError(f"{where}: nothing tells where episodes end. Add timeouts, episode or next_observations.")
    if shapes.get("next_obs", obs) != obs:
        raise InputError(f"{where}: next_obs has shape {shapes['next_obs']}, the observations {obs}.")
    if rows == 0:
        raise InputError(f"{where}: no transitions in it.")


def _settled(given: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """s' of every row, whether the world ended there, whether an episode did, and whether the row can be used.

    What becomes of a row hangs on the one after it; nothing comes after the last.
    """
    obs, timeout, episode = given["obs"], given.get("timeout"), given.get("episode")
    terminated = given["terminated"].astype(bool)
    ends = terminated | timeout.astype(bool) if timeout is not None else terminated.copy()
    if episode is not None:
        ends[:-1] |= episode[1:] != episode[:-1]
    next_obs, ends, keep = _next_observations(
        obs, given.get("next_obs"), ends, terminated, numbered=episode is not None
    )
    return next_obs, terminated, ends, keep


def _next_observations(
    obs: np.ndarray, next_obs: np.ndarray | None, ends: np.ndarray, terminated: np.ndarray, numbered: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """s' of every row, where episodes end, and which rows keep a usable s'."""
    if next_obs is None:
        next_obs = np.concatenate([obs[1:], obs[-1:]])
        foreign = ends.copy()
        foreign[-1] = True
    else:
        follows = (next_obs[:-1] == obs[1:]).all(axis=1)
        if not numbered:
            ends[:-1] |= ~follows
        # An s' at the end of an episode that is the next episode's start was filled in by shifting rows.
        foreign = np.append(ends[:-1] & follows, False)
        next_obs = next_obs.copy() if foreign.any() else next_obs
    lost = foreign & terminated
    next_obs[lost] = obs[lost]
    return next_obs, ends, ~foreign | terminated

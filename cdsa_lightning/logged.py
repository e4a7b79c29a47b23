r"""Logged data without a registered task: what was seen and done, and the bounds within which actions must lie.

    low <= a <= high      for every logged action a; the corrected ones are kept within the same bounds

The correction needs no world, so none is asked for. `cdsa fit --data cdsa_lightning.logged.LoggedData` does what
`cdsa.fit` does with `low` and `high`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np

from cdsa_lightning.data import TransitionData
from cdsa_lightning.errors import InputError
from cdsa_lightning.table import Table, spans
from cdsa_lightning.tasks import D, Task, task_names

__all__ = ["LoggedData", "LoggedTask"]

_SLACK = 1e-5
"""How far, in widths of the bounds, a logged action may lie outside by rounding."""


@dataclass(frozen=True)
class LoggedTask(Task):
    """A task that is its data: bounds, and no world to act in.

    Attributes:
        bounds: Lower and upper bound of each action entry.
    """

    bounds: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    @property
    def low(self) -> np.ndarray:
        """Lower bound of each action entry, [A] float32."""
        return np.array(self.bounds[0], dtype=np.float32)

    @property
    def high(self) -> np.ndarray:
        """Upper bound of each action entry, [A] float32."""
        return np.array(self.bounds[1], dtype=np.float32)

    def make_env(self, num_envs: int, **env_kwargs: Any) -> gymnasium.vector.VectorEnv:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.name!r} is logged data and has no environment. Name a task to act in, for instance gym:<EnvId>."
        )

    def accept(self, data: D, source: str) -> D:
        """`data`: nothing but its bounds is known beforehand, and `LoggedData` looks at those."""
        return data


class LoggedData(TransitionData):
    """Logged transitions of no registered task.

    Args:
        source: Where to read, for instance ``npz:log.npz``.
        low: Lower bound of every action entry, action units; one number for all or one for each.
        high: Upper bound, the same.
        task: What to call them; the name of the run's folder.
        batch_size: Transitions per gradient step and seed.
        top_fraction: Share of the episodes to keep, those with the highest returns.
        weights: How likely each transition is to be drawn: ``uniform``, ``return`` or ``safety``.
        memory_map: A folder from which the data are read while training, instead of held in memory.

    Raises:
        InputError: a name that is no folder's or a registered task's, or a number out of range.
    """

    task: LoggedTask

    def __init__(
        self,
        source: str | None = None,
        low: list[float] | float | None = None,
        high: list[float] | float | None = None,
        task: str = "logged",
        batch_size: int = 256,
        top_fraction: float = 1.0,
        weights: str = "uniform",
        memory_map: str | None = None,
    ) -> None:
        super().__init__(task, source, batch_size, top_fraction, weights, memory_map)
        self.low, self.high = low, high

    def named(self, task: str) -> LoggedTask:
        """A new name.

        Raises:
            InputError: one that cannot be a folder's, or a registered task's.
        """
        if task in task_names() or task.startswith("gym:"):
            raise InputError(f"The task {task!r} has bounds of its own: leave low and high out.")
        if not re.fullmatch(r"[\w-][\w.-]*", task):
            raise InputError(f"Logged data need a name of letters, digits and -_., got task={task!r}.")
        return LoggedTask(task, env_id="")

    def load(self) -> Table:
        """The transitions, read once, and the bounds seen to hold for them.

        Raises:
            InputError: there are none, or the bounds are missing, in disorder, or narrower than the data.
        """
        if self.source is None and self.transitions is None and self.table is None:
            raise InputError("Logged data need a source, for instance npz:log.npz.")
        data = super().load()
        if not self.task.bounds[0]:
            self.task = replace(self.task, bounds=_bounds(self.low, self.high, data))
        return data


def _bounds(
    low: list[float] | float | None, high: list[float] | float | None, data: Table
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both bounds of every action entry."""
    ranges = [(data.action[part].min(axis=0), data.action[part].max(axis=0)) for part in spans(len(data))]
    least, most = np.min([low for low, _ in ranges], axis=0), np.max([high for _, high in ranges], axis=0)
    if low is None or high is None:
        raise InputError(
            "The action bounds are missing: name what the actuators take with low and high, one number for all entries "
            f"or one for each, or the task that the data are of. The logged actions run from {_short(least)} to "
            f"{_short(most)}."
        )
    pair = [np.asarray(bound, dtype=np.float64) for bound in (low, high)]
    for name, bound in zip(("low", "high"), pair, strict=True):
        if bound.ndim > 1 or bound.size not in (1, data.action_dim) or not np.isfinite(bound).all():
            raise InputError(
                f"{name} must be one finite number, or one for each of the {data.action_dim} action entries, "
                f"got {bound.tolist()}."
            )
    lower, upper = (np.broadcast_to(bound, (data.action_dim,)) for bound in pair)
    if not (lower < upper).all():
        raise InputError(f"Each lower bound must be below its upper bound, got {_short(lower)} and {_short(upper)}.")
    slack = _SLACK * (upper - lower)
    if (least < lower - slack).any() or (most > upper + slack).any():
        raise InputError(
            f"Logged actions lie outside the bounds {_short(lower)} to {_short(upper)}: they run from {_short(least)} "
            f"to {_short(most)}. Log what was sent to the actuators, or widen the bounds."
        )
    return tuple(lower.tolist()), tuple(upper.tolist())


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]

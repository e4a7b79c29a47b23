r"""Tasks: everything that is about the world and not about the method, one row of `reference/tasks.csv` each.

Scores are normalised as 100 (R - min) / (max - min) with D4RL's reference returns.
"""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
import numpy.typing as npt

from cdsa_lightning import envs
from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.reference import read_tasks
from cdsa_lightning.sources import Transitions, load_transitions, locate

__all__ = ["Task", "get_task", "task_names"]

_log = logging.getLogger(__name__)
_GYM = "gym:"
_Spaces = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""S; action bounds [A], [A]; centre and half width of the observations [S], [S]."""


class Wide(Protocol):
    """Data of S observation and A action entries."""

    @property
    def obs_dim(self) -> int: ...
    @property
    def action_dim(self) -> int: ...


D = TypeVar("D", bound=Wide)


@dataclass(frozen=True)
class Task:
    """A world, its data and its scale.

    Attributes:
        name: What users write.
        env_id: Gymnasium id.
        env_kwargs: Keywords of the environment.
        score_min: Raw return that scores 0; None where there is no scale.
        score_max: Raw return that scores 100; None where there is no scale.
        episodes: Evaluation rollouts per seed.
        sources: Where transitions come from, tried in order.
        collect: The command that makes the data; empty where there is none.
        obs_to_state: Observation entries that the score networks see; None for all.
        corrector_task: The task whose corrector serves this one too; empty for its own.
    """

    name: str
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    score_min: float | None = None
    score_max: float | None = None
    episodes: int = 20
    sources: tuple[str, ...] = ()
    collect: str = ""
    obs_to_state: tuple[int, ...] | None = None
    corrector_task: str = ""

    def make_env(self, num_envs: int, **env_kwargs: Any) -> gymnasium.vector.VectorEnv:
        """`num_envs` copies side by side; a finished one stays frozen until it is reset.

        Args:
            num_envs: Copies.
            env_kwargs: Keywords over those of the task.

        Raises:
            InputError: gymnasium does not know the environment, or its actions are not continuous.
        """
        settings = {**self.env_kwargs, **env_kwargs}
        try:
            return envs.make_lanes(self.env_id, num_envs, **settings)
        except TypeError as error:
            raise InputError(f"{self.env_id} cannot be made with {settings}: {error}.") from error

    def make_single(self, render_mode: str | None = None, **env_kwargs: Any) -> gymnasium.Env:
        """One plain gymnasium environment.

        Raises:
            InputError: gymnasium does not know the environment.
        """
        return _make(self.env_id, render_mode=render_mode, **{**self.env_kwargs, **env_kwargs})

    @property
    def map(self) -> WorldMap | None:
        """The map of a world in the plane; None for others."""
        return envs.world_map(self.env_id, **self.env_kwargs)

    @property
    def corrected_by(self) -> str:
        """The task whose corrector corrects this one."""
        return self.corrector_task or self.name

    @property
    def obs_dim(self) -> int:
        """S, the number of observation entries."""
        return self._spaces[0]

    @property
    def action_dim(self) -> int:
        """A, the number of action entries."""
        return len(self.low)

    @property
    def low(self) -> np.ndarray:
        """Lower bound of each action entry, [A] float32."""
        return self._spaces[1].copy()

    @property
    def high(self) -> np.ndarray:
        """Upper bound of each action entry, [A] float32."""
        return self._spaces[2].copy()

    @property
    def obs_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Centre and half width of each bounded observation entry, 0 and 1 of an unbounded one; [S] each, float32."""
        return self._spaces[3].copy(), self._spaces[4].copy()

    @property
    def _spaces(self) -> _Spaces:
        return _spaces(self.env_id, json.dumps(self.env_kwargs, sort_keys=True))

    def local_source(self) -> str | None:
        """The first of the task's sources that is on this machine."""
        return next((source for source in self.sources if locate(source) is not None), None)

    def transitions(self, source: str | None = None) -> Transitions:
        """The task's data.

        Args:
            source: ``scheme:name`` to use instead of the task's own sources; downloaded if need be.

        Raises:
            InputError: no source of the task is on this machine, or the data do not fit the environment.
        """
        chosen = self.chosen(source)
        data = load_transitions(chosen)
        _log.info("%s: %d transitions from %s", self.name, len(data), chosen)
        return self.accept(data, chosen)

    def chosen(self, source: str | None = None) -> str:
        """`source`, or the first of the task's own that is on this machine.

        Raises:
            InputError: there is none.
        """
        found = source or self.local_source()
        if found is None:
            raise InputError(self._no_data())
        return found

    def accept(self, data: D, source: str) -> D:
        """`data`, seen to be as wide as the environment's; `source` is what an error calls them.

        Raises:
            InputError: they are not.
        """
        if (data.obs_dim, data.action_dim) != (self.obs_dim, self.action_dim):
            raise InputError(
                f"{source} does not fit the task {self.name!r}: it has {data.obs_dim} observation and "
                f"{data.action_dim} action entries, {self.env_id} has {self.obs_dim} and {self.action_dim}."
            )
        return data

    def _no_data(self) -> str:
        if not self.sources:
            return f"The task {self.name!r} has no data set of its own. Name one, for instance minari:my/data-v0."
        remedies = []
        if any(not source.startswith("minari:cdsa/") for source in self.sources):
            remedies.append(f"download them: cdsa datasets --download {self.name}")
        if self.collect:
            remedies.append(f"collect them: {self.collect}")
        looked, how = ", ".join(self.sources), "; or ".join(remedies)
        return f"No data for the task {self.name!r} here (looked for {looked}). You can {how}"

    def normalized_score(self, returns: npt.ArrayLike) -> np.ndarray:
        """100 (R - min) / (max - min) of raw returns, any shape; the returns themselves where there is no scale."""
        returns = np.asarray(returns, dtype=np.float64)
        if self.score_min is None or self.score_max is None:
            return returns
        return 100.0 * (returns - self.score_min) / (self.score_max - self.score_min)


def get_task(name: str) -> Task:
    """A task by name, or any gymnasium environment, without data or scale, as ``gym:<EnvId>``.

    Raises:
        InputError: unknown task, or gymnasium does not know the environment.
    """
    if name.startswith(_GYM):
        env_id = name.removeprefix(_GYM)
        if env_id not in gymnasium.registry:
            envs.register_installed()
        try:
            gymnasium.spec(env_id)
        except gymnasium.error.Error as error:
            raise InputError(f"Gymnasium knows no environment {env_id!r}: {error}") from error
        return Task(name=name, env_id=env_id)
    tasks = _tasks()
    if name not in tasks:
        raise unknown_name("task", name, tasks, "Any gymnasium environment can be named as gym:<EnvId>.")
    return tasks[name]


def task_names() -> list[str]:
    """Every task in the table, in its order."""
    return list(_tasks())


@functools.cache
def _tasks() -> dict[str, Task]:
    return {row["name"]: Task(**row) for row in read_tasks()}


def _make(env_id: str, **kwargs: Any) -> gymnasium.Env:
    import cdsa_lightning.envs.mujoco  # noqa: F401  for what it does with MuJoCo's warnings

    try:
        return envs.make(env_id, **kwargs)
    except (gymnasium.error.Error, TypeError) as error:
        raise InputError(f"Cannot make the environment {env_id!r}: {error}") from error


@functools.cache
def _spaces(env_id: str, kwargs: str) -> _Spaces:
    env = _make(env_id, **json.loads(kwargs))
    obs, action = env.observation_space, env.action_space
    env.close()
    if not isinstance(action, gymnasium.spaces.Box):
        raise InputError(f"{env_id} has {type(action).__name__} actions; the method needs continuous ones (Box).")
    if not isinstance(obs, gymnasium.spaces.Box) or len(obs.shape) != 1 or len(action.shape) != 1:
        raise InputError(
            f"{env_id} observes {obs} and takes {action}; the method needs one vector each (Box of one dimension)."
        )
    bounded = np.isfinite(obs.low) & np.isfinite(obs.high) & (obs.high > obs.low)
    low, high = np.where(bounded, obs.low, -1).astype(np.float32), np.where(bounded, obs.high, 1).astype(np.float32)
    scale = (low + high) / 2, (high - low) / 2
    return obs.shape[0], action.low.astype(np.float32), action.high.astype(np.float32), *scale

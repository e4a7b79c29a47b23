r"""Risky PointMass: walk to a corner around (or through) a disc where accidents happen.

State (x, y, gx, gy) in [0, 1]^4, the goal g at (.1, .1) unless said; the action is the displacement, clipped to +-0.1
per axis. With d = |p - g| before the step,

    reward = -d - 0.1 - risk_penalty * [p inside the disc and u >= risk_prob],    u ~ U(0, 1),

so an accident has probability 1 - risk_prob per step inside. The episode terminates when d < 0.05 and is truncated
after 100 steps. An episode's whole luck is drawn at reset from the copy's own generator, first the start, then one u
per step: a copy seeded with s behaves the same alone or among thousands, whatever the others do.
Source: the environment of the CODAC line of work, as the CDSA paper (arXiv 2406.07541, Figure 3) uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from cdsa_lightning.envs.lanes import FrozenLanes
from cdsa_lightning.envs.maps import Disc, Place, WorldMap
from cdsa_lightning.envs.pictures import draw_map
from cdsa_lightning.errors import InputError, unknown_name

__all__ = [
    "CENTRE",
    "GOAL",
    "MAP",
    "MAX_STEP",
    "RADIUS",
    "RiskyPointMass",
    "RiskyPointMassVector",
    "check_start",
    "draw_episode",
    "in_disc",
    "transition",
]

GOAL = np.array([0.1, 0.1])
CENTRE = np.array([0.5, 0.5])
RADIUS = 0.3
MAX_STEP = 0.1
REACHED = 0.05
STARTS = ("uniform", "corner")
Start = str | Sequence[float]
MAP = WorldMap((0.0, 0.0), (1.0, 1.0), (Disc("risky disc", (0.5, 0.5), RADIUS),), (Place("goal", (0.1, 0.1), REACHED),))


def in_disc(position: np.ndarray) -> np.ndarray:
    """Whether positions [n, 2] lie in the risky disc, bool [n]."""
    return np.linalg.norm(position - CENTRE, axis=-1) < RADIUS


def transition(
    position: np.ndarray,
    action: np.ndarray,
    luck: np.ndarray,
    risk_prob: float,
    risk_penalty: float,
    goal: np.ndarray = GOAL,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """One step of n points; reward, termination and risk all look at the state before the step.

    Args:
        position: [n, 2].
        action: Wanted displacement, [n, 2]; clipped to +-0.1.
        luck: Uniform random numbers of this step, [n].
        risk_prob: Probability of getting away with a step inside the disc.
        risk_penalty: What an accident costs.
        goal: Where to, [2].

    Returns:
        Next positions [n, 2], rewards [n], terminated [n] and infos: ``cost`` [n] (1 for an accident),
        ``in_risk_region`` [n].

    Raises:
        InputError: an action that is NaN or infinite.
    """
    if not np.isfinite(action).all():
        raise InputError("An action is NaN or infinite; actions are displacements in [-0.1, 0.1].")
    distance = np.linalg.norm(position - goal, axis=-1)
    inside = in_disc(position)
    accident = inside & (luck >= risk_prob)
    following = np.clip(position + np.clip(action, -MAX_STEP, MAX_STEP), 0.0, 1.0)
    infos = {"cost": accident.astype(np.float64), "in_risk_region": inside}
    return following, -distance - 0.1 - risk_penalty * accident, distance < REACHED, infos


def draw_episode(rng: np.random.Generator, start: Start, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The start [2] and the luck [steps] of one episode, in this order.

    Raises:
        InputError: as `check_start`.
    """
    check_start(start)
    if not isinstance(start, str):
        position = np.array(start, dtype=np.float64)
    elif start == "corner":
        position = 0.85 - rng.uniform(0.0, 0.05, size=2)
    else:
        position = rng.uniform(0.1, 0.9, size=2)
        while in_disc(position[None]).item():
            position = rng.uniform(0.1, 0.9, size=2)
    return position, rng.uniform(size=steps)


def check_start(start: Start) -> None:
    """See that an episode can begin at `start`.

    Raises:
        InputError: it cannot: another word than "uniform" and "corner", or a point in the disc or off the map.
    """
    if not isinstance(start, str):
        MAP.check_free("The start", start)
    elif start not in STARTS:
        raise unknown_name("start", start, STARTS, "Or give a point outside the disc, for instance [0.9, 0.1].")


def _check(risk_prob: float, start: Start, goal: Sequence[float], render_mode: str | None) -> WorldMap:
    """The map with its goal, once everything is seen to be usable."""
    if not 0 <= risk_prob <= 1:
        raise InputError(f"risk_prob is a probability between 0 and 1, got {risk_prob}.")
    check_start(start)
    if render_mode not in (None, "rgb_array"):
        raise unknown_name("render_mode", str(render_mode), ["rgb_array"])
    MAP.check_free("The goal", goal)
    x, y = goal
    return dataclasses.replace(MAP, places=(Place("goal", (float(x), float(y)), REACHED),))


def _spaces() -> tuple[Box, Box]:
    return Box(0.0, 1.0, (4,), np.float32), Box(-MAX_STEP, MAX_STEP, (2,), np.float32)


class RiskyPointMass(gym.Env):
    """One point; see the module's description.

    Args:
        risk_prob: Probability of getting away with a step inside the disc.
        risk_penalty: What an accident costs.
        start: "uniform" in [.1, .9]^2 outside the disc, "corner": (.85, .85) - U(0, .05)^2, or a point (x, y).
        goal: Where to, a point (x, y).
        render_mode: None or "rgb_array".
        max_episode_steps: Steps after which an episode is truncated.

    Raises:
        InputError: a probability outside [0, 1], an unknown start or render mode, a start or a goal in the disc or off
            the map.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        risk_prob: float = 0.9,
        risk_penalty: float = 50.0,
        start: Start = "uniform",
        goal: Sequence[float] = (0.1, 0.1),
        render_mode: str | None = None,
        max_episode_steps: int = 100,
    ) -> None:
        self.map = _check(risk_prob, start, goal, render_mode)
        self.risk_prob, self.risk_penalty, self.start = risk_prob, risk_penalty, start
        self.goal, self.render_mode = np.array(goal, dtype=np.float64), render_mode
        self.max_episode_steps = max_episode_steps
        self.observation_space, self.action_space = _spaces()
        self._position, self._luck, self._step = GOAL, np.zeros(max_episode_steps), 0

    @classmethod
    def world_map(cls, **settings: Any) -> WorldMap:
        """What a picture of this world shows with these settings."""
        return cls(**settings).map

    def _observe(self) -> np.ndarray:
        return np.concatenate((self._position, self.goal)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode.

        Args:
            seed: Restarts the environment's generator.
            options: ``start``: "uniform", "corner" or a point, for this episode.
        """
        super().reset(seed=seed)
        start = (options or {}).get("start", self.start)
        self._position, self._luck = draw_episode(self.np_random, start, self.max_episode_steps)
        self._step = 0
        return self._observe(), {"in_risk_region": in_disc(self._position[None]).item()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move by `action` [2]."""
        # Beyond the limit (a caller that ignores truncation) the last luck is used again.
        luck = self._luck[[min(self._step, len(self._luck) - 1)]]
        actions = np.asarray(action, dtype=np.float64)[None]
        position, reward, terminated, infos = transition(
            self._position[None], actions, luck, self.risk_prob, self.risk_penalty, self.goal
        )
        self._position, self._step = position[0], self._step + 1
        info = {key: value.item() for key, value in infos.items()}
        return self._observe(), reward.item(), terminated.item(), self._step >= self.max_episode_steps, info

    def render(self) -> np.ndarray | None:
        """A picture, uint8 [320, 320, 3], where render_mode is "rgb_array"."""
        return draw_map(self.map, self._position) if self.render_mode == "rgb_array" else None


class RiskyPointMassVector(FrozenLanes):
    """Thousands of points in one NumPy call; lane i seeded with s equals `RiskyPointMass` seeded with s, bit for bit.

    Each lane has its own generator, read once per episode, at reset; steps draw nothing.

    Args:
        num_envs: Number of lanes.
        risk_prob, risk_penalty, start, goal, render_mode, max_episode_steps: As in `RiskyPointMass`.

    Raises:
        InputError: as `RiskyPointMass`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        risk_prob: float = 0.9,
        risk_penalty: float = 50.0,
        start: Start = "uniform",
        goal: Sequence[float] = (0.1, 0.1),
        render_mode: str | None = None,
        max_episode_steps: int = 100,
    ) -> None:
        self.map = _check(risk_prob, start, goal, render_mode)
        super().__init__(num_envs, *_spaces(), render_mode)
        self.risk_prob, self.risk_penalty, self.start = risk_prob, risk_penalty, start
        self.goal, self.max_episode_steps = np.array(goal, dtype=np.float64), max_episode_steps
        self._position = np.tile(GOAL, (num_envs, 1))
        self._luck = np.zeros((num_envs, max_episode_steps))
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._obs[:, 2:] = self.goal
        self._infos = {"cost": np.zeros(num_envs), "in_risk_region": np.zeros(num_envs, dtype=bool)}

    def _restart(self, lanes: np.ndarray, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        start = (options or {}).get("start", self.start)
        for lane, seed in zip(lanes.tolist(), seeds, strict=True):
            rng = self._generator(lane, seed)
            self._position[lane], self._luck[lane] = draw_episode(rng, start, self.max_episode_steps)
        self._steps[lanes] = 0
        self._obs[lanes, :2] = self._position[lanes]
        self._infos["cost"][lanes] = 0.0
        self._infos["in_risk_region"][lanes] = in_disc(self._position[lanes])

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        luck, wanted = self._luck[lanes, self._steps[lanes]], np.asarray(actions, dtype=np.float64)
        following, reward, terminated, infos = transition(
            self._position[lanes], wanted, luck, self.risk_prob, self.risk_penalty, self.goal
        )
        self._position[lanes] = following
        self._obs[lanes, :2] = following
        self._steps[lanes] += 1
        self._terminated[lanes] = terminated
        self._truncated[lanes] = self._steps[lanes] >= self.max_episode_steps
        for key, value in infos.items():
            self._infos[key][lanes] = value
        return reward

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture per lane where render_mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(draw_map(self.map, position) for position in self._position)

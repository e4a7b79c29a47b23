"""Risky transportation as an environment and as many lanes of it; `travel` has its rules.

An episode's luck is drawn at reset from the copy's own generator, first the start, then one number per step: a lane
seeded with s behaves the same alone or among thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box

from cdsa_lightning.envs.lanes import FrozenLanes
from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.envs.pictures import draw_map
from cdsa_lightning.envs.travel import AT_START, NAMES, Rules, Travellers
from cdsa_lightning.errors import unknown_name

__all__ = ["RiskyTransportation", "RiskyTransportationVector"]

_TYPES = {"risk_region": NAMES.dtype}


def _spaces() -> tuple[Box, Box]:
    high = np.array([10, 10, 1, 1, 1, 1, 1], dtype=np.float32)
    return Box(np.zeros(7, np.float32), high), Box(-1.0, 1.0, (2,), np.float32)


class RiskyTransportation(gym.Env):
    """One traveller; see the module's description.

    Args:
        render_mode: None or "rgb_array".
        rules: As `Rules`.

    Raises:
        InputError: as `Rules`, or an unknown render mode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode: str | None = None, **rules: Any) -> None:
        self.lanes = RiskyTransportationVector(1, render_mode, **rules)
        self.rules, self.render_mode = self.lanes.rules, render_mode
        self.observation_space, self.action_space = _spaces()

    @classmethod
    def world_map(cls, **rules: Any) -> WorldMap:
        """What a picture of this world shows."""
        return Rules(**rules).map

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode.

        Args:
            seed: Restarts the environment's generator.
            options: ``start``: as in `Rules`, for this episode.
        """
        super().reset(seed=seed)
        obs, infos = self.lanes.reset(seed=[seed], options=options)
        return obs[0], {key: value[0].item() for key, value in infos.items()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Walk in direction `action` [2]; after the end of the episode nothing moves and rewards are 0."""
        obs, reward, terminated, truncated, infos = self.lanes.step(np.asarray(action)[None])
        info = {key: value[0].item() for key, value in infos.items()}
        return obs[0], reward.item(), terminated.item(), truncated.item(), info

    def render(self) -> np.ndarray | None:
        """A picture, uint8 [320, 320, 3], where render_mode is "rgb_array"."""
        frames = self.lanes.render()
        return None if frames is None else frames[0]


class RiskyTransportationVector(FrozenLanes):
    """Many travellers at once, each lane with its own luck.

    Args:
        num_envs: Number of lanes, n.
        render_mode: None or "rgb_array".
        rules: As `Rules`.

    Raises:
        InputError: as `Rules`, or an unknown render mode.
    """

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **rules: Any) -> None:
        if render_mode not in (None, "rgb_array"):
            raise unknown_name("render_mode", str(render_mode), ["rgb_array"])
        super().__init__(num_envs, *_spaces(), render_mode)
        self.rules = Rules(**rules)
        self._now = Travellers.at(np.zeros((num_envs, 2)))
        self._luck = np.zeros((num_envs, self.rules.max_episode_steps))
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._infos = {key: np.full(num_envs, value, dtype=_TYPES.get(key)) for key, value in AT_START.items()}

    def _write(self, lanes: np.ndarray, now: Travellers, infos: dict[str, Any]) -> None:
        for field, value in vars(now).items():
            getattr(self._now, field)[lanes] = value
        self._obs[lanes] = self.rules.observe(now)
        for key, value in infos.items():
            self._infos[key][lanes] = value

    def _restart(self, lanes: np.ndarray, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        start = (options or {}).get("start", self.rules.start)
        position = np.zeros((len(lanes), 2))
        for row, (lane, seed) in enumerate(zip(lanes.tolist(), seeds, strict=True)):
            position[row], self._luck[lane] = self.rules.draw(self._generator(lane, seed), start)
        self._steps[lanes] = 0
        self._write(lanes, Travellers.at(position), AT_START)

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        now = Travellers(**{field: value[lanes] for field, value in vars(self._now).items()})
        luck = self._luck[lanes, self._steps[lanes]]
        after, reward, arrived, infos = self.rules.step(now, np.asarray(actions, dtype=np.float64), luck)
        self._write(lanes, after, infos)
        self._steps[lanes] += 1
        self._terminated[lanes] = arrived
        self._truncated[lanes] = self._steps[lanes] >= self.rules.max_episode_steps
        return reward

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture per lane where render_mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(draw_map(self.rules.map, position) for position in self._now.position)

r"""Many copies of an environment side by side, each finished copy frozen until it is reset.

A lane is one copy. It runs while neither flag is up; then it keeps its last observation, earns reward 0 and costs no
physics, until ``reset(options={"reset_mask": mask})`` restarts it. This is gymnasium's `AutoresetMode.DISABLED`. Every
lane owns its random numbers: what happens in it depends on the seed it was reset with, not on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cdsa_lightning.errors import InputError

__all__ = ["FrozenLanes", "Lanes"]

Seeds = int | Sequence[int | None] | np.ndarray | None


class FrozenLanes(VectorEnv):
    """What all lane environments share: flags, seeds, masks. A subclass writes `_restart` and `_advance`.

    Args:
        num_envs: Number of lanes, n.
        observation_space: Space of one lane, a Box of shape [S].
        action_space: Space of one lane, a Box of shape [A].
        render_mode: None or "rgb_array".

    Raises:
        InputError: fewer than one lane.
    """

    closed = True
    """Until there is something to close: gymnasium also closes what `__init__` refused to make."""

    def __init__(
        self, num_envs: int, observation_space: gym.Space, action_space: gym.Space, render_mode: str | None = None
    ) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs must be at least 1, got {num_envs}.")
        self.num_envs = num_envs
        self.closed = False
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self.render_mode = render_mode
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"]}
        self._obs = np.zeros((num_envs, *(observation_space.shape or ())), dtype=observation_space.dtype)
        # All lanes wait for their first reset.
        self._terminated = np.ones(num_envs, dtype=bool)
        self._truncated = np.zeros(num_envs, dtype=bool)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._infos: dict[str, np.ndarray] = {}

    def _restart(self, lanes: np.ndarray, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        """Begin an episode in `lanes`: write `_obs`, and `_infos` where the environment has reset infos."""
        raise NotImplementedError  # abstract: every kind of lanes writes its own

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Step `lanes` with `actions` [len(lanes), A]: write `_obs`, flags, `_infos`; return rewards [len(lanes)]."""
        raise NotImplementedError  # abstract: every kind of lanes writes its own

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Restart all lanes, or those of ``options["reset_mask"]``.

        Args:
            seed: One seed per lane; an int s means s, s + 1, ...; None lets each lane's generator run on.
            options: ``reset_mask``: bool [n], lanes to restart; the rest is handed to the environment.

        Returns:
            Observations [n, S] and infos, arrays over all lanes.

        Raises:
            InputError: a mask or a list of seeds of another length than the lanes.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise InputError(f"reset_mask must be bool of shape ({self.num_envs},), got {mask.dtype} {mask.shape}.")
        if seed is None or isinstance(seed, int | np.integer):
            seeds: list[int | None] = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None if s is None else int(s) for s in seed]
        if len(seeds) != self.num_envs:
            raise InputError(f"Need one seed per lane ({self.num_envs}), got {len(seeds)}.")
        self._terminated[mask] = False
        self._truncated[mask] = False
        lanes = np.flatnonzero(mask)
        self._restart(lanes, [seeds[i] for i in lanes], options or None)
        return self._obs.copy(), {key: value.copy() for key, value in self._infos.items()}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every running lane; rows of finished lanes are ignored.

        Args:
            actions: [n, A], environment units.

        Returns:
            Observations [n, S], rewards [n], terminated [n], truncated [n], infos (arrays over all lanes).

        Raises:
            InputError: `actions` has another shape.
        """
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise InputError(f"Actions must have shape {self.action_space.shape}, got {actions.shape}.")
        lanes = np.flatnonzero(~(self._terminated | self._truncated))
        reward = np.zeros(self.num_envs)
        if lanes.size:
            reward[lanes] = self._advance(lanes, actions[lanes])
        infos = {key: value.copy() for key, value in self._infos.items()}
        return self._obs.copy(), reward, self._terminated.copy(), self._truncated.copy(), infos

    def _generator(self, lane: int, seed: int | None) -> np.random.Generator:
        """The lane's own generator, as gymnasium seeds a single environment: anew for a seed, running on for None."""
        generator = self._generators[lane]
        if seed is not None or generator is None:
            generator, _ = seeding.np_random(seed)
            self._generators[lane] = generator
        return generator

    def _write_info(self, lane: int, info: dict[str, Any]) -> None:
        """Keep the numbers of one lane's info; anything that is not a number has no place in an array."""
        for key, value in info.items():
            if isinstance(value, bool | int | float | np.number | np.bool_):
                if key not in self._infos:
                    kind = bool if isinstance(value, bool | np.bool_) else float
                    self._infos[key] = np.zeros(self.num_envs, dtype=kind)
                self._infos[key][lane] = value


class Lanes(FrozenLanes):
    """Any gymnasium environments in the lane protocol, stepped one after the other.

    Args:
        env_fns: One constructor per lane; all environments have the same Box spaces.

    Raises:
        InputError: an observation space that is not a Box, a discrete action space, or spaces that differ.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]]) -> None:
        if not env_fns:
            raise InputError("Lanes needs at least one environment constructor, got none.")
        self.envs = [make() for make in env_fns]
        first = self.envs[0]
        _require_box("observation", first.observation_space, "Flatten it, for instance with FlattenObservation.")
        _require_box("action", first.action_space, "The method needs continuous actions.")
        for i, env in enumerate(self.envs):
            if (env.observation_space, env.action_space) != (first.observation_space, first.action_space):
                raise InputError(f"Environment {i} has other spaces than environment 0; lanes need equal ones.")
        super().__init__(len(env_fns), first.observation_space, first.action_space, first.render_mode)

    def _restart(self, lanes: np.ndarray, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        for lane, seed in zip(lanes.tolist(), seeds, strict=True):
            self._obs[lane], info = self.envs[lane].reset(seed=seed, options=options)
            self._write_info(lane, info)

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        reward = np.zeros(lanes.size)
        for row, lane in enumerate(lanes.tolist()):
            step = self.envs[lane].step(actions[row])
            self._obs[lane], reward[row], self._terminated[lane], self._truncated[lane], info = step
            self._write_info(lane, info)
        return reward

    def render(self) -> tuple[Any, ...]:
        """One frame per lane."""
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def _require_box(kind: str, space: gym.Space, remedy: str) -> None:
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        raise InputError(f"The environment's {kind} space must be a Box of one dimension, got {space}. {remedy}")

"""A world of known lengths, for tests of what runs episodes."""

import gymnasium as gym
import numpy as np
import torch

from cdsa_lightning.core.policy import Policy
from cdsa_lightning.envs import Lanes
from cdsa_lightning.rollout import episode_seed

BOUNDS = ([-1.0, -1.0], [1.0, 1.0])


class Countdown(gym.Env):
    """Lasts as many steps as its generator says; observes (steps left, the seed's tag); pays the first action entry."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    begun: list[int] = []

    def __init__(self, longest=9):
        self.longest = longest

    def observe(self):
        return np.array([self.left, self.tag], dtype=np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Countdown.begun.append(seed)
        self.left, self.tag, self.x = int(self.np_random.integers(1, self.longest + 1)), float(seed), 3.0
        return self.observe(), {"x_position": self.x}

    def step(self, action):
        self.left -= 1
        self.x += 0.5
        infos = {"cost": 2.0, "success": self.left == 0, "x_position": self.x, "unknown": 7.0}
        return self.observe(), float(action[0]), self.left == 0, False, infos


class CountdownTask:
    """Counts the lanes it was asked for."""

    def make_env(self, num_envs, **env_kwargs):
        Countdown.begun = []
        self.num_envs = num_envs
        return Lanes([lambda: Countdown(**env_kwargs) for _ in range(num_envs)])


def lengths_of(seed, episodes, longest=9):
    """What the lengths must be, from the seeds alone."""
    return [np.random.default_rng(episode_seed(seed, i)).integers(1, longest + 1) for i in range(episodes)]


def constant(value, seeds=1):
    """A policy of E seeds whose action's first entry is `value` plus the seed's index / 10."""

    class Constant(Policy):
        num_seeds = seeds
        widths: list[int] = []

        def forward(self, obs):
            self.widths.append(obs.shape[-2])
            action = torch.full((*obs.shape[:-1], 2), float(value))
            if obs.ndim == 3:
                action += torch.arange(obs.shape[0]).view(-1, 1, 1) / 10
            return action

    return Constant(*BOUNDS)

r"""The straight line to the goal at full speed.

    a = c (goal - position),   c = min(1, min_i bound_i / |goal_i - position_i|)

The observation begins with (x, y, goal x, goal y) and the action is the displacement of (x, y). The scale c keeps the
direction: the largest entry of the action is its bound, and the last step ends on the goal. It is the shortest-path
baseline of section 5.2 of the CDSA paper (arXiv 2406.07541), which walks through every risk region in its way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Float
from torch import Tensor

from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import Task

__all__ = ["ShortestPath", "load"]


class ShortestPath(Policy):
    """Straight to the goal; needs action bounds around zero. See the module for the formula."""

    def forward(self, obs: Float[Tensor, "*seeds B S"]) -> Float[Tensor, "*seeds B A"]:
        way = obs[..., 2:4] - obs[..., 0:2]
        bound = torch.where(way > 0, self.high, -self.low)
        # An axis that needs no movement sets no limit: a tiny denominator makes its quotient huge, never 0 / 0.
        scale = (bound / way.abs().clamp(min=1e-12)).amin(dim=-1, keepdim=True).clamp(max=1.0)
        return self.clip(scale * way)


def load(checkpoint: Path | None, task: Task) -> Policy:
    """The straight line to the goal of `task`.

    Args:
        checkpoint: Must be None.
        task: Its observations begin with (x, y, goal x, goal y), its two actions are displacements.

    Raises:
        InputError: a checkpoint is given, or the task is not of that kind.
    """
    if checkpoint is not None:
        raise InputError(
            f"Baseline 'shortest_path' has nothing to restore from {str(checkpoint)!r}: leave the checkpoint out."
        )
    problem = _mismatch(task)
    if problem:
        raise InputError(
            f"Baseline 'shortest_path' needs observations that begin with (x, y, goal x, goal y) and two displacements "
            f"as actions; task {task.name!r} has {problem}. Use it on a risky world, for instance risky-pointmass."
        )
    return ShortestPath(task.low, task.high)


def _mismatch(task: Task) -> str:
    """What speaks against a position and a goal in one bounded world; empty where nothing does."""
    if task.action_dim != 2 or task.obs_dim < 4:
        return f"{task.obs_dim} observation and {task.action_dim} action entries"
    if not (np.all(np.asarray(task.low) < 0) and np.all(np.asarray(task.high) > 0)):
        return f"action bounds {np.asarray(task.low).tolist()}, {np.asarray(task.high).tolist()} without room around 0"
    env = task.make_single()
    space = env.observation_space
    env.close()
    if not isinstance(space, Box):
        return f"observations of kind {type(space).__name__}"
    low, high = space.low[:4], space.high[:4]
    # Joint angles and velocities are unbounded; a position and a goal share the bounds of their world.
    same_world = np.array_equal(low[:2], low[2:]) and np.array_equal(high[:2], high[2:])
    if not (same_world and np.isfinite(low).all() and np.isfinite(high).all()):
        return f"observations between {low.tolist()} and {high.tolist()}"
    return ""

r"""Risky PointMass, safe data: every episode goes around the disc and reaches the goal.

Each walks at a distance of its own choice, on either side, at a speed of its own, with Gaussian noise on its actions.
An episode whose noise carries it into the disc is thrown away whole. The way around is the tangent rule: head for the
goal where the straight line is free of the circle of radius R + margin; otherwise for a point on that circle ahead on
the chosen side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cdsa_lightning.collection import Collected
from cdsa_lightning.envs.risky_pointmass import CENTRE, GOAL, MAX_STEP, RADIUS, draw_episode, in_disc, transition
from cdsa_lightning.recipes.scripted import scripted
from cdsa_lightning.shards import Output
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task

__all__ = ["safe_pointmass"]

EPISODES = 3000
CORNER = 0.1  # share of episodes that start in the far corner, the hardest place
LIMIT = 100
AHEAD = np.pi / 5  # how far ahead on the circle to aim


@dataclass(frozen=True)
class _Walkers:
    """The habits of n walkers: side [n] (+1 or -1), margin [n], speed [n], noise [n]."""

    side: np.ndarray
    margin: np.ndarray
    speed: np.ndarray
    noise: np.ndarray

    def act(self, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Displacements [n, 2] from positions [n, 2]."""
        aim = _aim(position, self.side, RADIUS + self.margin)
        way = aim - position
        distance = np.linalg.norm(way, axis=1, keepdims=True)
        step = way / np.maximum(distance, 1e-9) * np.minimum(self.speed[:, None], distance)
        return np.clip(step + rng.normal(size=step.shape) * self.noise[:, None], -MAX_STEP, MAX_STEP)


def safe_pointmass(task: Task, output: Output, seed: int = 0, episodes: int = EPISODES) -> Collected:
    """Collect the safe data of Risky PointMass: no state in the disc, every episode at the goal.

    Args:
        task: Risky PointMass.
        output: Id and format of the result.
        seed: Of everything.
        episodes: How many.

    Raises:
        InputError: as `scripted`.
    """
    return scripted(task, output, seed, episodes, "scripted detours, none in the disc", _walk)


def _walk(rng: np.random.Generator, count: int) -> list[Episode]:
    """`count` walks, all at once; those that stayed out of the disc and arrived."""
    starts = np.where(rng.uniform(size=count) < CORNER, "corner", "uniform")
    position = np.stack([draw_episode(rng, str(start), 0)[0] for start in starts])
    walkers = _Walkers(
        side=rng.choice([-1.0, 1.0], size=count),
        margin=rng.uniform(0.03, 0.12, size=count),
        speed=rng.uniform(0.06, 0.12, size=count),
        noise=rng.uniform(0.0, 0.02, size=count),
    )
    obs = np.empty((LIMIT + 1, count, 4), np.float32)
    obs[..., 2:] = GOAL
    action = np.empty((LIMIT, count, 2), np.float32)
    reward = np.empty((LIMIT, count), np.float32)
    length = np.zeros(count, np.int64)
    safe, running = np.ones(count, bool), np.ones(count, bool)
    obs[0, :, :2] = position
    for step in range(LIMIT):
        # What is recorded is what moves the point, rounded as it is recorded.
        action[step] = walkers.act(position, rng)
        luck = np.zeros(count)
        position, reward[step], terminated, _ = transition(position, action[step].astype(np.float64), luck, 1.0, 0.0)
        obs[step + 1, :, :2] = position
        length += running
        running &= ~terminated
        # The state after the last step counts too: it is in the data.
        safe &= ~(in_disc(position) & (running | terminated & (length == step + 1)))
        if not running.any():
            break
    good = np.flatnonzero(safe & ~running)
    return [Episode(obs[: length[i] + 1, i], action[: length[i], i], reward[: length[i], i], True, False) for i in good]


def _aim(position: np.ndarray, side: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Where to head from positions [n, 2]: the goal, or a point ahead on the circle of `radius` [n] around the disc."""
    way = GOAL - position
    share = ((CENTRE - position) * way).sum(1) / np.maximum((way**2).sum(1), 1e-12)
    nearest = position + np.clip(share, 0, 1)[:, None] * way
    # A walker that noise has put inside its circle is free where the way to the goal leads out of it.
    free = (np.linalg.norm(nearest - CENTRE, axis=1) >= radius) | (share <= 0)
    angle = np.arctan2(*(position - CENTRE).T[::-1])
    to_goal = np.arctan2(*(GOAL - CENTRE)[::-1])
    # Around on the chosen side, but never past the goal's own direction.
    left = np.mod(side * (to_goal - angle), 2 * np.pi)
    target = angle + side * np.minimum(AHEAD, left)
    around = CENTRE + radius[:, None] * np.stack([np.cos(target), np.sin(target)], axis=1)
    return np.where(free[:, None], GOAL, around)

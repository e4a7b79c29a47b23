r"""Risky transportation, safe data: from one random place to the next at full speed, around every region.

    a = (corner - p) / |corner - p| + .05 z,   z ~ N(0, I),    corners of the shortest way at a margin of .4

An episode visits up to twelve places, the last of which is its own target, unless its 200 steps are over before; one
that touches a region is thrown away. Targets of its own, for an episode ends at its target: were it always the same
one, nobody would ever have been seen beyond its edge, and a corrector would keep everybody from reaching it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from cdsa_lightning.collection import Collected
from cdsa_lightning.envs.travel import BONUS, REACH, SPEED, Rules, Travellers
from cdsa_lightning.recipes.routes import Planner
from cdsa_lightning.recipes.scripted import scripted
from cdsa_lightning.shards import Output
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task

__all__ = ["safe_transportation"]

EPISODES = 1200
MARGIN = 0.4
NOISE = 0.05
PLACES = 12


def safe_transportation(task: Task, output: Output, seed: int = 0, episodes: int = EPISODES) -> Collected:
    """Collect the safe data of Risky transportation: no state in a region.

    Args:
        task: Risky transportation, path finding.
        output: Id and format of the result.
        seed: Of everything.
        episodes: How many, of about a hundred steps.

    Raises:
        InputError: as `scripted`.
    """
    return scripted(task, output, seed, episodes, "scripted ways between random places, none in a region", _walk)


@cache
def _planner() -> Planner:
    return Planner(Rules().map, MARGIN)


def _walk(rng: np.random.Generator, count: int) -> list[Episode]:
    """`count` walks, all at once; those that touched no region."""
    rules = Rules()
    steps, world = rules.max_episode_steps, rules.map
    routes = [_Route(rng) for _ in range(count)]
    position = np.stack([route.corners[0] for route in routes])
    target = np.stack([route.corners[-1] for route in routes])
    obs = np.empty((steps + 1, count, 7), np.float32)
    action = np.empty((steps, count, 2), np.float32)
    reward = np.empty((steps, count), np.float32)
    length, touched, running = np.zeros(count, np.int64), np.zeros(count, bool), np.ones(count, bool)
    obs[0] = rules.observe(Travellers.at(position))
    for step in range(steps):
        way = np.stack([route.corner(place) for route, place in zip(routes, position, strict=True)]) - position
        free = way / np.linalg.norm(way, axis=1, keepdims=True) + rng.normal(scale=NOISE, size=way.shape)
        # What is recorded is what moves the traveller, rounded as it is recorded.
        action[step] = free / np.maximum(np.linalg.norm(free, axis=1, keepdims=True), 1.0)
        reward[step] = -np.linalg.norm(target - position, axis=1)
        position = np.clip(position + SPEED * action[step].astype(np.float64), world.low, world.high)
        obs[step + 1] = rules.observe(Travellers.at(position))
        length += running
        # The state after the last step counts too: it is in the data.
        touched |= running & (world.region_of(position) >= 0)
        arrived = np.linalg.norm(position - target, axis=1) < REACH
        reward[step] += BONUS * arrived
        running &= ~arrived
    return [
        Episode(obs[: n + 1, i], action[:n, i], reward[:n, i], bool(~running[i]), bool(running[i]))
        for i, n in enumerate(length.tolist())
        if not touched[i]
    ]


def _free_place(rng: np.random.Generator) -> np.ndarray:
    world, planner = Rules().map, _planner()
    place = rng.uniform(world.low, world.high)
    while not planner.is_free(place):
        place = rng.uniform(world.low, world.high)
    return place


class _Route:
    """Where one traveller is heading: the corners of the ways from place to place, the first where it starts."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.corners = [_free_place(rng)]
        for _ in range(rng.integers(1, PLACES + 1)):
            self.corners += list(_planner().way(self.corners[-1], _free_place(rng)))

    def corner(self, place: np.ndarray) -> np.ndarray:
        """The corner to head for from `place` [2]; one within a step counts as passed, the last never does."""
        while len(self.corners) > 1 and np.linalg.norm(self.corners[0] - place) < SPEED:
            self.corners.pop(0)
        return self.corners[0]

r"""Risky transportation, safe data: from one random place to the next at full speed, around every region.

    a = (corner - p) / |corner - p| + .05 z,   z ~ N(0, I),    corners of the shortest way at a margin of .4

An episode visits up to six places and then goes to the target, unless its 200 steps are over before; one that touches
a region is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from cdsa_lightning.collection import Collected, shard_seed
from cdsa_lightning.envs.risky_transportation import SPEED, Rules, Travellers
from cdsa_lightning.errors import InputError
from cdsa_lightning.recipes.routes import Planner
from cdsa_lightning.shards import Output, Piece, make_dataset
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task

__all__ = ["safe_transportation"]

EPISODES = 1800
SHARDS = 5
MARGIN = 0.4
NOISE = 0.05
ERRANDS = 6


def safe_transportation(task: Task, output: Output, seed: int = 0, episodes: int = EPISODES) -> Collected:
    """Collect the safe data of Risky transportation: no state in a region.

    Args:
        task: Risky transportation, path finding.
        output: Id and format of the result.
        seed: Of everything.
        episodes: How many, of about a hundred steps.

    Raises:
        InputError: a number out of range, or as `shards.make_dataset`.
    """
    if episodes < 1 or seed < 0:
        raise InputError(f"episodes must be at least 1 and seed 0 or more, got {episodes} and {seed}.")
    shards = min(SHARDS, episodes)
    sizes = [len(part) for part in np.array_split(np.arange(episodes), shards)]
    settings = {
        "task": task.name,
        "env_id": task.env_id,
        "behaviour": "scripted ways between random places, none in a region",
        "seed": seed,
        "episodes": episodes,
    }
    return make_dataset(
        task, lambda shard: _safe_episodes(sizes[shard], shard_seed(seed, shard)), shards, settings, output
    )


@cache
def _planner() -> Planner:
    return Planner(Rules().map, MARGIN)


def _safe_episodes(wanted: int, seed: int) -> Iterator[Piece]:
    rng = np.random.default_rng(seed)
    while wanted > 0:
        for episode in _walk(rng, wanted)[:wanted]:
            wanted -= 1
            yield Piece(episode)


def _walk(rng: np.random.Generator, count: int) -> list[Episode]:
    """`count` walks, all at once; those that touched no region."""
    rules = Rules()
    now = Travellers.at(np.stack([_free_place(rng) for _ in range(count)]))
    routes = [_Route(start, rng) for start in now.position]
    obs = np.empty((rules.max_episode_steps + 1, count, 7), np.float32)
    action = np.empty((rules.max_episode_steps, count, 2), np.float32)
    reward = np.empty((rules.max_episode_steps, count), np.float32)
    length, touched = np.zeros(count, np.int64), np.zeros(count, bool)
    running = np.ones(count, bool)
    obs[0] = rules.observe(now)
    for step in range(rules.max_episode_steps):
        way = np.stack([route.corner(place) for route, place in zip(routes, now.position, strict=True)]) - now.position
        free = way / np.linalg.norm(way, axis=1, keepdims=True) + rng.normal(scale=NOISE, size=way.shape)
        # What is recorded is what moves the traveller, rounded as it is recorded.
        action[step] = free / np.maximum(np.linalg.norm(free, axis=1, keepdims=True), 1.0)
        now, reward[step], arrived, _ = rules.step(now, action[step].astype(np.float64), np.ones(count))
        obs[step + 1] = rules.observe(now)
        length += running
        # The state after the last step counts too: it is in the data.
        touched |= running & (rules.map.region_of(now.position) >= 0)
        running &= ~arrived
    good = np.flatnonzero(~touched)
    return [
        Episode(
            obs[: length[i] + 1, i], action[: length[i], i], reward[: length[i], i], bool(~running[i]), bool(running[i])
        )
        for i in good
    ]


def _free_place(rng: np.random.Generator) -> np.ndarray:
    world, planner = Rules().map, _planner()
    place = rng.uniform(world.low, world.high)
    while not planner.is_free(place):
        place = rng.uniform(world.low, world.high)
    return place


class _Route:
    """Where one traveller is heading: the next corner of the way to a random place, at last to the target."""

    def __init__(self, start: np.ndarray, rng: np.random.Generator) -> None:
        errands = [_free_place(rng) for _ in range(rng.integers(ERRANDS + 1))]
        self.corners: list[np.ndarray] = [start]
        for place in (*errands, np.asarray(Rules().target)):
            self.corners += list(_planner().way(self.corners[-1], place))

    def corner(self, place: np.ndarray) -> np.ndarray:
        """The corner to head for from `place` [2]; one within a step counts as passed, the target never does."""
        while len(self.corners) > 1 and np.linalg.norm(self.corners[0] - place) < SPEED:
            self.corners.pop(0)
        return self.corners[0]

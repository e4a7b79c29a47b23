"""What scripted data sets share: walks in shards that can be gone on with, until enough of them are good."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cdsa_lightning.collection import Collected, shard_seed
from cdsa_lightning.errors import InputError
from cdsa_lightning.shards import Output, Piece, make_dataset
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task

__all__ = ["Walk", "scripted"]

Walk = Callable[[np.random.Generator, int], list[Episode]]
"""So many walks at once; those that were good."""
SHARDS = 6


def scripted(task: Task, output: Output, seed: int, episodes: int, behaviour: str, walk: Walk) -> Collected:
    """Collect exactly `episodes` good walks.

    Args:
        task: Where they were.
        output: Id and format of the result.
        seed: Of everything.
        episodes: How many.
        behaviour: What the data set says of itself.
        walk: Makes them.

    Raises:
        InputError: a number out of range, or as `shards.make_dataset`.
    """
    if episodes < 1 or seed < 0:
        raise InputError(f"episodes must be at least 1 and seed 0 or more, got {episodes} and {seed}.")
    shards = min(SHARDS, episodes)
    sizes = [len(part) for part in np.array_split(np.arange(episodes), shards)]
    about = {"task": task.name, "env_id": task.env_id, "behaviour": behaviour, "seed": seed, "episodes": episodes}

    def walks(shard: int) -> Iterator[Piece]:
        rng, wanted = np.random.default_rng(shard_seed(seed, shard)), sizes[shard]
        while wanted > 0:
            # A few more than needed: some are thrown away.
            for episode in walk(rng, wanted + wanted // 4 + 8)[:wanted]:
                wanted -= 1
                yield Piece(episode)

    return make_dataset(task, walks, shards, about, output)

r"""AntMaze data as D4RL made them: an ant that walks towards points is led from cell to cell of the maze.

    a = walker(13 positions, 14 velocities, 10 (w - p) / |w - p|) + noise z,   z ~ N(0, I)

p is where the ant is, w the middle of the next cell on the shortest way to where it is sent, and in the last cell the
place itself. For antmaze-umaze it is sent from the start to each episode's goal. For the others an episode starts in a
random cell and is sent to one random cell after another, so that the ways have to be stitched together. Rewards are
those of the evaluation everywhere: 1 at the episode's goal, which ends it.
Source: Fu et al., D4RL (arXiv 2004.07219), section 5.2; its walker was trained by SAC to reach points in the plane.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cdsa_lightning.collection import Collected, checkpoint_sha256, shard_seed
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.envs.antmaze import FEATURES, MAZES, START, AntMaze, cell_of, place_of
from cdsa_lightning.errors import InputError
from cdsa_lightning.shards import Output, Piece, make_dataset
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task

__all__ = ["walk_maze", "way"]

STRAIGHT = "cdsa/AntMazeUMaze-v0"
SHARD_STEPS = 20_000
REACH = 10.0  # length of the vector that the walker was trained with
PASSED = 0.5  # how near the middle of a cell counts as having been there


def walk_maze(
    task: Task,
    output: Output | str,
    walker: Policy,
    steps: int,
    seed: int = 0,
    noise: float = 0.2,
    checkpoint: Path | None = None,
) -> Collected:
    """Collect an ant's walks through a maze.

    Args:
        task: One of AntMaze.
        output: Id and format of the result; a bare id for the defaults.
        walker: From 13 positions, 14 velocities and a vector of length 10 [29] to torques [8].
        steps: Transitions in the result; the last episode of each shard is cut there.
        seed: Of the mazes, the places and the noise.
        noise: Standard deviation of Gaussian noise on the actions; D4RL's is .2.
        checkpoint: The walker's file, whose hash the metadata record.

    Raises:
        InputError: a number out of range, or as `shards.make_dataset`.
    """
    if steps < 1 or seed < 0 or noise < 0:
        raise InputError(f"steps must be at least 1, seed and noise 0 or more, got {steps}, {seed} and {noise}.")
    wander = task.env_id != STRAIGHT
    behaviour = f"an ant led {'from random cell to random cell' if wander else 'to the goal'}"
    settings: dict[str, Any] = {"task": task.name, "env_id": task.env_id, "behaviour": behaviour, "seed": seed}
    settings |= {"steps": steps, "noise": noise, "checkpoint_sha256": checkpoint_sha256(checkpoint)}
    output = Output(output) if isinstance(output, str) else output

    def walks(shard: int) -> Iterator[Piece]:
        left, rng = min(SHARD_STEPS, steps - shard * SHARD_STEPS), np.random.default_rng(shard_seed(seed, shard))
        env = task.make_single()
        try:
            while left > 0:
                episode, cut = _walk(env, walker, noise, rng, left, wander)
                left -= len(episode.reward)
                yield Piece(episode, cut)
        finally:
            env.close()

    return make_dataset(task, walks, -(-steps // SHARD_STEPS), settings, output)


def way(maze: str, start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The cells (row, column) of a shortest way, without the first.

    Raises:
        InputError: a wall stands in one of the two cells, or all around.
    """
    free = set(_free_cells(maze))
    came: dict[tuple[int, int], tuple[int, int] | None] = {end: None}
    queue = deque([end])
    while queue and start not in came:
        row, column = here = queue.popleft()
        for near in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if near in free and near not in came:
                came[near] = here
                queue.append(near)
    if start not in came or not {start, end} <= free:
        raise InputError(f"There is no way from cell {start} to cell {end} of the maze {maze!r}.")
    cells, ahead = [], came[start]
    while ahead is not None:
        cells.append(ahead)
        ahead = came[ahead]
    return cells


def _free_cells(maze: str) -> list[tuple[int, int]]:
    return [(i, j) for i, row in enumerate(MAZES[maze][0]) for j, cell in enumerate(row) if cell != 1]


def _walk(
    env: Any, walker: Policy, noise: float, rng: np.random.Generator, limit: int, wander: bool
) -> tuple[Episode, bool]:
    """One episode of at most `limit` steps, and whether it was cut there."""
    ant: AntMaze = env.unwrapped
    cells = _free_cells(ant.maze)
    start = cells[rng.integers(len(cells))] if wander else START
    obs, _ = env.reset(seed=int(rng.integers(2**31)), options={"start": start})
    places = _places(ant, start, cells[rng.integers(len(cells))] if wander else None)
    seen: list[np.ndarray] = [obs]
    actions: list[np.ndarray] = []
    rewards: list[float] = []
    ended = truncated = False
    while not (ended or truncated) and len(rewards) < limit:
        while np.linalg.norm(places[0] - obs[:2]) < PASSED and (len(places) > 1 or wander):
            places.pop(0)
            if not places:
                places = _places(ant, cell_of(obs[:2]), cells[rng.integers(len(cells))])
        actions.append(_torques(walker, obs, places[0], noise, rng))
        obs, reward, ended, truncated, _ = env.step(actions[-1])
        seen.append(obs)
        rewards.append(reward)
    cut = not (ended or truncated)
    kept = [np.array(part, np.float32) for part in (seen, actions, rewards)]
    return Episode(kept[0], kept[1], kept[2], ended, truncated or cut), cut


def _places(ant: AntMaze, start: tuple[int, int], end: tuple[int, int] | None) -> list[np.ndarray]:
    """The middles of the cells on the way, and at its end the middle of `end`, or without one the episode's goal."""
    cells = way(ant.maze, start, end or cell_of(ant.goal))
    middles = [place_of(cell) for cell in cells]
    return [*middles[:-1], ant.goal] if end is None else middles or [place_of(start)]


@torch.no_grad()
def _torques(walker: Policy, obs: np.ndarray, place: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    towards = place - obs[:2]
    vector = REACH * towards / max(float(np.linalg.norm(towards)), 1e-6)
    body = torch.as_tensor(np.concatenate((obs[2 : 2 + FEATURES], vector)), dtype=torch.float32)
    action = walker(body[None])[0].numpy() + noise * rng.standard_normal(8)
    return np.clip(action, walker.low.numpy(), walker.high.numpy()).astype(np.float32)

r"""Collecting a data set: a policy's experience, or several data sets joined, as one Minari data set.

Shard k is a run of its own, seeded by (seed, k), of a fixed number of transitions, so a collection that was killed and
goes on gives the same data set as one that was never disturbed (`shards`). Every lane takes its share of a shard's
steps, and what it is doing then is cut and marked as truncated: keeping the first finished episodes instead would
favour short ones.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.resources import available_memory, require_memory
from cdsa_lightning.rollout import NoisyPolicy, stream
from cdsa_lightning.shards import Collected, Output, Piece, make_dataset
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task

__all__ = ["Collected", "Output", "collect", "combine", "shard_seed"]

SHARD_STEPS = 100_000
LANE_BYTES = 500_000  # of a MuJoCo environment
LANES = 20  # five whole episodes of 1,000 steps per lane and shard


def collect(
    policy: Policy,
    task: Task,
    output: Output | str,
    steps: int,
    seed: int = 0,
    *,
    behaviour: str = "policy",
    noise: float = 0.0,
    checkpoint: Path | None = None,
    lanes: int | None = None,
    shard_steps: int = SHARD_STEPS,
) -> Collected:
    """Roll a policy in its task and keep the experience as a Minari data set; goes on with what an earlier call began.

    Args:
        policy: What acts.
        task: The world.
        output: Id and format of the result; a bare id for the defaults.
        steps: Transitions in the result.
        seed: Of the environments, the policy and the noise.
        behaviour: What the metadata call the policy.
        noise: Standard deviation of Gaussian noise on the actions, in action units.
        checkpoint: The policy's file, whose hash the metadata record.
        lanes: Environments side by side, a multiple of the policy's seeds; None chooses.
        shard_steps: Transitions per shard, the most that a kill can lose.

    Raises:
        InputError: a number out of range, or as `shards.make_dataset`.
    """
    for name, value in (("steps", steps), ("shard_steps", shard_steps), ("lanes", 1 if lanes is None else lanes)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    if seed < 0:
        raise InputError(f"seed must be 0 or more, got {seed}.")
    if lanes is None:
        # At least 1,000 steps a lane where there are that many: fewer episodes are cut.
        lanes = min(LANES, -(-min(steps, shard_steps) // 1000))
        lanes = max(lanes // policy.num_seeds, 1) * policy.num_seeds
    require_memory(lanes * LANE_BYTES, f"{lanes:,} environments side by side", "Lower --lanes.", available_memory())
    acting = NoisyPolicy(policy, noise, seed) if noise else policy
    settings = {
        "task": task.name,
        "env_id": task.env_id,
        "env_kwargs": task.env_kwargs,
        "behaviour": behaviour,
        "checkpoint_sha256": checkpoint_sha256(checkpoint),
        "noise": noise,
        "seed": seed,
        "steps": steps,
        "lanes": lanes,
        "shard_steps": shard_steps,
    }

    def produce(shard: int) -> Iterator[Piece]:
        size = min(shard_steps, steps - shard * shard_steps)
        return _run(acting, task, size, lanes, shard_seed(seed, shard))

    output = Output(output) if isinstance(output, str) else output
    return make_dataset(task, produce, -(-steps // shard_steps), settings, output)


def combine(task: Task, parts: list[str], output: Output) -> Collected:
    """One data set of all episodes of several, in order (medium-expert is medium, then expert).

    Args:
        task: The world of the result.
        parts: Minari ids.
        output: Id and format of the result.

    Raises:
        InputError: a part is missing or does not fit the task, or as `shards.make_dataset`.
    """
    if output.dataset_id in parts:
        raise InputError(f"{output.dataset_id!r} cannot be made from itself. Choose another id with --dataset.")
    facts: list[dict[str, Any]] = []
    for part in parts:
        data = task.transitions(f"minari:{part}")
        facts.append({"dataset_id": part, "fingerprint": data.fingerprint, **data.metadata.get("cdsa", {})})

    def produce(shard: int) -> Iterator[Piece]:
        cut = set(facts[shard].get("cut_episodes", []))
        for number, episode in enumerate(load_transitions(f"minari:{parts[shard]}").episodes()):
            yield Piece(episode, number in cut)

    behaviour = " + ".join(str(part.get("behaviour", part["dataset_id"])) for part in facts)
    settings = {"task": task.name, "env_id": task.env_id, "behaviour": behaviour, "parts": facts}
    return make_dataset(task, produce, len(parts), settings, output)


def shard_seed(seed: int, shard: int) -> int:
    """The seed of a shard's own run, in [0, 2^32)."""
    return int(np.random.SeedSequence((seed, shard)).generate_state(1)[0])


def _run(policy: Policy, task: Task, steps: int, lanes: int, seed: int) -> Iterator[Piece]:
    """Exactly `steps` transitions, whole episodes except for the last one of each lane."""
    env = _Budget(task.make_env(lanes), steps)
    gained = 0
    with contextlib.closing(env):
        for got in stream(policy, env, seed):
            episode = Episode(got.obs, got.action, got.reward, got.terminated, got.truncated)
            gained += len(got.reward)
            yield Piece(episode, env.cuts.popleft())
            if gained >= steps:
                return


class _Budget(VectorWrapper):
    """Lanes that take exactly `steps` steps together: one that has had its share is truncated.

    Lanes of the larger share come first, so they end before a lane that is already past its share can.
    """

    def __init__(self, env: VectorEnv, steps: int) -> None:
        super().__init__(env)
        share, extra = divmod(steps, env.num_envs)
        self._left = share + (np.arange(env.num_envs) < extra)
        self.cuts: deque[bool] = deque()
        """For every finished episode, lane after lane: whether it ended here rather than by itself."""

    def step(self, actions: np.ndarray) -> tuple[Any, Any, np.ndarray, np.ndarray, dict[str, Any]]:
        obs, reward, terminated, truncated, infos = self.env.step(actions)
        self._left -= 1
        ended = terminated | truncated
        cut = (self._left == 0) & ~ended
        self.cuts.extend(cut[ended | cut].tolist())
        return obs, reward, terminated, truncated | cut, infos


def checkpoint_sha256(checkpoint: Path | None) -> str | None:
    """The hash of a policy's file, for the metadata."""
    if checkpoint is None:
        return None
    if not checkpoint.is_file():  # A folder of weights has no one hash; its name is on record.
        return str(checkpoint)
    with checkpoint.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

r"""Transitions as one device-resident table, drawn from in whole batches for every seed at once.

    chunk[e, k, b] = rows[i],   i ~ U{0, ..., N - 1} from the stream of seed e,      rows: [N, S + A + S + 2]

Where transitions are weighted (`weighting`), i = min {j: u < sum_{l <= j} w_l} with u ~ U(0, 1) and sum w = 1. A row is
obs | action | next_obs | reward | terminated. One gather per K steps replaces a DataLoader's work per item.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning import LightningDataModule, Trainer
from torch import Tensor

from cdsa_lightning.core.seeds import SeedStreams
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.sources import Transitions
from cdsa_lightning.tasks import Task, get_task
from cdsa_lightning.weighting import WEIGHTS, transition_weights

__all__ = ["Batch", "DataInfo", "TaskData", "TransitionData"]


class Batch(NamedTuple):
    """One batch per seed; `reward` and `terminated` (0 or 1) keep a last axis of one entry."""

    obs: Float[Tensor, "E B S"]
    action: Float[Tensor, "E B A"]
    next_obs: Float[Tensor, "E B S"]
    reward: Float[Tensor, "E B 1"]
    terminated: Float[Tensor, "E B 1"]


@dataclass(frozen=True)
class DataInfo:
    """What travels with weights: where they were trained, on what, and its statistics, all plain values.

    Everything is about the data that were trained on: the best `top_fraction` of the source's episodes. `weights` says
    how they were drawn; returns and moments are those of all of them alike.
    """

    task: str
    env_id: str
    source: str
    provenance: str
    fingerprint: str
    transitions: int
    mean_return: float
    min_return: float
    max_return: float
    low: list[float]
    high: list[float]
    obs_mean: list[float]
    obs_std: list[float]
    action_mean: list[float]
    action_std: list[float]
    state_index: list[int] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    top_fraction: float = 1.0
    weights: str = "uniform"

    @property
    def obs_dim(self) -> int:
        """S."""
        return len(self.obs_mean)

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self.action_mean)

    @property
    def columns(self) -> tuple[int, int, int, int, int]:
        """Widths of a row's parts, in the order of `Batch`."""
        return self.obs_dim, self.action_dim, self.obs_dim, 1, 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values, safe to load with weights_only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataInfo:
        """The inverse of `to_dict`.

        Raises:
            InputError: entries are missing: the checkpoint comes from somewhere else.
        """
        known = {entry.name for entry in fields(cls)}
        missing = known - set(values) - {"state_index", "metadata", "top_fraction", "weights"}
        if missing:
            lacks = ", ".join(sorted(missing))
            raise InputError(f"The checkpoint's data record lacks {lacks}; it was not written here.")
        return cls(**{key: value for key, value in values.items() if key in known})


def _moments(array: np.ndarray) -> tuple[list[float], list[float]]:
    mean, std = array.mean(0, dtype=np.float64), array.std(0, dtype=np.float64)
    std[std < 1e-6] = 1.0  # an entry that never changes says nothing; dividing by its deviation would shout it
    return mean.tolist(), std.tolist()


def _best_episodes(data: Transitions, fraction: float) -> Transitions:
    """The share `fraction` of the episodes with the highest returns, one at least; of equals the first come first."""
    count = max(1, round(fraction * data.num_episodes))
    chosen = np.argsort(-data.episode_returns(), kind="stable")[:count]
    rows = np.isin(data.episode, chosen)
    obs, action, reward, next_obs, terminated = (
        array[rows] for array in (data.obs, data.action, data.reward, data.next_obs, data.terminated)
    )
    episode = np.unique(data.episode[rows], return_inverse=True)[1]
    source = f"{data.source} (best {count} of {data.num_episodes} episodes)"
    return Transitions(obs, action, reward, next_obs, terminated, episode, source, data.provenance)


def _at(shares: Float[Tensor, " N"], level: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The inverse of the cumulated shares: row i for levels in [shares[i - 1], shares[i])."""
    return torch.searchsorted(shares, level, right=True)


class _Chunks:
    """An iterable over one run's chunks that starts where the trainer's step count stands."""

    def __init__(self, rows: Tensor, shares: Tensor | None, trainer: Trainer, batch_size: int) -> None:
        module: Any = trainer.lightning_module
        self.rows, self.shares, self.trainer, self.batch_size = rows, shares, trainer, batch_size
        self.inner_steps: int = module.inner_steps
        self.streams = SeedStreams(module.seeds, rows.device)

    def __len__(self) -> int:
        steps = self.trainer.max_steps
        return -(-steps // self.inner_steps) if steps > 0 else sys.maxsize

    def __iter__(self) -> Iterator[Tensor]:
        size, rank = self.batch_size // self.trainer.world_size, self.trainer.global_rank
        shape = (self.inner_steps, self.batch_size)
        for chunk in range(self.trainer.global_step // self.inner_steps, len(self)):
            if self.shares is None:
                index = self.streams.integers("batch", chunk, shape, len(self.rows))
            else:
                index = _at(self.shares, self.streams.uniform("batch", chunk, shape))
            yield self.rows[index[:, :, rank * size : (rank + 1) * size]]


class TaskData(LightningDataModule):
    """Where a module's batches come from: chunks [E, K, B, D] of packed rows for a task."""

    task: Task
    info: DataInfo

    def load(self) -> object:
        """Look for mistakes in what was asked for, before a run is set up."""
        raise NotImplementedError  # abstract


class TransitionData(TaskData):
    """The transitions of a task on the training device.

    Args:
        task: A name from `cdsa datasets`.
        source: Where to read, for instance ``minari:mujoco/hopper/medium-v0``; None for the task's own, first on disk.
        batch_size: Transitions per gradient step and seed, over all devices together.
        top_fraction: Share of the episodes to keep, those with the highest returns; .1 for 10%BC.
        weights: How likely each transition is to be drawn: ``uniform``, by the ``return`` of its episode, or by the
            ``safety`` of its states. See `weighting`.

    Raises:
        InputError: unknown task or way to weigh, or a number out of range.
    """

    def __init__(
        self,
        task: str,
        source: str | None = None,
        batch_size: int = 256,
        top_fraction: float = 1.0,
        weights: str = "uniform",
    ) -> None:
        super().__init__()
        if weights not in WEIGHTS:
            raise unknown_name("value of weights", weights, WEIGHTS)
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}.")
        if not 0 < top_fraction <= 1:
            raise InputError(f"top_fraction must lie in (0, 1] (1 for all episodes), got {top_fraction}.")
        self.task, self.source, self.batch_size, self.top_fraction = self.named(task), source, batch_size, top_fraction
        self.weights = weights
        self.rows: Tensor = torch.empty(0)
        self.shares: Tensor | None = None  # cumulated, [N]; None where all are alike
        self.transitions: Transitions | None = None  # read, and not in the table yet

    def named(self, task: str) -> Task:
        """The task of that name."""
        return get_task(task)

    def load(self) -> Transitions:
        """The transitions, read once; apart from `setup`, so that a mistake in them shows before a run is set up.

        Raises:
            InputError: there are none, they are damaged, or they do not fit the task.
        """
        if self.transitions is None:
            self.transitions = self.task.transitions(self.source)
        return self.transitions

    def setup(self, stage: str) -> None:
        if len(self.rows):
            return
        world = self.trainer.world_size if self.trainer else 1
        if self.batch_size % world:
            raise InputError(f"batch_size {self.batch_size} does not divide among {world} processes.")
        data, task, self.transitions = self.load(), self.task, None  # the table below takes their place
        if self.top_fraction < 1:
            data = _best_episodes(data, self.top_fraction)
        returns = data.episode_returns()
        (obs_mean, obs_std), (action_mean, action_std) = _moments(data.obs), _moments(data.action)
        self.info = DataInfo(
            task=task.name,
            env_id=task.env_id,
            source=data.source,
            provenance=data.provenance,
            fingerprint=data.fingerprint,
            transitions=len(data.obs),
            mean_return=float(np.mean(returns)),
            min_return=float(np.min(returns)),
            max_return=float(np.max(returns)),
            low=np.asarray(task.low, dtype=float).tolist(),
            high=np.asarray(task.high, dtype=float).tolist(),
            obs_mean=obs_mean,
            obs_std=obs_std,
            action_mean=action_mean,
            action_std=action_std,
            state_index=None if task.obs_to_state is None else list(task.obs_to_state),
            top_fraction=self.top_fraction,
            weights=self.weights,
        )
        parts = (data.obs, data.action, data.next_obs, data.reward[:, None], data.terminated[:, None])
        rows = torch.empty(len(data.obs), sum(self.info.columns))
        for column, part in zip(rows.split(self.info.columns, 1), parts, strict=True):
            column.copy_(torch.from_numpy(part))
        device = self.trainer.strategy.root_device if self.trainer else rows.device
        self.rows = rows.to(device)
        if self.weights != "uniform":
            self.shares = torch.from_numpy(self._shares(data)).to(device)

    def _shares(self, data: Transitions) -> np.ndarray:
        """The cumulated weights of all rows, [N] float64; the last is 1."""
        info = self.info
        index = list(range(info.obs_dim)) if info.state_index is None else info.state_index
        mean, std = (np.asarray(values, dtype=np.float32)[index] for values in (info.obs_mean, info.obs_std))
        states, next_states = ((obs[:, index] - mean) / std for obs in (data.obs, data.next_obs))
        total = np.cumsum(transition_weights(data, self.weights, states, next_states))
        return total / total[-1]

    def sample(self, count: int) -> Tensor:
        """At most `count` rows as they are drawn for training, the same ones every time."""
        generator = torch.Generator().manual_seed(0)
        if self.shares is None:
            index = torch.randperm(len(self.rows), generator=generator)[:count].to(self.rows.device)
        else:
            level = torch.rand(min(count, len(self.rows)), generator=generator, dtype=torch.float64)
            index = _at(self.shares, level.to(self.rows.device))
        return self.rows[index]

    def train_dataloader(self) -> _Chunks:
        return _Chunks(self.rows, self.shares, self.trainer, self.batch_size)  # type: ignore[arg-type]

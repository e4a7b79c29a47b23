r"""Transitions as one device-resident table, drawn from in whole batches for every seed at once.

    chunk[e, k, b] = rows[i],   i ~ U{0, ..., N - 1} from the stream of seed e,      rows: [N, S + A + S + 2]

Where transitions are weighted (`weighting`), i = min {j: u < sum_{l <= j} w_l} with u ~ U(0, 1) and sum w = 1. A row is
obs | action | next_obs | reward | terminated. One gather per K steps replaces a DataLoader's work per item. The table
lies on the training device, or in a file (`mapping`) out of which the same rows are drawn in the same order.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning import LightningDataModule, Trainer
from torch import Tensor

from cdsa_lightning.core.seeds import SeedStreams, shuffled
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.mapping import as_tensor, gathered, map_table
from cdsa_lightning.sources import Transitions
from cdsa_lightning.table import Table, best_episodes, in_memory, read_table
from cdsa_lightning.tasks import Task, get_task
from cdsa_lightning.weighting import WEIGHTS, Scaled, transition_weights

__all__ = ["Batch", "DataInfo", "TaskData", "TransitionData"]

_log = logging.getLogger(__name__)


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


def _at(shares: Float[Tensor, " N"], level: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The inverse of the cumulated shares: row i for levels in [shares[i - 1], shares[i])."""
    return torch.searchsorted(shares, level, right=True)


class _Chunks:
    """An iterable over one run's chunks that starts where the trainer's step count stands."""

    def __init__(self, data: TransitionData, trainer: Trainer) -> None:
        module: Any = trainer.lightning_module
        self.rows, self.shares, self.mapped, self.device = data.rows, data.shares, data.mapped, data.device
        self.trainer, self.batch_size = trainer, data.batch_size
        self.inner_steps: int = module.inner_steps
        self.streams = SeedStreams(module.seeds, self.device)

    def __len__(self) -> int:
        steps = self.trainer.max_steps
        return -(-steps // self.inner_steps) if steps > 0 else sys.maxsize

    def __iter__(self) -> Iterator[Tensor]:
        if self.mapped:
            return gathered(self.rows, self._indices(), self.device)
        return (self.rows[index] for index in self._indices())

    def _indices(self) -> Iterator[Int[Tensor, "E K B"]]:
        """This process's part of each joint batch."""
        size, rank = self.batch_size // self.trainer.world_size, self.trainer.global_rank
        shape = (self.inner_steps, self.batch_size)
        for chunk in range(self.trainer.global_step // self.inner_steps, len(self)):
            if self.shares is None:
                index = self.streams.integers("batch", chunk, shape, len(self.rows))
            else:
                index = _at(self.shares, self.streams.uniform("batch", chunk, shape))
            yield index[:, :, rank * size : (rank + 1) * size]


class TaskData(LightningDataModule):
    """Where a module's batches come from: chunks [E, K, B, D] of packed rows for a task."""

    task: Task
    info: DataInfo
    batch_size: int

    def load(self) -> object:
        """Look for mistakes in what was asked for, before a run is set up."""
        raise NotImplementedError  # abstract

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, and tell where it comes from batches of another size."""
        before = state.get("batch_size", self.batch_size)
        if before != self.batch_size:
            size = f"The checkpoint comes from batches of {before}; going on with {self.batch_size}."
            warnings.warn(size, stacklevel=2)


class TransitionData(TaskData):
    """The transitions of a task on the training device.

    Args:
        task: A name from `cdsa datasets`.
        source: Where to read, for instance ``minari:mujoco/hopper/medium-v0``; None for the task's own, first on disk.
        batch_size: Transitions per gradient step and seed, over all devices together.
        top_fraction: Share of the episodes to keep, those with the highest returns; .1 for 10%BC.
        weights: How likely each transition is to be drawn: ``uniform``, by the ``return`` of its episode, or by the
            ``safety`` of its states. See `weighting`.
        memory_map: A folder in which the data are kept as one file, and read from it while training instead of held in
            memory; made once and found again. None to hold them. The batches are the same.

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
        memory_map: str | None = None,
    ) -> None:
        super().__init__()
        if weights not in WEIGHTS:
            raise unknown_name("value of weights", weights, WEIGHTS)
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}.")
        if not 0 < top_fraction <= 1:
            raise InputError(f"top_fraction must lie in (0, 1] (1 for all episodes), got {top_fraction}.")
        self.task, self.source, self.batch_size, self.top_fraction = self.named(task), source, batch_size, top_fraction
        self.weights, self.memory_map = weights, memory_map
        self.rows: Tensor = torch.empty(0)
        self.shares: Tensor | None = None  # cumulated, [N]; None where all are alike
        self.device = torch.device("cpu")
        self.transitions: Transitions | None = None  # given in memory, and not in the table yet
        self.table: Table | None = None

    def named(self, task: str) -> Task:
        """The task of that name."""
        return get_task(task)

    @property
    def mapped(self) -> bool:
        """Whether the rows lie in a file."""
        return self.memory_map is not None

    def load(self) -> Table:
        """The transitions, read once; apart from `setup`, so that a mistake in them shows before a run is set up.

        Raises:
            InputError: there are none, they are damaged, or they do not fit the task.
        """
        if self.table is None:
            self.table = self._read()
            _log.info("%s: %d transitions from %s", self.task.name, len(self.table), self.table.source)
        return self.table

    def _read(self) -> Table:
        given, fraction = self.transitions, self.top_fraction
        if given is not None:
            if self.memory_map is not None:
                raise InputError("memory_map is for data in files: these are in memory already. Leave it out.")
            table, self.transitions = Table.of(given), None
        else:
            source = self.task.chosen(self.source)
            if self.memory_map is not None:
                return map_table(source, self.memory_map, fraction, self.task.accept)
            table = read_table(source, in_memory, self.task.accept)
        return best_episodes(table, fraction) if fraction < 1 else table

    def setup(self, stage: str) -> None:
        if len(self.rows):
            return
        world = self.trainer.world_size if self.trainer else 1
        if self.batch_size % world:
            raise InputError(f"batch_size {self.batch_size} does not divide among {world} processes.")
        table, task = self.load(), self.task
        self.info = DataInfo(
            **asdict(table.facts),
            task=task.name,
            env_id=task.env_id,
            source=table.source,
            provenance=table.provenance,
            low=np.asarray(task.low, dtype=float).tolist(),
            high=np.asarray(task.high, dtype=float).tolist(),
            state_index=None if task.obs_to_state is None else list(task.obs_to_state),
            top_fraction=self.top_fraction,
            weights=self.weights,
        )
        self.device = self.trainer.strategy.root_device if self.trainer else self.device
        if self.weights != "uniform":
            self.shares = torch.from_numpy(self._shares(table)).to(self.device)
        rows = as_tensor(table.rows)
        self.rows, self.table = rows if self.mapped else rows.to(self.device), None

    def _shares(self, table: Table) -> np.ndarray:
        """The cumulated weights of all rows, [N] float64; the last is 1."""
        info = self.info
        index = list(range(info.obs_dim)) if info.state_index is None else info.state_index
        mean, std = (np.asarray(values, dtype=np.float32)[index] for values in (info.obs_mean, info.obs_std))
        states, next_states = (Scaled(obs, index, mean, std) for obs in (table.obs, table.next_obs))
        total = transition_weights(table, self.weights, states, next_states)
        np.cumsum(total, out=total)
        total /= total[-1]
        return total

    def sample(self, count: int) -> Tensor:
        """At most `count` rows as they are drawn for training, the same ones every time."""
        generator, total = torch.Generator().manual_seed(0), len(self.rows)
        if self.shares is None:
            index = shuffled(total, generator, count)
        else:
            level = torch.rand(min(count, total), generator=generator, dtype=torch.float64)
            index = _at(self.shares, level.to(self.shares.device))
        return self.rows[index.to(self.rows.device)].to(self.device)

    def train_dataloader(self) -> _Chunks:
        return _Chunks(self, self.trainer)  # type: ignore[arg-type]

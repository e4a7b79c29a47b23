r"""Experience while it is made: the module under training acts in lanes of its task, and learns from what it has seen.

    chunk c:   until random_steps + ceil((c + 1) K / updates_per_step) transitions per seed: a ~ explore(s), step;
               then K batches of each seed's own experience, drawn uniformly

Every training seed has its own lanes and its own experience. What acts is the module's ``explore``; until
`random_steps` transitions it is chance. All of it is a function of the seeds, so a resumed run is the undisturbed one:
a checkpoint counts the transitions, which lie beside it in files that are only ever added to, and the episodes under
way are brought back by playing their actions again from their seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from cdsa_lightning.acting import episode_seed, float32
from cdsa_lightning.core.seeds import SeedStreams
from cdsa_lightning.data import DataInfo, TaskData
from cdsa_lightning.errors import InputError
from cdsa_lightning.journal import Journal
from cdsa_lightning.shards import Output, Piece, make_dataset
from cdsa_lightning.sources import store
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import get_task

__all__ = ["ReplayData"]


class ReplayData(TaskData):
    """A replay buffer per training seed, filled by the module itself.

    Args:
        task: A name from `cdsa datasets`, or any gymnasium environment as ``gym:<EnvId>``.
        batch_size: Transitions per gradient step and seed.
        envs: Environments side by side, per seed.
        updates_per_step: Gradient steps per transition of one seed.
        random_steps: Transitions of each seed that chance takes before the first gradient step.
        capacity: Transitions that each seed keeps; older ones are forgotten.
        save_replay: Minari id under which the experience is kept as a data set when the run ends; None for not at all.
        env_kwargs: Settings of the environment, for instance --data.env_kwargs.start uniform.

    Raises:
        InputError: a number out of range.
    """

    def __init__(
        self,
        task: str,
        batch_size: int = 256,
        envs: int = 1,
        updates_per_step: float = 1.0,
        random_steps: int = 1000,
        capacity: int = 1_000_000,
        save_replay: str | None = None,
        env_kwargs: dict[str, bool | int | float | str | list[float]] | None = None,
    ) -> None:
        super().__init__()
        least = {"batch_size": batch_size, "envs": envs, "random_steps": random_steps, "capacity": capacity}
        for name, value in least.items():
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}.")
        if not 0 < updates_per_step < math.inf:
            raise InputError(f"updates_per_step must be positive and finite, got {updates_per_step}.")
        self.task, self.batch_size, self.envs = get_task(task), batch_size, envs
        self.updates_per_step, self.random_steps, self.capacity = updates_per_step, random_steps, capacity
        self.save_replay, self.env_kwargs = save_replay, dict(env_kwargs or {})
        self.restored: dict[str, Any] | None = None
        task_ = self.task
        low, high = (np.asarray(bound, dtype=float) for bound in (task_.low, task_.high))
        if not np.isfinite([low, high]).all():
            raise InputError(f"Chance acts between the action bounds, which must be finite: {low}, {high}.")
        centre, half_width = task_.obs_scale  # there are no data yet whose statistics could be taken
        self.info = DataInfo(
            task=task_.name,
            env_id=task_.env_id,
            source=f"online:{task_.env_id}",
            provenance="online",
            fingerprint=f"online:{task_.env_id}",
            transitions=0,
            mean_return=0.0,
            min_return=0.0,
            max_return=0.0,
            low=low.tolist(),
            high=high.tolist(),
            obs_mean=centre.tolist(),
            obs_std=half_width.tolist(),
            action_mean=[0.0] * task_.action_dim,
            action_std=[1.0] * task_.action_dim,
            state_index=None if task_.obs_to_state is None else list(task_.obs_to_state),
        )

    def load(self) -> None:
        """See that the environment can be made, and the data set of `save_replay` written, before hours of training.

        Raises:
            InputError: the environment knows no such setting; the id is taken, or is no Minari id.
        """
        self.task.make_env(1, **self.env_kwargs).close()
        if self.save_replay and store.is_stored(self.save_replay):
            raise InputError(f"The data set {self.save_replay!r} exists already. Choose another --data.save_replay.")

    def setup(self, stage: str) -> None:
        trainer: Any = self.trainer
        module = trainer.lightning_module
        if not callable(getattr(module, "explore", None)):
            raise InputError(
                f"{type(module).__name__} does not act while it learns: online data need a module with explore(), "
                "such as cdsa_baselines.sac.SAC. For a data set use cdsa_lightning.data.TransitionData."
            )
        if trainer.world_size > 1:
            raise InputError(f"Online data need one process, got {trainer.world_size}: --trainer.devices 1.")

    def train_dataloader(self) -> _Play:
        trainer: Any = self.trainer
        self.play = _Play(self, trainer, self.restored)
        return self.play

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: counts; the transitions themselves go to the journal beside it."""
        return super().state_dict() | self.play.state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.restored = state

    def teardown(self, stage: str) -> None:
        trainer: Any = self.trainer
        if stage == "fit" and self.save_replay and trainer.global_step >= trainer.max_steps:
            self.keep(self.save_replay)

    def keep(self, dataset_id: str) -> None:
        """Write the experience of all seeds, seed after seed, as a Minari data set.

        Raises:
            InputError: as `shards.make_dataset`.
        """
        trainer: Any = self.trainer
        module = trainer.lightning_module
        settings = {
            "task": self.task.name,
            "env_id": self.task.env_id,
            "env_kwargs": {**self.task.env_kwargs, **self.env_kwargs},
            "behaviour": f"replay buffer of {module.run_name}",
            "seeds": list(module.seeds),
            "gradient_steps": trainer.global_step,
            "random_steps": self.random_steps,
            "capacity": self.capacity,
        }
        make_dataset(self.task, lambda shard: self.play.pieces(), 1, settings, Output(dataset_id))


class _Play:
    """The loader of one run: steps the lanes where a chunk needs more experience, and draws the chunk."""

    def __init__(self, data: ReplayData, trainer: Trainer, restored: dict[str, Any] | None) -> None:
        module: Any = trainer.lightning_module
        self.data, self.trainer, self.module, self.device = data, trainer, module, module.device
        self.seeds, self.inner_steps = module.seeds, module.inner_steps
        self.shape = (len(self.seeds), data.envs)
        self.streams = SeedStreams(self.seeds, self.device)
        self.lanes = data.task.make_env(len(self.seeds) * data.envs, **data.env_kwargs)
        folder, width = Path(trainer.default_root_dir) / "replay", sum(data.info.columns) + 1
        self.journal = Journal(folder, len(self.seeds), width, data.capacity, self.device)
        self.started = np.zeros(self.shape, dtype=np.int64)  # episodes that each lane has begun
        self.length = np.zeros(self.shape, dtype=np.int64)  # steps of the one under way
        self.gained = np.zeros(self.shape)  # its return
        self.returns: list[float] = []  # of episodes that ended since the last log
        self.chunks = 0  # how many have had their experience taken
        if restored is None:
            self.obs = self._begin(np.ones(self.shape, dtype=bool))
        else:
            self._resume(restored)

    def __len__(self) -> int:
        return -(-self.trainer.max_steps // self.inner_steps)

    def __iter__(self) -> Iterator[Tensor]:
        data, shape = self.data, (self.inner_steps, self.data.batch_size)
        for chunk in range(self.trainer.global_step // self.inner_steps, len(self)):
            if chunk == self.chunks:  # otherwise a run is resumed within a chunk whose experience it has
                wanted = data.random_steps + math.ceil((chunk + 1) * self.inner_steps / data.updates_per_step)
                self._act(chunk, wanted)
                self.chunks += 1
            index = self.streams.integers("batch", chunk, shape, self.journal.held)
            yield torch.stack([own[drawn, :-1] for own, drawn in zip(self.journal.rows, index, strict=True)])

    @torch.no_grad()
    def _act(self, chunk: int, wanted: int) -> None:
        """Step the lanes until each seed has taken `wanted` transitions."""
        (count, envs), low, high = self.shape, self.data.task.low, self.data.task.high
        steps = max(-(-(wanted - self.journal.total) // envs), 0)
        noise = self.streams.normal("explore", chunk, (steps, envs, len(low)))
        for k in range(steps):
            if self.journal.total < self.data.random_steps:
                unit = torch.erf(noise[:, k] / math.sqrt(2)).cpu().numpy()  # uniform on (-1, 1)
                action = (low + high) / 2 + (high - low) / 2 * unit
            else:
                action = self.module.explore(torch.from_numpy(self.obs).to(self.device), noise[:, k]).cpu().numpy()
            obs, *flags, _ = self.lanes.step(action.reshape(count * envs, -1))
            after = float32(obs).reshape(count, envs, -1)
            reward, terminated, truncated = (np.asarray(flag).reshape(self.shape) for flag in flags)
            ended = terminated | truncated
            ends = (part[..., None].astype(np.float32) for part in (reward, terminated, ended))
            self.journal.append(np.concatenate((self.obs, np.float32(action), after, *ends), -1))
            self.length += 1
            self.gained += reward
            self.obs = after
            if ended.any():
                self.returns += self.gained[ended].tolist()
                self.obs = np.where(ended[..., None], self._begin(ended), after)
        self._log()

    def _begin(self, which: np.ndarray) -> np.ndarray:
        """The next episode of every lane in `which` [E, n]; observations [E, n, S]."""
        self.started[which] += 1
        self.length[which] = 0
        self.gained[which] = 0
        return self._reset(which)

    def _reset(self, which: np.ndarray) -> np.ndarray:
        number = (self.started - 1) * self.data.envs + np.arange(self.data.envs)
        seeds = [episode_seed(seed, int(n)) for seed, row in zip(self.seeds, number, strict=True) for n in row]
        lanes: Any = self.lanes  # gymnasium declares a single seed; lanes take a list
        obs, _ = lanes.reset(seed=seeds, options={"reset_mask": which.reshape(-1)})
        return float32(obs).reshape(*self.shape, -1)

    def _log(self) -> None:
        step, interval = self.trainer.global_step, self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.returns and interval and step // interval != (step - self.inner_steps) // interval:
            values = {"train/episode_return": float(np.mean(self.returns)), "train/transitions": self.journal.total}
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step)
            self.returns = []

    def state(self) -> dict[str, Any]:
        """Plain values from which `_resume` goes on, once the journal is on the disk."""
        self.journal.save()
        lanes = {name: getattr(self, name).tolist() for name in ("started", "length", "gained")}
        counts = {"total": self.journal.total, "chunks": self.chunks, "env_kwargs": self.data.env_kwargs}
        return {**counts, "obs": torch.from_numpy(self.obs.copy()), **lanes}

    def _resume(self, state: dict[str, Any]) -> None:
        """Bring back the episodes under way: each begins anew from its seed, and its actions are played again."""
        made, wanted = state.get("env_kwargs", {}), self.data.env_kwargs  # older checkpoints had none
        if made != wanted:
            raise InputError(f"The checkpoint's environment has {made}, this run's {wanted}: keep --data.env_kwargs.")
        self.journal.load(state["total"])
        self.chunks = state["chunks"]
        self.started, self.length = (np.asarray(state[name], dtype=np.int64) for name in ("started", "length"))
        self.gained = np.asarray(state["gained"], dtype=float)
        if self.started.shape != self.shape:
            raise InputError(f"The checkpoint has {self.started.shape} lanes, this run {self.shape}: keep --data.envs.")
        longest, envs, dims = int(self.length.max()), self.data.envs, self.data.info.columns
        if longest * envs > self.journal.held:
            raise InputError(f"capacity {self.data.capacity} is less than an episode of {longest} steps; raise it.")
        rows = self.journal.latest(longest * envs).cpu().numpy()
        played = rows[..., dims[0] : dims[0] + dims[1]].reshape(len(self.seeds), longest, envs, dims[1])
        obs = self._reset(np.ones(self.shape, dtype=bool))
        for t in range(longest + 1):
            begins = self.length == longest - t
            obs = np.where(begins[..., None], self._reset(begins), obs)
            if t < longest:
                obs = float32(self.lanes.step(played[:, t].reshape(-1, dims[1]))[0]).reshape(*self.shape, -1)
        if not np.array_equal(obs, state["obs"].numpy()):
            warnings.warn(
                "The environment is not repeatable; the resumed run differs from an undisturbed one.", stacklevel=2
            )
        self.obs = obs

    def pieces(self) -> Iterator[Piece]:
        """The held experience as episodes, seed after seed, lane after lane."""
        held, envs, dims = self.journal.held, self.data.envs, self.data.info.columns
        first = self.journal.total - held
        for own in self.journal.latest(held).cpu().numpy():
            for lane in range(envs):
                rows = own[(lane - first) % envs :: envs]
                ends = np.flatnonzero(rows[:, -1]) + 1
                for part in np.split(rows, ends):
                    if len(part):
                        obs, action, after, reward, terminated, ended = np.split(part, np.cumsum(dims), axis=1)
                        cut = not ended[-1, 0]
                        whole = np.concatenate((obs, after[-1:]))
                        stop = bool(terminated[-1, 0])
                        yield Piece(Episode(whole, action, reward[:, 0], stop, not stop), cut)

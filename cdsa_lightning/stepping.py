r"""Training of E seeds as one batch, K gradient steps per Lightning step.

Every seed's loss is summed into one scalar, its gradient taken once, and one Adam steps all parameters (`updates`): the
sum leaves each seed's step that of a solo run. Seeds draw their own batches and noise (`core.seeds`), so that stacked
and solo training agree, and a run resumed from a checkpoint repeats the undisturbed one.

On several devices each process takes its slice of every joint batch and gradients are averaged once a step.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor, nn

from cdsa_lightning.allowance import Allowance
from cdsa_lightning.checkpoints import checked_info, inspect_run, read_checkpoint, require_rows
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.core.seeds import SeedStreams
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.resources import available_memory, require_memory
from cdsa_lightning.tasks import Task
from cdsa_lightning.updates import ParameterGroup, Updates, flatten

__all__ = ["PRECISIONS", "Baseline", "ParameterGroup", "SteppedModule", "flatten"]

PRECISIONS = ("32-true", "64-true", "bf16-mixed")
"""What --trainer.precision may be."""
WITHOUT_BFLOAT16 = ("DEFAULT", "NO AVX", "AVX2")
"""Processors, as PyTorch names them, on which one product in bfloat16 takes tens of times one in single precision."""


class SteppedModule(LightningModule):
    """A LightningModule written as networks (`build`), losses per seed (`losses`) and rates (`parameter_groups`).

    Args:
        seeds: Training seeds, trained side by side.
        inner_steps: K, gradient steps per training_step; a matter of speed, not of the result's quality.
        compile: Compile the whole update with torch.compile (tens of seconds once, then faster).

    A subclass calls `save_hyperparameters()` itself and sets `run_name`, the folder of its runs.
    """

    run_name: str
    data_info: DataInfo
    moving: tuple[str, ...] = ()
    """The parameter groups that the step at hand moves; losses of the others may be left out."""
    cuda_graph: bool = True
    """Replay chunks of steps as CUDA graphs where there is one GPU."""

    def __init__(self, seeds: Iterable[int], inner_steps: int, compile: bool = False) -> None:  # noqa: A002
        super().__init__()
        self.automatic_optimization = False
        self.seeds = tuple(seeds)
        if inner_steps < 1:
            raise InputError(f"inner_steps must be at least 1, got {inner_steps}.")
        self.inner_steps, self.compile_step = inner_steps, compile
        self.built = False
        self.schedule_steps = 0  # length of the learning-rate schedules; 0 for the run's max_steps

    # ---- what a subclass writes --------------------------------------------------------------------------------

    def build(self, info: DataInfo) -> None:
        """Make the networks for data of these dimensions and statistics."""
        raise NotImplementedError  # abstract

    def losses(self, batch: Batch, noise: Float[Tensor, "E B N"]) -> dict[str, Float[Tensor, E]]:
        """Named losses of one batch per seed; their sum is minimised."""
        raise NotImplementedError  # abstract

    def parameter_groups(self) -> list[ParameterGroup]:
        """The trained parameters with their learning rates."""
        raise NotImplementedError  # abstract

    @property
    def noise_dim(self) -> int:
        """N, normal numbers per transition and step."""
        return 0

    def after_step(self, step: Tensor) -> None:
        """What follows a gradient step: target networks, moving averages.

        Args:
            step: Its number from 1, a scalar on the training device. Only it and `moving` may decide what happens, and
                it must not be brought to the host: a GPU records this once and replays it.
        """

    # ---- building, from data or from a checkpoint ----------------------------------------------------------------

    def ensure_built(self, info: DataInfo) -> None:
        """`build`, once."""
        if not self.built:
            self.data_info = info
            self.build(info)
            self.built = True

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.trainer.precision not in PRECISIONS:
            raise InputError(
                f"precision {self.trainer.precision!r} would keep weights or gradients in 16 bits, where small steps of"
                f" Adam are lost. Give --trainer.precision one of: {', '.join(PRECISIONS)}."
            )
        self.ensure_built(self.trainer.datamodule.info)  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The checkpoint before this one must stay the last.
        if not all(bool(weight.isfinite().all()) for weight in self.parameters()):
            raise self.updates.diverged("a weight is not finite", self.trainer.global_step)
        checkpoint["data"] = self.data_info.to_dict()
        checkpoint["run_name"] = self.run_name

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        info = DataInfo.from_dict(checkpoint["data"])
        self.ensure_built(info)
        if info.task != self.data_info.task:
            raise InputError(f"The checkpoint was trained on task {info.task!r}, not on {self.data_info.task!r}.")
        if (info.fingerprint, info.weights) != (self.data_info.fingerprint, self.data_info.weights):
            drawn = f", drawn by {info.weights}" if info.weights != self.data_info.weights else ""
            other = f"{info.source}{drawn}"
            warnings.warn(f"The checkpoint comes from other data ({other}); going on with these.", stacklevel=2)

    @classmethod
    def restore(cls, path: Path, task: str | None = None) -> Self:
        """The trained module in a checkpoint written by `cdsa fit`, on the CPU and in eval().

        Args:
            path: The checkpoint; read with weights_only, so that nothing in it can execute.
            task: The task it must have been trained on; None for any.

        Raises:
            InputError: no such file, no such checkpoint, another algorithm's, or another task's.
        """
        checkpoint = read_checkpoint(path)
        found, data, settings = (checkpoint[key] for key in ("run_name", "data", "hyper_parameters"))
        if not all(isinstance(part, dict) for part in (data, settings, checkpoint["state_dict"])):
            raise InputError(f"{path} is damaged: its data, settings and weights must be dictionaries.")
        if found != cls.run_name:
            remedy = f"Name it with --baseline {found}."
            if found == "cdsa":
                remedy = "It is a corrector's; give the corrector.safetensors beside it as --corrector."
            raise InputError(f"{path} is not a checkpoint of {cls.run_name!r}: it holds {found!r}. {remedy}")
        info = checked_info(path, data)
        if task is not None and info.task != task:
            raise InputError(f"{path} was trained on task {info.task!r}, not on {task!r}. Name it with --task.")
        settings = {k: v for k, v in settings.items() if not str(k).startswith("_")}
        weights = checkpoint["state_dict"]
        try:
            require_rows(settings.get("seeds", ()), weights)
            with Allowance(8 * sum(tensor.numel() for tensor in weights.values()) + 1_000_000):
                module = cls(**settings)
                module.ensure_built(info)
            module.load_state_dict(weights)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            if isinstance(error, InputError):
                raise
            reason = str(error).splitlines()[0][:200]
            raise InputError(f"{path} does not fit this {cls.run_name!r}, or it is damaged: {reason}") from None
        return module.eval()

    # ---- training ------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.updates = Updates(self, self.parameter_groups())
        return self.updates.adam

    def part(self, *names: str) -> Tensor:
        """The parameters of neighbouring groups as one flat vector: a view, for target networks and averages."""
        return self.updates.part(*names)

    def on_fit_start(self) -> None:
        self.total_steps = self.trainer.max_steps
        self.schedule_steps = self.schedule_steps or self.total_steps
        self.streams = SeedStreams(self.seeds, self.device)
        self.columns = self.data_info.columns

    def on_train_start(self) -> None:
        world, on_gpu = self.trainer.world_size, self.device.type == "cuda"
        compiled = self.compile_step and world == 1 and not on_gpu
        if self.compile_step and not compiled:
            reason = "a GPU replays the update as a CUDA graph" if on_gpu else "it needs a single process"
            warnings.warn(f"compile has no effect: {reason}.", stacklevel=2)
        capability = torch.backends.cpu.get_cpu_capability()
        if self.trainer.precision == "bf16-mixed" and self.device.type == "cpu" and capability in WITHOUT_BFLOAT16:
            told = (
                f"PyTorch multiplies no bfloat16 on this processor ({capability}) but emulates it, tens of times slower"
            )
            warnings.warn(f"{told}. Give --trainer.precision 32-true.", stacklevel=2)
        self._check_memory(self.trainer.datamodule.batch_size)  # type: ignore[attr-defined]
        strategy = self.trainer.strategy
        exchange = None if world == 1 else lambda gradient: strategy.reduce(gradient, reduce_op="mean")
        self.updates.begin(self.schedule_steps, compiled, self.cuda_graph and on_gpu and world == 1, exchange)

    def _check_memory(self, batch_size: int) -> None:
        """See that a chunk of batches and the activations of one step fit, before the first is drawn."""
        rows = len(self.seeds) * batch_size
        drawn = self.inner_steps * rows * (2 + self.noise_dim + sum(self.columns) // self.trainer.world_size)
        # Each layer keeps what its weights and its biases give.
        kept = rows * sum(weight.shape[-1] for weight in self.parameters() if weight.dim() > 1)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else available_memory()
        remedy = "Lower --data.batch_size, --model.inner_steps or the number of --model.seeds."
        what = f"Batches of {batch_size:,} transitions for {len(self.seeds)} seeds"
        require_memory(4 * (drawn + kept // self.trainer.world_size), what, remedy, free)

    def forward(self, rows: Float[Tensor, "E B D"], noise: Float[Tensor, "E B N"]) -> dict[str, Float[Tensor, E]]:
        """The losses of one batch of packed rows."""
        return self.losses(Batch(*rows.split(self.columns, -1)), noise)

    def training_step(self, chunk: Float[Tensor, "E K B D"], batch_idx: int) -> None:
        step, size = self.trainer.global_step, chunk.shape[2]
        world, rank = self.trainer.world_size, self.trainer.global_rank
        noise = self.streams.normal("noise", step // self.inner_steps, (self.inner_steps, size * world, self.noise_dim))
        done = step % self.inner_steps  # a run may be resumed, or end, within a chunk
        end = min(self.inner_steps, done + self.total_steps - step)
        dtype = self.updates.flat.dtype
        noise = noise[:, done:end, rank * size : (rank + 1) * size].to(dtype)
        losses = self.updates.run(chunk[:, done:end].to(dtype), noise, step)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for _ in range(done, end):
            progress.increment_ready()  # what `self.optimizers().step()` does for global_step, without its detours
            progress.increment_completed()
        now, interval = self.trainer.global_step, self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if interval and (now // interval > step // interval or now >= self.total_steps):
            self._log_losses(losses, now)

    def _log_losses(self, losses: dict[str, Tensor], step: int) -> None:
        # Not left to Lightning, which counts chunks: the axis of every curve is gradient steps.
        each = torch.stack([loss.detach() for loss in losses.values()])
        if self.trainer.world_size > 1:
            each = self.trainer.strategy.reduce(each, reduce_op="mean")
        values = {f"train/{name}": value for name, value in zip(losses, each.mean(1).tolist(), strict=True)}
        for name, value in values.items():
            if not math.isfinite(value):
                raise self.updates.diverged(f"{name} is {value}", step)
        self.log_dict(values, logger=False)  # for callbacks
        for name, row in zip(losses, each.tolist(), strict=True):
            values |= {f"train/{name}/seed_{seed}": value for seed, value in zip(self.seeds, row, strict=True)}
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step)
            logger.save()


class Baseline(SteppedModule):
    """A SteppedModule whose result is a policy. Its entry point names ``package.module:Class.load``.

    A subclass writes `policy`, for instance as ``return self.acting(self.actor)``.
    """

    standardised: bool = False
    """Whether its networks see (obs - mean) / std; it then has a `standardize` with these two vectors."""

    def policy(self) -> Policy:
        """What it has learned, every seed of it."""
        raise NotImplementedError  # abstract

    def acting(self, net: nn.Module) -> Policy:
        """`net` as a policy: it maps what the networks see, [E, B, S], to actions in [-1, 1], [E, B, A]."""
        info, net = self.data_info, copy.deepcopy(net).requires_grad_(False)
        mean, std = torch.zeros(info.obs_dim), torch.ones(info.obs_dim)
        if self.standardised:
            mean, std = self.standardize.mean, self.standardize.std  # type: ignore[assignment]
        policy = NormalizedPolicy(net, info.low, info.high, mean, std, unit_output=True, num_seeds=len(self.seeds))
        return policy.to(self.device).eval()

    @classmethod
    def fit_command(cls, task: Task) -> str:
        """The command that trains it on a task."""
        return f"cdsa fit --config configs/baselines/{cls.run_name}.yaml --data.task {task.name}"

    @classmethod
    def load(cls, checkpoint: Path | None, task: Task) -> Policy:
        """A checkpoint of `cdsa fit`.

        Raises:
            InputError: no checkpoint, or one of another algorithm or task.
        """
        if checkpoint is None:
            command = cls.fit_command(task)
            raise InputError(f"The baseline {cls.run_name!r} needs a checkpoint. Train one with '{command}'.")
        return cls.restore(checkpoint, task.name).policy()

    @classmethod
    def inspect(cls, path: Path) -> Inspection | None:
        """What a checkpoint of this algorithm holds; None for any other file."""
        return inspect_run(path, cls.run_name, cls.standardised)

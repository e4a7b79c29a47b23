r"""Training of E seeds as one batch, K gradient steps per Lightning step.

Every seed's loss is summed into one scalar, its gradient taken once, and one fused Adam steps all parameters, which lie
in one flat vector: the sum leaves each seed's step that of a solo run, the vector makes optimiser, moving average and
gradient exchange one kernel each. Seeds draw their own batches and noise (`core.seeds`), so that stacked and solo
training agree, and a run resumed from a checkpoint repeats the undisturbed one.

On several devices each process takes its slice of every joint batch and gradients are averaged once a step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call, grad

from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.core.seeds import SeedStreams
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["ParameterGroup", "SteppedModule", "flatten"]


class ParameterGroup(NamedTuple):
    """Parameters that share a learning rate.

    Args:
        params: The parameters, of networks on the module's device.
        lr: Learning rate at step 0.
        schedule: ``constant``, or ``cosine`` from `lr` to 0 over the run's max_steps.
    """

    params: list[nn.Parameter]
    lr: float
    schedule: str = "constant"


def flatten(params: list[nn.Parameter]) -> Tensor:
    """One vector that holds all of `params`, which become views of it: what changes the one changes the others."""
    flat, start = torch.cat([param.detach().flatten() for param in params]), 0
    for param in params:
        param.data = flat[start : start + param.numel()].view_as(param)
        start += param.numel()
    return flat


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

    def after_step(self, step: int) -> None:
        """What follows the gradient step number `step` (from 1): target networks, moving averages."""

    # ---- building, from data or from a checkpoint ----------------------------------------------------------------

    def ensure_built(self, info: DataInfo) -> None:
        """`build`, once."""
        if not self.built:
            self.data_info = info
            self.build(info)
            self.built = True

    def setup(self, stage: str) -> None:
        self.ensure_built(self.trainer.datamodule.info)  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # The checkpoint before this one must stay the last.
        if not all(bool(weight.isfinite().all()) for weight in self.parameters()):
            raise self._diverged("a weight is not finite", self.trainer.global_step)
        checkpoint["data"] = self.data_info.to_dict()
        checkpoint["run_name"] = self.run_name

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        info = DataInfo.from_dict(checkpoint["data"])
        self.ensure_built(info)
        if info.task != self.data_info.task:
            raise InputError(f"The checkpoint was trained on task {info.task!r}, not on {self.data_info.task!r}.")
        if info.fingerprint != self.data_info.fingerprint:
            warnings.warn(f"The checkpoint comes from other data ({info.source}); going on with these.", stacklevel=2)

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
        found, info = checkpoint["run_name"], DataInfo.from_dict(checkpoint["data"])
        if found != cls.run_name:
            remedy = f"Name it with --baseline {found}."
            if found == "cdsa":
                remedy = "It is a corrector's; give the corrector.safetensors beside it as --corrector."
            raise InputError(f"{path} is not a checkpoint of {cls.run_name!r}: it holds {found!r}. {remedy}")
        if task is not None and info.task != task:
            raise InputError(f"{path} was trained on task {info.task!r}, not on {task!r}. Name it with --task.")
        settings = {k: v for k, v in checkpoint["hyper_parameters"].items() if not k.startswith("_")}
        try:
            module = cls(**settings)
            module.ensure_built(info)
            module.load_state_dict(checkpoint["state_dict"])
        except (KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:200]
            raise InputError(f"{path} does not fit this {cls.run_name!r}, or it is damaged: {reason}") from None
        return module.eval()

    # ---- the optimiser: one flat vector, one slice per group -----------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.groups = self.parameter_groups()
        for group in self.groups:
            if group.schedule not in ("constant", "cosine"):
                raise unknown_name("lr_schedule", group.schedule, ("constant", "cosine"))
        self.params = [param for group in self.groups for param in group.params]
        known = {id(param): name for name, param in self.named_parameters()}
        self.names = [known[id(param)] for param in self.params]
        self.flat = flatten(self.params)
        start, self.slices = 0, []
        for group in self.groups:
            size = sum(param.numel() for param in group.params)
            self.slices.append(slice(start, start + size))
            start += size
        groups = [
            {"params": [nn.Parameter(self.flat[part])], "lr": group.lr}
            for group, part in zip(self.groups, self.slices, strict=True)
        ]
        return torch.optim.Adam(groups, fused=True)

    def set_learning_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """The schedule's learning rates for step `step` (counted from 0)."""
        for group, slot in zip(self.groups, optimizer.param_groups, strict=True):
            if group.schedule == "cosine":
                slot["lr"] = group.lr * 0.5 * (1 + math.cos(math.pi * min(step / self.schedule_steps, 1.0)))

    # ---- training ------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        self.total_steps = self.trainer.max_steps
        self.schedule_steps = self.schedule_steps or self.total_steps
        self.streams = SeedStreams(self.seeds, self.device)
        self.columns = self.data_info.columns

    def on_train_start(self) -> None:
        # A restored optimiser brings tensors of its own; the moments go back to lying side by side, as the weights do.
        self.adam: torch.optim.Optimizer = self.trainer.optimizers[0]
        self.moments = [torch.zeros_like(self.flat), torch.zeros_like(self.flat)]
        for slot, part in zip(self.adam.param_groups, self.slices, strict=True):
            state = self.adam.state[slot["params"][0]]
            state.setdefault("step", torch.tensor(0.0, device=self.device if self.device.type == "cuda" else None))
            for moment, name in zip(self.moments, ("exp_avg", "exp_avg_sq"), strict=True):
                if name in state:
                    moment[part] = state[name]
                state[name] = moment[part]
        compiled = self.compile_step and self.trainer.world_size == 1
        self.compiled = torch.compile(self._graph) if compiled else None

    def forward(self, rows: Float[Tensor, "E B D"], noise: Float[Tensor, "E B N"]) -> dict[str, Float[Tensor, E]]:
        """The losses of one batch of packed rows."""
        return self.losses(Batch(*rows.split(self.columns, -1)), noise)

    def _update(self, rows: Tensor, noise: Tensor) -> dict[str, Tensor]:
        losses = self(rows, noise)
        # Sum, not mean: each seed's Adam step stays that of a solo run.
        gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), self.params)
        gradient = torch.cat([part.flatten() for part in gradients])
        if self.trainer.world_size > 1:
            gradient = self.trainer.strategy.reduce(gradient, reduce_op="mean")
        for slot, part in zip(self.adam.param_groups, self.slices, strict=True):
            slot["params"][0].grad = gradient[part]
        self.adam.step()
        return losses

    def _graph(self, rows: Tensor, noise: Tensor, sizes: Tensor, root: Tensor) -> dict[str, Tensor]:
        # Gradient and Adam on the flat vector alone: the compiler sees one mutated input, no aliases of it.
        def total(params: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            losses = functional_call(self, params, (rows, noise))
            return torch.stack(list(losses.values())).sum(), losses

        pieces = self.flat.split([param.numel() for param in self.params])
        params = {n: piece.view(p.shape) for n, p, piece in zip(self.names, self.params, pieces, strict=True)}
        gradients, losses = grad(total, has_aux=True)(params)
        gradient = torch.cat([gradients[name].flatten() for name in self.names])
        (first, second), options = self.moments, self.adam.defaults
        first.lerp_(gradient, 1 - options["betas"][0])
        second.lerp_(gradient.square(), 1 - options["betas"][1])
        for i, part in enumerate(self.slices):
            self.flat[part] -= sizes[i] * first[part] / (second[part].sqrt() / root + options["eps"])
        return losses

    def _fused_update(self, rows: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """`_update` with Adam written out, so that one compiled graph holds gradient and step."""
        beta1, beta2 = self.adam.defaults["betas"]
        for slot in self.adam.param_groups:
            self.adam.state[slot["params"][0]]["step"] += 1
        step = float(self.adam.state[self.adam.param_groups[0]["params"][0]]["step"])
        sizes = torch.tensor([slot["lr"] / (1 - beta1**step) for slot in self.adam.param_groups], device=self.device)
        root = torch.tensor(math.sqrt(1 - beta2**step), device=self.device)
        return self.compiled(rows, noise, sizes, root)  # type: ignore[misc]

    def training_step(self, chunk: Float[Tensor, "E K B D"], batch_idx: int) -> None:
        step, size = self.trainer.global_step, chunk.shape[2]
        world, rank = self.trainer.world_size, self.trainer.global_rank
        noise = self.streams.normal("noise", step // self.inner_steps, (self.inner_steps, size * world, self.noise_dim))
        noise = noise[:, :, rank * size : (rank + 1) * size].to(self.flat.dtype)
        chunk = chunk.to(self.flat.dtype)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        update = self._fused_update if self.compiled is not None else self._update
        done = step % self.inner_steps  # a run may be resumed, or end, within a chunk
        for k in range(done, min(self.inner_steps, done + self.total_steps - step)):
            self.set_learning_rates(self.adam, step + k - done)
            losses = update(chunk[:, k], noise[:, k])
            self.after_step(step + k - done + 1)
            progress.increment_ready()  # what `self.optimizers().step()` does for global_step, without its detours
            progress.increment_completed()
        now, interval = self.trainer.global_step, self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if interval and (now // interval > step // interval or now >= self.total_steps):
            self._log_losses(losses, now)

    def _log_losses(self, losses: dict[str, Tensor], step: int) -> None:
        # Not left to Lightning, which counts chunks: the axis of every curve is gradient steps.
        means = torch.stack([loss.detach().mean() for loss in losses.values()])
        if self.trainer.world_size > 1:
            means = self.trainer.strategy.reduce(means, reduce_op="mean")
        values = {f"train/{name}": value for name, value in zip(losses, means.tolist(), strict=True)}
        for name, value in values.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}", step)
        self.log_dict(values, logger=False)  # for callbacks
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step)
            logger.save()

    def _diverged(self, what: str, step: int) -> InputError:
        return InputError(
            f"Training diverged: {what} at step {step}. Lower the learning rates (now "
            f"{', '.join(f'{group.lr:g}' for group in self.groups)}) or look at the scale of the data."
        )

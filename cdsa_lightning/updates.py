r"""One gradient step of many networks: one gradient, one flat vector, one Adam.

    theta <- theta - lr_g m / (sqrt(v) + eps)        for every group g of parameters that moves at this step

All parameters lie in one flat vector, so that optimiser, moving averages and gradient exchange are one kernel each. A
group has its own rate and may move in some steps only (delayed actors, phases of training); what does not move keeps
its moments. The same step runs eagerly, compiled, or, on a GPU, as one CUDA graph that replays a whole chunk of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["ParameterGroup", "Updates", "flatten"]

SCHEDULES = ("constant", "cosine")


class ParameterGroup(NamedTuple):
    """Parameters that share a learning rate and move at the same steps.

    Args:
        name: What `SteppedModule.moving` and `SteppedModule.part` call it.
        params: The parameters, of networks on the module's device.
        lr: Learning rate at its first step.
        schedule: ``constant``, or ``cosine`` from `lr` to 0 between `start` and `stop`.
        start: First step (from 0) that moves it.
        stop: The step that moves it no more; None for the run's max_steps.
        every: It moves at each so-manieth step from `start`.
    """

    name: str
    params: list[nn.Parameter]
    lr: float
    schedule: str = "constant"
    start: int = 0
    stop: int | None = None
    every: int = 1

    def moves(self, step: int) -> bool:
        """Whether step number `step` (from 0) moves it."""
        return self.start <= step < (self.stop or math.inf) and (step + 1 - self.start) % self.every == 0

    def rate(self, step: int, total: int) -> float:
        """The learning rate at `step` of a run of `total` steps."""
        if self.schedule == "constant":
            return self.lr
        progress = (step - self.start) / max((self.stop or total) - self.start, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def flatten(params: list[nn.Parameter]) -> Tensor:
    """One vector that holds all of `params`, which become views of it: what changes the one changes the others."""
    flat, start = torch.cat([param.detach().flatten() for param in params]), 0
    for param in params:
        param.data = flat[start : start + param.numel()].view_as(param)
        start += param.numel()
    return flat


@contextmanager
def _lowered_anew() -> Iterator[None]:
    """Autocast keeps no lowered copies of weights: they would outlive a step, or lack a gradient."""
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


class _Captured(NamedTuple):
    """A CUDA graph of a chunk of steps, with the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    rows: Tensor
    noise: Tensor
    rates: Tensor
    steps: Tensor
    losses: dict[str, Tensor]


class Updates:
    """The gradient steps of one module.

    Args:
        module: Called with (rows [E, B, D], noise [E, B, N]) it gives named losses [E]; `module.moving` names the
            groups that the step at hand moves, and `module.after_step(step)` follows each step.
        groups: Its trained parameters.

    Raises:
        InputError: an unknown schedule.
    """

    def __init__(self, module: Any, groups: list[ParameterGroup]) -> None:
        for group in groups:
            if group.schedule not in SCHEDULES:
                raise unknown_name("lr_schedule", group.schedule, SCHEDULES)
        self.module, self.groups = module, groups
        self.params = [param for group in groups for param in group.params]
        known = {id(param): name for name, param in module.named_parameters()}
        self.names = [[known[id(param)] for param in group.params] for group in groups]
        self.flat = flatten(self.params)
        start, self.slices = 0, []
        for group in groups:
            size = sum(param.numel() for param in group.params)
            self.slices.append(slice(start, start + size))
            start += size
        slots = [
            {"params": [nn.Parameter(self.flat[part])], "lr": group.lr}
            for group, part in zip(groups, self.slices, strict=True)
        ]
        self.adam = torch.optim.Adam(slots, fused=True)

    def part(self, *names: str) -> Tensor:
        """The numbers of groups that lie side by side, as one vector: a view."""
        at = [index for index, group in enumerate(self.groups) if group.name in names]
        if len(at) != len(names) or at != list(range(at[0], at[0] + len(at))):
            raise LookupError(f"No neighbours {names} among {[group.name for group in self.groups]}.")
        return self.flat[self.slices[at[0]].start : self.slices[at[-1]].stop]

    def begin(self, total: int, compiled: bool, replay: bool, exchange: Callable[[Tensor], Tensor] | None) -> None:
        """Make ready for training, with the optimiser's state as it was restored.

        Args:
            total: The run's steps, for the schedules.
            compiled: Compile the step.
            replay: Replay chunks as CUDA graphs.
            exchange: Averages a gradient over processes; None for one process.
        """
        # A restored optimiser brings tensors of its own; the moments go back to lying side by side, as the weights do.
        on_gpu = self.flat.device.type == "cuda"
        self.moments = [torch.zeros_like(self.flat), torch.zeros_like(self.flat)]
        for slot, part in zip(self.adam.param_groups, self.slices, strict=True):
            slot["capturable"] = on_gpu  # a checkpoint may come from another device
            state = self.adam.state[slot["params"][0]]
            count = state.get("step", torch.tensor(0.0))
            state["step"] = count.to(self.flat.device if on_gpu else "cpu", torch.float32)
            for moment, name in zip(self.moments, ("exp_avg", "exp_avg_sq"), strict=True):
                if name in state:
                    moment[part] = state[name]
                state[name] = moment[part]
        self.total, self.exchange, self.replay = total, exchange, replay
        self.compiled = torch.compile(self._graph) if compiled else None
        self.graphs: dict[tuple[Any, ...], _Captured] = {}
        self.warm: set[tuple[Any, ...]] = set()

    def run(self, rows: Tensor, noise: Tensor, first: int) -> dict[str, Tensor]:
        """The steps `first`, `first` + 1, ...

        Args:
            rows: [E, K, B, D], a batch for each of K steps.
            noise: [E, K, B, N].
            first: Number of the first step, from 0.

        Returns:
            The latest value [E] of every loss.
        """
        count = rows.shape[1]
        if self.replay:
            losses = self._replayed(rows, noise, first)
            for slot, group in zip(self.adam.param_groups, self.groups, strict=True):
                slot["lr"] = group.rate(first + count - 1, self.total)  # plain numbers for the checkpoint
            return losses
        rates = [[group.rate(first + k, self.total) for group in self.groups] for k in range(count)]
        steps = torch.arange(first + 1, first + count + 1, dtype=self.flat.dtype, device=self.flat.device)
        return self._chunk(rows, noise, first, rates, steps)

    def _chunk(self, rows: Tensor, noise: Tensor, first: int, rates: Any, steps: Tensor) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        with _lowered_anew():
            for k in range(rows.shape[1]):
                moving = self._moving(first + k)
                self.module.moving = tuple(self.groups[index].name for index in moving)
                for slot, rate in zip(self.adam.param_groups, rates[k], strict=True):
                    slot["lr"] = rate
                step = self._eager_step if self.compiled is None else self._compiled_step
                losses |= step(rows[:, k], noise[:, k], moving)
                self.module.after_step(steps[k])
        return losses

    def _moving(self, step: int) -> tuple[int, ...]:
        return tuple(index for index, group in enumerate(self.groups) if group.moves(step))

    def _eager_step(self, rows: Tensor, noise: Tensor, moving: tuple[int, ...]) -> dict[str, Tensor]:
        losses = self.module(rows, noise)
        params = [param for index in moving for param in self.groups[index].params]
        # Sum, not mean: each seed's Adam step stays that of a solo run.
        gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), params)
        gradient, start = torch.cat([part.flatten() for part in gradients]), 0
        if self.exchange is not None:
            gradient = self.exchange(gradient)
        for index, slot in enumerate(self.adam.param_groups):
            (param,) = slot["params"]
            param.grad = None
            if index in moving:
                param.grad = gradient[start : start + param.numel()]
                start += param.numel()
        self.adam.step()
        return losses

    def _compiled_step(self, rows: Tensor, noise: Tensor, moving: tuple[int, ...]) -> dict[str, Tensor]:
        """`_eager_step` with Adam written out, so that one compiled graph holds gradient and step."""
        beta1, beta2 = self.adam.defaults["betas"]
        sizes, roots = [], []
        for index in moving:
            slot = self.adam.param_groups[index]
            count = self.adam.state[slot["params"][0]]["step"]
            count += 1
            sizes.append(slot["lr"] / (1 - beta1 ** float(count)))
            roots.append(math.sqrt(1 - beta2 ** float(count)))
        dtype = self.flat.dtype
        return self.compiled(rows, noise, torch.tensor(sizes, dtype=dtype), torch.tensor(roots, dtype=dtype), moving)  # type: ignore[misc]

    def _graph(
        self, rows: Tensor, noise: Tensor, sizes: Tensor, roots: Tensor, moving: tuple[int, ...]
    ) -> dict[str, Tensor]:
        # Gradient and Adam on the flat vector alone: the compiler sees one mutated input, no aliases of it.
        pieces = self.flat.split([param.numel() for param in self.params])
        views = [piece.view(param.shape) for piece, param in zip(pieces, self.params, strict=True)]
        named = dict(zip([name for names in self.names for name in names], views, strict=True))
        trained = {name: named[name] for index in moving for name in self.names[index]}
        fixed = {name: view for name, view in named.items() if name not in trained}

        def total(params: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            losses = functional_call(self.module, {**params, **fixed}, (rows, noise))
            return torch.stack(list(losses.values())).sum(), losses

        gradients, losses = grad(total, has_aux=True)(trained)
        (first, second), (beta1, beta2) = self.moments, self.adam.defaults["betas"]
        for place, index in enumerate(moving):
            part = self.slices[index]
            gradient = torch.cat([gradients[name].flatten() for name in self.names[index]])
            first[part].lerp_(gradient, 1 - beta1)
            second[part].lerp_(gradient.square(), 1 - beta2)
            scale = second[part].sqrt() / roots[place] + self.adam.defaults["eps"]
            self.flat[part] -= sizes[place] * first[part] / scale
        return losses

    def _replayed(self, rows: Tensor, noise: Tensor, first: int) -> dict[str, Tensor]:
        """The chunk as a CUDA graph: the first of its kind runs eagerly to warm up, the second is recorded."""
        count, device = rows.shape[1], self.flat.device
        rates = torch.tensor([[g.rate(first + k, self.total) for g in self.groups] for k in range(count)])
        rates, steps = rates.to(device), torch.arange(first + 1, first + count + 1, dtype=rows.dtype, device=device)
        kind = (rows.shape, noise.shape, *(self._moving(first + k) for k in range(count)))
        if kind not in self.graphs and kind not in self.warm:
            self.warm.add(kind)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                losses = self._chunk(rows, noise, first, rates, steps)
            torch.cuda.current_stream().wait_stream(stream)
            return losses
        if kind not in self.graphs:
            held = _Captured(torch.cuda.CUDAGraph(), rows.clone(), noise.clone(), rates.clone(), steps.clone(), {})
            with torch.cuda.graph(held.graph):
                held.losses.update(self._chunk(held.rows, held.noise, first, held.rates, held.steps))
            self.graphs[kind] = held
        held = self.graphs[kind]
        for place, value in ((held.rows, rows), (held.noise, noise), (held.rates, rates), (held.steps, steps)):
            place.copy_(value)
        held.graph.replay()
        return held.losses

    def diverged(self, what: str, step: int) -> InputError:
        """The error for numbers that are no longer finite."""
        rates = ", ".join(f"{group.name} {group.lr:g}" for group in self.groups)
        return InputError(
            f"Training diverged: {what} at step {step}. Lower the learning rates (now {rates}) or look at the scale of "
            "the data."
        )

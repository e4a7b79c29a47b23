r"""A policy out of any network [B, S] -> [B, A]: a = clip(out(net((obs - mean) / (std + eps)))).

The network's answer is taken as actions in environment units. Where it is something else, ``net.json`` beside
``net.pt`` (``.pt2``, ``.onnx``) says so; all entries are optional:

    {"scale_to_bounds": true, "obs_mean": [...], "obs_std": [...], "eps_added_to_std": 0.001, "output": "mean"}

``scale_to_bounds``: outputs in [-1, 1] span the action bounds. ``obs_mean``, ``obs_std``: what the observations are
standardised with before they enter. ``output``: which of several outputs is the action, by name or by number.
``info``: provenance, not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from cdsa_baselines._files import read_json
from cdsa_lightning.allowance import Allowance
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.tasks import Task

__all__ = ["Sidecar", "Tensors", "TooMuch", "chosen", "first_line", "program_policy", "read_sidecar", "shapes_of"]

KEYS = ("scale_to_bounds", "obs_mean", "obs_std", "eps_added_to_std", "output", "info")
PROBES = 16
ROOM = 1 << 24
"""Entries of all that a program computes on a few observations, besides what its weights give reason for."""
SIZES = 100
"""Sizes of tensors that are tried as the number of observation entries."""


class TooMuch(InputError):
    """A program takes more steps than a network would."""


class Tensors(nn.Module):
    """Tensors by name, as buffers; a name may hold dots, which a buffer's may not."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(_buffer(name), tensor)

    def __getitem__(self, name: str) -> Tensor:
        return self._buffers[_buffer(name)]  # type: ignore[return-value]  # registered as tensors

    def require_numbers(self, source: str) -> None:
        """Refuse weights that are no numbers; infinite ones may be a mask.

        Raises:
            InputError: NaN entries.
        """
        for name, tensor in self._buffers.items():
            bad = int(torch.isnan(tensor).sum()) if tensor is not None else 0
            if tensor is not None and bad:
                shown = name.removeprefix("/").replace("/", ".")
                raise InputError(f"{source}: {bad} of {tensor.numel()} numbers of {shown!r} are NaN.")


def _buffer(name: str) -> str:
    return "/" + name.replace(".", "/")


@dataclass(frozen=True)
class Sidecar:
    """What the JSON beside a program says; the defaults where there is none.

    Args:
        path: Of the JSON.
        obs_mean: [S], None for raw observations.
        obs_std: [S], what is added to it included.
        scale_to_bounds: Whether outputs in [-1, 1] span the action bounds.
        output: Name or number of the output to take; None for the only one.
    """

    path: Path
    obs_mean: np.ndarray | None = None
    obs_std: np.ndarray | None = None
    scale_to_bounds: bool = False
    output: str | None = None

    @property
    def statistics(self) -> str:
        """How observations are normalised, in words."""
        if self.obs_mean is None:
            return "none: raw observations, unless the network normalises them itself"
        return f"mean and std of {len(self.obs_mean)} entries, from {self.path.name}"

    @property
    def details(self) -> dict[str, str]:
        """The other entries, in words."""
        chosen = {} if self.output is None else {"output": f"{self.output}, named by {self.path.name}"}
        return chosen | {"action scale": "[-1, 1] spans the bounds" if self.scale_to_bounds else "environment units"}


def read_sidecar(program: Path) -> Sidecar:
    """The sidecar of `program`.

    Raises:
        InputError: it is damaged, has unknown entries, or entries that cannot be used.
    """
    path = program.with_suffix(".json")
    if not path.is_file():
        return Sidecar(path)
    values = read_json(path)
    for key in values:
        if key not in KEYS:
            raise unknown_name("entry", key, KEYS, f"It stands in {str(path)!r}, which says how to use {program.name}.")
    mean, std = (_vector(values, name, path) for name in ("obs_mean", "obs_std"))
    if (mean is None) != (std is None):
        raise InputError(f"{str(path)!r}: obs_mean and obs_std belong together, give both or neither.")
    eps = values.get("eps_added_to_std", 0.0)
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < math.inf:
        raise InputError(f"{str(path)!r}: eps_added_to_std must be a number >= 0, got {eps!r}.")
    if std is not None and mean is not None:
        std = std + eps
        if len(std) != len(mean) or not (std > 0).all():
            raise InputError(f"{str(path)!r}: obs_std must hold {len(mean)} positive numbers, as obs_mean has entries.")
    scale, output = values.get("scale_to_bounds", False), values.get("output")
    if not isinstance(scale, bool):
        raise InputError(f"{str(path)!r}: scale_to_bounds must be true or false, got {scale!r}.")
    if isinstance(output, bool) or not isinstance(output, str | int | None):
        raise InputError(f"{str(path)!r}: output must be the name or the number of an output, got {output!r}.")
    return Sidecar(path, mean, std, scale, None if output is None else str(output))


def _vector(values: Mapping[str, Any], name: str, path: Path) -> np.ndarray | None:
    given = values.get(name)
    if given is None:
        return None
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{str(path)!r}: {name} must be a list of numbers ({error}).") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{str(path)!r}: {name} must be a list of finite numbers, got shape {array.shape}.")
    return array


def chosen(outputs: Iterable[str], sidecar: Sidecar) -> str | None:
    """Which of the outputs is the action; None where that is not clear, or there is no such output."""
    names, wanted = list(outputs), sidecar.output
    if wanted is None:
        return names[0] if len(names) == 1 else None
    if wanted not in names and wanted.isdecimal() and int(wanted) < len(names):
        return names[int(wanted)]
    return wanted if wanted in names else None


class _Output(nn.Module):
    """One output of a program that has several, as float32."""

    def __init__(self, program: nn.Module, sidecar: Sidecar, source: str) -> None:
        super().__init__()
        self.program, self.sidecar, self.source = program, sidecar, source

    def forward(self, obs: Tensor) -> Tensor:
        outputs: dict[str, Tensor] = self.program(obs)
        name = chosen(outputs, self.sidecar)
        if name is not None:
            return outputs[name].to(torch.float32)
        found = ", ".join(f"{name!r} {list(tensor.shape)}" for name, tensor in outputs.items()) or "none"
        path, wanted = self.sidecar.path.name, self.sidecar.output
        if wanted is None:
            raise InputError(
                f"{self.source} returns {len(outputs)} outputs: {found}. Say in {path!r} which is the action: "
                '{"output": "NAME OR NUMBER"}.'
            )
        raise InputError(f"{self.source} has no output {wanted!r}, which {path!r} asks for. Its outputs: {found}.")


def program_policy(program: nn.Module, path: Path, task: Task, sidecar: Sidecar, on_host: bool = False) -> Policy:
    """The policy that acts with `program`, tried on a few observations.

    Args:
        program: Maps observations [B, S] to its outputs by name.
        path: Its file, for the errors.
        task: Gives the dimensions to check and the action bounds.
        sidecar: How to use it.
        on_host: Whether it computes on the CPU whatever the device of its input.

    Raises:
        InputError: it does not take S entries, return A, or treat rows independently.
    """
    source = repr(str(path))
    mean, std = sidecar.obs_mean, sidecar.obs_std
    if mean is None or std is None:
        mean, std = np.zeros(task.obs_dim), np.ones(task.obs_dim)
    if len(mean) != task.obs_dim:
        raise InputError(
            f"{str(sidecar.path)!r} holds statistics of S={len(mean)} observation entries, task {task.name!r} has "
            f"{task.obs_dim}."
        )
    if sidecar.scale_to_bounds and not np.isfinite([task.low, task.high]).all():
        raise InputError(f"{source} spans its actions over the bounds, which are infinite in task {task.name!r}.")
    net = _Output(program, sidecar, source).eval().requires_grad_(False)
    _require_shapes(net, source, task)
    _require_independent_rows(net, source, task)
    policy = NormalizedPolicy(net, task.low, task.high, mean, std, unit_output=sidecar.scale_to_bounds)
    policy.on_host = on_host
    return policy


def _answer(net: nn.Module, obs: Tensor, source: str, task: Task) -> Tensor:
    try:
        weights = sum(tensor.numel() for tensor in net.buffers())
        with torch.inference_mode(), Allowance(ROOM + 16 * weights):
            return net(obs.clone())  # a program may change its input
    except InputError as error:
        raise error if source in str(error) else InputError(f"{source} cannot be used: {error}") from None
    except Exception as error:  # A stranger's program may fail in any way; mostly it is a product that does not fit.
        raise InputError(
            f"{source} cannot act on {len(obs)} observations of S={task.obs_dim} entries, as task {task.name!r} has "
            f"them: {first_line(error)}"
        ) from error


def _require_shapes(net: nn.Module, source: str, task: Task) -> None:
    for rows in (1, 3):
        found = list(_answer(net, torch.zeros(rows, task.obs_dim), source, task).shape)
        if found != [rows, task.action_dim]:
            raise InputError(
                f"{source} answers {rows} observations of S={task.obs_dim} entries with shape {found}, expected "
                f"{[rows, task.action_dim]}: task {task.name!r} has A={task.action_dim} action entries."
            )


def _require_independent_rows(net: nn.Module, source: str, task: Task) -> None:
    """Half of a batch must be answered as in the whole: dropout and batch statistics would show."""
    obs = torch.randn(2 * PROBES, task.obs_dim, generator=torch.Generator().manual_seed(0))
    whole, half = _answer(net, obs, source, task)[:PROBES], _answer(net, obs[:PROBES], source, task)
    if not torch.allclose(whole, half, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise InputError(
            f"{source} answers the same observation differently in another batch (by up to "
            f"{float((whole - half).abs().max()):.2g}): it draws random numbers, or uses statistics of the batch. "
            "Export it anew after .eval()."
        )


def shapes_of(program: nn.Module, candidates: Iterable[int]) -> list[tuple[int, dict[str, list[int]]]]:
    """Numbers of observation entries that fit `program`, and the shapes that it answers two rows with.

    Shapes alone go through the program (PyTorch's meta device): nothing is computed.

    Args:
        program: Maps [2, S] to its outputs by name.
        candidates: S to try.
    """
    fitting = []
    weights = {name: buffer.to("meta") for name, buffer in program.named_buffers()}
    sizes = sorted(set(candidates))
    for entries in sizes if len(sizes) <= SIZES else ():
        try:
            with torch.inference_mode():
                outputs = functional_call(program, weights, (torch.empty(2, entries, device="meta"),))
        except TooMuch:  # So it does with other numbers, and there may be a hundred.
            break
        except Exception:  # It does not fit, or asks for values.
            continue
        fitting.append((entries, {name: list(tensor.shape) for name, tensor in outputs.items()}))
    return fitting


def first_line(error: BaseException) -> str:
    """What an error says first, or its class."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__

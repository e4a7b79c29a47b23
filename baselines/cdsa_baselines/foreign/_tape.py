r"""A network as a tape: operator calls in a row, x_k = f_k(x_i, x_j, ..., numbers), without branches or names.

A graph of torch.export is such a tape already; TorchScript is recorded into one, so that acting costs the operators and
not the interpretation of code. Slots hold what the calls give: tensors, or numbers where a program computes with sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cdsa_baselines.foreign._ops import CREATION, operation
from cdsa_baselines.foreign._program import Tensors

__all__ = ["HERE", "Call", "Recorder", "Slot", "Tape", "operator_call"]


class Slot(NamedTuple):
    """The place of a value."""

    number: int


class _Here:
    """Stands for the device of the observations, whatever device the program was exported on."""

    def __repr__(self) -> str:
        return "the device of the observations"


HERE = _Here()


class Call(NamedTuple):
    """One call; `args` and `kwargs` hold constants, `Slot`, `HERE`, and lists of those.

    Args:
        function: What is called.
        args, kwargs: Its arguments.
        out: Slots of its result: one, a list of them where it gives several, or None.
        creates: Whether it makes a tensor out of numbers, which then needs a device.
    """

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    out: Any
    creates: bool = False


def operator_call(name: str, overload: str, args: list[Any], kwargs: dict[str, Any], out: Any) -> Call:
    """The call of aten::name.

    Raises:
        InputError: the operator is not allowed.
    """
    return Call(operation(name, overload), args, kwargs, out, name in CREATION)


class Tape(nn.Module):
    """Runs `calls` over slots: slot 0 holds the observations, the next ones the tensors in their order.

    Args:
        tensors: Weights and constants.
        calls: In order.
        size: Number of slots.
        outputs: Slots of the outputs by name.
    """

    def __init__(self, tensors: Tensors, calls: list[Call], size: int, outputs: dict[str, Slot]) -> None:
        super().__init__()
        self.tensors, self.calls, self.size, self.outputs = tensors, calls, size, outputs

    def forward(self, obs: Tensor) -> dict[str, Tensor]:
        values: list[Any] = [obs, *self.tensors.buffers()]
        values += [None] * (self.size - len(values))
        for function, args, kwargs, out, creates in self.calls:
            given = {key: _filled(value, values, obs.device) for key, value in kwargs.items()}
            if creates:
                given["device"] = obs.device
            _keep(out, function(*[_filled(arg, values, obs.device) for arg in args], **given), values)
        return {name: values[slot.number] for name, slot in self.outputs.items()}


def _filled(template: Any, values: list[Any], device: torch.device) -> Any:
    kind = type(template)
    if kind is Slot:
        return values[template.number]
    if kind is list:
        return [_filled(item, values, device) for item in template]
    return device if kind is _Here else template


def _keep(out: Any, result: Any, values: list[Any]) -> None:
    if type(out) is Slot:
        values[out.number] = result
    elif type(out) is list:
        for part, item in zip(out, result, strict=True):
            _keep(part, item, values)


class Recorder:
    """Writes the calls of one pass down.

    Args:
        given: Observations and weights, which take the first slots.
    """

    def __init__(self, given: list[Tensor]) -> None:
        self.kept: list[Tensor] = []  # alive, so that an id stays that of one tensor
        self.slots: dict[int, Slot] = {}
        self.calls: list[Call] = []
        self.straight = True
        for tensor in given:
            self.slot(tensor, new=True)

    def slot(self, value: Any, new: bool = False) -> Any:
        """`value` with slots in place of tensors; a new tensor takes the next one."""
        if isinstance(value, Tensor):
            if id(value) not in self.slots:
                self.straight &= new
                self.slots[id(value)] = Slot(len(self.kept))
                self.kept.append(value)
            return self.slots[id(value)]
        if isinstance(value, list | tuple):
            return [self.slot(item, new) for item in value]
        return HERE if isinstance(value, torch.device) else value

    def write(
        self, function: Callable[..., Any], creates: bool, args: list[Any], kwargs: dict[str, Any], result: Any
    ) -> None:
        """One call and its result."""
        given = {key: self.slot(value) for key, value in kwargs.items()}
        self.calls.append(Call(function, [self.slot(arg) for arg in args], given, self.slot(result, True), creates))

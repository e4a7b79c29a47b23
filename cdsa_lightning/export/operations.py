"""A list of operations while it is written, in the words of `runtime.operations`, and the tensors that it names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cdsa_lightning.runtime.operations import PREFIX

__all__ = ["List", "Rows", "Wordless"]


class Wordless(Exception):
    """There are no words for what an operator does."""


@dataclass(frozen=True)
class Rows:
    """A value of a list.

    Args:
        number: Its place.
        width: Of its rows.
        axes: Of the tensor that it stands for: [B], [B, W] or [1, B, W].
    """

    number: int
    width: int
    axes: int = 2


class List:
    """Operations as they are written down, and the tensors that they name.

    Args:
        obs_dim: Width of the observation.
    """

    def __init__(self, obs_dim: int) -> None:
        self.obs = Rows(0, obs_dim)
        self.operations: list[list[Any]] = []
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[tuple[int, ...], bytes], str] = {}

    def __call__(self, word: str, *operands: Any) -> Rows:
        """An operation entry by entry; operands are rows, tensors of one row, or numbers."""
        found = [one if isinstance(one, Rows) else _row(one) for one in operands]
        widths = [one.width if isinstance(one, Rows) else len(one) for one in found]
        return self._add(
            max(widths), word, *(one.number if isinstance(one, Rows) else self._name(one) for one in found)
        )

    def over(self, word: str, x: Rows) -> Rows:
        """All entries of a row as one: sum, min or max."""
        return self._add(1, word, x.number)

    def affine(self, x: Any, weight: Any, bias: Any = None) -> Rows:
        """x W + b; weight [I, O], bias [O] or None."""
        if not isinstance(x, Rows) or not isinstance(weight, Tensor) or isinstance(bias, Rows):
            raise Wordless
        if weight.ndim < 2 or weight.numel() != math.prod(weight.shape[-2:]):
            raise Wordless
        weight = weight.reshape(weight.shape[-2:])
        bias = _row(0.0 if bias is None else bias).expand(weight.shape[1])
        return self._add(weight.shape[1], "affine", x.number, self._name(weight), self._name(bias))

    def cat(self, parts: Sequence[Any]) -> Rows:
        """Rows one behind the other."""
        if not all(isinstance(one, Rows) for one in parts):
            raise Wordless
        return self._add(sum(one.width for one in parts), "cat", *(one.number for one in parts))

    def slice(self, x: Rows, start: int, stop: int) -> Rows:
        """Entries `start` to `stop`."""
        if (start, stop) == (0, x.width):
            return x
        return self._add(stop - start, "slice", x.number, start, stop)

    def columns(self, x: Rows, index: Sequence[int]) -> Rows:
        """Some entries, run by run."""
        runs: list[list[int]] = []
        for entry in index:
            entry %= x.width
            if runs and runs[-1][1] == entry:
                runs[-1][1] += 1
            else:
                runs.append([entry, entry + 1])
        parts = [self.slice(x, *run) for run in runs]
        return parts[0] if len(parts) == 1 else self.cat(parts)

    def mean(self, x: Rows) -> Rows:
        """Of each row."""
        return self("multiply", self.over("sum", x), 1 / x.width)

    def _add(self, width: int, *operation: Any) -> Rows:
        self.operations.append(list(operation))
        return Rows(len(self.operations), width)

    def _name(self, tensor: Tensor) -> str:
        tensor = tensor.detach().to(torch.float32).contiguous().clone()
        key = tuple(tensor.shape), tensor.numpy().tobytes()
        if key not in self._names:
            self._names[key] = f"{PREFIX}{len(self._names)}"
            self.tensors[self._names[key]] = tensor
        return self._names[key]


def _row(value: Any) -> Tensor:
    """A number, or a tensor of one row, as [W]."""
    tensor = torch.as_tensor(value)
    if tensor.is_complex() or tensor.numel() != (tensor.shape[-1] if tensor.ndim else 1):
        raise Wordless
    return tensor.reshape(-1)

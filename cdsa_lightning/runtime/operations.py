r"""A policy as a list of operations over rows of numbers, computed by NumPy.

    [["subtract", 0, "policy.0"], ["affine", 1, "policy.1", "policy.2"], ["tanh", 2], ["slice", 3, 0, 6]]

Value 0 is the observation [..., S], value n what operation n makes of earlier ones, [..., W_n], the last the action.
Names stand for tensors: W [I, O] and b [O] in affine, x W + b, elsewhere [W], or [1] for every entry. All widths are
known before the first observation, so that a list is refused, or fits whatever comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cdsa_lightning.core.artifact import POLICY

__all__ = ["PREFIX", "WORDS", "Program"]

PREFIX = f"{POLICY}."
"""What the names of a policy's tensors begin with."""
ENTRIES, PRODUCTS, PER_NUMBER = 1 << 16, 1 << 24, 8
"""Entries of all values of a row, multiplications of a row, and how many more of each per number in the tensors."""

Array = np.ndarray


def _sigmoid(x: Array) -> Array:
    return 0.5 * np.tanh(0.5 * x) + 0.5  # exp would overflow


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def _erf(x: Array) -> Array:
    """Abramowitz and Stegun 7.1.26, which errs by 1.5e-7."""
    size = np.abs(x)
    t = 1 / (1 + 0.3275911 * size)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.copysign(1 - tail * np.exp(-size * size), x)


def _greater(a: Array, b: Array) -> Array:
    return np.greater(a, b).astype(np.float32)


def _affine(x: Array, weight: Array, bias: Array) -> Array:
    y = np.dot(x, weight)
    y += bias
    return y


def _cat(*parts: Array) -> Array:
    return np.concatenate(parts, -1)


def _over(ufunc: np.ufunc) -> Callable[[Array], Array]:
    return lambda x: ufunc.reduce(x, axis=-1, keepdims=True)


_ENTRYWISE: dict[str, tuple[int, Callable[..., Array]]] = {
    **{name: (1, getattr(np, name)) for name in ("abs", "cos", "exp", "expm1", "log", "sin", "sqrt", "tanh")},
    **{"erf": (1, _erf), "sigmoid": (1, _sigmoid), "softplus": (1, _softplus)},
    **{name: (2, getattr(np, name)) for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum")},
    **{"greater": (2, _greater), "where": (3, np.where)},
}
"""Word -> operands, which may be of width 1 where others are wider, and what is computed."""
_OVER_ENTRIES = {"sum": _over(np.add), "min": _over(np.minimum), "max": _over(np.maximum)}
WORDS = (*_ENTRYWISE, *_OVER_ENTRIES, "affine", "cat", "slice")
"""All that an operation can be."""


class Program:
    """A list of operations, checked.

    Args:
        operations: As the module says; nothing in it is believed.
        tensors: By name, float32.
        obs_dim: Entries of an observation.
        action_dim: Entries that the last value must have.

    Raises:
        ValueError: an unknown word, operands that are not there or do not fit, an answer of another width, or more work
            than tensors of that size give reason for.
    """

    def __init__(self, operations: Any, tensors: Mapping[str, Array], obs_dim: int, action_dim: int) -> None:
        if not isinstance(operations, list):
            raise ValueError("its policy is no list of operations")
        self._tensors, self._widths = tensors, [obs_dim]
        self._steps: list[tuple[Callable[..., Array], list[int]]] = []
        self._constants: list[Array] = []
        self._places: dict[str, int] = {}
        numbers = sum(tensor.size for tensor in tensors.values())
        self._entries, self._products = ENTRIES + PER_NUMBER * numbers, PRODUCTS + PER_NUMBER * numbers
        for number, operation in enumerate(operations, 1):
            try:
                self._add(operation)
            except ValueError as error:
                raise ValueError(f"operation {number} of its policy, {str(operation)[:80]}, {error}") from None
        if self._widths[-1] != action_dim:
            raise ValueError(f"its policy answers {self._widths[-1]} entries, expected {action_dim}")
        self._last, self._tensors = self._ends(), {}  # what is used has been copied

    def __call__(self, obs: Array) -> Array:
        """The action [..., A] of an observation [..., S], float32."""
        values: list[Any] = [obs]
        constants = self._constants
        for (function, places), last in zip(self._steps, self._last, strict=True):
            values.append(function(*[values[place] if place >= 0 else constants[~place] for place in places]))
            for place in last:
                values[place] = None  # its memory serves the next one
        return values[-1]

    def _ends(self) -> list[list[int]]:
        """By step, the values that no later one takes."""
        needed: set[int] = set()
        ends = []
        for _, places in reversed(self._steps):
            ends.append([place for place in set(places) - needed if place >= 0])
            needed.update(places)
        return ends[::-1]

    def _add(self, operation: Any) -> None:
        word: Any
        operands: list[Any]
        word, *operands = operation if isinstance(operation, list) and operation else [""]
        if not isinstance(word, str) or word not in WORDS:
            raise ValueError(f"is none of {', '.join(sorted(WORDS))}")
        if word in _ENTRYWISE:
            function, width = self._entrywise(*_ENTRYWISE[word], operands)
        elif word in _OVER_ENTRIES:
            (_,), function, width = self._rows(operands, 1), _OVER_ENTRIES[word], 1
        elif word == "cat":
            function, width = _cat, sum(self._rows(operands, max(1, len(operands))))
        elif word == "slice":
            function, width = self._slice(operands)
            operands = operands[:1]
        else:
            function, width = _affine, self._affine(operands)
        self._entries -= width
        if min(self._entries, self._products) < 0:
            raise ValueError("asks for more than a policy of its weights needs")
        self._steps.append((function, [self._place(operand) for operand in operands]))
        self._widths.append(width)

    def _rows(self, operands: Sequence[Any], count: int) -> list[int]:
        """Widths of `count` earlier values."""
        if len(operands) != count:
            raise ValueError(f"has {len(operands)} operands, expected {count}")
        if any(type(one) is not int or not 0 <= one < len(self._widths) for one in operands):
            raise ValueError("takes what is no earlier value")
        return [self._widths[one] for one in operands]

    def _tensor(self, name: Any, axes: int) -> Array:
        tensor = self._tensors.get(name) if isinstance(name, str) else None
        if tensor is None or tensor.ndim != axes or not tensor.size:
            raise ValueError(f"needs a tensor of {axes} axes of the file, got {str(name)[:80]!r}")
        return tensor

    def _entrywise(self, arity: int, function: Callable[..., Array], operands: list[Any]) -> tuple[Any, int]:
        if len(operands) != arity:
            raise ValueError(f"has {len(operands)} operands, expected {arity}")
        earlier = [one for one in operands if not isinstance(one, str)]
        widths = self._rows(earlier, max(1, len(earlier)))
        widths += [len(self._tensor(one, 1)) for one in operands if isinstance(one, str)]
        if any(one not in (1, max(widths)) for one in widths):
            raise ValueError(f"has operands of {sorted(widths)} entries")
        return function, max(widths)

    def _affine(self, operands: list[Any]) -> int:
        (width,) = self._rows(operands[:1], 1)
        if len(operands) != 3:
            raise ValueError(f"has {len(operands)} operands, expected 3")
        weight, bias = self._tensor(operands[1], 2), self._tensor(operands[2], 1)
        if weight.shape != (width, len(bias)):
            raise ValueError(f"has weights of shape {weight.shape} and {bias.shape} for {width} entries")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError("has weights that are not finite")
        self._products -= weight.size
        return len(bias)

    def _slice(self, operands: list[Any]) -> tuple[Any, int]:
        (width,) = self._rows(operands[:1], 1)
        start, stop = operands[1:] if len(operands) == 3 else (None, None)
        if type(start) is not int or type(stop) is not int or not 0 <= start < stop <= width:
            raise ValueError(f"lies outside of {width} entries")
        return (lambda x: x[..., start:stop]), stop - start

    def _place(self, operand: int | str) -> int:
        """Of a value its number; of a tensor, which has none, the complement of its own."""
        if isinstance(operand, int):
            return operand
        if operand not in self._places:
            self._places[operand] = ~len(self._constants)
            self._constants.append(np.array(self._tensors[operand], np.float32))  # aligned, and of its own
        return self._places[operand]

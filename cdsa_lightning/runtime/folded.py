r"""A corrector as plain matrices: Eq. 10 with everything that is known before the first observation multiplied out.

    x      = s W + b                            one product for the first layers of g (all levels), h and I
    a1     = g_level(x_g + (a - m) U)           k1, sigma and the deviations are inside g's last layer
    a2     = I(x_I + h(x_h + (a - m) V) T)      k2 inside I's last, state_step and the deviations inside h's
    a     <- clip(a + a1 + a2)

s is the observation less its mean, m the actions' mean; their deviations are divided out of the first weights. Means
are not folded into the biases: where an entry hardly varies, mean / deviation is large and float32 would lose the rest.
`folding.fold` makes the matrices, `corrected` walks them with the operations of NumPy or torch; torch is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

__all__ = ["Affine", "Dynamics", "Folded", "Level", "Operations", "Tail", "corrected"]


class Affine(NamedTuple):
    """x W + b; W [I, O] and b [O], or [E, I, O] and [E, 1, O] where E networks answer on average."""

    weight: Any
    bias: Any


class Tail(NamedTuple):
    """A network behind its first product: LeakyReLU and an affine map, in turn."""

    layers: list[Affine]
    slope: float


class Level(NamedTuple):
    """g at one sigma: `action` multiplies a - m; `scale` turns its answer into a1, None where it is folded in."""

    part: int
    action: Any
    tail: Tail
    scale: Any


class Dynamics(NamedTuple):
    """h, whose answer is a step of the state (`action` None for h(s)), and I, whose answer along it is a2."""

    state_part: int
    action: Any
    state: Tail
    inverse_part: int
    step: Any
    inverse: Tail
    residual: bool


@dataclass(frozen=True)
class Folded:
    """The matrices of one corrector with one choice of coefficients.

    Args:
        index: Observation entries that the networks see; None for all.
        obs_mean, action_mean: Taken off; None in the paper's preset.
        first: The joint first product; None where nothing is corrected.
        widths: Where its result is split.
        levels: By place in `visits`.
        visits: Levels in order.
        dynamics: None where a2 is off.
        threshold: The gate's, None without one.
        low, high: Action bounds, [A].
        every_step: Clip after every visit.
        max_shift: Longest correction; None for any.
        members: Networks that answer on average.
    """

    index: Any
    obs_mean: Any
    action_mean: Any
    first: Affine | None
    widths: list[int]
    levels: list[Level]
    visits: list[int]
    dynamics: Dynamics | None
    threshold: float | None
    low: Any
    high: Any
    every_step: bool
    max_shift: float | None
    members: int


class Operations(Protocol):
    """What `corrected` needs of a library of arrays."""

    def affine(self, x: Any, weight: Any, bias: Any) -> Any:
        """x W + b, in memory of its own."""

    def leaky(self, x: Any, slope: float) -> Any:
        """LeakyReLU; may overwrite x."""

    def average(self, x: Any) -> Any:
        """The mean over the leading axis."""

    def take(self, x: Any, index: Any) -> Any:
        """Some entries of the last axis."""

    def split(self, x: Any, widths: Sequence[int]) -> Sequence[Any]:
        """The last axis in parts."""

    def bound(self, x: Any, low: Any, high: Any) -> Any:
        """x within the bounds; NaN stays NaN."""

    def exceeds(self, x: Any, threshold: float) -> Any:
        """1 in rows longer than `threshold`, else 0; [..., 1]."""

    def shorten(self, a: Any, base: Any, longest: float, low: Any, high: Any) -> Any:
        """`a`, in rows farther than `longest` from `base` moved back towards it."""

    def finite(self, a: Any, base: Any, low: Any, high: Any) -> Any:
        """`a`, in rows that are not finite `base` within the bounds."""


def corrected(f: Folded, ops: Operations, obs: Any, action: Any) -> Any:
    """The corrected actions.

    Args:
        f: The matrices, arrays of the library that `ops` speaks for.
        ops: Its operations.
        obs: [B, S]; NumPy may leave B out where one network answers.
        action: [B, A], the baseline's.
    """
    if f.first is None:
        return action + 0
    s = obs if f.index is None else ops.take(obs, f.index)
    parts = ops.split(ops.affine(s if f.obs_mean is None else s - f.obs_mean, *f.first), f.widths)
    d, rest, steady, allowed = f.dynamics, None, None, None
    if d is not None and d.residual:
        rest = _ask(f, ops, d.inverse, parts[d.inverse_part] + 0)
    if d is not None and d.action is None:  # h(s) does not change while the action does
        steady = _a2(f, ops, d, parts, None, rest)
    a = action
    for number, visit in enumerate(f.visits):
        v = a if f.action_mean is None else a - f.action_mean
        total: Any = None
        if f.levels:
            level = f.levels[visit]
            total = _ask(f, ops, level.tail, ops.affine(v, level.action, parts[level.part]))
            if f.threshold is not None and number == 0:
                allowed = ops.exceeds(total, f.threshold)
            if level.scale is not None:
                total = total * level.scale
        if d is not None:
            a2 = _a2(f, ops, d, parts, v, rest) if steady is None else steady
            total = a2 if total is None else total + a2
        a = a + (total if allowed is None else total * allowed)
        if f.every_step or number == len(f.visits) - 1:
            a = ops.bound(a, f.low, f.high)
    if f.max_shift is not None:
        a = ops.shorten(a, action, f.max_shift, f.low, f.high)
    return ops.finite(a, action, f.low, f.high)


def _ask(f: Folded, ops: Operations, tail: Tail, x: Any) -> Any:
    for layer in tail.layers:
        x = ops.affine(ops.leaky(x, tail.slope), layer.weight, layer.bias)
    return x if f.members == 1 else ops.average(x)


def _a2(f: Folded, ops: Operations, d: Dynamics, parts: Sequence[Any], v: Any, rest: Any) -> Any:
    own = parts[d.state_part]
    step = _ask(f, ops, d.state, own + 0 if d.action is None else ops.affine(v, d.action, own))
    a2 = _ask(f, ops, d.inverse, ops.affine(step, d.step, parts[d.inverse_part]))
    return a2 if rest is None else a2 - rest

r"""Which operators a program out of a file may call: functions of tensors and numbers, and nothing else.

A program file (TorchScript, torch.export) is a list of operator calls. It is not handed to PyTorch's own loaders, which
unpickle, evaluate expressions and resolve any name below ``torch``; it is interpreted here, and a call is made only
where its operator stands in `TENSOR_OPS` or `SCALAR_OPS`. None of them opens a file, draws a random number, reads
uninitialised memory, or trusts a size that it has not checked.

The program's own words about devices are those of the machine it was exported on: a new tensor is made where the
observations are.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cdsa_lightning.errors import InputError

__all__ = ["CREATION", "REMEDY", "SCALAR_OPS", "TENSOR_OPS", "flat", "operation"]

REMEDY = "Export the deterministic network alone, or export it to ONNX and use --baseline onnx."

CREATION = frozenset("arange eye full linspace ones scalar_tensor tensor zeros".split())
"""Operators that make a tensor out of numbers."""

TENSOR_OPS = CREATION | frozenset(
    """
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil
    celu clamp clamp_max clamp_min clip copysign cos cosh deg2rad digamma div divide elu eq erf erfc erfinv exp exp2
    expm1 fix float_power floor floor_divide fmax fmin fmod frac ge gelu glu greater greater_equal gt hardshrink
    hardsigmoid hardswish hardtanh heaviside hypot isfinite isinf isnan isneginf isposinf le leaky_relu lerp less
    less_equal lgamma log log10 log1p log2 log_sigmoid logaddexp logaddexp2 logical_and logical_not logical_or
    logical_xor logit lt masked_fill maximum minimum mish mul multiply nan_to_num ne neg negative not_equal pow prelu
    rad2deg reciprocal relu relu6 remainder round rsqrt rsub selu sgn sigmoid sign silu sin sinc sinh softplus
    softshrink sqrt square sub subtract tan tanh threshold trunc true_divide where xlogy zero

    addbmm addmm addmv addr baddbmm bilinear bmm dot einsum inner linear matmul mm mv outer tensordot
    scaled_dot_product_attention conv1d conv2d avg_pool1d avg_pool2d max_pool1d max_pool2d embedding one_hot
    convolution _convolution _weight_norm

    batch_norm group_norm instance_norm layer_norm rms_norm native_layer_norm native_group_norm
    _native_batch_norm_legit_no_training linalg_norm linalg_vector_norm norm cosine_similarity dropout
    softmax log_softmax _softmax _log_softmax logsumexp

    all amax amin aminmax any argmax argmin argsort count_nonzero cumprod cumsum logcumsumexp max mean median min prod
    sort std std_mean sum topk var var_mean

    alias atleast_1d atleast_2d broadcast_tensors broadcast_to cat chunk clone column_stack concat constant_pad_nd
    contiguous copy detach diag diagonal dstack expand expand_as fill flatten flip full_like gather hsplit hstack index
    index_select lift_fresh lift_fresh_copy movedim narrow new_full new_ones new_zeros ones_like pad permute ravel
    repeat repeat_interleave reshape reshape_as roll select select_scatter slice slice_scatter split split_with_sizes
    squeeze stack swapaxes t take_along_dim tensor_split tile to _to_copy transpose tril triu type_as unbind unflatten
    unfold unsafe_chunk unsafe_split _unsafe_view unsqueeze view view_as vstack zeros_like

    dim item numel size sym_numel sym_size
    """.split()
)
"""Operators of the namespace aten; each may also be called in place (``relu_``) on intermediate values."""


def _require_numbers(*values: Any) -> None:
    """Refuse anything but plain numbers.

    Raises:
        InputError: a value of another kind; "ab" * 10**9 would be memory, not arithmetic.
    """
    for value in values:
        if not isinstance(value, int | float):
            raise InputError(f"Arithmetic on a {type(value).__name__} is not supported in a network. {REMEDY}")


def _arithmetic(function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(*values: Any) -> Any:
        _require_numbers(*values)
        result = function(*values)
        if isinstance(result, int) and result.bit_length() > 64:  # squared a few times, a number fills memory
            raise InputError(f"Arithmetic beyond 64 bits is not supported in a network. {REMEDY}")
        return result

    return checked


def _join(left: Any, right: Any) -> Any:
    """a + b of numbers, or of two lists of sizes."""
    if not (isinstance(left, list) and isinstance(right, list)):
        _require_numbers(left, right)
    return left + right


def flat(*values: Any) -> tuple[Any, ...]:
    """Refuse lists of lists, which may hold each other so often that comparing or writing them never ends.

    Raises:
        InputError: there is one.
    """
    for value in values:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        if not isinstance(parts, list | tuple):
            continue
        if any(isinstance(part, list | tuple | dict) for part in parts):
            raise InputError(f"Lists of lists are neither compared nor written by a network. {REMEDY}")
    return values


def _slice(items: Sequence[Any], start: int | None = None, end: int | None = None, step: int = 1) -> list[Any]:
    """Some of a list of sizes."""
    return list(items)[start:end:step]


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    **{"sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv, "div": operator.truediv},
    **{"floordiv": operator.floordiv, "remainder": operator.mod, "mod": operator.mod, "neg": operator.neg},
    **{"ceil": math.ceil, "floor": math.floor, "trunc": math.trunc, "sqrt": math.sqrt, "log": math.log},
    **{"exp": math.exp, "max": max, "min": min, "abs": abs, "Int": int, "Float": float, "Bool": bool},
    **{"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge},
    **{"and": operator.and_, "or": operator.or_, "__and__": operator.and_, "__or__": operator.or_},
}

SCALAR_OPS: dict[str, Callable[..., Any]] = {
    **{name: _arithmetic(function) for name, function in _ARITHMETIC.items()},
    "add": _join,
    "slice": _slice,
    "eq": lambda left, right: operator.eq(*flat(left, right)),
    "ne": lambda left, right: operator.ne(*flat(left, right)),
    "not": operator.not_,
    "__not__": operator.not_,
    "__is__": operator.is_,
    "__isnot__": operator.is_not,
}
"""Operators on numbers, truth values and sizes, under the names that TorchScript and Python's `operator` give them."""


@functools.cache
def operation(name: str, overload: str = "") -> Callable[..., Any]:
    """The operator aten::name, or one overload of it.

    Raises:
        InputError: it is not among those that a network may call, or this PyTorch does not have it.
    """
    packet: Any = None
    if name in TENSOR_OPS or name.removesuffix("_") in TENSOR_OPS:
        packet = getattr(torch.ops.aten, name, None)
    if packet is None or (overload and overload not in packet.overloads()):
        shown = f"aten::{name}.{overload}" if overload else f"aten::{name}"
        raise InputError(f"it calls {shown[:80]!r}, which is none of the operators that a network may. {REMEDY}")
    if name == "_native_batch_norm_legit_no_training":
        return _batch_norm
    return getattr(packet, overload) if overload else packet


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    # The decomposed operator reads beyond statistics that are too short; the one that users call checks them.
    out = torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, momentum, eps)
    return out, x.new_zeros(0), x.new_zeros(0)

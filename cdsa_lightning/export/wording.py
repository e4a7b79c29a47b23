r"""ATen operators in the words of `runtime.operations`; what there is no word for is spelled out.

    elu(x) = max(x, 0) + exp(min(x, 0)) - 1     gelu(x) = x / 2 (1 + erf(x / 2^.5))     norm(x) = x / (mean(x^2) + e)^.5

A handler is given the list, and what torch gives the operator, with `Rows` in place of what depends on the observation.
Whether an axis was moved is left to the shape of the result, which whoever calls compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cdsa_lightning.export.operations import List, Rows, Wordless

__all__ = ["COMPARISONS", "WORDING"]


def _last(x: Rows, dims: Any) -> None:
    """That an operator works along the rows, and not over them."""
    dims = [dims] if isinstance(dims, int) else dims
    if not isinstance(x, Rows) or not dims or [dim % x.axes for dim in dims] != [x.axes - 1]:
        raise Wordless


def _times(made: List, x: Any, factor: float) -> Any:
    return x if factor == 1 else made("multiply", x, factor) if isinstance(x, Rows) else x * factor


def _add(made: List, a: Any, b: Any, alpha: float = 1) -> Rows:
    return made("add", a, _times(made, b, alpha))


def _sub(made: List, a: Any, b: Any, alpha: float = 1) -> Rows:
    return made("subtract", a, _times(made, b, alpha))


def _addmm(made: List, bias: Any, x: Any, weight: Any, beta: float = 1, alpha: float = 1) -> Rows:
    if (beta, alpha) != (1, 1):
        raise Wordless
    return made.affine(x, weight, bias)


def _clamp(made: List, x: Any, low: Any = None, high: Any = None) -> Rows:
    x = x if low is None else made("maximum", x, low)
    return x if high is None else made("minimum", x, high)


def _leaky_relu(made: List, x: Any, slope: float = 0.01) -> Rows:
    return made("maximum" if slope <= 1 else "minimum", x, made("multiply", x, slope))


def _elu(made: List, x: Any, alpha: float = 1, scale: float = 1, inside: float = 1) -> Rows:
    below = made("expm1", _times(made, made("minimum", x, 0), inside))
    return made("add", _times(made, made("maximum", x, 0), scale), _times(made, below, alpha * scale))


def _softplus(made: List, x: Any, beta: float = 1, threshold: float = 20) -> Rows:
    inner = _times(made, x, beta)
    y = _times(made, made("softplus", inner), 1 / beta)
    # Beyond the threshold torch answers x, which from 20 on is the same in 32 bits.
    return y if threshold >= 20 else made("where", made("greater", inner, threshold), x, y)


def _gelu(made: List, x: Any, approximate: str = "none") -> Rows:
    if approximate == "tanh":
        cube = made("multiply", made("multiply", x, x), made("multiply", x, 0.044715))
        inner = made("tanh", made("multiply", made("add", x, cube), math.sqrt(2 / math.pi)))
    else:
        inner = made("erf", made("multiply", x, math.sqrt(0.5)))
    return made("multiply", made("multiply", x, 0.5), made("add", inner, 1))


def _norm(made: List, x: Rows, weight: Any, bias: Any, eps: float) -> Rows:
    y = made("divide", x, made("sqrt", made("add", made.mean(made("multiply", x, x)), eps)))
    y = y if weight is None else made("multiply", y, weight)
    return y if bias is None else made("add", y, bias)


def _layer_norm(
    made: List, x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Rows:
    if not isinstance(x, Rows) or list(shape) != [x.width]:
        raise Wordless
    return _norm(made, made("subtract", x, made.mean(x)), weight, bias, eps)


def _rms_norm(made: List, x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Rows:
    if not isinstance(x, Rows) or list(shape) != [x.width]:
        raise Wordless
    return _norm(made, x, weight, None, torch.finfo(torch.float32).eps if eps is None else eps)


def _reduced(word: str) -> Callable[..., Rows]:
    def reduced(made: List, x: Rows, dims: Any = None, keepdim: bool = False, dtype: Any = None) -> Rows:
        _last(x, dims)
        return made.mean(x) if word == "mean" else made.over(word, x)

    return reduced


def _length(made: List, x: Rows, order: float = 2, dims: Any = None, keepdim: bool = False, dtype: Any = None) -> Rows:
    _last(x, dims)
    if order != 2:
        raise Wordless
    return made("sqrt", made.over("sum", made("multiply", x, x)))


def _pow(made: List, x: Any, power: float) -> Rows:
    if power not in (2, 0.5):
        raise Wordless
    return made("multiply", x, x) if power == 2 else made("sqrt", x)


def _slice(made: List, x: Rows, dim: int = 0, start: Any = None, stop: Any = None, step: int = 1) -> Rows:
    if dim % x.axes != x.axes - 1:
        return x  # all rows; fewer would have another shape
    start, stop, _ = slice(start, stop).indices(x.width)
    if step != 1 or start >= stop:
        raise Wordless
    return made.slice(x, start, stop)


def _select(made: List, x: Rows, dim: int, index: int) -> Rows:
    if dim % x.axes != x.axes - 1:
        return x  # the one seed
    return made.slice(x, index % x.width, index % x.width + 1)


def _index_select(made: List, x: Any, dim: int, index: Any) -> Rows:
    _last(x, dim)
    if not isinstance(index, Tensor) or index.ndim != 1 or index.dtype not in (torch.int64, torch.int32):
        raise Wordless
    return made.columns(x, index.tolist())


def _index(made: List, x: Any, indices: Sequence[Any]) -> Rows:
    if any(one is not None for one in indices[:-1]):
        raise Wordless
    return _index_select(made, x, len(indices) - 1, indices[-1])


def _cat(made: List, parts: Sequence[Any], dim: int = 0) -> Rows:
    return made.cat(parts)  # along another axis the result would have another shape


def _same(made: List, x: Rows, *_: Any, **__: Any) -> Rows:
    return x  # whether it is, its shape tells


def _linear(made: List, x: Any, weight: Any, bias: Any = None) -> Rows:
    return made.affine(x, weight.mT if isinstance(weight, Tensor) else weight, bias)


def _product(made: List, x: Any, weight: Any) -> Rows:
    return made.affine(x, weight)


def _word(word: str) -> Callable[..., Rows]:
    return lambda made, *operands: made(word, *operands)


_HANDLERS: dict[str, Callable[..., Rows]] = {
    **{
        f"{word}.default": _word(word)
        for word in ("abs", "cos", "erf", "exp", "expm1", "log", "sigmoid", "sin", "sqrt", "tanh")
    },
    **{f"{word}.default": _word(word) for word in ("maximum", "minimum")},
    "add.Tensor add.Scalar": _add,
    "sub.Tensor sub.Scalar": _sub,
    "rsub.Tensor rsub.Scalar": lambda made, a, b, alpha=1: _sub(made, b, a, alpha),
    "mul.Tensor mul.Scalar": _word("multiply"),
    "div.Tensor div.Scalar": _word("divide"),
    "max.other": _word("maximum"),
    "min.other": _word("minimum"),
    "gt.Tensor gt.Scalar": _word("greater"),
    "lt.Tensor lt.Scalar": lambda made, a, b: made("greater", b, a),
    "where.self where.Scalar where.ScalarSelf where.ScalarOther": _word("where"),
    "neg.default": lambda made, x: made("multiply", x, -1),
    "square.default": lambda made, x: made("multiply", x, x),
    "reciprocal.default": lambda made, x: made("divide", 1, x),
    "rsqrt.default": lambda made, x: made("divide", 1, made("sqrt", x)),
    "pow.Tensor_Scalar": _pow,
    "clamp.default clamp.Tensor": _clamp,
    "hardtanh.default": lambda made, x, low=-1, high=1: _clamp(made, x, low, high),
    "clamp_min.default clamp_min.Tensor": _word("maximum"),
    "clamp_max.default clamp_max.Tensor": _word("minimum"),
    "relu.default": lambda made, x: made("maximum", x, 0),
    "relu6.default": lambda made, x: _clamp(made, x, 0, 6),
    "leaky_relu.default": _leaky_relu,
    "elu.default": _elu,
    "celu.default": lambda made, x, alpha=1: _elu(made, x, alpha, 1, 1 / alpha),
    "selu.default": lambda made, x: _elu(made, x, 1.6732632423543772, 1.0507009873554805),
    "gelu.default": _gelu,
    "silu.default": lambda made, x: made("multiply", x, made("sigmoid", x)),
    "softplus.default": _softplus,
    "mish.default": lambda made, x: made("multiply", x, made("tanh", made("softplus", x))),
    "layer_norm.default": _layer_norm,
    "rms_norm.default": _rms_norm,
    "linear.default": _linear,
    "matmul.default mm.default bmm.default": _product,
    "addmm.default baddbmm.default": _addmm,
    "cat.default": _cat,
    "stack.default": _cat,
    "slice.Tensor": _slice,
    "select.int": _select,
    "index_select.default": _index_select,
    "index.Tensor": _index,
    "linalg_vector_norm.default": _length,
    "sum.dim_IntList": _reduced("sum"),
    "mean.dim": _reduced("mean"),
    "amin.default": _reduced("min"),
    "amax.default": _reduced("max"),
    "view.default reshape.default _unsafe_view.default flatten.using_ints unsqueeze.default squeeze.default "
    "squeeze.dim squeeze.dims expand.default clone.default alias.default detach.default contiguous.default "
    "dropout.default to.dtype to.dtype_layout _to_copy.default": _same,
}
WORDING = {f"aten.{name}": handler for names, handler in _HANDLERS.items() for name in names.split()}
"""An operator's name -> how it is written."""
COMPARISONS = {f"aten.{name}.{kind}" for name in ("gt", "lt") for kind in ("Tensor", "Scalar")}
"""Those whose answer is true or false, the only ones that may be."""

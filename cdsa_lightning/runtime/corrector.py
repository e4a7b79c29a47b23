"""A corrector file in NumPy: the matrices of `folded`, computed when the file is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime.folded import Folded, Operations, corrected
from cdsa_lightning.runtime.folding import fold
from cdsa_lightning.runtime.tensors import read_corrector

__all__ = ["NumpyCorrector", "as_arrays", "check_rows"]

Array = np.ndarray


class _NumPy(Operations):
    """`Operations` of NumPy.

    Args:
        members: Of the matrices; np.dot is faster than np.matmul, and only for one.
    """

    def __init__(self, members: int) -> None:
        self.product: Callable[[Any, Any], Any] = np.dot if members == 1 else np.matmul

    def affine(self, x: Array, weight: Array, bias: Array) -> Array:
        y = self.product(x, weight)
        if y.shape != bias.shape and y.ndim == bias.ndim:
            return y + bias
        y += bias
        return y

    def leaky(self, x: Array, slope: float) -> Array:
        return np.maximum(x, x * slope, out=x)

    def average(self, x: Array) -> Array:
        return x.mean(0)

    def take(self, x: Array, index: Array) -> Array:
        return x[..., index]

    def split(self, x: Array, widths: Sequence[int]) -> list[Array]:
        ends = np.cumsum(widths).tolist()
        return [x[..., end - width : end] for end, width in zip(ends, widths, strict=True)]

    def bound(self, x: Array, low: Array, high: Array) -> Array:
        return np.minimum(np.maximum(x, low), high)

    def exceeds(self, x: Array, threshold: float) -> Array:
        return (np.sqrt(np.square(x).sum(-1, keepdims=True)) > threshold).astype(x.dtype)

    def shorten(self, a: Array, base: Array, longest: float, low: Array, high: Array) -> Array:
        shift = a - base
        length = np.sqrt(np.square(shift).sum(-1, keepdims=True))
        if not (length > longest).any():
            return a
        nearer = self.bound(base + shift * (longest / np.maximum(length, 1e-12)), low, high)
        return np.where(length > longest, nearer, a)

    def finite(self, a: Array, base: Array, low: Array, high: Array) -> Array:
        if np.isfinite(a).all():
            return a
        return np.where(np.isfinite(a).all(-1, keepdims=True), a, self.bound(base, low, high))


def as_arrays(folded: Any, convert: Callable[[Array], Any]) -> Any:
    """`folded` with each of its arrays converted."""
    if isinstance(folded, Array):
        return convert(folded)
    if isinstance(folded, list):
        return [as_arrays(item, convert) for item in folded]
    if isinstance(folded, tuple):
        return type(folded)(*(as_arrays(item, convert) for item in folded))
    if isinstance(folded, Folded):
        values = {field.name: getattr(folded, field.name) for field in dataclasses.fields(folded)}
        return Folded(**{name: as_arrays(value, convert) for name, value in values.items()})
    return folded


def check_rows(value: Any, width: int, name: str) -> Array:
    """`value` as float32 rows [..., width].

    Raises:
        InputError: another shape.
    """
    rows = np.asarray(value, np.float32)
    if rows.ndim not in (1, 2) or rows.shape[-1] != width:
        raise InputError(f"{name} are [{width}] or [B, {width}], got shape {rows.shape}.")
    return rows


class NumpyCorrector:
    """A file that `cdsa fit` or `cdsa export --format safetensors` wrote, without torch.

    Args:
        path: The file; of one that is fused with a policy the corrector alone, see `NumpyPolicy`.
        coefficients: None for the file's own.
        seed: Which training seed, counted from 0, or ``mean`` for the mean over all.
        dtype: In which the matrices are multiplied; float64 is a reference.

    Raises:
        InputError: missing or damaged, no such seed or sigma, or a gate where the data's noise was not measured.
    """

    def __init__(
        self,
        path: str | Path,
        coefficients: Coefficients | None = None,
        seed: int | str = 0,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        self.header, source, self.policy = read_corrector(path)
        self.obs_dim, self.action_dim = int(self.header["obs_dim"]), int(self.header["action_dim"])
        self.coefficients = coefficients or Coefficients.from_dict(self.header["coefficients"])
        self.dtype = dtype
        folded = fold(source, self.coefficients, seed)

        def convert(array: Array) -> Array:
            return array if array.dtype.kind == "i" else np.ascontiguousarray(array, dtype)

        self._folded: Folded = as_arrays(folded, convert)
        self._ops = _NumPy(folded.members)

    def correct(self, obs: Any, action: Any) -> Array:
        """The corrected action: Eq. 10, as `Corrector` computes it.

        Args:
            obs: [S] or [B, S].
            action: The policy's, [A] or [B, A].

        Raises:
            InputError: shapes that are not the corrector's.
        """
        rows, base = np.asarray(obs, self.dtype), np.asarray(action, self.dtype)
        if (rows.shape[-1:], base.shape[-1:]) != ((self.obs_dim,), (self.action_dim,)) or rows.ndim > 2:
            check_rows(rows, self.obs_dim, "Observations")
            check_rows(base, self.action_dim, "Actions")
        if rows.shape[:-1] != base.shape[:-1]:
            raise InputError(f"Observations {rows.shape} come with actions {base.shape}: one action a row.")
        if self._folded.members > 1 and rows.ndim == 1:
            return corrected(self._folded, self._ops, rows[None], base[None])[0]
        return corrected(self._folded, self._ops, rows, base)

    __call__ = correct

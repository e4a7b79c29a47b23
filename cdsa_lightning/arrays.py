"""Numbers out of NumPy into torch and back into the form in which they came, never less precise than they were made."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tensor", "like"]


def as_tensor(value: Any) -> Tensor:
    """An array in torch, which itself takes none that runs backwards or whose bytes do; a tensor stays as it is."""
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(np.array(value, value.dtype.newbyteorder("="), order="C"))


def like(value: Tensor, model: Any) -> Any:
    """`value` in the library and on the device of `model`, as precise as the more precise of the two.

    Half precision is not gone back to: rounding an action there would step over a bound.
    """
    if isinstance(model, Tensor):
        both = model.is_floating_point() and value.is_floating_point()
        return value.to(model.device, torch.promote_types(model.dtype, value.dtype) if both else value.dtype)
    array = value.cpu().numpy()
    both = model.dtype.kind == array.dtype.kind == "f"
    return array.astype(np.promote_types(model.dtype, array.dtype)) if both else array

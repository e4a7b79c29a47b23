r"""Multilayer perceptrons out of numbered weight arrays: y = W_n f(... f(W_0 x + b_0) ...) + b_n.

Files of other libraries name the layers of a perceptron ``prefix + number + ".weight"`` ([out, in]) and ``".bias"``
([out]). These functions check such arrays and build the module, so that an importer says only which prefix it reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["ACTIVATIONS", "Layer", "activation", "dense", "linear", "numbered_layers", "require_widths", "stack"]

Layer = tuple[Tensor, Tensor]
"""Weight [out, in] and bias [out]."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
}


def activation(name: object, source: object) -> type[nn.Module]:
    """The activation `name`; `source` is the file that asks for it.

    Raises:
        InputError: there is no such activation.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise unknown_name("hidden activation", str(name), ACTIVATIONS, f"It is asked for by {str(source)!r}.")
    return ACTIVATIONS[name]


def numbered_layers(arrays: Mapping[str, Any], prefix: str, source: object, stride: int = 1) -> list[Layer]:
    """The layers ``prefix + {0, stride, 2 stride, ...}``, in order; an empty list where the prefix does not occur.

    Args:
        arrays: Arrays or tensors by name.
        prefix: All before the number, for instance ``layers.``.
        source: The file they come from, for the errors.
        stride: Distance of the numbers; 2 where activations are counted too.

    Raises:
        InputError: a gap in the numbers, a weight without its bias or the reverse, an entry that is no plain linear
            layer, widths that do not follow from each other, or numbers that are not finite.
    """
    parts: dict[int, dict[str, Tensor]] = {}
    for key in arrays:
        if not key.startswith(prefix):
            continue
        match = re.fullmatch(r"(\d{1,4})\.(weight|bias)", key[len(prefix) :])
        if match is None:
            raise InputError(
                f"{str(source)!r} holds {key!r}, which is not a plain linear layer; only those can be read."
            )
        parts.setdefault(int(match[1]), {})[match[2]] = _tensor(arrays[key], key, source)
    expected = list(range(0, stride * len(parts), stride))
    if sorted(parts) != expected:
        raise InputError(f"{str(source)!r} numbers its layers {prefix}* {sorted(parts)}, expected {expected}.")
    layers = [dense(parts[number], f"{prefix}{number}.", source) for number in expected]
    for number, ((before, _), (after, _)) in enumerate(zip(layers, layers[1:], strict=False)):
        if after.shape[1] != before.shape[0]:
            raise InputError(
                f"{str(source)!r}: layer {number} of {prefix}* has {before.shape[0]} outputs, "
                f"the next one {after.shape[1]} inputs."
            )
    return layers


def dense(parts: Mapping[str, Any], name: str, source: object) -> Layer:
    """One layer out of its ``weight`` [out, in] and ``bias`` [out].

    Raises:
        InputError: one of them is missing, has the wrong shape or holds a number that is not finite.
    """
    for part in ("weight", "bias"):
        if part not in parts:
            raise InputError(f"{str(source)!r} has no {name + part!r}.")
    weight, bias = (_tensor(parts[part], name + part, source) for part in ("weight", "bias"))
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise InputError(
            f"{str(source)!r}: {name}weight has shape {tuple(weight.shape)} and {name}bias {tuple(bias.shape)}, "
            "expected [out, in] and [out]."
        )
    return weight, bias


def linear(layer: Layer) -> nn.Linear:
    """A frozen linear module with the numbers of `layer`."""
    weight, bias = layer
    module = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    module.load_state_dict({"weight": weight, "bias": bias})
    return module.requires_grad_(False)


def stack(layers: Sequence[Layer], hidden: type[nn.Module]) -> list[nn.Module]:
    """The modules of a perceptron: linear layers with an activation between each two."""
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [linear(layer), hidden()]
    return modules[:-1]


def require_widths(source: object, obs_dim: int, action_dim: int, task: Any) -> None:
    """Check the ends of a network against a task.

    Args:
        source: The file of the network.
        obs_dim: Entries it takes, S.
        action_dim: Entries it gives, A.
        task: Anything with `name`, `obs_dim` and `action_dim`.

    Raises:
        InputError: it was made for other dimensions.
    """
    if (obs_dim, action_dim) != (task.obs_dim, task.action_dim):
        raise InputError(
            f"{str(source)!r} was made for S={obs_dim} observation and A={action_dim} action entries, "
            f"task {task.name!r} has {task.obs_dim} and {task.action_dim}."
        )


def _tensor(array: Any, name: str, source: object) -> Tensor:
    if isinstance(array, np.ndarray) and array.dtype.kind not in "fiu":
        raise InputError(f"{str(source)!r}: {name} holds {array.dtype} entries, expected numbers.")
    if not isinstance(array, np.ndarray | Tensor):
        raise InputError(f"{str(source)!r}: {name} is a {type(array).__name__}, expected an array of numbers.")
    tensor = torch.as_tensor(array).to("cpu", torch.float32)
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        raise InputError(f"{str(source)!r}: {bad} of {tensor.numel()} numbers of {name} are NaN or infinite.")
    return tensor

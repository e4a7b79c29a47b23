r"""What a d3rlpy configuration means: networks out of encoder factories, and scalers.

    phi        per hidden layer: linear, activation, batch norm, layer norm, dropout, numbered in ``_encoder._layers``
    standard   u = (x - mean) / (std + eps)
    min_max    u = 2 (x - min) / (max - min) - 1

In eval() dropout is the identity and batch norm the affine map of its running statistics, and as such it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cdsa_baselines._layers import dense, linear
from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["Affine", "Network", "action_span", "member", "observation_scaling", "read_network", "typed"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "none": nn.Identity,
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}
OPTIONS: dict[str, tuple[Any, tuple[type, ...]]] = {
    "hidden_units": ([256, 256], (list,)),
    "activation": ("relu", (str,)),
    "use_batch_norm": (False, (bool,)),
    "use_layer_norm": (False, (bool,)),
    "dropout_rate": (None, (type(None), int, float)),
    "exclude_last_activation": (False, (bool,)),
    "last_activation": (None, (type(None), str)),
}
"""Option of an encoder factory -> the library's default and the types it may have."""

EPS = 1e-5  # of batch norm and layer norm, which d3rlpy leaves at PyTorch's default
LARGEST = 1e30  # statistics beyond overflow float32


class Network(NamedTuple):
    """The modules of an actor up to tanh, its widths from observation to action, and its activation in words."""

    modules: list[nn.Module]
    sizes: list[int]
    activation: str


class Affine(nn.Module):
    """scale * x + shift, entry by entry.

    Args:
        scale, shift: One number per entry, [D].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: np.ndarray, shift: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def member(config: Mapping[str, Any], name: str, kinds: tuple[type, ...], source: str) -> Any:
    """The entry `name` of a configuration, which has one of the types `kinds`.

    Raises:
        InputError: it is missing, or something else.
    """
    value = config.get(name)
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        found = f"got {str(value)[:60]!r}" if name in config else f"it has {sorted(config)[:12]}"
        raise InputError(f"{source}: {name!r} must be a {wanted}, {found}.")
    return value


def typed(config: Mapping[str, Any], name: str, source: str) -> tuple[str, dict[str, Any]]:
    """The entry ``name: {"type": ..., "params": {...}}``, as d3rlpy writes down all its parts.

    Raises:
        InputError: it is missing or has another form.
    """
    part = member(config, name, (dict,), source)
    return member(part, "type", (str,), source), member(part, "params", (dict,), source)


def read_network(
    state: Mapping[str, Any], encoder: tuple[str, dict[str, Any]], last: str, ends: tuple[int, int], source: str
) -> Network:
    """The actor whose arrays are in `state`.

    Args:
        state: The state dict of the actor.
        encoder: Type and parameters of its encoder factory.
        last: Name of its last layer.
        ends: S, entries of an observation, and A, entries of an action, as the configuration has them.
        source: Where all this comes from, for the errors.

    Raises:
        InputError: an encoder that is no plain perceptron, or arrays that are damaged or not those it asks for.
    """
    options = _encoder_options(*encoder, source)
    arrays = {name: _solid(value, name, source) for name, value in state.items()}
    modules: list[nn.Module] = []
    sizes, place = [ends[0]], 0
    for number, width in enumerate(options["hidden_units"]):
        ends_here = number == len(options["hidden_units"]) - 1
        modules.append(linear(_take(arrays, f"_encoder._layers.{place}.", (width, sizes[-1]), source)))
        place += 1
        if not (ends_here and options["exclude_last_activation"]):
            name = (options["last_activation"] if ends_here else None) or options["activation"]
            modules.append(ACTIVATIONS[name]())
            place += 1
        if options["use_batch_norm"]:
            modules.append(_batch_norm(arrays, f"_encoder._layers.{place}.", width, source))
            place += 1
        if options["use_layer_norm"]:
            modules.append(_layer_norm(arrays, f"_encoder._layers.{place}.", width, source))
            place += 1
        place += options["dropout_rate"] is not None
        sizes.append(width)
    modules.append(linear(_take(arrays, f"{last}.", (ends[1], sizes[-1]), source)))
    left = sorted(name for name in arrays if name.split(".")[0] != "_logstd")
    if left:
        raise InputError(f"{source}: the actor holds {left[:4]} beyond what its configuration asks for.")
    words = [options["activation"], *(name.removeprefix("use_") for name in OPTIONS if options[name] is True)]
    return Network(modules, [*sizes, ends[1]], ", ".join(words).replace("_", " "))


def _encoder_options(kind: str, params: dict[str, Any], source: str) -> dict[str, Any]:
    """All options of an encoder factory, defaults filled in."""
    if kind not in ("default", "vector"):
        what = "images" if kind == "pixel" else "an encoder of its own kind"
        raise InputError(
            f"{source}: the actor reads {what} (encoder factory {kind!r}); only 'default' and 'vector' can be read."
        )
    options = {name: params.get(name, default) for name, (default, _) in OPTIONS.items()}
    wrong = sorted(set(params) - set(OPTIONS))
    wrong += [name for name, (_, kinds) in OPTIONS.items() if type(options[name]) not in kinds]
    units = options["hidden_units"]
    if wrong or not units or not all(type(width) is int and width > 0 for width in units):
        name = wrong[0] if wrong else "hidden_units"
        raise InputError(
            f"{source}: {name}={params.get(name)!r} of encoder factory {kind!r} cannot be read; known are "
            f"{', '.join(OPTIONS)}, as d3rlpy writes them."
        )
    for name in (options["activation"], options["last_activation"]):
        if name is not None and name not in ACTIVATIONS:
            raise unknown_name("activation", name, ACTIVATIONS, f"It is asked for by {source}.")
    return options


def _solid(value: Any, name: str, source: str) -> Tensor:
    """An array that lies in the file number by number: a hostile one may stand for far more than it stores."""
    if (
        not isinstance(value, Tensor)
        or value.layout != torch.strided
        or value.device.type != "cpu"
        or value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
        or value.numel() * value.element_size() > value.untyped_storage().nbytes()
    ):
        raise InputError(f"{source}: {name!r} of the actor is no plain array of numbers.")
    return value


def _take(arrays: dict[str, Tensor], name: str, shape: tuple[int, int], source: str) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of a linear layer, removed from `arrays`."""
    parts = {part: arrays.pop(name + part) for part in ("weight", "bias") if name + part in arrays}
    weight, bias = dense(parts, name, source)
    if tuple(weight.shape) != shape:
        raise InputError(
            f"{source}: {name}weight has shape {tuple(weight.shape)}, its configuration asks for {shape}. "
            "Do weights and configuration come from one run?"
        )
    return weight, bias


def _vectors(arrays: dict[str, Tensor], name: str, parts: tuple[str, ...], width: int, source: str) -> list[np.ndarray]:
    """The vectors ``name + part``, each [width], removed from `arrays`."""
    found = []
    for part in parts:
        vector = arrays.pop(name + part, None)
        if vector is None or tuple(vector.shape) != (width,) or not bool(vector.isfinite().all()):
            raise InputError(f"{source}: {name + part} of the actor must hold {width} finite numbers.")
        found.append(vector.double().numpy())
    return found


def _batch_norm(arrays: dict[str, Tensor], name: str, width: int, source: str) -> Affine:
    arrays.pop(f"{name}num_batches_tracked", None)
    parts = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = _vectors(arrays, name, parts, width, source)
    if (var < 0).any():
        raise InputError(f"{source}: {name}running_var holds negative numbers.")
    scale = weight / np.sqrt(var + EPS)
    return Affine(scale, bias - mean * scale)


def _layer_norm(arrays: dict[str, Tensor], name: str, width: int, source: str) -> nn.LayerNorm:
    weight, bias = _vectors(arrays, name, ("weight", "bias"), width, source)
    module = nn.LayerNorm(width, eps=EPS)
    module.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return module.requires_grad_(False)


def observation_scaling(config: Mapping[str, Any], obs_dim: int, source: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Mean [S] and divisor [S] of the observation scaler, and what they are, in words (empty: there is none).

    Raises:
        InputError: a scaler of another kind, or its statistics are missing or cannot be divided by.
    """
    kind, params = typed(config, "observation_scaler", source)
    if kind == "none":
        return np.zeros(obs_dim), np.ones(obs_dim), ""
    if kind == "standard":
        mean, std = (_numbers(params, name, obs_dim, kind, source) for name in ("mean", "std"))
        std = std + _numbers({"eps": [params.get("eps", 1e-3)]}, "eps", 1, kind, source)
        if not (std > 0).all():
            raise InputError(f"{source}: std + eps of the observation scaler must be positive in every entry.")
        return mean, std, "mean and std"
    if kind == "min_max":
        low, high = _extremes(params, obs_dim, "observation", source)
        return (low + high) / 2, (high - low) / 2, "minimum and maximum"
    if kind in ("pixel", "tuple"):
        what = "images" if kind == "pixel" else "tuples of arrays"
        raise InputError(f"{source}: observations are {what} (scaler {kind!r}); only flat ones can be read.")
    raise unknown_name("observation scaler", kind, ("min_max", "none", "standard"), f"It is asked for by {source}.")


def action_span(config: Mapping[str, Any], action_dim: int, source: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Minimum [A] and maximum [A] of the action scaler, environment units; None where there is none.

    Raises:
        InputError: a scaler of another kind, or its numbers are missing or no range.
    """
    kind, params = typed(config, "action_scaler", source)
    if kind == "none":
        return None
    if kind != "min_max":
        raise unknown_name("action scaler", kind, ("min_max", "none"), f"It is asked for by {source}.")
    return _extremes(params, action_dim, "action", source)


def _extremes(params: Mapping[str, Any], size: int, what: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    low, high = (_numbers(params, name, size, "min_max", source) for name in ("minimum", "maximum"))
    if not (low < high).all():
        raise InputError(f"{source}: minimum of the {what} scaler must be below maximum in every entry.")
    return low, high


def _numbers(params: Mapping[str, Any], name: str, size: int, kind: str, source: str) -> np.ndarray:
    values = params.get(name)
    if values is None:
        raise InputError(f"{source}: scaler {kind!r} was never fitted, its statistics are missing: no {name!r}.")
    numeric = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numeric or len(values) != size or not all(abs(value) < LARGEST for value in values):
        raise InputError(f"{source}: {name!r} of scaler {kind!r} must hold {size} finite numbers.")
    return np.array(values, dtype=np.float64)

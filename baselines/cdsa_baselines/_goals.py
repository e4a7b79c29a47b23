"""POR's behaviour goal networks as their authors publish them: state dicts of a Gaussian over the next state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdsa_baselines._layers import Layer, numbered_layers
from cdsa_baselines._nets import GaussianActor
from cdsa_baselines.foreign._zip import read_bytes, read_state_dict
from cdsa_lightning.errors import InputError

__all__ = ["take_goal_network"]


def take_goal_network(path: Path, network: GaussianActor) -> None:
    """Copy a published goal network into every seed of `network`; nothing in the file can execute.

    Args:
        path: A state dict: ``log_std`` [S] and ``net.0.weight``, ``net.0.bias``, ``net.2.weight``, ...
        network: Receives its numbers, and must have its widths.

    Raises:
        InputError: no such file, damaged, something else, or of other widths.
    """
    stacked: Any = network.net.layers
    weights = [layer.weight for layer in stacked]
    layers, log_std = _read(path, (weights[0].shape[1], *(weight.shape[2] for weight in weights)))
    with torch.no_grad():
        for own, (weight, bias) in zip(stacked, layers, strict=True):
            own.weight[:], own.bias[:] = weight.T, bias
        network.log_std[:] = log_std


def _read(path: Path, widths: tuple[int, ...]) -> tuple[list[Layer], Tensor]:
    if not path.is_file():
        raise InputError(f"There is no behaviour goal network {str(path)!r}; leave behavior_goal out to train one.")
    state = read_state_dict(read_bytes(path), f"The behaviour goal network {str(path)!r}")
    log_std = state.pop("log_std", None)
    if log_std is None or "net.0.weight" not in state:
        keys = ", ".join(sorted(state)[:6]) or "nothing else"
        raise InputError(
            f"{str(path)!r} is no goal network of POR's authors (log_std, net.0.weight, ...): it holds {keys}."
        )
    layers = numbered_layers(state, "net.", path, stride=2)
    found = (layers[0][0].shape[1], *(len(bias) for _, bias in layers))
    if found != widths or log_std.shape != widths[-1:]:
        raise InputError(
            f"{str(path)!r} has the widths {' - '.join(map(str, found))} and {log_std.numel()} deviations, expected "
            f"{' - '.join(map(str, widths))} and {widths[-1]}: it was made for another task, or `hidden` differs."
        )
    if not bool(log_std.isfinite().all()):
        raise InputError(f"{str(path)!r}: log_std holds numbers that are not finite.")
    return layers, log_std

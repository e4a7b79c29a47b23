r"""A plain perceptron from a file: a = clip(out(W_n f(... f(W_0 u + b_0) ...) + b_n)),  u = (obs - mean) / (std + eps).

Two files with one stem. ``clone.npz`` (or ``clone.safetensors``) holds the arrays

    layers.{i}.weight [out, in]   layers.{i}.bias [out]   obs_mean [S]   obs_std [S]

and ``clone.json`` says how to read them:

    {"network": {"type": "mlp", "sizes": [11, 256, 256, 3], "hidden_activation": "relu", "output": "tanh"},
     "obs_normalisation": {"eps_added_to_std": 0.001}}

``output`` is ``tanh`` or ``linear``, in environment units either way; with ``"scale_to_bounds": true`` in ``network``
the outputs in [-1, 1] span the action bounds instead. ``obs_normalisation`` is null where the network takes raw
observations. Other arrays (``log_std``) and other keys of the sidecar are provenance. `save_mlp` writes such a pair.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import nn

from cdsa_baselines._files import checkpoint_file, read_json, read_npz
from cdsa_baselines._layers import Layer, activation, numbered_layers, require_widths, stack
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import regular_file

__all__ = ["inspect", "load", "save_mlp"]

SUFFIXES = (".npz", ".safetensors")
OUTPUTS: dict[str, list[type[nn.Module]]] = {"tanh": [nn.Tanh], "linear": []}
PROVENANCE = ("algorithm", "name", "trained_on")
"""Entries of a sidecar that `inspect` tells where they are there."""


class _Perceptron(NamedTuple):
    """A file and its sidecar, read and checked."""

    layers: list[Layer]
    sizes: list[int]
    network: dict[str, Any]
    mean: np.ndarray
    std: np.ndarray
    sidecar: dict[str, Any]


def load(checkpoint: Path | None, task: Task) -> Policy:
    """The perceptron in `checkpoint` as a policy of `task`.

    Args:
        checkpoint: An ``.npz`` or ``.safetensors`` file with its JSON sidecar beside it.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: the file or its sidecar is missing, damaged, incomplete, or made for other dimensions.
    """
    path = checkpoint_file("mlp", checkpoint, SUFFIXES)
    found = _read(path)
    require_widths(path, found.sizes[0], found.sizes[-1], task)
    hidden = activation(found.network["hidden_activation"], path)
    net = nn.Sequential(*stack(found.layers, hidden), *(make() for make in OUTPUTS[found.network["output"]]))
    unit_output = bool(found.network.get("scale_to_bounds"))
    return NormalizedPolicy(net, task.low, task.high, found.mean, found.std, unit_output=unit_output)


def inspect(path: Path) -> Inspection | None:
    """What the perceptron in `path` is; None where the file is something else.

    Raises:
        InputError: it is a perceptron of this form, but without its sidecar, damaged or incomplete.
    """
    if not _is_ours(path):
        return None
    found = _read(path)
    network, about = found.network, found.sidecar
    reach = "spans the action bounds" if network.get("scale_to_bounds") else "in environment units"
    form = f"{' - '.join(map(str, found.sizes))}, {network['hidden_activation']}, {network['output']} output {reach}"
    told = {key.replace("_", " "): str(about[key]) for key in PROVENANCE if isinstance(about.get(key), str)}
    return Inspection(
        format=f"perceptron in {path.suffix} with a JSON sidecar",
        algorithm=told.pop("algorithm", "not told by the file"),
        obs_dim=found.sizes[0],
        action_dim=found.sizes[-1],
        statistics="none: raw observations"
        if about["obs_normalisation"] is None
        else f"mean and std of {found.sizes[0]} entries, inside the file",
        details={"network": form, **told},
    )


def save_mlp(
    path: Path | str,
    layers: Sequence[tuple[Any, Any]],
    *,
    hidden_activation: str = "relu",
    output: str = "tanh",
    obs_mean: Any = None,
    obs_std: Any = None,
    eps_added_to_std: float = 0.0,
    scale_to_bounds: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Write a perceptron and its sidecar, in the form that `load` reads.

    Args:
        path: Ends in ``.npz`` or ``.safetensors``; the sidecar gets the same stem and ``.json``.
        layers: (weight [out, in], bias [out]) of each layer, arrays or tensors.
        hidden_activation: Between the layers, a key of `cdsa_baselines._layers.ACTIVATIONS`.
        output: ``tanh`` or ``linear``.
        obs_mean, obs_std: Statistics of each observation entry, [S]; both None where the network takes raw ones.
        eps_added_to_std: Added to `obs_std` before the division.
        scale_to_bounds: True where outputs in [-1, 1] span the action bounds.
        info: Provenance for the sidecar: plain JSON values.

    Returns:
        `path`.

    Raises:
        InputError: the suffix, activation or output is unknown, or only one of the statistics is given.
    """
    path = Path(path)
    activation(hidden_activation, "save_mlp")
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    if path.suffix not in SUFFIXES:
        raise InputError(f"A perceptron is written to {' or '.join(SUFFIXES)}, got {str(path)!r}.")
    if not layers:
        raise InputError("A perceptron needs at least one layer: (weight [out, in], bias [out]).")
    if (obs_mean is None) != (obs_std is None):
        raise InputError("obs_mean and obs_std belong together: give both or neither.")
    arrays: dict[str, Any] = {}
    for number, (weight, bias) in enumerate(layers):
        arrays[f"layers.{number}.weight"] = _plain(weight)
        arrays[f"layers.{number}.bias"] = _plain(bias)
    network = {
        "type": "mlp",
        "sizes": [arrays["layers.0.weight"].shape[1], *(len(bias) for _, bias in layers)],
        "hidden_activation": hidden_activation,
        "output": output,
        "scale_to_bounds": scale_to_bounds,
    }
    sidecar: dict[str, Any] = {**(info or {}), "network": network, "obs_normalisation": None}
    if obs_mean is not None:
        arrays |= {"obs_mean": _plain(obs_mean), "obs_std": _plain(obs_std)}
        sidecar["obs_normalisation"] = {"kind": "(obs-mean)/(std+eps)", "eps_added_to_std": eps_added_to_std}
    path.with_suffix(".json").write_text(json.dumps(sidecar, indent=1), encoding="utf-8")
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        safetensors.numpy.save_file(arrays, path)
    return path


def _plain(array: Any) -> np.ndarray:
    tensor = torch.as_tensor(array).detach().cpu()
    return np.ascontiguousarray(tensor.to(torch.float32).numpy())


def _is_ours(path: Path) -> bool:
    """Whether `path` holds numbered layers, or has a sidecar that says so of a file too damaged to tell."""
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    try:
        if path.suffix == ".npz":
            with regular_file(path) as file, zipfile.ZipFile(file) as archive:
                return "layers.0.weight.npy" in archive.namelist()
        with safetensors.safe_open(path, framework="numpy") as file:
            return "layers.0.weight" in file.keys()  # noqa: SIM118, it is no mapping
    except Exception:  # A damaged or hostile file can make the parsers raise anything.
        return _has_network(path.with_suffix(".json"))


def _has_network(sidecar: Path) -> bool:
    try:
        return sidecar.is_file() and "network" in read_json(sidecar)
    except InputError:
        return False


def _read(path: Path) -> _Perceptron:
    """The file and its sidecar, checked against each other."""
    sidecar = _sidecar(path)
    network = sidecar["network"]
    arrays = _arrays(path)
    layers = numbered_layers(arrays, "layers.", path)
    if not layers:
        raise InputError(f"{str(path)!r} has no 'layers.0.weight'; it holds: {', '.join(sorted(arrays)) or 'nothing'}.")
    sizes = [layers[0][0].shape[1], *(weight.shape[0] for weight, _ in layers)]
    if network.get("sizes", sizes) != sizes:
        raise InputError(f"{str(path)!r} holds layers of sizes {sizes}, its sidecar says {network['sizes']}.")
    activation(network.get("hidden_activation"), path.with_suffix(".json"))
    output = network.get("output")
    if not isinstance(output, str) or output not in OUTPUTS:
        raise unknown_name("output", str(output), OUTPUTS, f"It is asked for by {str(path.with_suffix('.json'))!r}.")
    mean, std = _statistics(arrays, sidecar["obs_normalisation"], path, sizes[0])
    return _Perceptron(layers, sizes, network, mean, std, sidecar)


def _sidecar(path: Path) -> dict[str, Any]:
    """The JSON beside `path`, its sections `network` and `obs_normalisation` (null where there is none) checked."""
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        raise InputError(
            f"{str(path)!r} needs {sidecar.name!r} beside it, which says how to read it (hidden_activation, output, "
            "normalisation). `cdsa_baselines.mlp.save_mlp` writes both."
        )
    values = read_json(sidecar)
    network, normalisation = values.get("network"), values.get("obs_normalisation")
    if not isinstance(network, dict) or network.get("type", "mlp") != "mlp":
        raise InputError(f"{str(sidecar)!r} needs a section 'network' of type 'mlp', got {network!r}.")
    if network.get("time_feature_appended"):
        raise InputError(f"{str(sidecar)!r}: the network sees the time besides the observation; a policy cannot.")
    if normalisation is not None:
        known = {"kind", "eps_added_to_std"}
        if not isinstance(normalisation, dict) or not set(normalisation) <= known:
            raise InputError(
                f"{str(sidecar)!r}: 'obs_normalisation' is null or holds {sorted(known)}, got {normalisation}."
            )
    return {**values, "obs_normalisation": normalisation}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        return read_npz(path)
    try:
        with regular_file(path):
            return safetensors.numpy.load_file(path)
    except Exception as error:  # The parser's own error class, OSError, or a data type that NumPy lacks.
        raise InputError(f"{str(path)!r} cannot be read as safetensors: {error}. Write it anew.") from error


def _statistics(
    arrays: Mapping[str, np.ndarray], normalisation: dict[str, Any] | None, path: Path, obs_dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is taken from an observation and what it is divided by, [S] each."""
    if normalisation is None:
        return np.zeros(obs_dim, np.float32), np.ones(obs_dim, np.float32)
    for name in ("obs_mean", "obs_std"):
        if name not in arrays:
            raise InputError(f"{str(path)!r} has no {name!r}, which its sidecar's 'obs_normalisation' needs.")
        if arrays[name].shape != (obs_dim,) or arrays[name].dtype.kind not in "fiu":
            raise InputError(
                f"{str(path)!r}: {name} is {arrays[name].dtype} {arrays[name].shape}, expected ({obs_dim},)."
            )
        if not np.isfinite(arrays[name]).all():
            raise InputError(f"{str(path)!r}: {name} holds NaN or infinite numbers.")
    eps = normalisation.get("eps_added_to_std", 0.0)
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < float("inf"):
        raise InputError(f"{str(path.with_suffix('.json'))!r}: eps_added_to_std must be a number >= 0, got {eps!r}.")
    return arrays["obs_mean"], arrays["obs_std"] + np.float32(eps)

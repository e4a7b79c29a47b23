r"""Observation statistics of Stable-Baselines3's `VecNormalize`.

    u = clip((obs - mean) / sqrt(var + epsilon), +-clip_obs)

The library keeps them in a pickle, which is never opened; they are read from what the user exported beside the agent,
``agent.vecnormalize.npz`` or ``agent.vecnormalize.json``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_baselines._files import read_json, read_npz
from cdsa_lightning.errors import InputError

__all__ = ["read_statistics"]


def read_statistics(path: Path, names: list[str], obs_dim: int) -> tuple[np.ndarray, np.ndarray, float, str]:
    """What is done to the observations of the agent in `path`.

    Args:
        path: Its zip.
        names: The members of the zip.
        obs_dim: S.

    Returns:
        Mean [S], divisor [S], clip, and the file they come from; those of raw observations and "" where there is none.

    Raises:
        InputError: the statistics are damaged, made for other observations, or exist only as a pickle.
    """
    values: dict[str, Any] | None = None
    for suffix, read in ((".vecnormalize.npz", read_npz), (".vecnormalize.json", read_json)):
        sidecar = path.with_suffix(suffix)
        if values is None and sidecar.is_file():
            values, source = read(sidecar), sidecar
    if values is None:
        _refuse_pickled_statistics(path, names)
        return np.zeros(obs_dim, np.float32), np.ones(obs_dim, np.float32), math.inf, ""
    spread = "obs_var" if "obs_var" in values else "obs_std"
    mean = _numbers(values, "obs_mean", (obs_dim,), source)
    var = _numbers(values, spread, (obs_dim,), source)
    clip_obs = float(_numbers({"clip_obs": 10.0, **values}, "clip_obs", (), source))
    epsilon = float(_numbers({"epsilon": 1e-8, **values}, "epsilon", (), source))
    square = (var if spread == "obs_var" else var**2) + epsilon
    if not (np.isfinite(square).all() and (square > 0).all() and clip_obs > 0):
        raise InputError(f"{str(source)!r}: {spread} + epsilon and clip_obs must be positive.")
    return mean, np.sqrt(square), clip_obs, source.name


def _numbers(values: Mapping[str, Any], name: str, shape: tuple[int, ...], source: Path) -> np.ndarray:
    if name not in values:
        raise InputError(
            f"{str(source)!r} has no {name!r}; it needs obs_mean and obs_var (or obs_std), got {sorted(values)}."
        )
    try:
        array = np.asarray(values[name], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{str(source)!r}: {name} is not numeric ({error}).") from error
    if array.shape != shape or np.isnan(array).any():
        raise InputError(f"{str(source)!r}: {name} must hold numbers of shape {shape}, got {array.shape}.")
    return array


def _refuse_pickled_statistics(path: Path, names: list[str]) -> None:
    """Without its statistics the policy would act blindly, and a pickle may run any code: the user exports them."""
    beside = [*path.parent.glob("*normalize*.pkl"), *(path.parent / path.stem).glob("*normalize*.pkl")]
    found = [str(file) for file in sorted(beside)] + [f"{path.name}:{name}" for name in names if name.endswith(".pkl")]
    if found:
        raise InputError(
            f"{found[0]!r} holds observation statistics as a pickle, which is never opened. Export them once:\n"
            "    stats = VecNormalize.load(PICKLE, venv)\n"
            f"    np.savez({str(path.with_suffix('.vecnormalize.npz'))!r}, obs_mean=stats.obs_rms.mean,\n"
            "             obs_var=stats.obs_rms.var, clip_obs=stats.clip_obs, epsilon=stats.epsilon)\n"
            "If this policy was trained without them, move that pickle elsewhere."
        )

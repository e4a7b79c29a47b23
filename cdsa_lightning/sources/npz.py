"""`npz:<path>`: arrays saved by numpy, one row per transition in time order.

Keys: obs (or observations), actions, rewards, terminals (or terminated); next_obs (or next_observations), timeouts (or
truncated) and episode where they are known. Pickled objects are never loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources.transitions import Transitions, from_rows
from cdsa_lightning.untrusted import read_npz, regular_file

__all__ = ["load", "locate", "named_rows"]

_KEYS = {
    "obs": ("obs", "observations"),
    "action": ("actions", "action"),
    "reward": ("rewards", "reward"),
    "terminated": ("terminals", "terminated", "terminations"),
    "next_obs": ("next_obs", "next_observations"),
    "timeout": ("timeouts", "truncated", "truncations"),
    "episode": ("episode", "episodes"),
}
_REQUIRED = ("obs", "action", "reward", "terminated")


def locate(name: str) -> Path | None:
    """The file, where it exists."""
    path = Path(name).expanduser()
    return path if path.is_file() else None


def load(name: str) -> Transitions:
    """The transitions in an .npz file.

    Raises:
        InputError: the file is missing, is not an .npz file, lacks a key, or its arrays do not fit together.
    """
    path = locate(name)
    if path is None:
        raise InputError(f"There is no file {name!r}. Expected an .npz file with the keys {_describe_keys()}.")
    try:
        with regular_file(path) as file:
            bare = file.read(6) == b"\x93NUMPY"
        arrays = {} if bare else read_npz(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name} cannot be read as an .npz file ({error}). It may be truncated or hold objects."
        ) from error
    if bare:
        raise InputError(f"{name} holds one bare array. Save the arrays by name with numpy.savez.")
    return from_rows(**named_rows(arrays, name), source=f"npz:{name}", provenance="npz")


def named_rows(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """What `from_rows` takes, out of arrays under any of the names that the schemes know.

    Args:
        arrays: By name, one row per transition in time order.
        name: How an error calls them.

    Raises:
        InputError: one is missing, or holds no numbers.
    """
    found = {}
    for field, keys in _KEYS.items():
        key = next((key for key in keys if key in arrays), None)
        if key is not None:
            found[field] = np.asarray(arrays[key])
        elif field in _REQUIRED:
            there = ", ".join(arrays) or "nothing"
            raise InputError(f"{name} has no {' or '.join(keys)}. Found: {there}. Expected: {_describe_keys()}.")
    for field, array in found.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name}: {field} holds {array.dtype}, not numbers.")
    return found


def _describe_keys() -> str:
    return ", ".join("/".join(keys) + ("" if field in _REQUIRED else " (optional)") for field, keys in _KEYS.items())

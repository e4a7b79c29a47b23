"""`npz:<path>`: arrays saved by numpy, one row per transition in time order.

Keys: obs (or observations), actions, rewards, terminals (or terminated); next_obs (or next_observations), timeouts (or
truncated) and episode where they are known. Pickled objects are never loaded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TypeVar
from zipfile import ZipFile

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources.rows import Column, fill_rows
from cdsa_lightning.sources.transitions import Filled, Room, Transitions, loaded
from cdsa_lightning.untrusted import read_header, regular_file, require_modest

__all__ = ["fill", "load", "locate", "named_rows"]

Array = TypeVar("Array", np.ndarray, Column)

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
    return loaded(lambda room: fill(name, room))


def fill(name: str, room: Room) -> Filled:
    """Read the transitions in an .npz file into `room`, block after block; the numbers are left unchecked.

    Raises:
        InputError: as `load`.
    """
    path = locate(name)
    if path is None:
        raise InputError(f"There is no file {name!r}. Expected an .npz file with the keys {_describe_keys()}.")
    try:
        with regular_file(path) as file:
            bare = file.read(6) == b"\x93NUMPY"
            lengths = np.empty(0, np.int64) if bare else _fill(file, name, room)
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile file can make the parsers raise anything
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{name} cannot be read as an .npz file ({reason}). It may be truncated or hold objects."
        ) from error
    if bare:
        raise InputError(f"{name} holds one bare array. Save the arrays by name with numpy.savez.")
    return Filled(lengths, f"npz:{name}", "npz", {})


def _fill(file: IO[bytes], name: str, room: Room) -> np.ndarray:
    known = {key for keys in _KEYS.values() for key in keys}
    with ZipFile(file) as archive, ExitStack() as members:
        require_modest(archive, os.fstat(file.fileno()).st_size)
        columns = {}
        for entry in archive.infolist():
            key = entry.filename.removesuffix(".npy")
            if key in known:
                columns[key] = _column(members.enter_context(archive.open(entry)), entry.file_size)
        return fill_rows(named_rows(columns, name), room, f"npz:{name}")


def named_rows(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    """What `from_rows` takes, out of arrays under any of the names that the schemes know.

    Args:
        arrays: By name, one row per transition in time order; arrays or columns.
        name: How an error calls them.

    Raises:
        InputError: one is missing, or holds no numbers.
    """
    found = {}
    for field, keys in _KEYS.items():
        key = next((key for key in keys if key in arrays), None)
        if key is not None:
            found[field] = arrays[key]
        elif field in _REQUIRED:
            there = ", ".join(arrays) or "nothing"
            raise InputError(f"{name}: no {' or '.join(keys)} among {there}. Expected: {_describe_keys()}.")
    for field, array in found.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name}: {field} holds {array.dtype}, not numbers.")
    return found


def _describe_keys() -> str:
    return ", ".join("/".join(keys) + ("" if field in _REQUIRED else " (optional)") for field, keys in _KEYS.items())


def _column(file: IO[bytes], size: int) -> Column:
    """The ``.npy`` array of `size` bytes in `file`, read from there as it is asked for.

    Raises:
        ValueError: it announces pickled objects, or more than there is.
    """
    shape, columns, dtype = read_header(file, size)
    if columns and len(shape) > 1:  # no row lies together: held whole
        whole = np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape, order="F")
        return Column(shape, dtype, lambda low, high: whole[low:high])

    def take(low: int, high: int) -> np.ndarray:
        count = (high - low) * math.prod(shape[1:])
        return np.frombuffer(file.read(count * dtype.itemsize), dtype).reshape(high - low, *shape[1:])

    return Column(shape, dtype, take)

"""Reading files that strangers made: sizes are checked before anything is unpacked, and nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning import untrusted
from cdsa_lightning.errors import InputError

__all__ = ["LIMIT", "checkpoint_file", "read_json", "read_npz"]

LIMIT = 1 << 30
"""Bytes that a file may have. Policies are a few MB; more is a mistake or an attack."""


def checkpoint_file(baseline: str, checkpoint: Path | None, suffixes: tuple[str, ...]) -> Path:
    """`checkpoint` as a file with one of `suffixes`.

    Raises:
        InputError: there is none, it is not a file, or it ends otherwise.
    """
    kinds = " or ".join(suffixes)
    if checkpoint is None:
        raise InputError(f"Baseline {baseline!r} is restored from a {kinds} file: name it with --checkpoint PATH.")
    if checkpoint.suffix not in suffixes or not checkpoint.is_file():
        raise InputError(f"Baseline {baseline!r} is restored from a {kinds} file, got {str(checkpoint)!r}.")
    return checkpoint


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file by name.

    Raises:
        InputError: it is no ``.npz``, damaged, too large, or holds pickled objects.
    """
    try:
        return untrusted.read_npz(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as plain .npz arrays: {error}. Write it anew.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: it is not JSON, or not an object.
    """
    try:
        value = untrusted.read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{str(path)!r} holds a JSON {type(value).__name__}, expected an object {{...}}.")
    return value

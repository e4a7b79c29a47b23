"""What strangers saved, read as data: archives and what ``torch.save`` wrote; sizes checked, no pickle, no code."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from cdsa_baselines import _files
from cdsa_lightning.errors import InputError
from cdsa_lightning.torch_files import Foreign, instructions, read_torch_file
from cdsa_lightning.untrusted import regular_file, require_modest

__all__ = ["holds_members", "pickled_strings", "read_bytes", "read_members", "read_state_dict", "read_torch"]


def holds_members(path: Path, wanted: Iterable[str]) -> bool:
    """Whether `path` is a zip archive with the members `wanted`; of its content nothing is read."""
    try:
        with regular_file(path) as file, zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    return names.issuperset(wanted)


def read_members(path: Path, wanted: Iterable[str], kind: str) -> tuple[dict[str, bytes], list[str]]:
    """The bytes of the members `wanted`, and the names of all members.

    Args:
        path: The archive.
        wanted: Members that must be there.
        kind: What the archive should be, for the errors.

    Raises:
        InputError: not a zip archive, damaged, too large, encrypted, or a member is missing.
    """
    try:
        with regular_file(path) as file, zipfile.ZipFile(file) as archive:
            require_modest(archive, os.path.getsize(path))
            names = archive.namelist()
            missing = [name for name in wanted if name not in names]
            if missing:
                raise InputError(f"{str(path)!r} is not {kind}: it has no {missing}, only {names[:8]}.")
            return {name: archive.read(name) for name in wanted}, names
    except InputError:
        raise
    except Exception as error:  # A damaged or hostile archive can make the parser raise anything.
        raise InputError(f"{str(path)!r} cannot be read as {kind}: {error}. Download or save it anew.") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it is empty, too large or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > _files.LIMIT:
            raise InputError(f"{str(path)!r} has {size:,} bytes, more than the limit of {_files.LIMIT:,}.")
        with regular_file(path) as file:
            content = file.read(size)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}.") from error
    if not content:
        raise InputError(f"{str(path)!r} is empty. Download or save it anew.")
    return content


def read_torch(content: bytes, source: str, set_aside: Collection[str] = ()) -> dict[str, Any]:
    """A dictionary of tensors and plain values, nested as it was.

    Args:
        content: What ``torch.save`` wrote.
        source: Where it comes from, for the errors.
        set_aside: Names of classes (without their module) whose instances are replaced by empty stand-ins; neither the
            class nor what an instance holds is looked up or run.

    Raises:
        InputError: it is damaged, too large, no dictionary with names, or holds anything else than plain values.
    """
    try:
        state = read_torch_file(content, set_aside)
    except Foreign as error:
        raise InputError(
            f"{source} was refused: {error}, and only tensors and plain values are read. Nothing in it was executed. "
            "Where you trust it, open it with the program that wrote it and save its state dicts alone: "
            "torch.save({name: module.state_dict()}, PATH)."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{source} was refused: it is damaged, or holds more than tensors ({error}). Nothing in it was executed."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{source} holds a {type(state).__name__}, expected a state dict: tensors by name.")
    return state


def read_state_dict(content: bytes, source: str) -> dict[str, Tensor]:
    """A state dict: the tensors on the first level of what `read_torch` gives.

    Args:
        content: What ``torch.save`` wrote.
        source: Where it comes from, for the errors.

    Raises:
        InputError: it is damaged, too large, holds anything but tensors, or asks for code to be run.
    """
    return {key: value for key, value in read_torch(content, source).items() if isinstance(value, Tensor)}


def pickled_strings(content: bytes) -> set[str]:
    """All strings in what ``torch.save`` wrote, keys among them, by walking its opcodes; none in any other file."""
    found: set[str] = set()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            require_modest(archive, len(content))
            pickled = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
        for part in pickled:
            found.update(value for _, value in instructions(part) if isinstance(value, str))
    except Exception:  # Damaged, hostile or no pickle at all: what was found so far tells all that can be told.
        return found
    return found

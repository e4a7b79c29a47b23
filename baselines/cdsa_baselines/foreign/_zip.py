"""What strangers saved, read as data: archives and what ``torch.save`` wrote; sizes checked, no pickle, no code."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdsa_baselines import _files
from cdsa_baselines._files import require_small
from cdsa_lightning.errors import InputError

__all__ = ["holds_members", "pickled_strings", "read_bytes", "read_members", "read_state_dict", "read_torch"]


class _SetAside:
    """Stands for an instance of a class that is not needed; whatever was stored in it is forgotten."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def holds_members(path: Path, wanted: Iterable[str]) -> bool:
    """Whether `path` is a zip archive with the members `wanted`; of its content nothing is read."""
    try:
        with zipfile.ZipFile(path) as archive:
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
        with zipfile.ZipFile(path) as archive:
            require_small(archive, path)
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
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}.") from error
    if not content:
        raise InputError(f"{str(path)!r} is empty. Download or save it anew.")
    return content


def read_torch(content: bytes, source: str, set_aside: Collection[str] = ()) -> dict[str, Any]:
    """A dictionary of tensors and plain values, nested as it was, by PyTorch's unpickler that knows nothing else.

    Args:
        content: What ``torch.save`` wrote.
        source: Where it comes from, for the errors.
        set_aside: Names of classes (without their module) whose instances are replaced by empty stand-ins; neither the
            class nor what an instance holds is looked up or run.

    Raises:
        InputError: it is damaged, too large, no dictionary with names, or holds anything else than plain values.
    """
    foreign = _foreign_names(content)
    stand_ins: list[Any] = [(_SetAside, name) for name in foreign if name.rpartition(".")[2] in set_aside]
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                require_small(archive, source)
        with torch.serialization.safe_globals(stand_ins):
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # weights_only refuses by several error classes; damaged files raise still others.
        refused = [name for name in foreign if (_SetAside, name) not in stand_ins]
        raise InputError(_refusal(source, content, error, refused)) from error
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
    """All strings in what ``torch.save`` wrote, keys among them, by walking its opcodes; none where it is no such file.

    Raises:
        InputError: it unpacks to too much.
    """
    found: set[str] = set()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            require_small(archive, "the checkpoint")
            pickled = [archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")]
        for part in pickled:
            found.update(value for _, value, _ in pickletools.genops(part) if isinstance(value, str))
    except InputError:
        raise
    except Exception:  # Damaged or no pickle at all: what was found so far tells all that can be told.
        return found
    return found


def _foreign_names(content: bytes) -> list[str]:
    """Classes and functions that the pickle names beyond those of tensors and containers; none is looked up."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(content)))
    except Exception:  # No archive of torch.save, or opcodes that weights_only refuses anyway.
        return []


def _refusal(source: str, content: bytes, error: Exception, foreign: list[str]) -> str:
    if foreign:
        return (
            f"{source} was refused: it holds {', '.join(foreign[:5])}, and only tensors and plain values are read. "
            "Nothing in it was executed. Where you trust it, open it with the program that wrote it and save its "
            "state dicts alone: torch.save({name: module.state_dict()}, PATH)."
        )
    # Of PyTorch's own text, which recommends to load the file unsafely, only the cause is told.
    cause = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0][:200]
    if not zipfile.is_zipfile(io.BytesIO(content)):
        cause = "it is no whole archive of torch.save; was it cut off?"
    return f"{source} was refused: it is damaged, or holds more than tensors ({cause}). Nothing in it was executed."

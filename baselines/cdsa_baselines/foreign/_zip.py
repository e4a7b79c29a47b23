"""Members of a zip archive and state dicts in them, read as data: checked sizes, ``weights_only=True``, no pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from cdsa_baselines._files import require_small
from cdsa_lightning.errors import InputError

__all__ = ["read_members", "read_state_dict"]


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


def read_state_dict(content: bytes, source: str) -> dict[str, Tensor]:
    """A state dict, by PyTorch's unpickler that knows tensors and plain containers alone.

    Args:
        content: What ``torch.save`` wrote.
        source: Where it comes from, for the errors.

    Raises:
        InputError: it is damaged, too large, holds anything but tensors, or asks for code to be run.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                require_small(archive, source)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # weights_only refuses by several error classes; damaged files raise still others.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{source} was refused: it is damaged, or holds more than tensors ({reason}). Nothing in it was executed."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{source} holds a {type(state).__name__}, expected a state dict: tensors by name.")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}

r"""Files that are whole or absent: written beside their place, brought to the disk, and moved there.

A text or header may carry a seal, the SHA-256 of the whole file with the seal's own 64 characters read as zeros: a bit
that changes later, anywhere in the file, is noticed. Files without a seal are taken as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import regular_file

__all__ = ["UNSEALED", "clear_partials", "digest_of", "intact", "seal", "whole_file", "write_json"]

UNSEALED = {"digest": "0" * 64}
"""What a JSON object that is to be sealed starts with."""
_SEAL = re.compile(rb'"digest\\?": ?\\?"([^"\\]{64})')  # backslashes: JSON in a string of JSON
_HEAD = 1024  # the seal comes first


@contextlib.contextmanager
def whole_file(path: Path, what: str = "", remedy: str = "") -> Iterator[Path]:
    """Where to write what shall replace `path`; it does when the block ends, and what was there stays if it fails.

    Args:
        path: The file; its folder is made.
        what: What the file is, for the error, for instance "the checkpoint".
        remedy: A sentence for the end of the error.

    Raises:
        InputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        named = f"{what} {path}".strip()
        raise InputError(f"Cannot write {named}: {error.strerror or error}. {remedy}".rstrip()) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def clear_partials(folder: Path) -> None:
    """Remove what killed programs left unfinished in a folder that nobody else writes to."""
    for path in folder.glob(".*.partial"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_json(content: Any, path: Path, remedy: str = "") -> Path:
    """Write plain, finite values, whole or not at all, sealed where they start with `UNSEALED`; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path, remedy=remedy) as place:
        place.write_bytes(seal((json.dumps(content, indent=2, allow_nan=False) + "\n").encode()))
    return path


def seal(content: bytes) -> bytes:
    """`content` with its digest in place of the one that it carries; as it is where it carries none."""
    found = _SEAL.search(content, 0, _HEAD)
    if found is None:
        return content
    return content[: found.start(1)] + _digest(content, found) + content[found.end(1) :]


def intact(content: bytes) -> bool:
    """Whether nothing changed since `content` was sealed; true of what never was."""
    found = _SEAL.search(content, 0, _HEAD)
    return found is None or found[1] == _digest(content, found)


def _digest(content: bytes, found: re.Match[bytes]) -> bytes:
    digest = hashlib.sha256(content[: found.start(1)] + UNSEALED["digest"].encode())
    digest.update(memoryview(content)[found.end(1) :])
    return digest.hexdigest().encode()


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read, or is no file but a device or a pipe.
    """
    with regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

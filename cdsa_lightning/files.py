"""Files that are whole or absent: written beside their place, brought to the disk, and moved there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError

__all__ = ["whole_file", "write_json"]


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


def write_json(content: Any, path: Path, remedy: str = "") -> Path:
    """Write plain, finite values, whole or not at all; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path, remedy=remedy) as place:
        place.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path

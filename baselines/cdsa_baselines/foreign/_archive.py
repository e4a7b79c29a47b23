"""PyTorch's archives of programs as data: members below one root folder."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdsa_lightning import untrusted
from cdsa_lightning.errors import InputError

__all__ = ["parse_json", "read_archive", "torch_root"]


def torch_root(path: Path, member: str) -> str | None:
    """The root folder of the archive at `path`; None where it is no archive of PyTorch with a member of that name.

    Args:
        path: Any file.
        member: Name below the root, for instance ``constants.pkl``.
    """
    try:
        with untrusted.regular_file(path) as file, zipfile.ZipFile(file) as archive:
            roots = [name.removesuffix(member) for name in archive.namelist() if name.endswith("/" + member)]
    except Exception:  # Not a zip, or one so damaged that it cannot be told from others: the reader raises anything.
        return None
    return next((root for root in roots if root.count("/") == 1), None)


def read_archive(path: Path, root: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The members below `root` for which `wanted(name below the root)` holds.

    Raises:
        InputError: damaged, too large, of the other byte order, or two members share a name.
    """
    try:
        with untrusted.regular_file(path) as file, zipfile.ZipFile(file) as archive:
            untrusted.require_modest(archive, os.path.getsize(path))
            names = archive.namelist()
            members = {name.removeprefix(root): name for name in names if name.startswith(root)}
            if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
                raise InputError(f"{str(path)!r} was written on a big-endian machine. Export it on another.")
            return {short: archive.read(name) for short, name in members.items() if wanted(short)}
    except InputError:
        raise
    except Exception as error:  # A damaged or hostile archive can make the parser raise anything.
        raise InputError(f"{str(path)!r} cannot be unpacked: {error}. Download or export it anew.") from error


def parse_json(content: bytes, source: str) -> Any:
    """JSON out of an archive.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return untrusted.parse_json(content)
    except ValueError as error:
        raise InputError(f"{source} cannot be read as JSON: {error}.") from error

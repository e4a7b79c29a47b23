"""What an unknown file or folder looks like, by its first bytes and its list of contents; no code in it is run."""

from __future__ import annotations

import codecs
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cdsa_lightning.untrusted import parse_json, regular_file

__all__ = ["looks", "safetensors_header"]

_SIGNATURES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"PAR1": "a parquet file",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"\x89PNG": "a picture",
    b"%PDF": "a PDF file",
    b"\x7fELF": "a program",
}
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_HEADER = 32 * 2**20  # bytes
_SHOWN = 6  # names told of what a file holds


def looks(path: Path) -> str:
    """What `path` looks like, as the end of a sentence: "a zip archive with data, policy.pth, ..."."""
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir())
            return f"a folder with {_some(names)}" if names else "an empty folder"
        with regular_file(path) as file:
            start = file.read(512)
        if not start:
            return "an empty file"
        return _archive(path, start) or _plain(path, start)
    except OSError as error:
        return f"a file that cannot be read ({error.strerror or error})"


def safetensors_header(path: Path) -> dict[str, Any] | None:
    """The JSON in front of a safetensors file; None where the file is of another kind, or cut off within it."""
    try:
        with regular_file(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = parse_json(file.read(length)) if length <= min(path.stat().st_size, _MAX_HEADER) else None
    except (OSError, struct.error, ValueError):
        return None
    return header if isinstance(header, dict) else None


def _archive(path: Path, start: bytes) -> str:
    """What a zip archive holds; empty where it is none."""
    if not start.startswith(b"PK"):
        return ""
    try:
        with regular_file(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # A damaged or hostile archive can make the parser raise anything.
        return "a zip archive whose end is missing or damaged: copy it again"
    if names and all(name.endswith(".npy") for name in names):
        return f"an .npz with the arrays {_some(name.removesuffix('.npy') for name in names)}"
    if any(name.endswith("/data.pkl") for name in names):
        if any("/code/" in name for name in names):
            return "a TorchScript program"
        return _saved(path)
    return f"a zip archive with {_some(names)}" if names else "an empty zip archive"


def _saved(path: Path) -> str:
    """What a file of torch.save holds, read as tensors and plain containers alone."""
    from cdsa_lightning.torch_files import read_torch_file

    try:
        value = read_torch_file(path)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"what torch.save wrote, damaged or with more than plain values, which are never loaded ({reason[:120]})"
    if not isinstance(value, dict):
        return f"a {type(value).__name__} that torch.save wrote"
    if {"run_name", "hyper_parameters", "state_dict"} <= set(value):
        return f"a checkpoint of 'cdsa fit' for the baseline {value['run_name']!r}"
    held = _some(f"{key} {_kind(entry)}" for key, entry in value.items())
    return f"what torch.save wrote, with {held or 'nothing in it'}"


def _kind(value: Any) -> str:
    return str(list(value.shape)) if hasattr(value, "shape") else f"({type(value).__name__})"


def _plain(path: Path, start: bytes) -> str:
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return kind
    if start.startswith(_OLD_TORCH):
        return "what torch.save of PyTorch before 1.6 wrote"
    if start.startswith(tuple(bytes((0x80, protocol)) for protocol in range(2, 6))):
        return "a pickle, which may run any code and is never opened"
    header = safetensors_header(path)
    if header is not None:
        return f"safetensors with the tensors {_some(name for name in header if name != '__metadata__')}"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # the last sign may be cut
    except UnicodeDecodeError:
        text = ""
    if text and all(sign.isprintable() or sign.isspace() for sign in text):
        return f"text that begins with {' '.join(text.split())[:40]!r}"
    return f"binary data that begin with {start[:8].hex(' ')}"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return f"{', '.join(every[:_SHOWN])}{more}"

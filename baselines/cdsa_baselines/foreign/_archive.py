r"""PyTorch's zip archives as data: members below one root folder, tensors out of raw storages.

A storage is a run of numbers; a tensor is a view of it, entry (i_1, ..., i_n) at offset + sum_k stride_k i_k. Each
view is checked against its storage before it is taken.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cdsa_baselines._files import LIMIT, require_small
from cdsa_lightning.errors import InputError

__all__ = ["DTYPES", "Storages", "parse_json", "read_archive", "torch_root"]

DTYPES = {
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Short": torch.int16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Half": torch.float16,
    "Float": torch.float32,
    "Double": torch.float64,
    "Bool": torch.bool,
    "BFloat16": torch.bfloat16,
}
"""PyTorch's names of the number types that a network may hold."""


def torch_root(path: Path, member: str) -> str | None:
    """The root folder of the archive at `path`; None where it is no archive of PyTorch with a member of that name.

    Args:
        path: Any file.
        member: Name below the root, for instance ``constants.pkl``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
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
        with zipfile.ZipFile(path) as archive:
            require_small(archive, path)
            names = archive.namelist()
            if len(set(names)) != len(names):
                raise InputError(f"{str(path)!r} holds two members of one name, which readers take for different ones.")
            members = {name.removeprefix(root): name for name in names if name.startswith(root)}
            if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
                raise InputError(f"{str(path)!r} was written on a big-endian machine. Export it on another.")
            return {short: archive.read(name) for short, name in members.items() if wanted(short)}
    except InputError:
        raise
    except Exception as error:  # A damaged or hostile archive can make the parser raise anything.
        raise InputError(f"{str(path)!r} cannot be unpacked: {error}. Download or export it anew.") from error


class Storages:
    """The storages of an archive, from which tensors are read.

    Args:
        contents: Numbers as little-endian bytes, by the key of their storage.
        source: Where they come from, for the errors.
    """

    def __init__(self, contents: Mapping[str, bytes], source: str) -> None:
        self.contents, self.source = contents, source
        self.read = 0

    def tensor(self, key: str, dtype: torch.dtype, offset: Any, sizes: Any, strides: Any) -> Tensor:
        """The tensor of `sizes` and `strides` (in entries) that starts at entry `offset` of storage `key`.

        Raises:
            InputError: there is no such storage, the view is malformed or reaches beyond it, or all views together
                unpack to more than a network needs.
        """
        where = f"Storage {key[:80]!r} of {self.source}"
        if key not in self.contents:
            raise InputError(f"{where} is missing. Export it anew.")
        numbers = [offset, *sizes, *strides]
        if len(sizes) != len(strides) or any(type(number) is not int or number < 0 for number in numbers):
            raise InputError(f"{where} is damaged: sizes {sizes}, strides {strides}, offset {offset}.")
        width = torch.empty((), dtype=dtype).element_size()
        available, entries = len(self.contents[key]) // width, math.prod(sizes)
        if entries == 0:
            return torch.empty(tuple(sizes), dtype=dtype)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        # A stride of 0 repeats what is stored, and tensors may share a storage: few bytes must not become gigabytes.
        self.read += entries * width
        if last >= available or self.read > LIMIT:
            raise InputError(
                f"{where} is damaged or hostile: {entries} entries up to number {last} where {available} are stored."
            )
        flat = torch.frombuffer(bytearray(self.contents[key]), dtype=dtype, count=available)
        return flat.as_strided(tuple(sizes), tuple(strides), offset).clone(memory_format=torch.contiguous_format)


def parse_json(content: bytes, source: str) -> Any:
    """JSON out of an archive.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} cannot be read as JSON: {error}.") from error

r"""Tensors out of raw numbers that lie in an archive.

A storage is a run of numbers; a tensor is a view of it, entry (i_1, ..., i_n) at offset + sum_k stride_k i_k. Each view
is checked against what is stored before it is taken, and all of them together against what the archive may stand for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["DTYPES", "Storages"]

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


class Storages:
    """The storages of an archive, from which tensors are read.

    Args:
        contents: Numbers as little-endian bytes, by the key of their storage.
        limit: Bytes that all tensors together may take.
    """

    def __init__(self, contents: Mapping[str, bytes], limit: int) -> None:
        self.contents, self.limit = contents, limit
        self.read = 0

    def tensor(self, key: str, dtype: torch.dtype, offset: Any, sizes: Any, strides: Any) -> Tensor:
        """The tensor of `sizes` and `strides` (in entries) that starts at entry `offset` of storage `key`.

        Raises:
            ValueError: there is no such storage, the view is malformed or reaches beyond it, or all views together
                unpack to more than a network needs.
        """
        where = f"Storage {key[:80]!r}"
        if key not in self.contents:
            raise ValueError(f"{where} is missing")
        numbers = [offset, *sizes, *strides]
        if len(sizes) != len(strides) or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f"{where} is damaged: sizes {sizes}, strides {strides}, offset {offset}"[:300])
        width = torch.empty((), dtype=dtype).element_size()
        available, entries = len(self.contents[key]) // width, math.prod(sizes)
        if entries == 0:
            return torch.empty(tuple(min(size, 1) for size in sizes), dtype=dtype)
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        # A stride of 0 repeats what is stored, and tensors may share a storage: few bytes must not become gigabytes.
        self.read += entries * width
        if last >= available or self.read > self.limit:
            raise ValueError(
                f"{where} is damaged or hostile: {entries} entries up to number {last} where {available} are stored"
            )
        part = bytearray(memoryview(self.contents[key])[offset * width : (last + 1) * width])
        flat = torch.frombuffer(part, dtype=dtype)
        return flat.as_strided(tuple(sizes), tuple(strides), 0).clone(memory_format=torch.contiguous_format)

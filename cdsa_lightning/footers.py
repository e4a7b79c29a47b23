r"""Parquet's list of contents, read here: pyarrow ends the process on some damaged ones when it is asked for a column.

    numbers | list of contents, n bytes | n: 4 bytes | PAR1

The list is written in Thrift's compact protocol: a struct is a row of (number, type, value), closed by a zero. Of all
that it says, three numbers of every column are kept: values, bytes unpacked, and rows. The work is linear in n.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import IO, Any

from cdsa_lightning.untrusted import DEPTH

__all__ = ["announced"]

LARGEST = 8 << 20
"""Bytes of a list of contents."""
_INTEGER, _LIST, _STRUCT = 6, 9, 12  # of the protocol's types; the numbers of fields below are Parquet's
_SCHEMA, _ROWS, _GROUPS, _CHILDREN = (2, _LIST), (3, _INTEGER), (4, _LIST), (5, 5)
_COLUMNS, _FACTS, _VALUES, _UNPACKED = (1, _LIST), (3, _STRUCT), (5, _INTEGER), (6, _INTEGER)
_Fields = dict[tuple[int, int], Any]


def announced(file: IO[bytes]) -> int:
    """Bytes that the columns of a Parquet file will take, by its list of contents.

    Raises:
        ValueError: it is no Parquet file, or its list of contents is damaged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    end = file.read(8)
    (length,) = struct.unpack("<I", end[:4]) if len(end) == 8 else (0,)
    if end[4:] != b"PAR1" or not 0 < length <= min(size - 8, LARGEST):
        raise ValueError(f"it is no Parquet file, or its list of contents takes {length:,} bytes")
    file.seek(size - 8 - length)
    try:
        contents = _Reader(file.read(length)).fields(0)
        columns = [column[_FACTS] for group in contents[_GROUPS] for column in group[_COLUMNS]]
        each = [max(8 * facts[_VALUES], facts[_UNPACKED]) for facts in columns]
        width = sum(not entry.get(_CHILDREN) for entry in contents[_SCHEMA])
        numbers = [contents[_ROWS], *(facts[_VALUES] for facts in columns), *(facts[_UNPACKED] for facts in columns)]
    except (IndexError, KeyError, TypeError, AttributeError):
        raise ValueError("its list of contents is damaged") from None
    if min(numbers) < 0:
        raise ValueError("its list of contents counts fewer than no values")
    return max(sum(each), 8 * contents[_ROWS] * width)


class _Reader:
    """Values of the protocol, one after the other; an IndexError where they end early.

    Args:
        content: Of a struct.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0
        number: Callable[[int], Any] = self._number
        self._readers: dict[int, Callable[[int], Any]] = {
            **dict.fromkeys((1, 2), lambda depth: None),  # truth values lie in their type
            **dict.fromkeys((4, 5, _INTEGER), number),
            3: lambda depth: self._skip(1),
            7: lambda depth: self._skip(8),
            8: lambda depth: self._skip(self._varint()),
            **dict.fromkeys((_LIST, 10), self._list),
            _STRUCT: self.fields,
        }

    def fields(self, depth: int) -> _Fields:
        """The struct that starts here: (number, type) to value, the last one of each."""
        found: _Fields = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._number(depth)
            found[number, head & 15] = self._value(head & 15, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind not in self._readers or depth > DEPTH:
            raise ValueError("its list of contents is damaged")
        return self._readers[kind](depth + 1)

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        kind = head & 15
        if count > len(self.content) - self.at:
            raise ValueError("its list of contents is damaged")
        return [self._value(3 if kind in (1, 2) else kind, depth) for _ in range(count)]  # a truth value is a byte here

    def _number(self, _: int) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("its list of contents is damaged")

    def _skip(self, count: int) -> None:
        if count > len(self.content) - self.at:
            raise IndexError
        self.at += count

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

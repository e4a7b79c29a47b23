r"""Arrow and Parquet from elsewhere: how much a file stands for is asked before it is read, its offsets are checked.

An Arrow file is read message by message. Compressed ones, whose buffers say how much memory they want, are refused, so
that all numbers lie in the file itself. Parquet compresses always; its list of contents is compared with `room`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pyarrow as pa

from cdsa_lightning.footers import announced
from cdsa_lightning.untrusted import regular_file, room

__all__ = ["read_arrow", "read_parquet"]

_MAGIC = b"ARROW1\x00\x00"
_HEADER, _COMPRESSION = 2, 3  # numbers of fields in the tables Message and RecordBatch of the format
_THRIFT = 10_000_000  # bytes of a text, and entries of a list, in Parquet's list of contents


def read_arrow(path: str | Path) -> list[pa.RecordBatch]:
    """The record batches of an Arrow file; their numbers stay on the disk until they are looked at.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no Arrow file, damaged, compressed, or holds dictionaries.
    """
    with regular_file(path) as file:
        start = file.read(len(_MAGIC))
    if start != _MAGIC:
        raise ValueError("it is no Arrow file")
    with pa.memory_map(str(path)) as mapped:
        mapped.seek(len(_MAGIC))
        schema = pa.ipc.read_schema(mapped)
        batches: list[pa.RecordBatch] = []
        while True:
            try:
                message = pa.ipc.read_message(mapped)
            except EOFError:
                return batches
            if message.type != "record batch" or _compressed(message.metadata):
                raise ValueError("it holds compressed columns or dictionaries; write it plainly")
            batch = pa.ipc.read_record_batch(message, schema)
            batch.validate(full=True)  # without it, an offset may point anywhere
            batches.append(batch)


def _compressed(metadata: pa.Buffer) -> bool:
    """Whether the record batch that `metadata` (a flatbuffer) describes is compressed."""
    content = memoryview(metadata)
    message = struct.unpack_from("<I", content, 0)[0]
    header = _field(content, message, _HEADER)
    batch = header + struct.unpack_from("<I", content, header)[0]
    return _field(content, batch, _COMPRESSION) != 0


def _field(content: memoryview, table: int, number: int) -> int:
    """Where field `number` of the flatbuffer's table at `table` lies; 0 where it is not set."""
    index = table - struct.unpack_from("<i", content, table)[0]
    place = 4 + 2 * number
    if place >= struct.unpack_from("<H", content, index)[0]:
        return 0
    offset = struct.unpack_from("<H", content, index + place)[0]
    return table + offset if offset else 0


def read_parquet(path: str | Path) -> pa.Table:
    """The table in a Parquet file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no Parquet file, damaged, or stands for more than its size allows.
    """
    import pyarrow.parquet as pq  # a second library to load, for the rarer format only

    with regular_file(path) as file:
        size, wanted = os.fstat(file.fileno()).st_size, announced(file)
        if wanted > room(size):
            raise ValueError(f"{size:,} bytes of it would unpack to {wanted:,}, more than the limit of {room(size):,}")
        file.seek(0)
        opened = pq.ParquetFile(file, thrift_string_size_limit=_THRIFT, thrift_container_size_limit=_THRIFT)
        try:
            table = opened.read(use_threads=False)
        except MemoryError as error:  # a page that announces more than there is
            raise ValueError(str(error)) from None
    table.validate(full=True)
    return table

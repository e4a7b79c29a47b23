r"""Files from elsewhere: what one asks for is checked before it is given.

A file of n bytes may stand for at most room(n) = 64 MiB + 32 n bytes of numbers, whatever it announces: an array's
shape, an archive's list of contents, a compressed member. Text is read up to a limit, nested up to a depth, and repeats
itself (YAML's aliases) up to a number of entries. Every fault is a ValueError with the reason; who reads the file says
which it is and what to do.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "TEXT",
    "entries_of",
    "parse_json",
    "parse_yaml",
    "read_bytes",
    "read_header",
    "read_json",
    "read_npy",
    "read_npz",
    "read_text",
    "regular_file",
    "require_modest",
    "room",
]

TEXT = 32 << 20
"""Bytes of JSON, CSV or numbers in a text."""
YAML = 1 << 20
"""Bytes of YAML, whose parser takes seconds for each million."""
DEPTH = 100
"""Containers within each other."""
ENTRIES = 100_000
"""Entries of a YAML file, those counted again that an alias repeats."""


def room(size: int) -> int:
    """Bytes that a file of `size` bytes may unpack to."""
    return (64 << 20) + 32 * size


@contextlib.contextmanager
def regular_file(path: str | Path) -> Iterator[io.BufferedReader]:
    """`path` opened for reading.

    Raises:
        OSError: it cannot be opened, or is no file but a device, a pipe or a folder, which may have no end, or one of
            holes, which are terabytes to read and nothing on the disk.
    """
    # Without O_NONBLOCK a pipe would keep us until somebody writes into it.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(0, "it is no plain file", str(path))
        if facts.st_blocks and facts.st_size > room(512 * facts.st_blocks):  # some systems do not count blocks
            raise OSError(0, "most of it is holes", str(path))
        yield file


def read_bytes(path: str | Path, limit: int = TEXT) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds more than `limit` bytes.
    """
    with regular_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"it holds more than {limit:,} bytes")
        return file.read(size)  # the limit instead would be taken from memory at once


def read_text(path: str | Path, limit: int = TEXT) -> str:
    """The text in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds more than `limit` bytes, or no text.
    """
    return read_bytes(path, limit).decode("utf-8")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, too long, or nested too deeply.
    """
    return parse_json(read_text(path))


def parse_json(text: str | bytes) -> Any:
    """The value that `text` writes down.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _require_flat(value)
    return value


def _require_flat(value: Any) -> None:
    level, depth = [value], 0
    while level:
        level = [item for one in level for item in _items(one) if isinstance(item, dict | list)]
        depth += 1
        if depth > DEPTH:
            raise ValueError("it is nested too deeply")


def _items(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def parse_yaml(text: str) -> Any:
    """The plain value that `text` writes down; tags that would build objects are refused by the parser.

    Raises:
        ValueError: it is no plain YAML, too long, nested too deeply, or its aliases repeat too much.
    """
    import yaml  # type: ignore[import-untyped,unused-ignore]

    if len(text) > YAML:
        raise ValueError(f"it holds more than {YAML:,} characters")
    depth = 0
    for bracket in re.finditer(r"[][{}]", text):  # the parser takes quadratic time for them, so they are counted first
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEPTH:
            raise ValueError("it is nested too deeply")
    loader = None
    try:
        loader = yaml.SafeLoader(text)  # which refuses some characters
        node = loader.get_single_node()
        if node is not None and entries_of(node, _nodes) > ENTRIES:
            raise ValueError(f"its aliases stand for more than {ENTRIES:,} entries")
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except Exception as error:  # a tag on a value that it does not fit: the parser's own errors, of any class
        raise ValueError(f"{type(error).__name__} {error}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _nodes(node: Any) -> list[Any]:
    if isinstance(node.value, str):
        return []
    return [part for item in node.value for part in (item if type(item) is tuple else (item,))]


def entries_of(value: Any, children: Any = None) -> int:
    """How many entries a nested value has, each counted as often as it would be met by whoever walks it.

    Args:
        value: Dictionaries, lists, tuples and anything that has no entries; may share parts.
        children: A value to its entries; None for those containers.

    Raises:
        ValueError: it contains itself, or is nested too deeply.
    """
    known: dict[int, int] = {}

    def count(one: Any, depth: int) -> int:
        if id(one) not in known:
            parts = (children or _parts)(one)
            if not parts:
                return 1
            if depth > DEPTH:
                raise ValueError("it is nested too deeply")
            known[id(one)] = -1
            known[id(one)] = 1 + sum(count(part, depth + 1) for part in parts)
        if known[id(one)] < 0:
            raise ValueError("it contains itself")
        return known[id(one)]

    return count(value, 0)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return list(value) if isinstance(value, list | tuple | set) else []


def require_modest(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive of `size` bytes that announces more than `room`; `zipfile` unpacks no more than is announced.

    Raises:
        ValueError: it announces more, is packed in more than it has, names a member twice, or uses an unusual method.
    """
    entries = archive.infolist()
    packed = sum(entry.compress_size for entry in entries)  # for which `zipfile` makes room before it reads
    if packed > size:
        raise ValueError(f"its members announce {packed:,} packed bytes, and it has {size:,}")
    total = sum(entry.file_size for entry in entries)
    if total > room(size):
        raise ValueError(f"{size:,} bytes of it would unpack to {total:,}, more than the limit of {room(size):,}")
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("it holds two members of one name, which readers take for different ones")
    strange = [entry for entry in entries if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    if strange:
        raise ValueError(f"its member {strange[0].filename[:80]!r} is compressed by an unusual method")


def read_npz(path: str | Path, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name.

    Args:
        path: The file.
        wanted: Names of those to read, as far as they are there; None for all.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ``.npz``, damaged, too large for its size, or holds pickled objects.
    """
    with regular_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                require_modest(archive, os.fstat(file.fileno()).st_size)
                arrays = {}
                for entry in archive.infolist():
                    name = entry.filename.removesuffix(".npy")
                    if wanted is None or name in wanted:
                        with archive.open(entry) as member:
                            arrays[name] = _array(member, entry.file_size)
                return arrays
        except Exception as error:  # A damaged or hostile file can make the parsers raise anything.
            raise ValueError(str(error) or type(error).__name__) from None


def read_npy(path: str | Path) -> np.ndarray:
    """The array of an ``.npy`` file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no ``.npy``, damaged, or holds pickled objects.
    """
    with regular_file(path) as file:
        try:
            return _array(file, os.fstat(file.fileno()).st_size)
        except Exception as error:  # A damaged or hostile file can make the parser raise anything.
            raise ValueError(str(error) or type(error).__name__) from None


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in `file`, which holds `size` bytes."""
    import numpy as np  # JSON and YAML are read without it

    read_header(file, size)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie together instead of rows, and type of the ``.npy`` array whose numbers come next.

    Args:
        file: At the beginning of the array.
        size: Bytes that are there.

    Raises:
        ValueError: it announces pickled objects, or more than there is.
    """
    import numpy as np

    start, head = file.tell(), io.BytesIO(file.read(1 << 16))  # a header may announce 4 GiB of itself
    version = np.lib.format.read_magic(head)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns, dtype = header(head)
    file.seek(start + head.tell())
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never loaded")
    # NumPy takes the memory before it reads, so that what is announced is compared with what is there.
    if min(shape, default=0) < 0 or max(math.prod(shape) * dtype.itemsize, *shape, 0) > max(size, 1 << 16):
        raise ValueError(f"its header announces {dtype} {shape}, and there are {size:,} bytes")
    return shape, columns, dtype

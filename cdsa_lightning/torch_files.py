r"""What ``torch.save`` wrote, read as data: an archive of one pickle and raw numbers, and no unpickler.

A pickle is a program for a stack machine. Its instructions are walked here one by one; those that write down plain
values, and tensors over the archive's numbers, are understood, every other one ends the reading. PyTorch's own reader
with weights_only runs nothing either, but it takes the memory that a file asks for: a tensor that reaches beyond its
storage makes the storage longer, ``bytearray(10 ** 12)`` is a terabyte. Here each view is checked (`storages`).
"""

from __future__ import annotations

import io
import os
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from cdsa_lightning.storages import DTYPES, Storages
from cdsa_lightning.untrusted import entries_of, regular_file, require_modest, room

__all__ = ["Foreign", "Machine", "Name", "instructions", "read_torch_file"]

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
KNOWN = (
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
    *("collections OrderedDict", "torch Size", "__builtin__ set", "builtins set", "_codecs encode"),
)
"""What a pickle may call."""
MARK = object()
PICKLE = 16 << 20
"""Bytes of a pickle; each may become an object, which takes many."""
INSTRUCTIONS = 100_000
"""Of a pickle; those of checkpoints have thousands, and every format that a file may be of reads it anew."""
WALKED = 1_000_000
"""Entries of all containers together, as whoever walks through them meets them."""


class Foreign(ValueError):
    """A pickle asks for a class or function; `names` tells which."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"it holds {', '.join(sorted(names)[:5])}")
        self.names = sorted(names)


class Name(NamedTuple):
    """What a GLOBAL instruction names: "module name"."""

    text: str


class _Storage(NamedTuple):
    """A run of numbers in the archive."""

    dtype: str
    key: str


class _SetAside:
    """Stands for an instance of a class that is not needed; whatever was stored in it is forgotten."""


def instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of a pickle's instructions, up to its end.

    Raises:
        ValueError: there are more than any checkpoint has; the parser raises it and others where they are damaged.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name == "STOP":
            return
        if count == INSTRUCTIONS:
            raise ValueError(f"its pickle has more than {INSTRUCTIONS:,} instructions")
        yield opcode.name, argument


class Machine:
    """A stack and a memo, which know plain values and tensors.

    Args:
        storages: The numbers of the tensors.
        set_aside: Names of classes (without their module) whose instances are replaced by empty stand-ins; neither the
            class nor what an instance holds is looked up or run.
    """

    def __init__(self, storages: Storages, set_aside: Collection[str] = ()) -> None:
        self.storages, self.set_aside = storages, set_aside
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """What the pickle `content` writes down.

        Raises:
            ValueError: it is damaged, too long, contains itself, or holds an instruction without a place in data;
                the parser and this machine raise anything else where it is hostile.
        """
        if len(content) > PICKLE:
            raise ValueError(f"its pickle has {len(content):,} bytes, more than the limit of {PICKLE:,}")
        try:
            for name, argument in instructions(content):
                self.step(name, argument)
        except Foreign as error:  # the first of perhaps several
            raise Foreign({*error.names, *self.strange(content)}) from None
        (value,) = self.stack
        if entries_of(value, self.parts) > WALKED:
            raise ValueError("its entries refer to each other too often")
        return value

    def strange(self, content: bytes) -> list[str]:
        """What a pickle names beyond what is known here."""
        named = [str(argument) for name, argument in instructions(content) if name == "GLOBAL"]
        own = ("__torch__", "torch.jit._pickle")  # of TorchScript
        others = [name for name in named if not (name in KNOWN or name.endswith("Storage") or name.startswith(own))]
        return [name.replace(" ", ".") for name in others if name.rpartition(" ")[2] not in self.set_aside]

    def parts(self, value: Any) -> list[Any]:
        """The entries of a container; a class by its name is no value."""
        if isinstance(value, Name):
            raise Foreign([value.text.replace(" ", ".")])
        if isinstance(value, dict):
            return [*value, *value.values()]
        return list(value) if type(value) in (list, tuple, set) else []

    def step(self, name: str, argument: Any) -> None:
        """One instruction."""
        stack = self.stack
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack.append(self.popped(TUPLES[name]))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(MARK)
        elif name == "TUPLE":
            stack.append(self.marked())
        elif name in ("APPEND", "APPENDS"):
            items = self.popped(1) if name == "APPEND" else self.marked()
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.popped(2) if name == "SETITEM" else self.marked()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(Name(argument))
        elif name in ("NEWOBJ", "BUILD", "REDUCE", "BINPERSID"):
            makers: dict[str, Callable[..., Any]]
            makers = {"NEWOBJ": self.new, "BUILD": self.build, "REDUCE": self.call, "BINPERSID": _storage}
            stack.append(makers[name](*self.popped(1 if name == "BINPERSID" else 2)))
        elif name != "PROTO":
            raise ValueError(f"the instruction {name} has no place in a module")

    def popped(self, count: int) -> tuple[Any, ...]:
        """The topmost `count` values, taken off."""
        if len(self.stack) < count:
            raise ValueError("the stack is empty")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def marked(self) -> tuple[Any, ...]:
        """All values above the last mark, which goes too."""
        start = len(self.stack) - 1
        while start >= 0 and self.stack[start] is not MARK:
            start -= 1
        if start < 0:
            raise ValueError("there is no mark")
        items = self.popped(len(self.stack) - start - 1)
        self.stack.pop()
        return items

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The few calls that stand for a value; the file's own words decide nothing beyond which of them."""
        name = function.text if isinstance(function, Name) else type(function).__name__
        if name == "torch._utils _rebuild_tensor_v2":
            return self.tensor(*arguments[:4])
        if name == "torch._utils _rebuild_parameter":
            return arguments[0]
        if name == "collections OrderedDict":
            return OrderedDict(*arguments)
        if name == "_codecs encode" and arguments[1:] == ("latin1",):  # how protocol 2 writes bytes
            return str(arguments[0]).encode("latin1")
        if name in ("__builtin__ set", "builtins set"):
            return set(*arguments)
        if name == "torch Size":
            return tuple(*arguments)
        if name.rpartition(" ")[2] in self.set_aside:
            return _SetAside()
        raise Foreign([name.replace(" ", ".")])

    def new(self, cls: Any, arguments: Any) -> Any:
        """An instance of a class: none is known."""
        if isinstance(cls, Name) and cls.text.rpartition(" ")[2] in self.set_aside:
            return _SetAside()
        raise Foreign([cls.text.replace(" ", ".") if isinstance(cls, Name) else type(cls).__name__])

    def build(self, target: Any, state: Any) -> Any:
        """What an instance holds besides: of a state dict the versions of its modules, which nobody asks for."""
        if not isinstance(target, OrderedDict | _SetAside):
            raise ValueError(f"a {type(target).__name__} restores itself, which is not run")
        return target

    def tensor(self, stored: _Storage, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        """A view of one storage."""
        if not isinstance(stored, _Storage) or stored.dtype not in DTYPES:
            raise ValueError(f"numbers of type {getattr(stored, 'dtype', stored)!s:.40} are not supported")
        return self.storages.tensor(stored.key, DTYPES[stored.dtype], offset, sizes, strides)


def _storage(name: Any) -> _Storage:
    """The storage that a persistent id names: ("storage", type, key, device, entries)."""
    kind, cls, key, *_ = name
    if kind != "storage" or not isinstance(cls, Name) or not cls.text.startswith("torch "):
        raise ValueError("an unknown reference")
    return _Storage(cls.text.removeprefix("torch ").removesuffix("Storage"), str(key))


def read_torch_file(source: Path | bytes, set_aside: Collection[str] = ()) -> Any:
    """What ``torch.save`` wrote: tensors and plain values, nested as they were.

    Args:
        source: The file, or its bytes.
        set_aside: See `Machine`.

    Raises:
        OSError: the file cannot be read.
        Foreign: it holds instances of classes, or asks for a call.
        ValueError: it is no such archive, damaged, too large for its size, or holds more than data.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), len(source), set_aside)
    with regular_file(source) as file:
        return _read(file, os.fstat(file.fileno()).st_size, set_aside)


def _read(file: Any, size: int, set_aside: Collection[str]) -> Any:
    try:
        with zipfile.ZipFile(file) as archive:
            require_modest(archive, size)
            roots = {entry.filename.partition("/")[0] for entry in archive.infolist()}
            if len(roots) != 1:
                raise ValueError(f"it is no archive of torch.save: it holds {', '.join(sorted(roots)[:8])}")
            members = {entry.filename.partition("/")[2]: archive.read(entry) for entry in archive.infolist()}
        if members.get("byteorder", b"little") != b"little":
            raise ValueError("it was written on a big-endian machine")
        contents = {name.removeprefix("data/"): part for name, part in members.items() if name.startswith("data/")}
        machine = Machine(Storages(contents, room(size)), set_aside)
        return machine.run(members["data.pkl"])
    except zipfile.BadZipFile:
        raise ValueError("it is no whole archive of torch.save; was it cut off?") from None
    except Foreign:
        raise
    except KeyError as error:
        raise ValueError(f"it has no {error}") from None
    except Exception as error:  # A damaged or hostile archive or program can break the parsers in any way.
        raise ValueError(str(error) or type(error).__name__) from None

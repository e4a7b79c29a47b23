r"""The attributes of a TorchScript module as data: the pickles ``data.pkl`` and ``constants.pkl`` of its archive.

A pickle is a program for a stack machine. Its instructions are walked here one by one; those that write down plain
values, tensors over the archive's storages and objects with attributes are understood, every other one ends the
reading. No name in the file is looked up anywhere: a class is its name, an object is that name and its attributes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cdsa_baselines.foreign._archive import DTYPES, Storages
from cdsa_lightning.errors import InputError

__all__ = ["Object", "Stored", "by_name", "read_values"]

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
MARK = object()


@dataclass(eq=False)
class Object:
    """An instance of a class that the archive's code defines.

    Args:
        cls: Qualified name, for instance ``__torch__.torch.nn.modules.linear.Linear``.
        fields: Its attributes.
    """

    cls: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Name:
    """What a GLOBAL instruction names: "module name"."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """A run of numbers in the archive."""

    dtype: str
    key: str


class Stored(str):
    """The name of a tensor that is kept elsewhere."""


def read_values(content: bytes, storages: Storages, source: str) -> Any:
    """What the pickle `content` writes down, with `Object` for instances of the archive's classes.

    Args:
        content: The pickle.
        storages: The numbers of the tensors.
        source: Where it comes from, for the errors.

    Raises:
        InputError: it is damaged, or holds anything but plain values, tensors and objects.
    """
    machine = _Machine(storages, source)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except InputError:
        raise
    except Exception as error:  # A damaged or hostile program can break the parser and this machine in any way.
        raise InputError(f"{source} is damaged: {type(error).__name__}: {error}. Export it anew.") from error
    return value


class _Machine:
    """A stack and a memo."""

    def __init__(self, storages: Storages, source: str) -> None:
        self.storages, self.source = storages, source
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

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
            stack.append(_Name(argument))
        elif name in ("NEWOBJ", "BUILD", "REDUCE", "BINPERSID"):
            makers: dict[str, Callable[..., Any]]
            makers = {"NEWOBJ": new, "BUILD": build, "REDUCE": self.call, "BINPERSID": storage}
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
        start = max(place for place, value in enumerate(self.stack) if value is MARK)
        items = self.popped(len(self.stack) - start - 1)
        self.stack.pop()
        return items

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The few calls that stand for a value; the file's own words decide nothing beyond which of them."""
        name = function.text if isinstance(function, _Name) else type(function).__name__
        if name == "torch._utils _rebuild_tensor_v2":
            return self.tensor(*arguments[:4])
        if name == "torch._utils _rebuild_parameter":
            return arguments[0]
        if name == "collections OrderedDict" and not arguments:
            return {}
        if name in LISTS or name == "torch.jit._pickle restore_type_tag":
            return arguments[0]
        raise InputError(
            f"{self.source} was refused: it asks for a call of {name[:80]!r}, and only tensors and plain values are "
            "read. Nothing in it was executed."
        )

    def tensor(self, stored: _Storage, offset: int, sizes: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
        """A view of one storage."""
        if stored.dtype not in DTYPES:
            raise ValueError(f"numbers of type {stored.dtype} are not supported")
        return self.storages.tensor(stored.key, DTYPES[stored.dtype], offset, sizes, strides)


def new(cls: Any, arguments: Any) -> Object:
    """An object without attributes so far."""
    if not isinstance(cls, _Name) or not cls.text.startswith("__torch__") or arguments != ():
        raise ValueError(f"an object of {cls!r}")
    if cls.text.startswith("__torch__.torch.classes"):
        raise ValueError(f"an object of the native class {cls.text!r}, which only PyTorch's own loader could restore")
    return Object(cls.text.replace(" ", "."))


def build(target: Any, state: Any) -> Object:
    """The attributes of an object; anything but a dictionary would be for its own ``__setstate__``."""
    if not isinstance(target, Object) or not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError("an object restores itself by __setstate__, which is not run")
    target.fields = state
    return target


def storage(name: Any) -> _Storage:
    """The storage that a persistent id names: ("storage", type, key, device, entries)."""
    kind, cls, key, *_ = name
    if kind != "storage" or not isinstance(cls, _Name) or not cls.text.startswith("torch "):
        raise ValueError(f"an unknown reference {name!r}"[:200])
    return _Storage(cls.text.removeprefix("torch ").removesuffix("Storage"), str(key))


def by_name(value: Any, path: str, found: dict[str, Tensor], seen: dict[int, Any]) -> Any:
    """`value` in eval(), with tensors replaced by their names.

    Args:
        value: What `read_values` returned.
        path: Its own name.
        found: Collects the tensors.
        seen: Objects that were met before, which stay shared.
    """
    if isinstance(value, Tensor):
        found[path] = value
        return Stored(path.removeprefix("."))
    if isinstance(value, list | tuple):
        return type(value)(by_name(item, f"{path}.{number}", found, seen) for number, item in enumerate(value))
    if isinstance(value, dict):
        return {key: by_name(item, f"{path}.{key}", found, seen) for key, item in value.items()}
    if isinstance(value, Object):
        if id(value) not in seen:
            seen[id(value)] = copy = Object(value.cls)
            copy.fields = {key: by_name(item, f"{path}.{key}", found, seen) for key, item in value.fields.items()}
            if "training" in copy.fields:
                copy.fields["training"] = False
        return seen[id(value)]
    return value

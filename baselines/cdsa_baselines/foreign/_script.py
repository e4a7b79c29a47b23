r"""The code of a TorchScript archive: parsed as text, checked against an allow-list, interpreted.

TorchScript writes a module's methods as a small subset of Python: assignments, ``if``, ``for`` over numbers, calls of
operators (``torch.linear(x, w, b)``), of functions and methods that the same archive defines, nothing else. Python's
parser reads it; `Code` refuses every other construct in any line of it, reached or not; `Script` walks what is left.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cdsa_baselines.foreign._ops import REMEDY, SCALAR_OPS, flat, operation
from cdsa_lightning.errors import InputError

__all__ = ["GRAD_MODE", "LISTS", "NAMES", "PRIMITIVES", "Class", "Code", "dotted"]

NAMES = ("getattr", "annotate", "unchecked_cast", "uninitialized", "int", "float", "bool", "str", "range")
"""Functions without a module."""

PRIMITIVES = ("NumToTensor", "RaiseException", "abs", "data", "device", "dtype", "max", "min")
"""Functions of ``ops.prim``."""

LISTS: Mapping[str, Callable[..., Any]] = {
    "append": lambda items, item: items.append(item),
    "format": lambda text, *values: " ".join([text, *map(str, flat(*values))]),
    "len": len,
    "list": lambda items: items.copy(),  # of a list alone: a range could be as long as memory
    "warn": lambda *_: None,
    "__contains__": lambda items, item: item in flat(items)[0],
}
"""Functions of ``torch`` on lists and text; those on numbers and tensors are in `_ops`."""

GRAD_MODE = "__torch__.torch.autograd.grad_mode."
"""Where `torch.no_grad` and its kin live; a policy has no gradients, so that they do nothing."""

_DEEP = re.compile(rb"(?:[-+~(\[{]\s*){100}|(?:\bnot\s+){100}")
NODES = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Import, ast.alias),
    *(ast.Assign, ast.AnnAssign, ast.Return, ast.If, ast.For, ast.Expr, ast.Pass, ast.Load, ast.Store),
    *(ast.With, ast.withitem),
    *(ast.Call, ast.keyword, ast.Attribute, ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Subscript),
    *(ast.UnaryOp, ast.USub),
)
LONGEST = 1 << 20
"""Bytes of code; a network of a hundred layers takes a tenth of it."""


@dataclass
class Class:
    """A class of the archive.

    Args:
        methods: By name.
        constants: Values in the class body, as expressions.
        entries: Names of a named tuple's entries, in order; empty for a module.
    """

    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    entries: tuple[str, ...] = ()


class Code:
    """All classes and functions of an archive by qualified name, checked.

    Args:
        files: Text by member name, ``code/__torch__/a/b.py``.
        source: The archive, for the errors.

    Raises:
        InputError: a construct or a call that has no place in a network.
    """

    def __init__(self, files: Mapping[str, bytes], source: str) -> None:
        self.source = source
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.operators: set[str] = set()
        if sum(len(text) for text in files.values()) > LONGEST:
            raise InputError(f"{source} holds more than {LONGEST:,} bytes of code, which no policy needs.")
        for name, text in files.items():
            module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
            if f"{module}." == GRAD_MODE:
                continue
            try:
                if _DEEP.search(text):  # the parser would take memory for it, and then say that there is none
                    raise InputError("an expression is nested too deeply.")
                tree = ast.parse(text.decode())
                for statement in tree.body:
                    self._define(module, statement)
            except InputError as error:
                raise InputError(f"{source} was refused: in {name}, {error} Nothing in it was executed.") from None
            except Exception as error:  # The parser meets hostile text with several classes of error.
                raise InputError(f"{source}: {name} is not TorchScript: {error}. Export it anew.") from error

    def _define(self, module: str, statement: ast.stmt) -> None:
        """Check one top-level statement and file what it defines."""
        for node in ast.walk(statement):
            if not isinstance(node, NODES):
                raise InputError(f"line {getattr(node, 'lineno', 0)} holds {type(node).__name__}: {REMEDY}")
            if isinstance(node, ast.FunctionDef):
                stored = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and is_stored(name)}
                for call in calls(node):
                    self._require_allowed(call, stored)
        if isinstance(statement, ast.FunctionDef):
            self.functions[f"{module}.{statement.name}"] = statement
        elif isinstance(statement, ast.ClassDef):
            self.classes[f"{module}.{statement.name}"] = self._class(statement)
        elif not isinstance(statement, ast.Import | ast.Assign):  # imports of other members, op_version_set = 1
            raise InputError(f"line {statement.lineno} is neither a class nor a function.")

    def _class(self, definition: ast.ClassDef) -> Class:
        bases = [ast.unparse(base) for base in definition.bases]
        found = Class()
        for statement in definition.body:
            if isinstance(statement, ast.FunctionDef):
                found.methods[statement.name] = statement
            elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                if statement.value is not None:
                    found.constants[statement.target.id] = statement.value
                elif bases == ["NamedTuple"]:
                    found.entries += (statement.target.id,)
            elif isinstance(statement, ast.Assign):
                target = ast.unparse(statement.targets[0])
                if "hooks" in target and ast.unparse(statement.value) != "[]":
                    raise InputError(f"{definition.name} has forward hooks. {REMEDY}")
        if "__setstate__" in found.methods:
            raise InputError(f"{definition.name} restores itself by __setstate__, which is not run. {REMEDY}")
        if bases not in (["Module"], ["NamedTuple"], []):
            raise InputError(f"{definition.name} is a class of kind {bases}. {REMEDY}")
        return found

    def _require_allowed(self, call: ast.Call, stored: set[str]) -> None:
        """Refuse a call of anything but operators and what the archive defines; `stored` are the local variables."""
        name = dotted(call.func)
        if isinstance(call.func, ast.Name):
            allowed = name in NAMES or name in stored  # a variable may hold a function of the archive
        elif name is None:
            allowed = isinstance(call.func, ast.Attribute)  # a method of one of the archive's objects
        elif name.startswith("torch.") and name.count(".") == 1:
            short = name.removeprefix("torch.")
            self.operators.add(short)
            allowed = short == "device" or short in LISTS or short in SCALAR_OPS or callable(operation(short))
        elif name.startswith("ops."):
            allowed = name.removeprefix("ops.prim.") in PRIMITIVES
        else:
            native = name.startswith("__torch__.torch.classes")
            allowed = not native and not name.startswith("torch.")
        if not allowed:
            raise InputError(f"line {call.lineno} calls {ast.unparse(call.func)[:80]!r}. {REMEDY}")


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """All calls below `tree`."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_stored(name: ast.Name) -> bool:
    """Whether `name` is assigned to."""
    return isinstance(name.ctx, ast.Store)


def dotted(node: ast.expr) -> str | None:
    """``a.b.c`` where `node` is such a name; None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None

r"""A TorchScript module as an `nn.Module` that walks its code: values are tensors, numbers, text, and lists of those.

Tensors are buffers, so that they follow ``.to(device)`` and travel in the state dict; the interpreter itself holds no
state between two calls, and refuses to change a stored tensor.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cdsa_baselines.foreign._ops import CREATION, REMEDY, SCALAR_OPS, TENSOR_OPS, flat, operation
from cdsa_baselines.foreign._program import Tensors, TooMuch
from cdsa_baselines.foreign._script import GRAD_MODE, LISTS, NAMES, Code, dotted
from cdsa_baselines.foreign._script_data import Object, Stored, by_name, named
from cdsa_baselines.foreign._tape import Recorder, Tape
from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import entries_of

__all__ = ["Script"]

Function = Callable[..., Any]
_NOTHING = object()
STEPS, CALL = 50_000, 10
"""Statements of a pass, entries of lists and texts in it, `CALL` for an operator; a hundred layers take 15,000."""


class _Function(str):
    """The qualified name of a function of the archive."""


class Script(nn.Module):
    """The forward of a TorchScript module, in eval().

    Args:
        code: Classes and functions, checked.
        root: The module.
        constants: Tensors that the code calls ``CONSTANTS.c0``, ``CONSTANTS.c1``, ...
    """

    def __init__(self, code: Code, root: Object, constants: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.code = code
        found: dict[str, Tensor] = {}
        self.root = by_name(root, "", found, {})
        self.constants = [by_name(value, f".CONSTANTS.c{n}", found, {}) for n, value in enumerate(constants)]
        self.tensors = Tensors({name.removeprefix("."): tensor for name, tensor in found.items()})

    def forward(self, obs: Tensor) -> dict[str, Tensor]:
        """What the module returns for observations [B, S], by name, or by number where it has no names."""
        return named(_Run(self, obs.device).method(self.root, "forward", [obs], {}))

    def tape(self, obs: Tensor) -> Tape | None:
        """The calls of one pass over `obs`; None where they depend on values or on the size of the batch."""
        recorder = Recorder([obs, *self.tensors.buffers()])
        value = _Run(self, obs.device, recorder).method(self.root, "forward", [obs], {})
        if not recorder.straight:
            return None
        outputs = {name: recorder.slots[id(tensor)] for name, tensor in named(value).items()}
        return Tape(self.tensors, recorder.calls, len(recorder.kept), outputs)


class _Run:
    """One forward pass."""

    def __init__(self, script: Script, device: torch.device, recorder: Recorder | None = None) -> None:
        self.script, self.code, self.device, self.recorder = script, script.code, device, recorder
        self.env: dict[str, Any] = {}
        self.left = STEPS

    def spend(self, steps: int) -> None:
        """Count steps: a loop over 10^12 numbers, or a list joined with itself forty times, is no network."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"The program takes more than {STEPS:,} steps for one pass. {REMEDY}")

    # ---- functions -------------------------------------------------------------------------------------------------

    def method(self, target: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A method of one of the archive's objects."""
        if target is GRAD_MODE:
            return None
        if not isinstance(target, Object) or name not in self.code.classes[target.cls].methods:
            raise InputError(f"The program calls {name!r} of a {type(target).__name__}. {REMEDY}")
        return self.function(self.code.classes[target.cls].methods[name], [target, *args], kwargs)

    def function(self, definition: ast.FunctionDef, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The body of `definition` with its own variables."""
        names = [arg.arg for arg in definition.args.args]
        defaults = definition.args.defaults
        values = dict(zip(names[len(names) - len(defaults) :], map(self.value, defaults), strict=True))
        values |= dict(zip(names, args, strict=False)) | kwargs
        outer, self.env = self.env, {name: values[name] for name in names}
        result = self.block(definition.body)
        self.env = outer
        return None if result is _NOTHING else result

    def block(self, statements: list[ast.stmt]) -> Any:
        """What a list of statements returns; _NOTHING where it does not."""
        for statement in statements:
            self.spend(1)
            if isinstance(statement, ast.Return):
                return None if statement.value is None else self.value(statement.value)
            if isinstance(statement, ast.Assign):
                self.assign(statement.targets[0], self.value(statement.value))
            elif isinstance(statement, ast.If):
                chosen = self.plain(bool, self.value(statement.test))
                result = self.block(statement.body if chosen else statement.orelse)
                if result is not _NOTHING:
                    return result
            elif isinstance(statement, ast.For):
                result = self.loop(statement)
                if result is not _NOTHING:
                    return result
            elif isinstance(statement, ast.With):
                if any(self.value(item.context_expr) is not GRAD_MODE for item in statement.items):
                    raise InputError(f"The program enters a context besides torch.no_grad. {REMEDY}")
                result = self.block(statement.body)
                if result is not _NOTHING:
                    return result
            elif isinstance(statement, ast.Expr):
                self.value(statement.value)
            elif not isinstance(statement, ast.Pass):
                raise InputError(f"The program holds a {type(statement).__name__} inside a function. {REMEDY}")
        return _NOTHING

    def loop(self, statement: ast.For) -> Any:
        """``for i in range(n)``; the other kind of loop, which may not end, has no place in a network."""
        for number in self.value(statement.iter):
            self.spend(1)
            self.assign(statement.target, number)
            result = self.block(statement.body)
            if result is not _NOTHING:
                return result
        return _NOTHING

    def assign(self, target: ast.expr, value: Any) -> None:
        """Variables alone: an attribute would be state that lasts from one action to the next."""
        if isinstance(target, ast.Name):
            self.env[target.id] = value
        elif isinstance(target, ast.Tuple):
            parts = list(value.fields.values()) if isinstance(value, Object) else value
            for part, item in zip(target.elts, parts, strict=True):
                self.assign(part, item)
        else:
            raise InputError(f"The program stores {ast.unparse(target)[:80]!r} for its next call. {REMEDY}")

    # ---- expressions -----------------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        if isinstance(node, ast.Name):
            return float(node.id) if node.id in ("inf", "nan") and node.id not in self.env else self.env[node.id]
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Tuple):
            self.spend(len(node.elts))
            return tuple(map(self.value, node.elts))
        if isinstance(node, ast.List):
            self.spend(len(node.elts))
            return list(map(self.value, node.elts))
        if isinstance(node, ast.Dict):
            keys = [self.value(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(self.value, node.values), strict=True))
        if isinstance(node, ast.Subscript):
            return self.item(self.value(node.value), self.value(node.slice))
        if isinstance(node, ast.UnaryOp):
            return SCALAR_OPS["neg"](self.value(node.operand))
        raise InputError(f"The program holds a {type(node).__name__}. {REMEDY}")

    def item(self, container: Any, key: Any) -> Any:
        """Entry `key` of a list, a tuple or a dictionary."""
        if isinstance(container, Object):
            container = list(container.fields.values())
        if not isinstance(container, list | tuple | dict):
            raise InputError(f"The program indexes a {type(container).__name__}. {REMEDY}")
        return container[key]

    def attribute(self, node: ast.Attribute) -> Any:
        """``self.weight``, ``CONSTANTS.c0``, or the name of a function."""
        name = dotted(node) or ""
        if name.startswith("__torch__."):
            return _Function(name)
        if name.startswith("CONSTANTS.c"):
            return self.restored(self.script.constants[int(name.removeprefix("CONSTANTS.c"))])
        return self.field(self.value(node.value), node.attr)

    def field(self, target: Any, name: str) -> Any:
        """Attribute `name` of one of the archive's objects."""
        if not isinstance(target, Object):
            raise InputError(f"The program reads {name!r} of a {type(target).__name__}. {REMEDY}")
        if name in target.fields:
            return self.restored(target.fields[name])
        return self.value(self.code.classes[target.cls].constants[name])

    def restored(self, value: Any) -> Any:
        """`value` with tensors in place of their names."""
        if isinstance(value, Stored):
            return self.script.tensors[value]
        if isinstance(value, list | tuple):
            self.spend(len(value))
            return type(value)(map(self.restored, value))
        if isinstance(value, dict):
            return {key: self.restored(item) for key, item in value.items()}
        return value

    # ---- calls -----------------------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> Any:
        """A call: which one is decided by its text, as `Code` has checked it."""
        name = dotted(node.func)
        if name in ("annotate", "unchecked_cast"):  # their first argument is a type
            return self.value(node.args[1])
        if name == "uninitialized":
            return None
        if name is not None and name.startswith(GRAD_MODE):
            return GRAD_MODE
        args = [self.value(arg) for arg in node.args]
        kwargs = {str(keyword.arg): self.value(keyword.value) for keyword in node.keywords}
        if name == "getattr":
            return self.field(args[0], args[1])
        if name in NAMES:
            makers = {"int": int, "float": float, "bool": bool, "str": str, "range": range}
            return self.plain(makers[name], *(flat(*args) if name == "str" else args))
        if name is not None and name.startswith("torch."):
            return self.operator(name.removeprefix("torch."), args, kwargs)
        if name is not None and name.startswith("ops.prim."):
            return self.primitive(name.removeprefix("ops.prim."), args)
        if isinstance(node.func, ast.Attribute) and not (name or "").startswith("__torch__."):
            return self.method(self.value(node.func.value), node.func.attr, args, kwargs)
        target = self.value(node.func)
        if not isinstance(target, _Function):
            raise InputError(f"The program calls a {type(target).__name__}. {REMEDY}")
        if target in self.code.functions:
            return self.function(self.code.functions[target], args, kwargs)
        return Object(str(target), dict(zip(self.code.classes[target].entries, args, strict=True)))

    def operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """``torch.name(...)``: of tensors, of numbers, or of lists."""
        if name in LISTS:
            return self.plain(LISTS[name], *args)
        if name == "device":
            return self.device
        if name == "tensor":
            self.spend(entries_of(args[0]))
            made = self.traced(torch.tensor, [args[0]], {}, creates=True)
            return made if kwargs.get("dtype") is None else self.traced(operation("to"), [made, kwargs["dtype"]], {})
        given = [item for arg in args for item in (arg if isinstance(arg, list) else [arg])]
        if name in SCALAR_OPS and (name not in TENSOR_OPS or not any(isinstance(item, Tensor) for item in given)):
            return self.plain(SCALAR_OPS[name], *args)
        if name.endswith("_") and any(args[0] is stored for stored in self.script.tensors.buffers()):
            raise InputError(f"The program changes a stored tensor by {name!r} at each call. {REMEDY}")
        self.spend(CALL)
        return self.traced(operation(name), args, kwargs, creates=name in CREATION, steady=name == "dim")

    def primitive(self, name: str, args: list[Any]) -> Any:
        """``ops.prim.name(...)``."""
        if name == "RaiseException":
            raise InputError(f"The program ends itself: {' '.join(map(str, args))[:200]}")
        if name == "NumToTensor":
            return self.traced(torch.tensor, args, {})  # on the CPU, where a lone number fits any device
        if name == "data":
            return self.traced(operation("detach"), args, {})
        if name == "device":
            return self.device
        return torch.ops.prim.dtype(*args) if name == "dtype" else self.plain(SCALAR_OPS[name], *args)

    def traced(
        self, function: Function, args: list[Any], kwargs: dict[str, Any], creates: bool = False, steady: bool = False
    ) -> Any:
        """A call that a tape repeats; where its result is a number, other batches have another one unless `steady`."""
        result = function(*args, **(kwargs | {"device": self.device} if creates else kwargs))
        if self.recorder is not None:
            parts = result if isinstance(result, list | tuple) else [result]
            if any(isinstance(part, Tensor) for part in parts):
                self.recorder.write(function, creates, args, kwargs, result)
            else:
                self.recorder.straight &= steady
        return result

    def plain(self, function: Function, *args: Any) -> Any:
        """A Python value out of `args`; one that depends on a tensor's values is no matter of a tape."""
        if self.recorder is not None and function not in STEADY:
            self.recorder.straight &= not any(isinstance(arg, Tensor) for arg in args)
        result = function(*args)
        if isinstance(result, list | str):
            self.spend(len(result))
        return result


STEADY = (SCALAR_OPS["__is__"], SCALAR_OPS["__isnot__"], LISTS["append"], LISTS["warn"])
"""What may be asked of a tensor without looking at its values."""

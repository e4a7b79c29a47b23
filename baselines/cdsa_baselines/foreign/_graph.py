r"""The graph of a torch.export archive, read from its JSON into a `Tape`.

The JSON lists operator calls by name, with arguments that are constants or names of earlier results. Sizes that depend
on the batch are computed by calls of their own; the symbolic expressions beside them (which PyTorch's loader evaluates
as Python) are not needed, and not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from cdsa_baselines.foreign._ops import REMEDY, SCALAR_OPS
from cdsa_baselines.foreign._tape import HERE, Call, Slot, operator_call
from cdsa_lightning.errors import InputError
from cdsa_lightning.storages import DTYPES

__all__ = ["NUMBER_TYPES", "Graph", "argument"]

CALLS = 10_000
"""Operators that a program calls, one after the other."""
NUMBER_TYPES = {
    **{1: "Byte", 2: "Char", 3: "Short", 4: "Int", 5: "Long", 6: "Half", 7: "Float", 8: "Double", 12: "Bool"},
    13: "BFloat16",
}
"""Numbers by which the format calls number types -> PyTorch's names."""

MEMORY_FORMATS = {1: torch.contiguous_format, 4: torch.preserve_format}
PLAIN = ("as_int", "as_ints", "as_floats", "as_bool", "as_bools", "as_string")
NAMED = ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor")
LISTS = ("as_tensors", "as_sym_ints", "as_sym_floats", "as_optional_tensors")
PYTHON = {"torch.sym_max": "max", "torch.sym_min": "min", "torch.sym_float": "Float", "torch.sym_int": "Int"}
CHECKS = re.compile(r"torch\.ops\.aten\.(_assert_\w+|sym_constrain_range\w*)\.\w+")
"""Calls that only ask whether sizes and devices are as they were at the export."""
GRAD_MODE = "torch.ops.higher_order.wrap_with_set_grad_enabled"


class Graph:
    """Calls over slots, in order.

    Args:
        given: Names of the observations and the tensors, which take the first slots.
        nodes: The graph's ``nodes``.

    Raises:
        InputError: a call of anything but an operator that a network may call; KeyError, TypeError and the like where
            the JSON is malformed.
    """

    def __init__(self, given: list[str], nodes: list[dict[str, Any]]) -> None:
        self.slots = {name: Slot(number) for number, name in enumerate(given)}
        self.size = len(given)
        self.calls: list[Call] = []
        self.operators: set[str] = set()
        self.fixed = set(given[1:])
        self._add(nodes, self.slots)

    def _add(self, nodes: list[dict[str, Any]], names: dict[str, Slot]) -> None:
        for node in nodes:
            target = node["target"]
            if target == GRAD_MODE:
                self._inline(node, names)
            elif not CHECKS.fullmatch(target):
                self._call(target, node, names)

    def _call(self, target: str, node: dict[str, Any], names: dict[str, Slot]) -> None:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for given in node["inputs"]:
            value = argument(given["arg"], names)
            if given.get("kind") == 2:
                kwargs[given["name"]] = value
            else:
                args.append(value)
        outputs = node["outputs"]
        out = [self._new(output, names) for output in outputs]
        results: Any = out[0] if len(out) == 1 else out
        match = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
        python = PYTHON.get(target) or target.removeprefix("_operator.").removeprefix("math.")
        if match is not None:
            self.operators.add(match[1])
            self._refuse_change(match[1], node)
            self.calls.append(operator_call(match[1], match[2], args, kwargs, results))
        elif python in SCALAR_OPS and (target in PYTHON or target.startswith(("_operator.", "math."))):
            self.calls.append(Call(SCALAR_OPS[python], args, kwargs, results))
        else:
            raise InputError(f"it calls {target[:80]!r}, which is none of the operators that a network may. {REMEDY}")
        if len(self.calls) > CALLS:
            raise InputError(f"it calls more than {CALLS:,} operators. {REMEDY}")

    def _refuse_change(self, name: str, node: dict[str, Any]) -> None:
        """Changing a weight in place would make the policy more than a function."""
        changed = node["inputs"][0]["arg"].get("as_tensor", {}).get("name") if node["inputs"] else None
        if name.endswith("_") and changed in self.fixed:
            raise InputError(f"it changes {changed[:80]!r} at each call, by {name!r}. {REMEDY}")

    def _inline(self, node: dict[str, Any], names: dict[str, Slot]) -> None:
        """A part of the network that ran under `torch.no_grad`: the same calls without the wrapper."""
        _, wrapped, *given = (entry["arg"] for entry in node["inputs"])
        graph = wrapped["as_graph"]["graph"]
        inner: dict[str, Any] = {}
        for taken, value in zip(graph["inputs"], given, strict=True):
            inner[name_of(next(iter(taken.values())))] = argument(value, names)
        self._add(graph["nodes"], inner)
        parts = [part for output in node["outputs"] for part in output.get("as_tensors", [*output.values()])]
        for part, result in zip(parts, graph["outputs"], strict=True):
            names[name_of(part)] = argument(result, inner)

    def _new(self, output: Mapping[str, Any], names: dict[str, Slot]) -> Any:
        """A slot for each name in one output of a call."""
        ((kind, value),) = output.items()
        if kind == "as_none":
            return None
        if kind in LISTS:
            return [self._slot(entry, names) for entry in value]
        if kind not in NAMED:
            raise InputError(f"it holds a result of kind {kind!r}. {REMEDY}")
        return self._slot(value, names)

    def _slot(self, value: Mapping[str, Any], names: dict[str, Slot]) -> Slot:
        slot = names[name_of(value)] = Slot(self.size)
        self.size += 1
        return slot


def name_of(value: Mapping[str, Any]) -> str:
    """The name in ``{"name": ...}`` or ``{"as_name": ...}``."""
    name = value["name"] if "name" in value else value["as_name"]
    if not isinstance(name, str):
        raise TypeError(f"a name is a {type(name).__name__}")
    return name


def argument(arg: Mapping[str, Any], names: Mapping[str, Slot]) -> Any:
    """One argument of a call: a constant, a slot, `HERE`, or a list of those."""
    ((kind, value),) = arg.items()
    if kind == "as_none":
        return None
    if kind == "as_float":
        return float(value)  # infinities are written as text
    if kind in PLAIN:
        return value
    if kind in NAMED or kind in LISTS:
        return [entry(item, names) for item in value] if kind in LISTS else entry(value, names)
    if kind == "as_scalar_type":
        return DTYPES[NUMBER_TYPES[value]]
    if kind == "as_memory_format":
        return MEMORY_FORMATS[value]
    if kind == "as_layout" and value == 7:
        return torch.strided
    if kind == "as_device":
        return HERE
    raise InputError(f"it holds an argument of kind {kind!r}. {REMEDY}")


def entry(value: Mapping[str, Any], names: Mapping[str, Slot]) -> Any:
    """A named value, a number where a list mixes numbers with names, or None."""
    if "as_tensor" in value:
        value = value["as_tensor"]
    if "as_none" in value:
        return None
    for kind in ("as_int", "as_float", "as_bool"):
        if kind in value:
            return value[kind]
    return names[name_of(value)]

"""A policy's graph as a list of operations: walked once, from the observation to the action.

What depends on no observation is computed here and becomes a tensor; what only moves the axis of the seeds is left out.
"""

from __future__ import annotations

import operator
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.export.operations import List, Rows, Wordless
from cdsa_lightning.export.program import trace
from cdsa_lightning.export.wording import COMPARISONS, WORDING
from cdsa_lightning.runtime.operations import Program

__all__ = ["operations_of"]

_SPLITS = {f"aten.{name}" for name in ("chunk.default", "split.Tensor", "split_with_sizes.default", "unbind.int")}
_INSTEAD = (
    "Use --format onnx, torchscript or pt2, or export the corrector alone (leave the policy out), and hand it the "
    "actions of whatever acts."
)


def operations_of(policy: Policy, obs_dim: int) -> tuple[list[list[Any]], dict[str, Tensor]]:
    """A policy of one training seed as operations, and the tensors that they name.

    Args:
        policy: On the CPU, in eval().
        obs_dim: S.

    Raises:
        InputError: its Python code cannot be followed, or it does what the operations have no words for.
    """
    program = trace(policy, (torch.zeros(2, obs_dim),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of itself
        program = program.run_decompositions({})  # {}: no smaller operators; none that works in place, or is not needed
    made = List(obs_dim)
    answer = _walk(program, made)
    if not isinstance(answer, Rows):
        raise InputError(f"The policy's action does not depend on the observation. {_INSTEAD}")
    try:
        arrays = {name: tensor.numpy() for name, tensor in made.tensors.items()}
        Program(made.operations, arrays, obs_dim, policy.action_dim)
    except ValueError as error:
        raise InputError(f"The policy cannot be written into a safetensors file: {error}. {_INSTEAD}") from None
    return made.operations, made.tensors


def _walk(program: torch.export.ExportedProgram, made: List) -> Any:
    """Write down the graph; what it answers."""
    values: dict[fx.Node, Any] = {}
    batch = ""
    if program.graph_signature.buffers_to_mutate:
        raise InputError(f"The policy changes its own buffers when it is asked. {_INSTEAD}")
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = _stored(program, node.name)
            if values[node] is None:
                values[node], batch = made.obs, str(node.meta["val"].shape[0])
        elif node.op == "output":
            return values[node.args[0][0]]
        elif isinstance(node.meta.get("val"), Tensor | list | tuple):
            try:
                values[node] = _value(node, made, values, batch)
            except (Wordless, TypeError):  # TypeError: arguments that its wording does not have
                raise InputError(
                    f"The policy uses {node.target}, for which a safetensors file has no words. {_INSTEAD}"
                ) from None


def _stored(program: torch.export.ExportedProgram, name: str) -> Tensor | None:
    """The parameter, buffer or constant that stands behind an input of the graph; None for the observation."""
    signature = program.graph_signature
    kinds = signature.inputs_to_parameters, signature.inputs_to_buffers, signature.inputs_to_lifted_tensor_constants
    held = {**program.constants, **program.state_dict}
    return next((held[names[name]] for names in kinds if name in names), None)


def _value(node: fx.Node, made: List, values: dict[fx.Node, Any], batch: str) -> Any:
    """What a node computes: a tensor, rows, or a list of them."""
    given: Any = fx.node.map_arg((node.args, node.kwargs), values.get)
    args, kwargs = given
    target: Any = node.target
    if not any(_depends(values.get(one)) for one in node.all_input_nodes):
        return target(*args, **kwargs)
    shown, name = node.meta["val"], str(target)
    if name in _SPLITS:
        return _parts(made, args[0], [_width(part, batch) for part in shown], {user.args[1] for user in node.users})
    found: Any
    if target is operator.getitem:
        found = args[0][args[1]]
    elif name in WORDING and (shown.dtype != torch.bool or name in COMPARISONS):
        found = WORDING[name](made, *args, **kwargs)
    else:
        raise Wordless
    if found.width != _width(shown, batch):
        raise Wordless
    return replace(found, axes=shown.ndim)


def _depends(value: Any) -> bool:
    """Whether it is another one for another observation."""
    return isinstance(value, Rows) or (isinstance(value, list) and any(map(_depends, value)))


def _parts(made: List, x: Rows, widths: list[int | None], wanted: set[Any]) -> list[Rows | None]:
    """Rows in parts, of which those that are not wanted are left out."""
    found: list[Rows | None] = []
    start = 0
    for number, width in enumerate(widths):
        if width is None:
            raise Wordless
        found.append(made.slice(x, start, start + width) if number in wanted else None)
        start += width
    if start != x.width:
        raise Wordless
    return found


def _width(shown: Tensor, batch: str) -> int | None:
    """Of the rows that a tensor of the graph stands for: [B], [B, W], or [1, B, W]; None for any other shape."""
    shape = list(shown.shape)
    while shape and isinstance(shape[0], int) and shape[0] == 1:
        del shape[0]
    if not shape or str(shape[0]) != batch or not all(isinstance(size, int) for size in shape[1:]):
        return None
    if len(shape) > 2 or not (shown.dtype.is_floating_point or shown.dtype == torch.bool):
        return None
    return shape[1] if len(shape) == 2 else 1

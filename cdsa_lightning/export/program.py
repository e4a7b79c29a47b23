"""torch.export: the graph behind ``.pt2`` archives and ONNX files, its batch free."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cdsa_lightning.errors import InputError
from cdsa_lightning.export.subject import Subject
from cdsa_lightning.runtime.sessions import KEY

__all__ = ["KEY", "build", "example", "exported", "metadata", "output_name", "reader", "trace"]

_MADE_HERE = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")


def example(subject: Subject) -> tuple[Tensor, ...]:
    """Two rows of what the graph takes."""
    widths = {"obs": subject.about["obs_dim"], "action": subject.about["action_dim"]}
    return tuple(torch.zeros(2, widths[name]) for name in subject.inputs)


def output_name(subject: Subject) -> str:
    """What the answer is called; an input cannot share its name."""
    return "action" if subject.policy is not None else "corrected"


def exported(subject: Subject) -> torch.export.ExportedProgram:
    """The graph as a program of torch.export.

    Raises:
        InputError: the policy's Python code cannot be followed.
    """
    return trace(subject.graph, example(subject))


def trace(module: nn.Module, given: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """A module as a program of torch.export, for any number of rows.

    Args:
        module: Takes `given`.
        given: Two rows of each input.

    Raises:
        InputError: its Python code cannot be followed.
    """
    rows = tuple({0: torch.export.Dim.DYNAMIC} for _ in given)
    try:
        with torch.no_grad():
            program = torch.export.export(module, given, dynamic_shapes=rows, strict=False)
    except Exception as error:  # A stranger's network may stop the tracer in any way.
        raise InputError(
            f"The policy cannot become a graph: {str(error).strip().splitlines()[0][:300]}. Export the corrector alone "
            "(leave the policy out), and hand it the actions of whatever acts."
        ) from error
    return program


def build(subject: Subject) -> Callable[[Path, dict[str, Any]], None]:
    """The program, and how to write it with what is said about it.

    Raises:
        InputError: the policy's Python code cannot be followed.
    """
    program = exported(subject)
    for node in program.graph.nodes:  # stack traces with the paths of this machine
        for key in _MADE_HERE:
            node.meta.pop(key, None)

    def write(path: Path, about: dict[str, Any]) -> None:
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files={KEY: json.dumps(about)})

    return write


def reader(path: Path, subject: Subject) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The file as torch.export answers it."""
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    count = len(subject.inputs)

    @torch.no_grad()
    def ask(*given: np.ndarray) -> np.ndarray:
        return module(*(torch.from_numpy(rows) for rows in given[:count])).numpy()

    return ask


def metadata(path: Path) -> dict[str, Any]:
    """What the file says about itself."""
    extra = {KEY: ""}
    with path.open("rb") as file:
        torch.export.load(file, extra_files=extra)
    return json.loads(extra[KEY])

"""TorchScript: the graph by trace, for C++ and for programs that load with `torch.jit.load`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cdsa_lightning.errors import InputError
from cdsa_lightning.export.program import KEY, example
from cdsa_lightning.export.subject import Subject

__all__ = ["build", "metadata", "reader"]


def build(subject: Subject) -> Callable[[Path, dict[str, Any]], None]:
    """The trace, and how to write it with what is said about it.

    Raises:
        InputError: the policy's Python code cannot be followed.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is old; that sizes were looked at, which parity judges
            script = torch.jit.freeze(torch.jit.trace(subject.graph, example(subject), check_trace=False))
    except Exception as error:  # A stranger's network may stop the tracer in any way.
        raise InputError(
            f"The policy cannot be traced: {str(error).strip().splitlines()[0][:300]}. Export the corrector alone "
            "(leave the policy out), and hand it the actions of whatever acts."
        ) from error

    def write(path: Path, about: dict[str, Any]) -> None:
        with warnings.catch_warnings(), path.open("wb") as file:
            warnings.simplefilter("ignore")
            torch.jit.save(script, file, _extra_files={KEY: json.dumps(about)})

    return write


def reader(path: Path, subject: Subject) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The file as TorchScript answers it."""
    script = _load(path)
    count = len(subject.inputs)

    @torch.no_grad()
    def ask(*given: np.ndarray) -> np.ndarray:
        return script(*(torch.from_numpy(rows) for rows in given[:count])).numpy()

    return ask


def _load(path: Path, extra: dict[str, Any] | None = None) -> Any:
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        return torch.jit.load(file, map_location="cpu", _extra_files=extra)


def metadata(path: Path) -> dict[str, Any]:
    """What the file says about itself."""
    extra: dict[str, Any] = {KEY: ""}
    _load(path, extra)
    return json.loads(extra[KEY])

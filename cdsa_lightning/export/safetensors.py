"""The artefact of `cdsa fit` once more: one seed, or the mean, with the coefficients that it shall correct with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.core.artifact import read_header, save_corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.export.subject import Subject
from cdsa_lightning.runtime.corrector import NumpyCorrector

__all__ = ["build", "metadata", "reader"]

_KEY = "export"


def build(subject: Subject) -> Callable[[Path, dict[str, Any]], None]:
    """How to write the corrector with what is said about it.

    Raises:
        InputError: it is fused with a policy, for which the artefact has no place.
    """
    if subject.policy is not None:
        raise InputError(
            "A safetensors file holds a corrector, and no policy: leave the policy out, or fuse the two with --format "
            "onnx, torchscript or pt2."
        )
    corrector = subject.corrector
    known, seed = corrector.info.get("seeds"), subject.about["corrector"]["seed"]

    def write(path: Path, about: dict[str, Any]) -> None:
        info = dict(corrector.info)
        if isinstance(known, list) and isinstance(seed, int) and seed < len(known):
            corrector.info["seeds"] = known[seed : seed + 1]
        corrector.info[_KEY] = about
        try:
            save_corrector(corrector, path)
        finally:
            corrector.info = info

    return write


def reader(path: Path, subject: Subject) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The file as NumPy answers it."""
    return NumpyCorrector(path).correct


def metadata(path: Path) -> dict[str, Any]:
    """What the file says about itself."""
    return read_header(path)[_KEY]

"""The artefact of `cdsa fit` once more: one seed, or the mean, its coefficients, and a policy that it is fused with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.core.artifact import read_header, save_corrector
from cdsa_lightning.export.listing import operations_of
from cdsa_lightning.export.subject import Subject
from cdsa_lightning.runtime.corrector import NumpyCorrector
from cdsa_lightning.runtime.policy import NumpyPolicy

__all__ = ["build", "metadata", "reader"]

_KEY = "export"


def build(subject: Subject) -> Callable[[Path, dict[str, Any]], None]:
    """How to write the corrector, and the policy as a list of operations, with what is said about them.

    Raises:
        InputError: the policy's Python code cannot be followed, or does what the operations have no words for.
    """
    corrector = subject.corrector
    policy = None if subject.policy is None else operations_of(subject.policy, corrector.obs_dim)
    known, seed = corrector.info.get("seeds"), subject.about["corrector"]["seed"]

    def write(path: Path, about: dict[str, Any]) -> None:
        info = dict(corrector.info)
        if isinstance(known, list) and isinstance(seed, int) and seed < len(known):
            corrector.info["seeds"] = known[seed : seed + 1]
        corrector.info[_KEY] = about
        try:
            save_corrector(corrector, path, policy)
        finally:
            corrector.info = info

    return write


def reader(path: Path, subject: Subject) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The file as NumPy answers it."""
    if subject.policy is None:
        return NumpyCorrector(path).correct
    policy = NumpyPolicy(path)
    return lambda obs, action: policy.act(obs)


def metadata(path: Path) -> dict[str, Any]:
    """What the file says about itself."""
    return read_header(path)[_KEY]

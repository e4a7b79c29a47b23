"""A policy fused with its corrector, in NumPy: the operations of the one, then the matrices of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime.corrector import NumpyCorrector, check_rows

__all__ = ["NumpyPolicy"]


class NumpyPolicy:
    """A file that `cdsa export --format safetensors --baseline NAME` wrote, without torch.

    Args:
        path: The file.

    Attributes:
        about: What the file says about itself: task, coefficients, parity, ...
        corrector: The corrector in it, which can be asked alone.

    Raises:
        InputError: missing, damaged, or a corrector alone.
    """

    def __init__(self, path: str | Path) -> None:
        self.corrector = NumpyCorrector(path)
        if self.corrector.policy is None:
            raise InputError(f"{path} holds a corrector, not a policy: open it with NumpyCorrector.")
        self._policy = self.corrector.policy
        self.obs_dim, self.action_dim = self.corrector.obs_dim, self.corrector.action_dim
        self.about: Any = self.corrector.header.get("export", {})

    @np.errstate(all="ignore")  # as torch, which does not tell of overflow either
    def act(self, obs: Any) -> np.ndarray:
        """The corrected action, [A] or [B, A], of an observation [S] or [B, S].

        Raises:
            InputError: another shape.
        """
        rows = check_rows(obs, self.obs_dim, "Observations")
        return self.corrector.correct(rows, self._policy(rows))

    __call__ = act

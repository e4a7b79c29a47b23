r"""Uniform actions: a ~ U(low, high), independent of the observation.

The behaviour policy of D4RL's `random` sets, and the floor of every comparison.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import Task

__all__ = ["RandomPolicy", "load"]


class RandomPolicy(Policy):
    """Actions drawn uniformly between the bounds, from the policy's own generator.

    Args:
        low, high: Action bounds, [A], finite, environment units.
        seed: First seed; `reseed` sets another.

    Raises:
        InputError: a bound is infinite.
    """

    stochastic = True

    def __init__(self, low: Any, high: Any, seed: int = 0) -> None:
        super().__init__(low, high)
        if not bool(torch.isfinite(self.high - self.low).all()):
            raise InputError(
                f"Uniform actions need finite action bounds, got {self.low.tolist()}, {self.high.tolist()}."
            )
        # On the CPU whatever the device: the same seed then gives the same actions everywhere.
        self._generator = torch.Generator()
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def forward(self, obs: Float[Tensor, "*seeds B S"]) -> Float[Tensor, "*seeds B A"]:
        unit = torch.rand(*obs.shape[:-1], self.action_dim, generator=self._generator).to(obs.device)
        return self.clip(self.low + (self.high - self.low) * unit)


def load(checkpoint: Path | None, task: Task) -> Policy:
    """Uniform actions within the bounds of `task`.

    Args:
        checkpoint: Must be None.
        task: Gives the action bounds.

    Raises:
        InputError: a checkpoint is given, or the action space is unbounded.
    """
    if checkpoint is not None:
        raise InputError(
            f"Baseline 'random' has nothing to restore from {str(checkpoint)!r}: leave the checkpoint out."
        )
    return RandomPolicy(task.low, task.high)

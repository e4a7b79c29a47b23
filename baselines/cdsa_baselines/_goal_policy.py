"""How POR acts, whoever trained it: pi(s, g(s)). Torch alone, so that restoring the authors' files needs no trainer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["GoalThenAction"]


class GoalThenAction(nn.Module):
    """pi([s, g(s)]).

    Args:
        goal: g, from [..., S] to [..., S].
        action: pi, from [..., 2 S] to [..., A].
    """

    def __init__(self, goal: nn.Module, action: nn.Module) -> None:
        super().__init__()
        self.goal, self.action = goal, action

    def forward(self, obs: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch A"]:
        return self.action(torch.cat((obs, self.goal(obs)), -1))

r"""Policies: raw observations in, actions in the environment's units out.

A policy is an `nn.Module` with ``forward(obs: [B, S]) -> [B, A]``. It owns its normalisation, its rows are independent
of each other, its output lies within the action bounds and on the device of its input, and in ``eval()`` it is a
function.

One policy may hold several training seeds. It then says ``num_seeds = E`` and works on ``[E, B, S] -> [E, B, A]``,
row e of the leading axis acted on by seed e.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cdsa_lightning.errors import InputError

__all__ = ["FunctionPolicy", "NormalizedPolicy", "Policy", "act"]


class Policy(nn.Module):
    """A batched policy with its action bounds.

    Args:
        low: Lower bound of each action entry, [A], environment units.
        high: Upper bound of each action entry, [A], environment units.

    Raises:
        InputError: the bounds differ in shape, or a lower bound is not below its upper bound.
    """

    num_seeds: int = 1
    """How many training seeds act side by side; above 1 the policy works on [E, B, S]."""

    stochastic: bool = False
    """True where `forward` draws random numbers in eval(); `reseed` then makes them repeatable."""

    on_host: bool = False
    """True where `forward` computes on the CPU: it fetches the observations and sends the actions back."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Any, high: Any) -> None:
        super().__init__()
        low = torch.as_tensor(low, dtype=torch.float32).clone()
        high = torch.as_tensor(high, dtype=torch.float32).clone()
        if low.shape != high.shape or low.ndim != 1:
            raise InputError(
                f"Action bounds must be two vectors of one length, got {tuple(low.shape)}, {tuple(high.shape)}."
            )
        if not bool((low < high).all()):
            raise InputError(
                f"Each lower action bound must be below its upper bound, got {low.tolist()}, {high.tolist()}."
            )
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    @property
    def action_dim(self) -> int:
        """A, the number of action entries."""
        return self.low.shape[0]

    def clip(self, action: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch A"]:
        """`action` within the bounds."""
        return torch.minimum(torch.maximum(action, self.low), self.high)

    def reseed(self, seed: int) -> None:
        """Restart the policy's own random numbers; nothing to do for a deterministic policy."""

    def forward(self, obs: Float[Tensor, "*seeds B S"]) -> Float[Tensor, "*seeds B A"]:
        raise NotImplementedError  # abstract: every policy writes its own


def act(policy: Policy, obs: Float[Tensor, "E B S"]) -> Float[Tensor, "E B A"]:
    """The actions of `policy` on `obs` with a seed axis, whether or not the policy has one itself.

    A single-seed policy sees all rows as one batch; a policy of E seeds needs exactly E on the leading axis.

    Raises:
        InputError: the policy holds another number of seeds than `obs`.
    """
    if policy.num_seeds == 1:
        return policy(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])  # also of no rows at all
    if policy.num_seeds != obs.shape[0]:
        raise InputError(f"The policy holds {policy.num_seeds} seeds, the observations {obs.shape[0]}.")
    return policy(obs)


class NormalizedPolicy(Policy):
    """A network on standardised observations: clip(offset + scale * net((obs - mean) / std)).

    Args:
        net: Maps [B, S] to [B, A]; [E, B, S] to [E, B, A] where `num_seeds` is given.
        low, high: Action bounds, [A].
        obs_mean, obs_std: Statistics of each observation entry, [S]; zeros and ones where the net takes raw values.
        unit_output: True where the net's outputs in [-1, 1] span the bounds; False where they are in environment units.
        num_seeds: Training seeds E that `net` holds side by side, 1 included; None for a net without a seed axis.

    Raises:
        InputError: an entry of `obs_std` is not positive.
    """

    obs_mean: Tensor
    obs_std: Tensor

    def __init__(
        self,
        net: nn.Module,
        low: Any,
        high: Any,
        obs_mean: Any,
        obs_std: Any,
        unit_output: bool = False,
        num_seeds: int | None = None,
    ) -> None:
        super().__init__(low, high)
        self.net, self.stacked = net, num_seeds is not None
        self.num_seeds = num_seeds or 1
        self.unit_output = unit_output
        obs_std = torch.as_tensor(obs_std, dtype=torch.float32).clone()
        if not bool((obs_std > 0).all()):
            raise InputError(f"obs_std must be positive in every entry, got {obs_std.tolist()}.")
        self.register_buffer("obs_mean", torch.as_tensor(obs_mean, dtype=torch.float32).clone())
        self.register_buffer("obs_std", obs_std)

    def forward(self, obs: Float[Tensor, "*seeds B S"]) -> Float[Tensor, "*seeds B A"]:
        normalized = (obs - self.obs_mean) / self.obs_std
        if self.stacked and obs.ndim == 2:  # one seed works on [B, S]
            action = self.net(normalized.unsqueeze(0)).squeeze(0)
        else:
            action = self.net(normalized)
        if self.unit_output:
            action = (self.low + self.high) / 2 + (self.high - self.low) / 2 * action
        return self.clip(action)


class FunctionPolicy(Policy):
    """Any batched function as a policy.

    Args:
        function: Maps observations [B, S] to actions [B, A], NumPy to NumPy or torch to torch.
        low, high: Action bounds, [A].
        numpy: True where `function` works on NumPy arrays (float32).
    """

    def __init__(self, function: Callable[[Any], Any], low: Any, high: Any, numpy: bool = False) -> None:
        super().__init__(low, high)
        self.function = function
        self.numpy = self.on_host = numpy

    def forward(self, obs: Float[Tensor, "B S"]) -> Float[Tensor, "B A"]:
        given = obs.detach().cpu().numpy() if self.numpy else obs
        action = torch.as_tensor(self.function(given), dtype=torch.float32, device=obs.device)
        if action.shape != (obs.shape[0], self.action_dim):
            raise InputError(
                f"The policy function returned shape {tuple(action.shape)}, expected {(obs.shape[0], self.action_dim)}."
            )
        return self.clip(action)

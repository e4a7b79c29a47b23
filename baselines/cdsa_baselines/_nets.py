r"""What trained baselines share: critics in pairs, actors, target networks, the expectile loss, scales of rewards.

Everything has the seed axis of `core.nets` in front. Twins are neighbours on the stacked axis: critic 1 of all seeds,
then critic 2 of all seeds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.data import DataInfo
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.stepping import flatten

__all__ = [
    "REWARDS",
    "ActionBox",
    "GaussianActor",
    "Standardizer",
    "Target",
    "TanhGaussianActor",
    "Twins",
    "asymmetric_square",
    "frozen_copy",
    "gaussian_log_prob",
    "relu",
    "require_reward",
    "reward_transform",
]

Net = TypeVar("Net", bound=nn.Module)

REWARDS = {"raw": (1.0, 0.0), "minus_one": (1.0, -1.0), "ten_minus_five": (10.0, -5.0)}
"""Name -> scale and shift of rewards; ``scaled`` (1000 over the spread of the data's returns) comes beside them."""


def reward_transform(name: str, info: DataInfo) -> tuple[float, float]:
    """Scale and shift of the rewards, r' = scale r + shift.

    Args:
        name: A key of `REWARDS`, or ``scaled``: 1000 / (largest - smallest return of the data).
        info: The data's statistics.

    Raises:
        InputError: unknown name, or all episodes of the data have the same return.
    """
    if name != "scaled":
        return REWARDS[require_reward(name)]
    spread = info.max_return - info.min_return
    if not spread > 0:
        raise InputError("All episodes of the data have the same return; use --model.reward raw.")
    return 1000 / spread, 0.0


def relu() -> nn.Module:
    """ReLU that works in place: a hidden layer of many rows is not written twice."""
    return nn.ReLU(inplace=True)


def require_reward(name: str) -> str:
    """`name` itself.

    Raises:
        InputError: `reward_transform` knows no such name.
    """
    if name != "scaled" and name not in REWARDS:
        raise unknown_name("reward", name, (*REWARDS, "scaled"))
    return name


def asymmetric_square(diff: Tensor, tau: float) -> Tensor:
    """The expectile loss |tau - 1(u < 0)| u^2 of each entry (IQL, Eq. 4)."""
    return (tau - (diff.detach() < 0).to(diff.dtype)).abs() * diff.square()


def gaussian_log_prob(
    x: Float[Tensor, "E B D"], mean: Float[Tensor, "E B D"], log_std: Float[Tensor, "E _ D"]
) -> Float[Tensor, "E B 1"]:
    """log N(x; mean, exp(log_std)^2), summed over the last axis."""
    density = -0.5 * ((x - mean) * (-log_std).exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    return density.sum(-1, keepdim=True)


class ActionBox(nn.Module):
    """Between environment units and the box [-1, 1] that networks see; infinite bounds cannot be scaled.

    Raises:
        InputError: a bound is not finite.
    """

    middle: Tensor
    half_range: Tensor

    def __init__(self, info: DataInfo) -> None:
        super().__init__()
        low, high = torch.tensor(info.low), torch.tensor(info.high)
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise InputError(f"Actions are scaled by their bounds, which must be finite: {info.low}, {info.high}.")
        self.register_buffer("middle", (low + high) / 2, persistent=False)
        self.register_buffer("half_range", (high - low) / 2, persistent=False)

    def to_unit(self, action: Tensor) -> Tensor:
        """Environment units -> [-1, 1]."""
        return (action - self.middle) / self.half_range

    def from_unit(self, action: Tensor) -> Tensor:
        """[-1, 1] -> environment units."""
        return self.middle + self.half_range * action


class Standardizer(nn.Module):
    """(obs - mean) / (std + eps) with the data's statistics; `mean` and `std` (eps included) are what a policy takes.

    Args:
        info: The data's statistics.
        eps: Keeps entries that hardly change from being blown up.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, info: DataInfo, eps: float = 1e-3) -> None:
        super().__init__()
        # They travel in the checkpoint's record of the data, so the state dict leaves them out.
        self.register_buffer("mean", torch.tensor(info.obs_mean), persistent=False)
        self.register_buffer("std", torch.tensor(info.obs_std) + eps, persistent=False)

    def forward(self, obs: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch S"]:
        return (obs - self.mean) / self.std


class Twins(nn.Module):
    """Two critics Q(s, a) or values V(s) per seed.

    Args:
        sizes: Widths, input and output included.
        generators: One per seed.
        layer_norm: Normalise hidden layers.
    """

    def __init__(self, sizes: Sequence[int], generators: list[Generator], layer_norm: bool = False) -> None:
        super().__init__()
        self.net = stacked_mlp(sizes, relu(), generators * 2, layer_norm)

    def forward(self, x: Float[Tensor, "E B I"], frozen: bool = False) -> Float[Tensor, "2 E B O"]:
        """Both answers; gradients pass `frozen` networks without reaching them."""
        return self.net(x.repeat(2, 1, 1), None, frozen).unflatten(0, (2, -1))


class GaussianActor(nn.Module):
    """N(f(s), exp(log_std)^2) with a deviation that is free of the state.

    Args:
        sizes: Widths of f, input and output included.
        generators: One per seed.
        squash: Put tanh on f.
        log_std_range: The log-deviation is clamped to it; it starts at 0.
        layer_norm: Normalise hidden layers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: list[Generator],
        squash: bool,
        log_std_range: tuple[float, float] = (-5.0, 2.0),
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.net = stacked_mlp(sizes, relu(), generators, layer_norm)
        self.log_std = nn.Parameter(torch.zeros(len(generators), 1, sizes[-1]))
        self.squash, self.log_std_range = squash, log_std_range

    def forward(self, x: Float[Tensor, "E B I"], frozen: bool = False) -> Float[Tensor, "E B O"]:
        """The mean."""
        mean = self.net(x, None, frozen)
        return mean.tanh() if self.squash else mean

    def log_prob(self, x: Float[Tensor, "E B I"], value: Float[Tensor, "E B O"]) -> Float[Tensor, "E B 1"]:
        """Log-density of `value` given `x`."""
        return gaussian_log_prob(value, self(x), self.log_std.clamp(*self.log_std_range))


class TanhGaussianActor(nn.Module):
    """tanh of N(mean(s), exp(log_std(s))^2): SAC's actor (arXiv 1801.01290, appendix C), actions in [-1, 1].

    Args:
        sizes: Widths, input and A included; the last layer gives mean and log-deviation, 2 A numbers.
        generators: One per seed.
        log_std_range: The log-deviation is clamped to it.
    """

    def __init__(
        self, sizes: Sequence[int], generators: list[Generator], log_std_range: tuple[float, float] = (-20.0, 2.0)
    ) -> None:
        super().__init__()
        self.net = stacked_mlp((*sizes[:-1], 2 * sizes[-1]), relu(), generators)
        self.log_std_range = log_std_range

    def forward(self, obs: Float[Tensor, "E B S"]) -> Float[Tensor, "E B A"]:
        """The deterministic action, tanh of the mean."""
        return self.net(obs).chunk(2, -1)[0].tanh()

    def distribution(self, obs: Float[Tensor, "E B S"]) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation before tanh, [E, B, A] each."""
        mean, log_std = self.net(obs).chunk(2, -1)
        return mean, log_std.clamp(*self.log_std_range)

    def sample(self, obs: Float[Tensor, "E B S"], noise: Float[Tensor, "E B A"]) -> Float[Tensor, "E B A"]:
        """The action that `noise` draws, in [-1, 1]."""
        return self.squash(*self.distribution(obs.to(next(self.parameters()).dtype)), noise)[0]

    @staticmethod
    def squash(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The action tanh(mean + std noise) and its log-density, [..., A] and [..., 1]; shapes broadcast."""
        raw = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(x)^2), in a form that does not cancel for large x
        jacobian = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))
        return raw.tanh(), (gaussian - jacobian).sum(-1, keepdim=True)


class Target:
    """A slow copy of networks: target <- target + rate (online - target).

    Args:
        networks: The copy, which shares its parameters' order with the online groups.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self.flat = flatten([param for network in networks for param in network.parameters()])

    def follow(self, online: Tensor, rate: float) -> None:
        """One step towards `online`, the vector of the online parameters."""
        self.flat.lerp_(online, rate)


def frozen_copy(network: Net) -> Net:
    """A copy that takes no gradients: what a target starts from, and what a policy takes along."""
    return copy.deepcopy(network).requires_grad_(False)

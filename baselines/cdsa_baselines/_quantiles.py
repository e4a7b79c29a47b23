r"""Implicit quantile networks (Dabney et al. 2018, arXiv 1806.06923), in the form of DSAC (Ma et al. 2020, 2004.14547).

    Z(s, a; tau) = f(h(s, a) * e(tau)),       e(tau) = sigmoid(LN(W cos(pi i tau) + b)),   i = 1 .. 64
    L = E_ij w_j |tau_i - 1(y_j < z_i)| H(y_j - z_i),       H Huber's loss with threshold 1

h, e and f are one layer each, layer-normalised, before a last affine map. Fractions come as a random partition of
(0, 1): widths w_j, which weigh, and midpoints tau_j, at which Z is taken.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from cdsa_lightning.core.nets import StackedLayerNorm, StackedLinear

__all__ = ["QuantileTwins", "partition", "quantile_huber", "uniform"]

EMBEDDING = 64
ROWS_AT_ONCE = 2048  # over all networks; on a CPU, whose cache then holds them from one layer to the next
MIN_WIDTH = 0.1  # added to every width before they are scaled to sum 1, so that no two fractions fall together


def uniform(normal: Tensor) -> Tensor:
    """Standard normal numbers as uniform ones on (0, 1)."""
    return (torch.erf(normal / math.sqrt(2)) + 1) / 2


def partition(normal: Float[Tensor, "*batch T"]) -> tuple[Tensor, Tensor]:
    """A random partition of (0, 1) into T intervals.

    Args:
        normal: Standard normal numbers, one per interval.

    Returns:
        Midpoints and widths of the intervals, in ascending order.
    """
    widths = uniform(normal) + MIN_WIDTH
    widths = widths / widths.sum(-1, keepdim=True)
    return widths.cumsum(-1) - widths / 2, widths


def quantile_huber(
    z: Float[Tensor, "*twins E B T"],
    target: Float[Tensor, "E B U"],
    fractions: Float[Tensor, "E B T"],
    weights: Float[Tensor, "E B U"],
) -> Float[Tensor, "*twins E B"]:
    """The quantile regression loss of `z` at `fractions`, summed over the weighted targets, averaged over T."""
    error = target.unsqueeze(-2) - z.unsqueeze(-1)
    near = error.clamp(-1, 1)
    huber = near * (error - near / 2)
    side = (fractions.unsqueeze(-1) - (error.detach() < 0).to(error.dtype)).abs()
    return (side * weights.unsqueeze(-2) * huber).sum(-1).mean(-1)


class QuantileTwins(nn.Module):
    """Two critics Z(s, a; tau) per seed, critic 1 of all seeds before critic 2.

    Args:
        in_features: S + A.
        hidden: Width of all layers.
        generators: One per seed.
    """

    frequencies: Tensor

    def __init__(self, in_features: int, hidden: int, generators: list[Generator]) -> None:
        super().__init__()
        count, generators = 2 * len(generators), generators * 2
        self.base, self.base_norm = StackedLinear(in_features, hidden, generators), StackedLayerNorm(count, hidden)
        self.embed, self.embed_norm = StackedLinear(EMBEDDING, hidden, generators), StackedLayerNorm(count, hidden)
        self.merge, self.merge_norm = StackedLinear(hidden, hidden, generators, True), StackedLayerNorm(count, hidden)
        self.last = StackedLinear(hidden, 1, generators)
        self.register_buffer("frequencies", torch.arange(1.0, 1 + EMBEDDING), persistent=False)

    def forward(
        self,
        obs: Float[Tensor, "E B S"],
        actions: Float[Tensor, "E B N A"],
        fractions: Float[Tensor, "E B T"],
        frozen: bool = False,
    ) -> Float[Tensor, "2 E B N T"]:
        """Both critics at each of N actions and T fractions of a state.

        An action is embedded once for all fractions and a fraction once for all actions; only the layer that joins
        them sees the N T pairs.
        """
        batch = obs.shape[1]
        step = max(ROWS_AT_ONCE // (2 * len(obs) * actions.shape[2] * fractions.shape[2]), 1)
        if obs.device.type != "cpu" or torch.compiler.is_compiling():
            step = batch  # a GPU wants all rows at once, and a compiler fuses what lies between the layers
        parts = zip(obs.split(step, 1), actions.split(step, 1), fractions.split(step, 1), strict=True)
        return torch.cat([self._pairs(*part, frozen) for part in parts], 2)

    def _pairs(self, obs: Tensor, actions: Tensor, fractions: Tensor, frozen: bool) -> Float[Tensor, "2 E B N T"]:
        seeds, batch, count, _ = actions.shape
        pairs = torch.cat((obs.unsqueeze(-2).expand(-1, -1, count, -1), actions), -1).flatten(1, 2)
        waves = (math.pi * fractions.unsqueeze(-1) * self.frequencies).cos().flatten(1, 2)
        h = self.base_norm(self.base(pairs.repeat(2, 1, 1), frozen=frozen), frozen=frozen).relu_()
        e = self.embed_norm(self.embed(waves.repeat(2, 1, 1), frozen=frozen), frozen=frozen).sigmoid_()
        joint = h.unflatten(1, (batch, count, 1)) * e.unflatten(1, (batch, 1, -1))
        joint = self.merge_norm(self.merge(joint.flatten(1, 3), frozen=frozen), frozen=frozen).relu_()
        return self.last(joint, frozen=frozen).view(2, seeds, batch, count, -1)

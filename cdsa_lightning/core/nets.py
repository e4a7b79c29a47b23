r"""Networks whose weights are stacked along a leading axis: row l of the input meets network l.

    y[l] = x[l] W[l] + b[l],      x: [L, B, I],  W: [L, I, O],  b: [L, 1, O]

One batched matrix product per layer trains or evaluates L networks at once, which is how training seeds and the levels
of a noise schedule share every kernel launch. A single network is the case L = 1; there is no other code path.
Widths and slopes follow Table 3 of the CDSA paper (arXiv 2406.07541).

Under autocast only layers between two others are lowered. What enters and what leaves a network keeps its precision:
states that follow each other differ by less than bfloat16 can tell, and it would round a value of 300 to steps of 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

__all__ = [
    "LeakyReLU",
    "StackedLayerNorm",
    "StackedLinear",
    "StackedMLP",
    "affine",
    "inverse_dynamics_net",
    "score_net",
    "stacked_mlp",
]

SCORE_HIDDEN = (32, 128, 32)
INVERSE_HIDDEN = (128, 128, 128)


def affine(
    bias: Float[Tensor, "*L 1 O"], x: Float[Tensor, "*L B I"], weight: Float[Tensor, "*L I O"], between: bool
) -> Float[Tensor, "*L B O"]:
    """x W + b of one layer or of L; autocast lowers it only where it lies `between` two other layers."""
    product = torch.baddbmm if x.ndim == 3 else torch.addmm
    kind = x.device.type
    if between or kind == "meta" or not torch.is_autocast_enabled(kind):  # no autocast knows that device
        return product(bias, x, weight)
    with torch.autocast(kind, enabled=False):
        return product(bias, x.to(weight.dtype), weight)


class StackedLinear(nn.Module):
    """L affine maps side by side, each initialised as `nn.Linear` is, from its own generator.

    Args:
        in_features: I.
        out_features: O.
        generators: One per network, L in all; drawn from in turn.
        between: It lies between two other layers.
    """

    def __init__(
        self, in_features: int, out_features: int, generators: Sequence[Generator], between: bool = False
    ) -> None:
        super().__init__()
        self.between = between
        bound = 1 / math.sqrt(in_features)
        weights = [torch.empty(in_features, out_features).uniform_(-bound, bound, generator=g) for g in generators]
        biases = [torch.empty(1, out_features).uniform_(-bound, bound, generator=g) for g in generators]
        self.weight = nn.Parameter(torch.stack(weights))
        self.bias = nn.Parameter(torch.stack(biases))

    def forward(
        self, x: Float[Tensor, "L B I"], rows: slice | None = None, frozen: bool = False
    ) -> Float[Tensor, "L B O"]:
        """The maps of `x`; `rows` picks some of the L, and gradients pass `frozen` ones without reaching them."""
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        if rows is not None:  # a full slice would still cost a zero-filled gradient per layer and step
            weight, bias = weight[rows], bias[rows]
        return affine(bias, x, weight, self.between)


class StackedLayerNorm(nn.Module):
    """L layer normalisations side by side: y[l] = g[l] (x - mean) / sqrt(var + 1e-5) + b[l], over the last axis."""

    def __init__(self, networks: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(networks, 1, features))
        self.bias = nn.Parameter(torch.zeros(networks, 1, features))

    def forward(
        self, x: Float[Tensor, "L B F"], rows: slice | None = None, frozen: bool = False
    ) -> Float[Tensor, "L B F"]:
        weight, bias = (self.weight.detach(), self.bias.detach()) if frozen else (self.weight, self.bias)
        if rows is not None:
            weight, bias = weight[rows], bias[rows]
        return torch.addcmul(bias, nn.functional.layer_norm(x, x.shape[-1:]), weight)


class LeakyReLU(nn.Module):
    """LeakyReLU that works in place: out of place it halves the speed of a compiled step on a CPU."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(x, self.slope, inplace=True)


class StackedMLP(nn.Module):
    """Affine maps with one activation between them, and a layer normalisation before it where there are `norms`."""

    def __init__(
        self, layers: Sequence[StackedLinear], activation: nn.Module, norms: Sequence[StackedLayerNorm] = ()
    ) -> None:
        super().__init__()
        self.layers, self.norms = nn.ModuleList(layers), nn.ModuleList(norms)
        self.activation = activation

    def forward(
        self, x: Float[Tensor, "L B I"], rows: slice | None = None, frozen: bool = False
    ) -> Float[Tensor, "L B O"]:
        """The networks of `x`; `rows` picks some of the L, and gradients pass `frozen` ones without reaching them."""
        *hidden, last = self.layers
        for index, layer in enumerate(hidden):
            x = layer(x, rows, frozen)
            if len(self.norms):
                x = self.norms[index](x, rows, frozen)
            x = self.activation(x)
        return last(x, rows, frozen)


def stacked_mlp(
    sizes: Sequence[int], activation: nn.Module, generators: Sequence[Generator], layer_norm: bool = False
) -> StackedMLP:
    """L multilayer perceptrons of widths `sizes` (input and output included), one generator each."""
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    norms = [StackedLayerNorm(len(generators), width) for _, width in pairs[:-1]] if layer_norm else []
    inner = range(1, len(pairs) - 1)
    layers = [StackedLinear(i, o, generators, place in inner) for place, (i, o) in enumerate(pairs)]
    return StackedMLP(layers, activation, norms)


def score_net(in_dim: int, out_dim: int, generators: Sequence[Generator]) -> StackedMLP:
    """g_theta or h_phi: hidden layers 32, 128, 32 with LeakyReLU(0.1)."""
    return stacked_mlp((in_dim, *SCORE_HIDDEN, out_dim), LeakyReLU(0.1), generators)


def inverse_dynamics_net(state_dim: int, action_dim: int, generators: Sequence[Generator]) -> StackedMLP:
    """I_phi(s, s'): three hidden layers of 128 with LeakyReLU(0.2)."""
    return stacked_mlp((2 * state_dim, *INVERSE_HIDDEN, action_dim), LeakyReLU(0.2), generators)

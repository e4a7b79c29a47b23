r"""The gate: correct only where the predicted noise is longer than most of the data's.

    open(s, a) = [ |eps(s, a)| > q ],      q: a quantile of |eps| over the data, kept with the weights

The length of a mean is not the mean of the lengths, so the quantiles of the mean over training seeds, which an ensemble
is gated by, are measured beside those of every seed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["QUANTILES", "is_open", "length_quantiles"]

QUANTILES = 101
"""Quantiles 0, .01, ..., 1 of the data's predicted noise are kept."""


def length_quantiles(eps: Float[Tensor, "E N A"]) -> Float[Tensor, "E Q"]:
    """The quantiles of the length of each seed's predicted noise on N rows of data."""
    grid = torch.linspace(0, 1, QUANTILES, device=eps.device)
    return torch.quantile(eps.norm(dim=-1), grid, dim=-1).T


def is_open(eps: Float[Tensor, "E B A"], table: Float[Tensor, "E Q"], gate: float) -> Float[Tensor, "E B 1"]:
    """1 where `eps` is longer than the quantile `gate` of the data's, which `table` interpolates; else 0."""
    quantile = gate * (QUANTILES - 1)
    below, above = int(quantile), min(int(quantile) + 1, QUANTILES - 1)
    threshold = torch.lerp(table[:, below], table[:, above], quantile - below)
    return (eps.norm(dim=-1, keepdim=True) > threshold.view(-1, 1, 1)).to(eps.dtype)

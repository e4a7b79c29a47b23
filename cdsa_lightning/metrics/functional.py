r"""What a set of episode returns says, as pure functions.

With the returns sorted, R_(1) <= ... <= R_(N), and a level q in (0, 1]:

    VaR_q  = the q-quantile, interpolated linearly between order statistics        (Figures 4 and 6 of the paper)
    CVaR_q = 1/(qN) [ sum_{i <= m} R_(i) + (qN - m) R_(m+1) ],   m = floor(qN)     (Rockafellar and Uryasev, 2002)
    score  = 100 (R - min) / (max - min)                                           (D4RL)

CVaR_q is the mean of the worst fraction q: where qN is no whole number, the last of the worst episodes counts with the
fraction that is left. CVaR_1 is therefore the mean exactly, and CVaR_q with qN <= 1 the worst return.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cdsa_lightning.errors import InputError

__all__ = ["conditional_value_at_risk", "normalized_score", "standard_error", "value_at_risk", "violation_rate"]


def value_at_risk(returns: Float[Tensor, "*batch N"], q: float) -> Float[Tensor, "*batch"]:
    """The q-quantile of the returns (VaR_q), interpolated linearly.

    Args:
        returns: Episode returns, at least one, along the last axis.
        q: Level in (0, 1]: 0.1 for the 10th percentile.

    Raises:
        InputError: there are no returns, one of them is not finite, or q is outside (0, 1].
    """
    ordered = _checked(returns, q).sort(dim=-1).values
    # By hand, because torch.quantile refuses more than 2^24 elements.
    position = q * (ordered.shape[-1] - 1)
    below = math.floor(position)
    above = min(below + 1, ordered.shape[-1] - 1)
    return torch.lerp(ordered[..., below], ordered[..., above], position - below)


def conditional_value_at_risk(returns: Float[Tensor, "*batch N"], q: float) -> Float[Tensor, "*batch"]:
    """The mean of the worst fraction q of the returns (CVaR_q), the last episode weighted by the fraction that is left.

    Args:
        returns: Episode returns, at least one, along the last axis.
        q: Level in (0, 1]; 1 gives the mean.

    Raises:
        InputError: there are no returns, one of them is not finite, or q is outside (0, 1].
    """
    count = _checked(returns, q).shape[-1]
    # Rounded, so that .1 x 30 = 3.0000000000000004 is the whole number that was meant.
    tail = max(round(q * count, 9), 1.0)
    worst = returns.topk(math.ceil(tail), dim=-1, largest=False, sorted=True).values
    weight = torch.ones(worst.shape[-1], dtype=worst.dtype, device=worst.device)
    weight[-1] = tail - (math.ceil(tail) - 1)
    return (worst * weight).sum(dim=-1) / tail


def normalized_score(returns: Float[Tensor, "*batch"], score_min: float, score_max: float) -> Float[Tensor, "*batch"]:
    """Returns on the scale where the reference minimum is 0 and the reference maximum 100.

    Args:
        returns: Episode returns of any shape.
        score_min, score_max: The task's reference returns.

    Raises:
        InputError: `score_max` is not above `score_min`.
    """
    if not score_max > score_min:
        raise InputError(f"score_max must be above score_min, got {score_min} and {score_max}.")
    return 100 * (returns - score_min) / (score_max - score_min)


def violation_rate(violations: Shaped[Tensor, "*batch N"]) -> Float[Tensor, "*batch"]:
    """The share of episodes with at least one violation.

    Args:
        violations: Steps in violation (or any count or flag) per episode, at least one episode, along the last axis.

    Raises:
        InputError: there are no episodes.
    """
    if violations.ndim == 0 or violations.shape[-1] == 0:
        raise InputError(f"A violation rate needs at least one episode, got shape {tuple(violations.shape)}.")
    return (violations > 0).double().mean(dim=-1)


def standard_error(returns: Float[Tensor, "E N"]) -> float:
    """The standard error of the mean return over E training seeds of N episodes each.

    With several seeds it is the spread of the seeds' means, sd / sqrt(E), which holds the episodes' noise already.
    One seed says nothing about seeds, so it is the spread of its episodes, sd / sqrt(N). NaN for a single episode.
    """
    means = returns.mean(dim=1) if returns.shape[0] > 1 else returns[0]
    return float(means.std() / math.sqrt(means.numel())) if means.numel() > 1 else math.nan


def _checked(returns: Tensor, q: float) -> Tensor:
    """`returns` where a quantile at level q is defined."""
    if not 0 < q <= 1:
        raise InputError(f"The level q must lie in (0, 1], got {q}; the 10th percentile is q = 0.1.")
    if returns.ndim == 0 or returns.shape[-1] == 0:
        raise InputError(f"A risk measure needs at least one return, got shape {tuple(returns.shape)}.")
    if not bool(torch.isfinite(returns).all()):
        raise InputError(f"{int((~torch.isfinite(returns)).sum())} of {returns.numel()} returns are NaN or infinite.")
    return returns

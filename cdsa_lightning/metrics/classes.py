"""The functions of `functional` as torchmetrics: fed in batches, on many processes, they give what one call gives.

Returns are kept in float64; the risk measures keep all of them, since a quantile cannot be merged from parts.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.functional import (
    conditional_value_at_risk,
    normalized_score,
    value_at_risk,
    violation_rate,
)

__all__ = ["ConditionalValueAtRisk", "NormalizedScore", "ValueAtRisk", "ViolationRate"]


class ValueAtRisk(Metric):
    """VaR_q of all returns seen.

    Args:
        q: Level in (0, 1]; 0.1 for the 10th percentile.

    Raises:
        InputError: q is outside (0, 1].
    """

    full_state_update = False
    higher_is_better = True
    returns: list[Tensor]

    def __init__(self, q: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < q <= 1:
            raise InputError(f"The level q must lie in (0, 1], got {q}; the 10th percentile is q = 0.1.")
        self.q = q
        self.add_state("returns", default=[], dist_reduce_fx="cat")

    def update(self, returns: Float[Tensor, "*batch"]) -> None:
        """Take in the returns of further episodes, of any shape."""
        self.returns.append(returns.detach().double().reshape(-1))

    def compute(self) -> Float[Tensor, ""]:
        """VaR_q, float64."""
        return value_at_risk(dim_zero_cat(self.returns), self.q)


class ConditionalValueAtRisk(ValueAtRisk):
    """CVaR_q of all returns seen: the mean of the worst fraction q."""

    def compute(self) -> Float[Tensor, ""]:
        """CVaR_q, float64."""
        return conditional_value_at_risk(dim_zero_cat(self.returns), self.q)


class NormalizedScore(Metric):
    """The mean normalised score of all returns seen.

    Args:
        score_min, score_max: The task's reference returns.

    Raises:
        InputError: `score_max` is not above `score_min`.
    """

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self, score_min: float, score_max: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not score_max > score_min:
            raise InputError(f"score_max must be above score_min, got {score_min} and {score_max}.")
        self.score_min, self.score_max = score_min, score_max
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, returns: Float[Tensor, "*batch"]) -> None:
        """Take in the returns of further episodes, of any shape."""
        self.total = self.total + returns.double().sum()
        self.count = self.count + returns.numel()

    def compute(self) -> Float[Tensor, ""]:
        """The mean normalised score, float64; NaN before the first episode."""
        return normalized_score(self.total / self.count, self.score_min, self.score_max)


class ViolationRate(Metric):
    """The share of all episodes seen with at least one violation."""

    full_state_update = False
    higher_is_better = False
    violated: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("violated", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, violations: Shaped[Tensor, "*batch"]) -> None:
        """Take in the steps in violation of further episodes, of any shape with at least one entry."""
        flat = violations.reshape(-1)
        self.violated = self.violated + violation_rate(flat) * flat.numel()
        self.count = self.count + flat.numel()

    def compute(self) -> Float[Tensor, ""]:
        """The rate in [0, 1], float64; NaN before the first episode."""
        return self.violated / self.count

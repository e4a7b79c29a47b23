r"""How sure one can be of a difference between two arms: a hierarchical bootstrap.

An arm holds E training seeds of N episodes, returns R in R^{E x N}. One resample draws E seeds with replacement, then N
episodes with replacement within each drawn seed; an arm of one seed resamples its episodes alone. The arms are
independent of each other (they may differ in E and N): common environment seeds do not pair chaotic rollouts.

The plain percentile interval promises 95 % and holds the truth in 89 % of cases with five differing seeds, in 71 % with
two (`tests/metrics/test_bootstrap.py` simulates it): few seeds show their own spread badly. Its two deviations from the
estimate are therefore widened by t_nu / t_inf, the ratio of a Student to a normal quantile, with the degrees of freedom
nu of Welch and Satterthwaite over the parts of the variance:

    1/nu = sum over arms of [ B^2 / (E - 1) + W^2 / (E (N - 1)) ] / (sum over arms of V)^2,      V = B + W

V is an arm's bootstrap variance, B the part that its seeds explain. With many seeds, or one seed of many episodes, the
factor is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from cdsa_lightning.errors import InputError

__all__ = ["Interval", "Verdict", "bootstrap_difference", "bootstrap_interval", "resamples", "verdict"]

Verdict = Literal["improved", "no evidence", "harmed"]
Statistic = Callable[[Float[Tensor, "*batch N"]], Float[Tensor, "*batch"]]

_CHUNK = 2**21  # elements drawn at once: 16 MiB of float64


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds the true value at the promised rate."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain values; None for what is not finite, for JSON has neither NaN nor infinity."""
        return {key: value if math.isfinite(value) else None for key, value in vars(self).items()}


def verdict(interval: Interval) -> Verdict:
    """What the interval of (corrected - baseline) says: it lies above 0, holds 0, or lies below 0."""
    if interval.low > 0:
        return "improved"
    return "harmed" if interval.high < 0 else "no evidence"


def resamples(returns: Float[Tensor, "E N"], count: int, generator: torch.Generator) -> Iterator[Float[Tensor, "C M"]]:
    """Hierarchical resamples of an arm, in chunks: each row is one resample, its M = E x N episodes pooled.

    Args:
        returns: Episode returns, seeds first.
        count: Resamples in all.
        generator: Source of the draws.
    """
    seeds, episodes = returns.shape
    flat = returns.reshape(-1)
    chunk = max(1, _CHUNK // flat.numel())
    for start in range(0, count, chunk):
        rows = min(chunk, count - start)
        seed = torch.randint(seeds, (rows, seeds, 1), generator=generator)
        episode = torch.randint(episodes, (rows, seeds, episodes), generator=generator)
        yield flat[(seed * episodes + episode).reshape(rows, -1)]


def bootstrap_difference(
    first: Float[Tensor, "E1 N1"],
    second: Float[Tensor, "E2 N2"],
    statistic: Statistic | None = None,
    *,
    level: float = 0.95,
    count: int = 4000,
    seed: int = 0,
) -> Interval:
    """The difference statistic(first) - statistic(second) and its interval.

    Args:
        first, second: Episode returns of the two arms, seeds first.
        statistic: Maps pooled returns [..., M] to [...]; the mean by default.
        level: How often the interval should hold the true difference.
        count: Bootstrap resamples.
        seed: Of the draws: the same returns give the same interval.

    Raises:
        InputError: an arm is empty, not [seeds, episodes] or not finite, or `level` is outside (0, 1).
    """
    first_arm, second_arm = arms = _arms((first, second), statistic, level, count, seed)
    return _interval(first_arm.estimate - second_arm.estimate, first_arm.draws - second_arm.draws, arms, level)


def bootstrap_interval(
    returns: Float[Tensor, "E N"],
    statistic: Statistic | None = None,
    *,
    level: float = 0.95,
    count: int = 4000,
    seed: int = 0,
) -> Interval:
    """The statistic of one arm and its interval, widened for few seeds as that of a difference is.

    Args:
        returns: Episode returns, or any other number an episode, seeds first.
        statistic: Maps pooled returns [..., M] to [...]; the mean by default.
        level: How often the interval should hold the true value.
        count: Bootstrap resamples.
        seed: Of the draws.

    Raises:
        InputError: as `bootstrap_difference`.
    """
    (arm,) = arms = _arms((returns,), statistic, level, count, seed)
    return _interval(arm.estimate, arm.draws, arms, level)


def _arms(returns: tuple[Tensor, ...], statistic: Statistic | None, level: float, count: int, seed: int) -> list[_Arm]:
    if not 0 < level < 1:
        raise InputError(f"The level of an interval must lie in (0, 1), got {level}.")
    measure: Statistic = statistic or (lambda pooled: pooled.mean(dim=-1))
    generator = torch.Generator().manual_seed(seed)
    return [_Arm(arm, measure, count, generator) for arm in returns]


def _interval(estimate: float, draws: Tensor, arms: list[_Arm], level: float) -> Interval:
    if min(arm.seeds * arm.episodes for arm in arms) == 1:
        return Interval(estimate, -math.inf, math.inf)  # a single return does not tell how much returns vary
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(draws, tail).tolist()
    widen = _small_sample_factor(arms, level)
    return Interval(estimate, estimate - widen * (estimate - low), estimate + widen * (high - estimate))


class _Arm:
    """The bootstrap distribution of one arm's statistic, with its variance split into seeds and episodes."""

    def __init__(self, returns: Tensor, measure: Statistic, count: int, generator: torch.Generator) -> None:
        if returns.ndim != 2 or returns.numel() == 0:
            raise InputError(f"An arm must hold returns [seeds, episodes], at least one, got {tuple(returns.shape)}.")
        if not bool(torch.isfinite(returns).all()):
            raise InputError(
                f"{int((~torch.isfinite(returns)).sum())} of {returns.numel()} returns are NaN or infinite."
            )
        returns = returns.detach().cpu().double()
        seeds, self.episodes = returns.shape
        self.seeds = seeds
        self.estimate = float(measure(returns.reshape(-1)))
        self.draws = torch.cat([measure(rows) for rows in resamples(returns, count, generator)])
        total = float(self.draws.var())
        between = float(measure(returns).var()) * (seeds - 1) / seeds**2 if seeds > 1 else 0.0
        self.between = min(between, total)
        self.within = total - self.between


def _small_sample_factor(arms: list[_Arm], level: float) -> float:
    """t_nu / t_inf at the two-sided level; 1 where the arms do not vary at all."""
    total = sum(arm.between + arm.within for arm in arms)
    if total == 0:
        return 1.0
    spread = 0.0
    for arm in arms:
        # max(1, .): a part without degrees of freedom is as uncertain as one with a single one.
        spread += arm.between**2 / max(1, arm.seeds - 1) + arm.within**2 / max(1, arm.seeds * (arm.episodes - 1))
    freedom = total**2 / spread
    upper = (1 + level) / 2
    return float(stdtrit(freedom, upper) / stdtrit(math.inf, upper))

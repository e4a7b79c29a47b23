r"""How sure one can be of a difference between two arms: a hierarchical bootstrap.

An arm holds E training seeds of N episodes, returns R in R^{E x N}. One resample draws E seeds with replacement, then N
episodes with replacement within each drawn seed; an arm of one seed resamples its episodes alone. Arms of as many seeds
are paired: row e of both is the same trained policy, and one draw of seeds serves both, so that what a policy gains
does not drown in how much policies differ. (Of arms whose rows have nothing in common this costs degrees of freedom,
and stays true.) Episodes are drawn independently: common environment seeds do not pair chaotic rollouts.

The plain percentile interval promises 95 % and holds the truth in 88 % of cases with five differing seeds, in 71 % with
two (`tests/metrics/test_bootstrap.py` simulates it): resamples of few seeds show too little of their spread. Its two
deviations from the estimate are therefore widened by

    sqrt(sum V / V_drawn) t_nu / t_inf,     1/nu = sum [ B^2 / (E - 1) + W^2 / (E (N - 1)) ] / (sum V)^2,     V = B + W

summed over the arms, or once for a pair: V_drawn is the variance of the resamples, B the unbiased variance that seeds
leave in the estimate, W the rest, N the episodes (of the arm that has fewer), t a Student and a normal quantile, nu the
degrees of freedom of Welch and Satterthwaite. It holds the truth in 95 % of cases from three seeds on; with two seeds
that gain differently in 88 %. With many seeds, or one seed of many episodes, the factor is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
    for (rows,) in _together((returns,), count, generator):
        yield rows


def _together(arms: Sequence[Tensor], count: int, generator: torch.Generator) -> Iterator[list[Tensor]]:
    """Resamples of arms of as many seeds, which share the draws of their seeds."""
    seeds, chunk = len(arms[0]), max(1, _CHUNK // sum(arm.numel() for arm in arms))
    for start in range(0, count, chunk):
        rows = min(chunk, count - start)
        seed = torch.randint(seeds, (rows, seeds, 1), generator=generator)
        yield [_episodes(arm, seed, generator) for arm in arms]


def _episodes(returns: Tensor, seed: Tensor, generator: torch.Generator) -> Tensor:
    episodes = returns.shape[1]
    episode = torch.randint(episodes, (*seed.shape[:2], episodes), generator=generator)
    return returns.reshape(-1)[(seed * episodes + episode).flatten(1)]


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
        first, second: Episode returns of the two arms, seeds first; paired where they have as many seeds, above one.
        statistic: Maps pooled returns [..., M] to [...]; the mean by default.
        level: How often the interval should hold the true difference.
        count: Bootstrap resamples.
        seed: Of the draws: the same returns give the same interval.

    Raises:
        InputError: an arm is empty, not [seeds, episodes] or not finite, or `level` is outside (0, 1).
    """
    arms = [_checked(arm) for arm in (first, second)]
    paired = 1 < len(arms[0]) == len(arms[1])
    return _interval([arms] if paired else [[arm] for arm in arms], statistic, level, count, seed)


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
    return _interval([[_checked(returns)]], statistic, level, count, seed)


def _checked(returns: Tensor) -> Tensor:
    if returns.ndim != 2 or returns.numel() == 0:
        raise InputError(f"An arm must hold returns [seeds, episodes], at least one, got {tuple(returns.shape)}.")
    if not bool(torch.isfinite(returns).all()):
        raise InputError(f"{int((~torch.isfinite(returns)).sum())} of {returns.numel()} returns are NaN or infinite.")
    return returns.detach().cpu().double()


def _interval(
    groups: Sequence[Sequence[Tensor]], statistic: Statistic | None, level: float, count: int, seed: int
) -> Interval:
    """Of a difference of two arms, or of one alone; arms of a group are paired."""
    if not 0 < level < 1:
        raise InputError(f"The level of an interval must lie in (0, 1), got {level}.")
    measure: Statistic = statistic or (lambda pooled: pooled.mean(dim=-1))
    generator = torch.Generator().manual_seed(seed)
    parts = [_Part(arms, measure, count, generator) for arms in groups]
    estimate = float(_contrast([part.estimate for part in parts]))
    if min(part.seeds * part.episodes for part in parts) == 1:
        return Interval(estimate, -math.inf, math.inf)  # a single return does not tell how much returns vary
    draws = _contrast([part.draws for part in parts])
    low, high = torch.quantile(draws, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    widen = _small_sample_factor(parts, level)
    return Interval(estimate, estimate - widen * (estimate - low), estimate + widen * (high - estimate))


def _contrast(values: Sequence[Tensor]) -> Tensor:
    """The first less the second, or the only one."""
    return values[0] - values[1] if len(values) > 1 else values[0]


class _Part:
    """The bootstrap distribution of one arm, or of the difference of two paired ones, its variance in two shares."""

    def __init__(self, arms: Sequence[Tensor], measure: Statistic, count: int, generator: torch.Generator) -> None:
        self.seeds, self.episodes = len(arms[0]), min(arm.shape[1] for arm in arms)
        self.estimate = _contrast([measure(arm.reshape(-1)) for arm in arms])
        drawn = _together(arms, count, generator)
        self.draws = torch.cat([_contrast([measure(rows) for rows in chunk]) for chunk in drawn])
        self.drawn = float(self.draws.var())
        of_seeds = _contrast([measure(arm) for arm in arms])
        self.between = float(of_seeds.var()) / self.seeds if self.seeds > 1 else 0.0
        self.within = max(self.drawn - self.between, 0.0)


def _small_sample_factor(parts: Sequence[_Part], level: float) -> float:
    """By how much deviations are widened at the two-sided level; 1 where the arms do not vary at all."""
    drawn, total = sum(part.drawn for part in parts), sum(part.between + part.within for part in parts)
    if drawn == 0:
        return 1.0
    spread = 0.0
    for part in parts:
        # max(1, .): a share without degrees of freedom is as uncertain as one with a single one.
        spread += part.between**2 / max(1, part.seeds - 1) + part.within**2 / max(1, part.seeds * (part.episodes - 1))
    freedom = total**2 / spread
    upper = (1 + level) / 2
    return math.sqrt(total / drawn) * float(stdtrit(freedom, upper) / stdtrit(math.inf, upper))

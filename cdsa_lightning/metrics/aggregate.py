r"""One number for many tasks, and how sure one can be of it (Agarwal et al. 2021, arXiv 2108.13264).

Scores x in R^{T x E}: T tasks, E training seeds of each, every entry the mean of a seed's episodes.

    IQM            = mean of the middle half of all T E scores: floor(T E / 4) are cut at either end
    optimality gap = mean of max(target - x, 0)
    P(X > Y)       = mean over tasks of [ #(x_i > y_j) + #(x_i = y_j) / 2 ] / (E_X E_Y)          (Mann-Whitney)
    profile(tau)   = share of the T E scores above tau

Intervals come from the stratified bootstrap: tasks are kept, the seeds of each are drawn again with replacement. Its
plain percentiles, which the source reads off, promise 95 % and hold the truth of six tasks in 80 % of cases with two
seeds, of nine in 90 % with five: E draws from E scores have (E - 1) / E of their variance, itself known from few. Both
deviations from the estimate are therefore widened, which matters little from ten seeds on, by

    sqrt(E / (E - 1)) t_nu / t_inf,      nu = T (E - 1),

t the quantiles of Student's distribution. A single seed says nothing about its spread: its interval is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.bootstrap import Interval

__all__ = [
    "interquartile_mean",
    "mean_score",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "stratified_improvement",
    "stratified_interval",
    "stratified_profile",
]

_Array = npt.NDArray[np.float64]
_CHUNK = 2**21  # elements drawn at once: 16 MiB of float64


def interquartile_mean(scores: npt.ArrayLike) -> Any:
    """The mean of the middle half of all scores (Agarwal et al. 2021).

    Args:
        scores: [..., T, E].

    Returns:
        [...].
    """
    flat = np.sort(_pooled(scores), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)


def mean_score(scores: npt.ArrayLike) -> Any:
    """The mean of all scores: [..., T, E] to [...]."""
    return _pooled(scores).mean(axis=-1)


def optimality_gap(scores: npt.ArrayLike, target: float = 100.0) -> Any:
    """How far scores lie below `target` on average; what lies above it makes up for nothing (Agarwal et al. 2021).

    Args:
        scores: [..., T, E].
        target: The score beyond which more does not count.

    Returns:
        [...]; 0 is best.
    """
    return np.maximum(target - _pooled(scores), 0.0).mean(axis=-1)


def probability_of_improvement(first: npt.ArrayLike, second: npt.ArrayLike) -> Any:
    """How likely a run of `first` beats one of `second` on a task drawn at random, ties half (Agarwal et al. 2021).

    Args:
        first: [..., T, E1].
        second: [..., T, E2], the same tasks.

    Returns:
        [...]; one half where neither is better.
    """
    x, y = np.asarray(first, dtype=np.float64)[..., :, None], np.asarray(second, dtype=np.float64)[..., None, :]
    return ((x > y) + 0.5 * (x == y)).mean(axis=(-1, -2, -3))


def performance_profile(scores: npt.ArrayLike, taus: npt.ArrayLike) -> _Array:
    """The share of runs that score above each threshold (Agarwal et al. 2021).

    Args:
        scores: [T, E].
        taus: Thresholds, [K].

    Returns:
        [K], falling from 1 to 0.
    """
    return (_pooled(scores)[:, None] > np.asarray(taus, dtype=np.float64)).mean(axis=0)


def stratified_interval(
    scores: npt.ArrayLike,
    statistic: Callable[[_Array], Any] = interquartile_mean,
    *,
    level: float = 0.95,
    count: int = 10_000,
    seed: int = 0,
) -> Interval:
    """A statistic of a table of scores and its interval by the stratified bootstrap, widened for few seeds.

    Args:
        scores: [T, E].
        statistic: Maps [..., T, E] to [...].
        level: How often the interval should hold the true value.
        count: Resamples.
        seed: Of the draws: the same scores give the same interval.

    Raises:
        InputError: no table of finite scores, or `level` outside (0, 1).
    """
    table = _checked(scores, level)
    rng = np.random.default_rng(seed)
    draws = [statistic(_redrawn(table, rows, rng)) for rows in _chunks(count, table.size)]
    estimate, drawn = float(statistic(table)), np.concatenate(draws)
    low, high = _edges(estimate, drawn, level, len(table), table.shape[1])
    return Interval(estimate, float(low), float(high))


def stratified_improvement(
    first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95, count: int = 10_000, seed: int = 0
) -> Interval:
    """`probability_of_improvement` and its interval in [0, 1]; the seeds of both are drawn again, each for itself.

    Args:
        first: [T, E1].
        second: [T, E2].
        level, count, seed: As in `stratified_interval`.

    Raises:
        InputError: as `stratified_interval`, and tables of different tasks.
    """
    x, y = _checked(first, level), _checked(second, level)
    if len(x) != len(y):
        raise InputError(f"Both tables must hold the same tasks, got {len(x)} and {len(y)}.")
    rng = np.random.default_rng(seed)
    draws = [
        probability_of_improvement(_redrawn(x, rows, rng), _redrawn(y, rows, rng))
        for rows in _chunks(count, x.size * y.shape[1])
    ]
    estimate = float(probability_of_improvement(x, y))
    seeds = min((table.shape[1] for table in (x, y) if table.shape[1] > 1), default=1)  # one alone does not vary
    low, high = _edges(estimate, np.concatenate(draws), level, len(x), seeds)
    bounded = (float(low), float(high)) if seeds == 1 else (max(float(low), 0.0), min(float(high), 1.0))
    return Interval(estimate, *bounded)


def stratified_profile(
    scores: npt.ArrayLike, taus: npt.ArrayLike, *, level: float = 0.95, count: int = 2_000, seed: int = 0
) -> tuple[_Array, _Array, _Array]:
    """`performance_profile` with its pointwise band.

    Args:
        scores: [T, E].
        taus: Thresholds, [K].
        level, count, seed: As in `stratified_interval`.

    Returns:
        The profile, its lower and its upper edge, [K] each; edges are NaN where there is one seed.

    Raises:
        InputError: as `stratified_interval`.
    """
    table = _checked(scores, level)
    above = (table[..., None] > np.asarray(taus, dtype=np.float64)).astype(np.float64)  # [T, E, K]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(table.shape[1], np.full(table.shape[1], 1 / table.shape[1]), size=(count, len(table)))
    # How often each run was drawn, times whether it is above: one matrix product instead of count x T x E x K looks.
    shares = drawn.reshape(count, -1) @ above.reshape(table.size, -1) / table.size
    profile: _Array = above.reshape(table.size, -1).mean(axis=0)
    if table.shape[1] == 1:
        return profile, np.full_like(profile, np.nan), np.full_like(profile, np.nan)
    low, high = _edges(profile, shares, level, *table.shape)
    return profile, np.maximum(low, 0.0), np.minimum(high, 1.0)


def _pooled(scores: npt.ArrayLike) -> _Array:
    table = np.asarray(scores, dtype=np.float64)
    return table.reshape(*table.shape[:-2], -1)


def _checked(scores: npt.ArrayLike, level: float) -> _Array:
    if not 0 < level < 1:
        raise InputError(f"The level of an interval must lie in (0, 1), got {level}.")
    try:
        table = np.asarray(scores, dtype=np.float64)
    except ValueError:
        raise InputError("Every task must have the same number of seeds: scores are a table [tasks, seeds].") from None
    if table.ndim != 2 or table.size == 0:
        raise InputError(f"Scores must be a table [tasks, seeds] that is not empty, got shape {table.shape}.")
    if not np.isfinite(table).all():
        raise InputError(f"{int((~np.isfinite(table)).sum())} of {table.size} scores are NaN or infinite.")
    return table


def _chunks(count: int, size: int) -> list[int]:
    rows = max(1, min(count, _CHUNK // size))
    return [min(rows, count - start) for start in range(0, count, rows)]


def _redrawn(table: _Array, rows: int, rng: np.random.Generator) -> _Array:
    """`rows` tables whose seeds were drawn again within each task, [rows, T, E]."""
    tasks, seeds = table.shape
    return table[np.arange(tasks)[:, None], rng.integers(seeds, size=(rows, tasks, seeds))]


def _edges(estimate: Any, draws: _Array, level: float, tasks: int, seeds: int) -> tuple[Any, Any]:
    """The percentiles of `draws` (resamples first), their deviations from `estimate` widened for few seeds."""
    if seeds == 1:
        return np.full_like(estimate, -math.inf), np.full_like(estimate, math.inf)
    upper = (1 + level) / 2
    wider = math.sqrt(seeds / (seeds - 1)) * float(stdtrit(tasks * (seeds - 1), upper) / ndtri(upper))
    low, high = np.quantile(draws, [1 - upper, upper], axis=0)
    return estimate - wider * (estimate - low), estimate + wider * (high - estimate)

"""Aggregates over tasks: closed forms, and intervals that hold what they promise."""

import math

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, norm, trim_mean
from scipy.stats import t as student

from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.aggregate import (
    interquartile_mean,
    mean_score,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_improvement,
    stratified_interval,
    stratified_profile,
)


def scores(tasks=15, seeds=5, seed=0):
    return np.random.default_rng(seed).normal(60, 20, size=(tasks, seeds))


def test_the_interquartile_mean_of_one_to_eight_is_that_of_three_to_six():
    assert interquartile_mean(np.array([[8, 1, 7, 2], [6, 3, 5, 4]])) == 4.5
    assert interquartile_mean(np.array([[1e9, 1, 2, 3], [-1e9, 4, 5, 6]])) == 3.5  # outliers say nothing


def test_the_interquartile_mean_is_the_trimmed_mean_where_the_quarter_is_no_whole_number():
    table = scores(3, 5)
    assert interquartile_mean(table) == pytest.approx(trim_mean(table, 0.25, axis=None), abs=1e-12)
    assert interquartile_mean([[5.0]]) == 5.0


def test_what_is_above_the_target_makes_up_for_nothing():
    assert optimality_gap([[90.0, 130.0], [70.0, 100.0]]) == 10.0
    assert optimality_gap([[0.5, 1.5]], target=1.0) == 0.25


def test_the_probability_of_improvement_counts_ties_half():
    assert probability_of_improvement([[1.0, 2.0]], [[1.0, 0.0]]) == (0.5 + 1 + 1 + 1) / 4
    assert probability_of_improvement([[1.0], [5.0]], [[2.0], [4.0]]) == 0.5  # one task each
    assert probability_of_improvement(scores(), scores()) == 0.5


def test_the_probability_of_improvement_is_mann_whitneys_u():
    x, y = scores(1, 7).round(-1), scores(1, 4, seed=1).round(-1)
    u = mannwhitneyu(x[0], y[0]).statistic
    assert probability_of_improvement(x, y) == pytest.approx(u / 28, abs=1e-12)


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    assert performance_profile([[1, 2], [3, 4]], [0, 1, 2.5, 4]).tolist() == [1.0, 0.75, 0.5, 0.0]


@pytest.mark.parametrize("statistic", [interquartile_mean, mean_score, optimality_gap])
def test_statistics_take_many_tables_at_once(statistic):
    tables = np.stack([scores(4, 3, seed) for seed in range(6)])
    assert statistic(tables) == pytest.approx([float(statistic(table)) for table in tables], abs=1e-12)


def test_resampling_stays_within_tasks():
    constant = np.repeat([[0.0], [50.0], [100.0]], 5, axis=1)  # tasks differ, seeds do not: nothing is uncertain
    found = stratified_interval(constant, mean_score)
    assert (found.low, found.estimate, found.high) == (50, 50, 50)
    better = stratified_improvement(constant + 1, constant)
    assert (better.low, better.estimate, better.high) == (1, 1, 1)


def test_the_interval_of_a_share_is_the_binomials_and_wider():
    table = np.array([[0.0, 0.0, 1.0, 1.0, 1.0]] * 8)  # a resample's sum is binomial with 40 draws of 0.6
    found = stratified_interval(table, mean_score)
    wider = math.sqrt(5 / 4) * student.ppf(0.975, 32) / norm.ppf(0.975)
    expected = 24 + wider * (binom.ppf([0.025, 0.975], 40, 0.6) - 24)
    assert [found.low * 40, found.high * 40] == pytest.approx(expected.tolist(), abs=1.2)


@pytest.mark.parametrize(("tasks", "seeds"), [(10, 5), (6, 2), (3, 2)])
@pytest.mark.parametrize("statistic", [mean_score, interquartile_mean])
def test_an_interval_holds_the_truth_as_often_as_it_promises(tasks, seeds, statistic):
    held = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found = stratified_interval(rng.normal(size=(tasks, seeds)), statistic, count=500, seed=seed)
        held += found.low <= 0 <= found.high
    assert 0.92 < held / 300 < 0.985


def test_differences_between_tasks_widen_nothing():
    offsets = np.arange(10.0)[:, None] * 20  # 90 +- 63 between tasks, 1 within: only the latter may count
    found = stratified_interval(offsets + np.random.default_rng(0).normal(size=(10, 5)), mean_score)
    assert found.low < 90 < found.high
    assert found.high - found.low < 1.0


def test_a_probability_stays_one():
    table = scores(3, 2)
    found = stratified_improvement(table, table[:, ::-1] - [[0.0], [1.0], [-1.0]])
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    _, low, high = stratified_profile(table, np.linspace(0, 120, 13))
    assert low.min() >= 0
    assert high.max() <= 1


def test_a_profiles_band_is_the_stratified_bootstraps():
    table, taus = scores(6, 4), np.linspace(0, 120, 13)
    middle, low, high = stratified_profile(table, taus)
    assert middle.tolist() == performance_profile(table, taus).tolist()
    for index, tau in enumerate(taus):
        single = stratified_interval((table > tau).astype(float), mean_score, count=2000)
        assert [low[index], high[index]] == pytest.approx([single.low, single.high], abs=0.06)  # one run of 24, widened


def test_the_same_scores_give_the_same_interval():
    assert stratified_interval(scores()) == stratified_interval(scores())
    assert stratified_interval(scores()) != stratified_interval(scores(), seed=1)


def test_chunks_change_nothing_in_what_is_drawn(monkeypatch):
    whole = stratified_interval(scores(), mean_score, count=100)
    monkeypatch.setattr("cdsa_lightning.metrics.aggregate._CHUNK", 15 * 5 * 7)
    assert stratified_interval(scores(), mean_score, count=100) == whole


def test_one_seed_says_nothing_about_its_spread():
    found = stratified_interval([[1.0], [3.0]], mean_score)
    assert (found.estimate, found.low, found.high) == (2.0, -math.inf, math.inf)
    middle, low, high = stratified_profile([[1.0], [3.0]], [2.0])
    assert middle == [0.5]
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize(
    ("table", "level", "text"),
    [
        ([[1.0, math.nan]], 0.95, "1 of 2 scores are NaN or infinite"),
        ([1.0, 2.0], 0.95, r"table \[tasks, seeds\]"),
        ([], 0.95, "not empty"),
        ([[1.0, 2.0], [3.0]], 0.95, "the same number of seeds"),
        ([[1.0, 2.0]], 1.0, r"must lie in \(0, 1\), got 1.0"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(table, level, text):
    with pytest.raises(InputError, match=text):
        stratified_interval(table, level=level)


def test_improvement_needs_the_same_tasks():
    with pytest.raises(InputError, match="the same tasks, got 2 and 3"):
        stratified_improvement(scores(2), scores(3))

"""VaR curves show the numbers; how they look was checked by eye."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from cdsa_lightning.evaluation import Report
from cdsa_lightning.plots import var_curve
from cdsa_lightning.tasks import Task
from drawn import assert_readable, episodes


@pytest.fixture
def returns():
    return np.random.default_rng(0).normal(1000, 100, (5, 20))


def test_var_curve_is_the_percentile_of_the_sorted_returns(returns):
    axes = var_curve(Report(Task("t", "E"), {"iql": episodes(returns)}), count=50).axes[0]
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(y, np.percentile(returns, x))
    assert axes.get_ylabel() == "return"


def test_var_curve_uses_the_score_where_the_task_has_one(returns):
    task = Task("t", "E", score_min=0.0, score_max=2000.0)
    axes = var_curve(Report(task, {"iql": episodes(returns)}), count=50).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), np.percentile(returns / 20, np.arange(101)))
    assert axes.get_ylabel() == "normalised score"


def test_var_band_holds_its_curve_away_from_the_ends(returns):
    axes = var_curve(Report(Task("t", "E"), {"iql": episodes(returns)}), count=200).axes[0]
    corners = axes.collections[0].get_paths()[0].vertices
    for percent in (25, 50, 75):
        heights = corners[corners[:, 0] == percent, 1]
        assert heights.min() <= np.percentile(returns, percent) <= heights.max()


def test_var_curves_differ_in_colour_and_dash_and_name(returns):
    names = ["iql", "cdsa(iql)", "cdsa(iql) without a1", "cdsa(iql) without a2"]
    figure = var_curve(Report(Task("t", "E"), {name: episodes(returns) for name in names}), count=20)
    lines = figure.axes[0].lines
    assert len({to_hex(line.get_color()) for line in lines}) == 4
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names


def test_long_names_are_readable_below_the_axes(returns):
    long = "cdsa(a_baseline_of_a_long_name+noise(0.3)) without a1"
    arms = {name: episodes(returns) for name in ("iql", long, f"{long[:-1]}2")}
    assert_readable(var_curve(Report(Task("t", "E"), arms), count=20))

"""The pictures show the numbers; how they look was checked by eye."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from cdsa_lightning.envs.risky_pointmass import CENTRE, RADIUS
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.plots import pointmass_figure, var_curve
from cdsa_lightning.rollout import Episodes, Trace
from cdsa_lightning.tasks import Task


def episodes(returns):
    flat = np.zeros(returns.shape)
    return Episodes(returns, flat.astype(int) + 1, flat > 0, flat, flat, {}, [])


def trace(start, steps=12, bend=0.0):
    base = np.tile([-0.05, -0.05], (steps, 1))
    action = base + np.array([bend, -bend])
    obs = np.concatenate([[np.asarray(start)], start + np.cumsum(action, axis=0)])
    obs = np.concatenate([obs, np.full_like(obs, 0.1)], axis=1)
    return Trace(0, 0, obs, action, base, np.zeros(steps))


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


def test_legends_stay_off_the_data_and_inside_the_picture(returns):
    long = "cdsa(a_baseline_of_a_long_name+noise(0.3)) without a1"
    curves = var_curve(Report(Task("t", "E"), {"iql": episodes(returns), long: episodes(returns)}), count=20)
    discs = [
        pointmass_figure([trace([0.8, 0.8])], [trace([0.8, 0.8], bend=0.02)], names=names)
        for names in (("iql", "cdsa(iql)"), ("shortest_path+noise(0.3)", "cdsa(shortest_path+noise(0.3))"))
    ]
    for figure, legend in ((curves, curves.legends[0]), *((disc, disc.axes[0].get_legend()) for disc in discs)):
        figure.draw_without_rendering()
        box = legend.get_window_extent()
        assert not box.overlaps(figure.axes[0].get_window_extent())
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_pointmass_figure_shows_disc_paths_and_arrows():
    baseline, corrected = [trace([0.8, 0.8])], [trace([0.8, 0.8], bend=0.02), trace([0.7, 0.8], bend=0.02)]
    axes = pointmass_figure(baseline, corrected, arrows=4).axes[0]
    (disc,) = axes.patches
    assert (disc.center, disc.radius) == (tuple(CENTRE), RADIUS)
    assert [line.get_color() for line in axes.lines] == ["#800000", "#000000", "#000000"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), baseline[0].obs[:, :2])
    wanted, added = (entry for entry in axes.collections if hasattr(entry, "U"))
    assert len(wanted.U) == len(added.U) == 8
    np.testing.assert_allclose(np.stack([wanted.U, wanted.V], axis=1), np.tile([-0.05, -0.05], (8, 1)))
    np.testing.assert_allclose(np.stack([added.U, added.V], axis=1), np.tile([0.02, -0.02], (8, 1)))
    assert to_hex(wanted.get_facecolor()[0]) == "#2ca02c"
    assert wanted.scale == added.scale == 1  # true lengths


def test_pointmass_figure_of_the_baseline_alone_names_it_alone():
    figure = pointmass_figure([trace([0.8, 0.8])], [], names=("shortest_path", ""))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["shortest_path", "risky region", "goal", "start"]


def test_pointmass_figure_needs_a_trace():
    with pytest.raises(InputError, match="no trace to draw"):
        pointmass_figure([], [])

"""The points of an ablation are the arms' means, their bars the bootstrap's intervals."""

import numpy as np
import pytest
import torch

from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.metrics.bootstrap import bootstrap_interval
from cdsa_lightning.plots import ablation
from cdsa_lightning.tasks import Task, get_task
from drawn import assert_readable, episodes

NAMES = ("iql", "cdsa(iql)", "cdsa(iql) without a1", "cdsa(iql) without a2")


def ablated(task="hopper-medium", names=NAMES, shape=(3, 20), **info):
    rng = np.random.default_rng(0)
    arms = {name: episodes(rng.normal(1000 + 100 * index, 50, shape), **info) for index, name in enumerate(names)}
    return Report(get_task(task), arms)


def points(axes, labels=None):
    """Row label -> (mean, low, high) as drawn."""
    labels = labels or [label.get_text() for label in axes.get_yticklabels()]
    found = {}
    for label, (line, _, bars) in zip(labels, axes.containers, strict=True):
        (segment,) = bars[0].get_segments()
        found[label] = (line.get_xdata()[0], segment[:, 0].min(), segment[:, 0].max())
    return found


def test_every_arm_has_its_mean_score_and_interval():
    report = ablated()
    drawn = points(ablation(report).axes[0])
    assert list(drawn) == ["iql", "without a1", "without a2", "cdsa"]
    for label, name in zip(drawn, (NAMES[0], NAMES[2], NAMES[3], NAMES[1]), strict=True):
        scores = report.task.normalized_score(report.arms[name].returns)
        interval = bootstrap_interval(torch.as_tensor(scores))
        assert drawn[label] == pytest.approx((scores.mean(), interval.low, interval.high))


def test_worlds_with_risk_regions_show_the_share_that_entered_one():
    inside = np.array([[0, 3, 0, 1], [0, 0, 0, 0]])
    figure = ablation(ablated("risky-pointmass", shape=(2, 4), in_risk_region=inside))
    assert len(figure.axes) == 2
    for mean, low, high in points(figure.axes[1], NAMES).values():
        assert mean == 0.25
        assert 0 <= low <= 0.25 <= high <= 1  # a share, however wide the interval
    assert figure.axes[1].get_xlim()[0] <= 0
    assert "return" in figure.axes[0].get_xlabel()
    assert_readable(figure)


def test_worlds_without_risk_regions_have_one_panel():
    figure = ablation(ablated())
    assert len(figure.axes) == 1 and "normalised score" in figure.axes[0].get_xlabel()
    assert_readable(figure)


def test_arms_differ_in_colour_and_marker():
    lines = [container[0] for container in ablation(ablated()).axes[0].containers]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 4


def test_one_episode_has_a_point_and_no_bar():
    axes = ablation(ablated(shape=(1, 1))).axes[0]
    assert [len(container[2]) for container in axes.containers] == [0, 0, 0, 0]


def test_a_part_that_changes_nothing_has_no_row():
    names = ("iql+noise(0.1)", "cdsa(iql+noise(0.1))", "cdsa(iql+noise(0.1)) without a2")
    labels = [label.get_text() for label in ablation(ablated(names=names)).axes[0].get_yticklabels()]
    assert labels == ["iql+noise(0.1)", "without a2", "cdsa"]


@pytest.mark.parametrize("names", [("iql",), ("iql", "cdsa(iql)"), ("iql+noise(0.1)",)])
def test_a_report_without_ablation_names_the_command_that_makes_one(names):
    with pytest.raises(InputError, match="cdsa evaluate --baseline iql --task hopper-medium --ablation"):
        ablation(ablated(names=names))


def test_a_task_without_a_scale_shows_returns():
    report = Report(Task("t", "Hopper-v5"), ablated().arms)
    assert points(ablation(report).axes[0])["iql"][0] == pytest.approx(report.arms["iql"].returns.mean())

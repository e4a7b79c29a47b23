"""The composed figures have the paper's panels, and nothing written in them lies over anything else."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.plots import figure3, figure5, figures, trajectories_of
from cdsa_lightning.tasks import get_task
from drawn import assert_readable, data, episodes, report, trace

TASKS = ("risky-transportation", "risky-transportation-goods", "risky-transportation-airport")


def corrector(task):
    task = get_task(task)
    index = task.obs_to_state
    networks = Networks(
        task.obs_dim, task.action_dim, NetworkSettings(state_score_input="state"), init_generators([0]), index
    )
    return Corrector(networks, task.low, task.high, task.obs_dim, info={"task": task.name}).eval()


def walks(task, **about):
    """A report on a transportation task whose paths cross the map."""
    arms = {}
    for name, bend in (("sac", 0.0), ("cdsa(sac)", 0.3)):
        how = {"steps": 30, "bend": bend, "width": 7, "move": (-0.7, -0.7), "step": 0.25}
        traces = [trace([9.0, 9.0], seed=seed, **how) for seed in (0, 1)]
        arms[name] = episodes(np.zeros((2, 3)), traces)
    return Report(get_task(task), arms, **about)


def lines(axes):
    return [entry for entry in axes.collections if isinstance(entry, LineCollection)]


def regions(axes):
    return [patch for patch in axes.patches if isinstance(patch, Polygon)]


def test_figure3_is_the_map_and_a_panel_a_baseline():
    reports = [report(("shortest_path", "cdsa(shortest_path)")), report(("cql", "cdsa(cql)"))]
    figure = figure3(reports)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["(a) map", "(b) shortest_path and CDSA", "(c) cql and CDSA"]
    assert [len(lines(axes)) for axes in figure.axes] == [0, 2, 2]  # one training seed, base and corrected
    assert all(len(regions(axes)) == 1 for axes in figure.axes)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == len(set(labels)) and {"baseline", "with CDSA", "start", "goal"} < set(labels)
    assert_readable(figure)


def test_figure5_is_map_data_field_and_the_three_tasks():
    rows = np.random.default_rng(0).uniform(0, 10, (500, 7))
    figure = figure5([walks(task) for task in TASKS], corrector(TASKS[0]), data(rows))
    panels = figure.axes[:6]
    assert [axes.get_title()[:3] for axes in panels] == [f"({letter})" for letter in "abcdef"]
    assert [axes.get_title()[4:] for axes in panels[3:]] == [f"{task}, sac" for task in TASKS]
    assert [len(axes.images) for axes in panels] == [0, 1, 1, 0, 0, 0]
    assert [len(lines(axes)) for axes in panels] == [0, 0, 0, 2, 2, 2]
    assert all(len(regions(axes)) == 3 for axes in panels)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"mountain (risky)", "river (risky)", "ice (risky)", "goal", "goods", "airport"} < set(labels)
    assert_readable(figure)


def test_the_pictures_of_a_report_are_those_that_apply():
    hopper = report(("iql", "cdsa(iql)"), "hopper-medium")
    assert set(figures(hopper)) == {"var_curve"}
    assert set(figures(walks(TASKS[0]))) == {"var_curve", "trajectories"}
    rows = data(np.random.default_rng(0).uniform(0, 10, (500, 7)))
    drawn = figures(walks(TASKS[1]), corrector(TASKS[0]), None, rows)
    assert set(drawn) == {"var_curve", "trajectories", "ood", "field"}
    ablated = report(("iql", "cdsa(iql)", "cdsa(iql) without a1"), "hopper-medium", traces=False)
    assert set(figures(ablated)) == {"var_curve", "ablation"}
    for figure in drawn.values():
        assert_readable(figure)


def test_a_world_without_a_map_has_no_paths():
    with pytest.raises(InputError, match="'hopper-medium' has no map"):
        trajectories_of(report(task="hopper-medium"))
    with pytest.raises(InputError, match="'hopper-medium' has no map"):
        figure3([report(task="hopper-medium")])


def test_a_report_without_traces_is_refused():
    with pytest.raises(InputError, match="kept no trace"):
        trajectories_of(report(traces=False))


def test_text_over_text_is_noticed():
    figure = Figure()
    for word in ("one", "two"):
        figure.text(0.5, 0.5, word)
    with pytest.raises(AssertionError, match="'one' lies over 'two'"):
        assert_readable(figure)
    away = Figure()
    away.text(1.01, 0.5, "away")
    with pytest.raises(AssertionError, match="leaves the figure"):
        assert_readable(away)
    covered = Figure()
    covered.add_subplot().plot([0, 1], label="line")
    covered.legend(loc="center")
    with pytest.raises(AssertionError, match="legend lies over axes"):
        assert_readable(covered)

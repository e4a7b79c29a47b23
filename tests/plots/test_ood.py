"""The traced noise is that of the networks, at the recorded observations and actions."""

import numpy as np
import pytest
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.plots import ood
from cdsa_lightning.plots.ood import noise_lengths
from drawn import assert_readable, trace
from known_networks import gaussian_corrector

MEAN, STD, SIGMAS = 0.3, 0.5, (0.5, 1.0)


def corrector(**settings):
    return gaussian_corrector(MEAN, STD, SIGMAS, **settings)


def walk(bend=0.0, seed=0):
    return trace([0.8, 0.8], bend=bend, width=3, seed=seed)


def length(action, sigma):
    return np.linalg.norm(sigma * (action - MEAN) / (STD**2 + sigma**2), axis=1)


def test_noise_of_actions_is_exact_at_every_sigma():
    path = walk(0.02)
    for level, sigma in enumerate(SIGMAS):
        found = noise_lengths(corrector(predict="noise"), path.obs[:-1], path.action, level)
        np.testing.assert_allclose(found, length(path.action, sigma), rtol=1e-5)


def test_noise_of_states_is_exact():
    path = walk()
    found = noise_lengths(corrector(state_sigma=0.5), path.obs[:-1], path.action, None)
    np.testing.assert_allclose(found, np.linalg.norm(0.5 * path.obs[:-1] / 1.25, axis=1), rtol=1e-5)


def test_the_curves_are_what_was_wanted_and_what_was_done():
    alone, path = walk(), walk(0.02)
    figure = ood(corrector(), alone, path, names=("iql", "cdsa(iql)"), coefficients=Coefficients(schedule=(0.5,)))
    curves = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert len(curves) == 3
    np.testing.assert_allclose(curves["iql, an episode of its own"], length(alone.action, 0.5), rtol=1e-5)
    np.testing.assert_allclose(curves["cdsa(iql): what iql wanted"], length(path.base_action, 0.5), rtol=1e-5)
    np.testing.assert_allclose(curves["cdsa(iql): what it did"], length(path.action, 0.5), rtol=1e-5)
    assert_readable(figure)


def test_the_first_sigma_of_the_schedule_is_drawn():
    assert "1" in ood(corrector(), None, walk()).axes[0].get_ylabel().rpartition("=")[2]  # the largest comes first
    figure = ood(corrector(), None, walk(), coefficients=Coefficients(schedule=(0.5, 1.0)))
    assert "0.5" in figure.axes[0].get_ylabel()


def test_quantiles_of_the_data_are_lines():
    known = corrector(seeds=2)
    known.measure_noise(torch.rand(500, 3), torch.rand(500, 2))
    lines = {line.get_label(): line.get_ydata()[0] for line in ood(known, None, walk(seed=1)).axes[0].lines[2:]}
    for percent in (50, 90, 99):
        quantile = known.noise_quantiles[1, 1, percent]
        assert lines[f"{percent} % of the data's actions lie below"] == pytest.approx(float(quantile))


def test_quantiles_that_were_not_measured_are_not_drawn():
    assert len(ood(corrector(), None, walk()).axes[0].lines) == 2


def test_states_have_one_curve_an_episode_where_the_score_sees_no_action():
    figure = ood(corrector(state_score_input="state"), walk(), walk(0.02))
    assert [len(axes.lines) for axes in figure.axes] == [3, 2]


def test_the_row_of_the_traces_seed_is_asked():
    both = corrector(seeds=2)
    both.networks.action_score.layers[0].bias.data[1::2] += 1.0
    one, two = (noise_lengths(both, walk().obs[:-1], walk().action, 0, seed) for seed in (0, 1))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(noise_lengths(both.select(1), walk().obs[:-1], walk().action, 0, 1), two)


def test_an_episode_of_another_task_is_refused():
    with pytest.raises(InputError, match="3 observation and 2 action entries, the episode has 4 and 2"):
        ood(corrector(), None, trace([0.8, 0.8], width=4))

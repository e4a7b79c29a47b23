"""The field is the score of the networks, in the data's units, where the networks are known in closed form."""

import dataclasses

import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.plots import field
from cdsa_lightning.plots.field import state_score
from drawn import WORLD, assert_readable, data
from known_networks import OBS, gaussian_corrector, random_corrector, set_statistics

SIGMA = 0.5
MEAN, STD = [1.0, -2.0, 0.5], [0.5, 2.0, 3.0]


def normal_corrector(state_index=None, **settings):
    """Knows s ~ N(MEAN, STD^2): the exact score of s + N(0, (SIGMA STD)^2)."""
    corrector = gaussian_corrector(
        0.0, 1.0, (1.0,), seeds=2, state_sigma=SIGMA, standardize=True, state_score_input="state", **settings
    )
    set_statistics(corrector, MEAN, STD, [0.0, 0.0], [1.0, 1.0])
    return corrector


def exact(obs):
    return -(obs - np.array(MEAN)) / (np.array(STD) ** 2 * (1 + SIGMA**2))


@pytest.fixture
def normal():
    rng = np.random.default_rng(0)
    return data(rng.normal(MEAN, STD, (4000, OBS)), rng.normal(0, 1, (4000, 2)))


@pytest.mark.parametrize("predict", ["score", "noise"])
def test_the_state_score_is_exact_in_the_datas_units(normal, predict):
    found = state_score(normal_corrector(predict=predict), normal.obs[:50], normal.action[:50])
    np.testing.assert_allclose(found, exact(normal.obs[:50]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dims", [(0, 1), (2, 0)])
def test_arrows_point_along_the_score_as_it_is_seen(normal, dims):
    axes = field(normal_corrector(), normal, dims, arrows=6).axes[0]
    (arrows,) = (entry for entry in axes.collections if hasattr(entry, "U"))
    obs = np.tile(np.median(normal.obs, axis=0), (36, 1))
    obs[:, list(dims)] = arrows.XY
    score = exact(obs)[:, list(dims)]
    spans = np.ptp(np.array([axes.get_xlim(), axes.get_ylim()]), axis=1)
    seen = score * spans
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), seen, atol=1e-3)
    strength = np.linalg.norm(score * normal.obs[:, list(dims)].std(axis=0), axis=1)
    np.testing.assert_allclose(arrows.get_array(), strength, rtol=1e-3)


def test_other_entries_are_held_at_the_median_and_actions_at_the_mean():
    obs = np.array([[0.0, 0.0, 7.0], [1.0, 1.0, 8.0], [0.5, 0.5, 100.0]])
    action = np.array([[0.0, 3.0], [0.0, 6.0], [3.0, 0.0]])
    corrector = random_corrector(state_score_input="state_action")
    arrows = field(corrector, data(obs, action), arrows=4).axes[0].collections[-1]
    held = np.concatenate([arrows.XY, np.full((16, 1), 8.0)], axis=1)
    score = state_score(corrector, held, np.tile([1.0, 3.0], (16, 1)))[:, :2]
    seen = np.asarray(arrows.get_array()) / np.linalg.norm(score * obs[:, :2].std(axis=0), axis=1)
    np.testing.assert_allclose(seen, 1, rtol=1e-4)


def test_training_seeds_are_averaged(normal):
    both = random_corrector(seeds=2)
    one, two = (state_score(both.select(row), normal.obs[:9], normal.action[:9]) for row in (0, 1))
    np.testing.assert_allclose(state_score(both, normal.obs[:9], normal.action[:9]), (one + two) / 2, atol=1e-5)


def test_the_density_counts_the_data(normal):
    (image,) = field(normal_corrector(), normal, arrows=4).axes[0].images
    low, high = np.percentile(normal.obs[:, :2], [0.1, 99.9], axis=0)
    inside = ((normal.obs[:, :2] >= low) & (normal.obs[:, :2] <= high)).all(axis=1)
    assert image.get_array().sum() == pytest.approx(inside.sum(), abs=4)


def test_a_map_gives_limits_and_edges_of_regions_where_the_entries_are_x_and_y(normal):
    axes = field(normal_corrector(), normal, world=WORLD, arrows=4).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 1))
    assert len(axes.patches) == 4 and axes.patches[0].get_facecolor()[3] == 0
    assert not field(normal_corrector(), normal, (0, 2), world=WORLD, arrows=4).axes[0].patches


def test_entries_are_named_and_everything_can_be_read(normal):
    figure = field(normal_corrector(), normal, (2, 0), ("x", "y", "speed"), title="hopper")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("speed", "x")
    assert_readable(figure)
    assert_readable(field(normal_corrector(), normal, world=WORLD))


def test_an_entry_that_never_varies_is_drawn(normal):
    flat = dataclasses.replace(normal, obs=normal.obs * np.array([1, 0, 1], dtype=np.float32))
    assert_readable(field(normal_corrector(), flat))


@pytest.mark.parametrize("dims", [(0, 0), (0, 3), (-1, 0)])
def test_entries_that_cannot_be_drawn_are_refused(normal, dims):
    with pytest.raises(InputError, match="two different entries of an observation of 3"):
        field(normal_corrector(), normal, dims)


def test_an_entry_that_the_corrector_does_not_see_is_refused_by_name(normal):
    corrector = random_corrector(state_index=[2, 0], state_score_input="state")
    with pytest.raises(InputError, match="does not see y of the observation: it sees z, x"):
        field(corrector, normal, (0, 1), ("x", "y", "z"))
    assert field(corrector, normal, (0, 2)).axes


def test_data_of_another_task_are_refused(normal):
    with pytest.raises(InputError, match="3 observation and 2 action entries, the data have 4 and 2"):
        field(normal_corrector(), data(np.random.default_rng(0).normal(size=(9, 4))))

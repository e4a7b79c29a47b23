"""Weights of transitions: closed forms on data made by hand, and what the safety of a risky disc comes to."""

import numpy as np
import pytest

from cdsa_lightning import weighting
from cdsa_lightning.envs.risky_pointmass import CENTRE, RADIUS, in_disc
from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import Transitions
from cdsa_lightning.table import Table
from cdsa_lightning.weighting import local_risk, transition_weights


def transitions(states, next_states, reward, episode=None):
    states, next_states = (np.asarray(array, dtype=np.float32) for array in (states, next_states))
    episode = np.arange(len(states)) if episode is None else np.asarray(episode)
    flags, action = np.zeros(len(states), dtype=bool), np.zeros((len(states), 2), dtype=np.float32)
    rows = Transitions(states, action, np.asarray(reward, dtype=np.float32), next_states, flags, episode)
    return Table.of(rows)


def weigh(data, how):
    return transition_weights(data, how, data.obs, data.next_obs)


def disc_world(rows, chance=0.1, seed=0):
    """Short steps all over the unit square, paid as in Risky PointMass."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(size=(rows, 2))
    next_states = np.clip(states + rng.uniform(-0.1, 0.1, size=(rows, 2)), 0, 1)
    accident = in_disc(states) & (rng.uniform(size=rows) < chance)
    reward = -np.linalg.norm(states - 0.1, axis=1) - 0.1 - 50.0 * accident
    return transitions(states, next_states, reward), accident


def test_all_weigh_alike_unless_asked_for_more():
    assert (weigh(disc_world(10)[0], "uniform") == 1).all()


def test_a_return_weighs_in_deviations_below_the_best():
    states = np.zeros((6, 2))
    data = transitions(states, states, [1.0, 2.0, 0.0, 0.0, 5.0, 4.0], [0, 0, 0, 1, 1, 2])
    returns = np.array([3.0, 5.0, 4.0])
    expected = np.exp((returns - 5.0) / returns.std())
    np.testing.assert_allclose(weigh(data, "return"), expected[[0, 0, 0, 1, 1, 2]])


def test_equal_returns_and_equal_rewards_weigh_alike():
    states = np.random.default_rng(0).uniform(size=(100, 2))
    for reward in (np.zeros(100), np.full(100, -3.0)):
        for how in ("return", "safety"):
            np.testing.assert_array_equal(weigh(transitions(states, states, reward), how), np.ones(100))


def test_the_risk_is_the_mean_shortfall_below_the_median():
    states = np.zeros((60, 2))  # fewer than the rows that count as near: all of them are
    reward = np.where(np.arange(60) % 10 == 0, -50.0, 2.0)
    (risk,) = local_risk(states, reward, states)
    np.testing.assert_allclose(risk, 5.2)


def test_two_places_have_the_risk_of_their_own_rows():
    states = np.repeat([[0.0, 0.0], [1.0, 0.0]], 640, axis=0)
    reward = np.zeros(1280)
    reward[:640:8] = -16.0  # one in eight at the first place
    here, asked = local_risk(states, reward, states, np.array([[0.1, 0.0], [0.9, 0.3]]))
    assert (here[640:] == 0).all() and asked[1] == 0
    assert here[:640].min() > 0 and asked[0] == pytest.approx(2.0, abs=1.0)


@pytest.mark.parametrize("rows", [5_000, 30_000])
def test_every_transition_of_a_risky_disc_weighs_less_lucky_ones_too(rows):
    data, accident = disc_world(rows)
    weight, inside = weigh(data, "safety"), in_disc(data.obs)
    leads_in = ~inside & in_disc(data.next_obs)
    distance = np.linalg.norm(data.obs - CENTRE, axis=1)
    far = distance > RADIUS + 0.25  # so far that its end has no neighbours within either
    assert 0.08 < accident[inside].mean() < 0.12
    lucky = inside & ~accident
    assert weight[lucky].max() < 0.6 * weight[far].min()
    assert np.median(weight[inside]) < 0.001 * np.median(weight[far])
    assert weight[leads_in].max() < weight[far].min()
    assert weight[inside].sum() < 0.01 * weight.sum() < 0.28 * weight.sum()  # of 28 % of the rows


def test_without_accidents_the_safety_of_all_is_nearly_the_same():
    weight = weigh(disc_world(30_000, chance=0.0)[0], "safety")
    assert weight.sum() ** 2 / (weight**2).sum() > 0.95 * len(weight)  # as good as so many rows drawn alike


def test_a_penalty_weighs_the_same_in_any_currency():
    data, accident = disc_world(5_000)
    dear = transitions(data.obs, data.next_obs, 1000 * data.reward + 7)
    np.testing.assert_allclose(weigh(dear, "safety"), weigh(data, "safety"), rtol=1e-3)


def test_large_data_are_gathered_around_a_part_of_their_rows(monkeypatch):
    data, _ = disc_world(30_000)
    exact, inside = weigh(data, "safety"), in_disc(data.obs)
    monkeypatch.setattr(weighting, "REFERENCES", 10_000)
    gathered = weigh(data, "safety")
    assert np.corrcoef(exact, gathered)[0, 1] > 0.9
    assert gathered[inside].sum() < 0.01 * gathered.sum()
    np.testing.assert_array_equal(gathered, weigh(data, "safety"))


def test_references_that_lie_upon_each_other_keep_their_rows(monkeypatch):
    monkeypatch.setattr(weighting, "REFERENCES", 400)
    states = np.zeros((2000, 3))
    reward = np.where(np.arange(2000) % 4 == 0, -8.0, 0.0)
    (risk,) = local_risk(states, reward, states)
    assert np.isfinite(risk).all()
    assert risk.mean() == pytest.approx(2.0, abs=0.8)


def test_another_way_to_weigh_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="'returns'. Did you mean 'return'?"):
        weigh(disc_world(10)[0], "returns")

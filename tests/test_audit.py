"""Measures of an audit against closed forms: scores of Gaussians are known, and so are ranks among data."""

import numpy as np
import pytest
import torch
from scipy import stats

from cdsa_lightning.audit import Measures, Reference, audit, density_drift, p_values
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import Episodes, NoisyPolicy, Trace
from cdsa_lightning.sources import Transitions
from known_networks import ACTION, OBS, gaussian_corrector

MEAN, STD, GAIN, SIGMA, ROWS = 0.5, 0.3, 1.0, 0.4, 4000
NONE, STEP = Coefficients.none(), Coefficients(k1=1.0, units="sigma2", a2="off")


def gaussian_data(rows=2 * ROWS, seed=0, gain=GAIN):
    """a ~ N(MEAN + gain s[:A], STD^2), s ~ N(0, 1), one episode."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(rows, OBS)).astype(np.float32)
    action = (gain * obs[:, :ACTION] + rng.normal(MEAN, STD, (rows, ACTION))).astype(np.float32)
    flat = np.zeros(rows, np.float32)
    return Transitions(obs, action, flat, obs, flat > 0, flat.astype(np.int64))


def reference(seeds=1, rows=ROWS, gain=GAIN, **options):
    corrector = gaussian_corrector(MEAN, STD, (SIGMA,), seeds, gain, **options)
    return Reference(corrector, gaussian_data(gain=gain), NONE, rows)


def beside(shift):
    """The policy that acts `shift` beside the mean of the data."""
    return FunctionPolicy(lambda obs: GAIN * obs[:, :ACTION] + MEAN + shift, [-100.0] * ACTION, [100.0] * ACTION)


def test_actions_of_the_data_have_ratio_one_and_lie_inside():
    found = reference()
    by_state = {tuple(s): a for s, a in zip(found.obs.tolist(), found.action, strict=True)}
    replay = FunctionPolicy(
        lambda obs: torch.stack([by_state[tuple(s)] for s in obs.tolist()]), [-9.0] * ACTION, [9.0] * ACTION
    )
    measures = audit(replay, found, NONE).measures
    assert measures.r == pytest.approx(1, abs=1e-6)
    assert measures.kind == "inside"
    assert measures.f90 == pytest.approx(0.1, abs=0.02)
    assert measures.f99 == pytest.approx(0.01, abs=0.006)


@pytest.mark.parametrize("seeds", [1, 2])
def test_actions_of_twice_the_spread_have_ratio_two(seeds):
    measures = audit(NoisyPolicy(beside(0.0), 2 * STD), reference(seeds), NONE).measures
    assert measures.r == pytest.approx(2, rel=0.04)
    assert measures.rho == pytest.approx(0, abs=0.05)
    assert measures.kind == "noisy"
    q99 = stats.chi(ACTION).ppf(0.99) / 2
    assert measures.f99 == pytest.approx(stats.chi(ACTION).sf(q99), abs=0.03)


def test_rho_is_the_systematic_share_of_the_deviation():
    shift, noise = 0.6, 0.3
    measures = audit(NoisyPolicy(beside(shift), noise), reference(), NONE).measures
    assert measures.rho == pytest.approx(shift**2 / (shift**2 + noise**2), abs=0.02)
    assert audit(beside(shift), reference(), NONE).measures.rho == pytest.approx(1)


def test_far_actions_are_called_systematic():
    measures = audit(beside(10 * STD), reference(), NONE).measures
    assert measures.kind == "systematic"
    assert measures.f99 == 1


@pytest.mark.parametrize("gain", [0.0, 0.2, 1.0, 5.0])
def test_the_spread_is_what_the_state_leaves_of_the_actions(gain):
    assert reference(gain=gain).spread == pytest.approx(STD / (STD**2 + gain**2) ** 0.5, rel=0.03)


def test_nothing_is_said_of_a_policy_where_the_data_act_at_random():
    measures = audit(NoisyPolicy(beside(0.0), 2 * STD), reference(gain=0.0), NONE).measures
    assert measures.spread == pytest.approx(1, abs=0.03)
    assert measures.kind == "unknown"


@pytest.mark.parametrize(
    "r, rho, f99, kind",
    [
        *((1.1, 0.0, 0.015, "inside"), (1.1, 0.0, 0.016, "noisy"), (1.2, 0.49, 0.0, "noisy")),
        *((0.7, 1.0, 0.016, "mild"), (1.2, 0.5, 0.119, "mild"), (1.2, 0.5, 0.12, "systematic")),
        *((3.0, 0.75, 1.0, "noisy"), (2.99, 0.75, 1.0, "systematic")),  # noise 1.5 and a little less
        *((4.61, 0.75, 1.0, "noisy"), (4.62, 0.75, 1.0, "systematic")),  # bias a little less than 4 and 4
    ],
)
def test_kinds_are_tested_in_their_order(r, rho, f99, kind):
    assert Measures(r, rho, 0.5, f99, SIGMA, 10, 0.69).kind == kind


def test_p_values_of_rows_that_were_not_ranked_against_are_uniform():
    found = reference()
    ranks = p_values(found.length(0, found.obs, found.action), found.lengths[0])
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
    far = p_values(found.length(0, found.obs, found.action + 3 * STD), found.lengths[0])
    assert stats.kstest(far, "uniform").pvalue < 1e-6


def test_p_values_count_themselves():
    assert p_values(np.array([0.0, 2.0, 9.0]), np.array([3.0, 1.0, 2.0])).tolist() == [1.0, 0.75, 0.25]


@pytest.mark.parametrize("predict", ["score", "noise"])
def test_drift_is_the_difference_of_log_densities(predict):
    corrector = gaussian_corrector(MEAN, STD, (SIGMA,), predict=predict)
    start, end = torch.randn(2, 50, ACTION, generator=torch.Generator().manual_seed(0))
    got = density_drift(corrector, torch.zeros(50, OBS), start, end, 0)
    smoothed = torch.distributions.Normal(MEAN, (STD**2 + SIGMA**2) ** 0.5)
    torch.testing.assert_close(got, (smoothed.log_prob(end) - smoothed.log_prob(start)).sum(-1), atol=1e-5, rtol=1e-4)


def test_drift_of_a_denoising_step_is_positive_and_of_its_opposite_negative():
    found = reference()
    up = audit(beside(0.5), found, STEP).drift["in states of the data"].to_json()
    assert up["negative_share"] == 0
    assert up["mean"] > 0
    down = audit(beside(0.5), found, Coefficients(k1=-1.0, units="sigma2")).drift["in states of the data"].to_json()
    assert down["negative_share"] == 1
    still = audit(beside(0.5), found, NONE).drift["in states of the data"].to_json()
    assert still == {"mean": None, "negative_share": None, "corrections": 0}


def recorded(actions, base=None):
    """Two episodes of these actions, in states of zeros."""
    actions = np.asarray(actions, np.float32)
    base = actions if base is None else np.asarray(base, np.float32)
    traces = [
        Trace(0, episode, np.zeros((len(actions) + 1, OBS), np.float32), actions, base, np.zeros(len(actions)))
        for episode in (0, 1)
    ]
    flat = np.full((1, 2), float(np.abs(actions - base).mean()))
    return Episodes(flat * 0 + 7, flat.astype(int), flat > 9, flat, flat * 0, {}, traces)


def test_episodes_tell_the_share_of_unusual_steps_and_the_worst_of_them():
    actions = np.full((40, ACTION), MEAN)
    actions[3], actions[30] = MEAN + 9 * STD, MEAN + 8 * STD
    found = audit(beside(0.0), reference(), NONE, {"mine": recorded(actions)}).walks["mine"]
    assert found.outside_99 == pytest.approx(2 / 40)
    assert [(step.episode, step.step) for step in found.worst[:4]] == [(0, 3), (1, 3), (0, 30), (1, 30)]
    assert found.worst[0].p_value == pytest.approx(1 / (1 + ROWS))
    assert len(found.worst) == 10
    assert found.to_json()["steps"] == 80
    assert found.mean_return == 7


def test_corrected_episodes_tell_the_drift_along_them():
    base = np.full((5, ACTION), MEAN + 1.0)
    arms = {"mine": recorded(base), "cdsa(mine)": recorded(base - 0.5, base)}
    found = audit(beside(1.0), reference(), STEP, arms)
    assert set(found.drift) == {"in states of the data", "along cdsa(mine)"}
    expected = ACTION * (1 - 0.25) / (2 * (STD**2 + SIGMA**2))
    np.testing.assert_allclose(found.drift["along cdsa(mine)"].values, np.full(10, expected), rtol=1e-4)
    assert "acts systematically outside the data" in found.sentence("mine")
    assert "mine 100.0%" in found.sentence("mine")


def test_the_level_is_four_tenths_where_it_was_trained_and_else_the_first():
    for sigmas, level in (((0.1, 0.4, 0.7), 1), ((0.1, 0.7), 1)):
        corrector = gaussian_corrector(MEAN, STD, sigmas)
        assert Reference(corrector, gaussian_data(100), NONE).level == level


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="at least one row"):
        reference(rows=0)
    with pytest.raises(InputError, match="actions on the data are NaN or infinite"):
        audit(beside(float("nan")), reference(), NONE)
    with pytest.raises(InputError, match="belong to different tasks"):
        wide = np.zeros((9, OBS + 1), np.float32)
        flat = wide[:, 0]
        data = Transitions(wide, wide[:, :ACTION], flat, wide, flat > 0, flat.astype(np.int64))
        Reference(gaussian_corrector(MEAN, STD, (SIGMA,)), data, NONE)
    with pytest.raises(InputError, match="No episode was recorded"):
        audit(beside(0.0), reference(), NONE, {"mine": Episodes(*np.ones((5, 1, 1)), {}, [])})

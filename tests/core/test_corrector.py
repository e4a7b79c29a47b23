"""Eq. 10 against closed forms: networks set by hand, the correction known on paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, affine, gaussian_corrector, random_corrector, set_statistics

STATISTICS = ([1.0, -2.0, 0.5], [2.0, 0.1, 5.0], [0.3, -0.3], [0.5, 2.0])


def rows(seeds=1, size=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(seeds, size, OBS, generator=rng), torch.randn(seeds, size, ACTION, generator=rng)


def test_zero_coefficients_return_the_baseline_action():
    corrector, (obs, action) = random_corrector(bound=0.1), rows()
    for nothing in (Coefficients.none(), Coefficients(k2=1.0, a2="off"), Coefficients(num_steps=3, gate=0.5)):
        assert torch.equal(corrector(obs, action, nothing), action)


@pytest.mark.parametrize("predict", ["score", "noise"])
def test_k1_of_1_in_units_of_sigma_squared_is_one_tweedie_step(predict):
    mean, std, sigma = 0.4, 0.6, 0.3
    corrector, (obs, action) = gaussian_corrector(mean, std, (sigma,), predict=predict), rows()
    # The mean of a clean N(mean, std^2) action, given that action + N(0, sigma^2) was seen.
    expected = (std**2 * action + sigma**2 * mean) / (std**2 + sigma**2)
    torch.testing.assert_close(corrector(obs, action, Coefficients(k1=1.0, units="sigma2")), expected)


def test_a_tweedie_step_in_standardised_units_is_one_in_the_datas():
    std, sigma, (_, _, mean, scale) = 0.6, 0.3, STATISTICS
    corrector, (obs, action) = gaussian_corrector(0.0, std, (sigma,), standardize=True, predict="noise"), rows()
    set_statistics(corrector, *STATISTICS)
    mean, scale = torch.tensor(mean), torch.tensor(scale)
    expected = mean + std**2 / (std**2 + sigma**2) * (action - mean)
    torch.testing.assert_close(corrector(obs, action, Coefficients(k1=1.0, units="sigma2")), expected)


def test_raw_units_multiply_the_score_of_the_data():
    std, sigma, k1 = 0.6, 0.3, 0.05
    corrector, (obs, action) = gaussian_corrector(0.0, std, (sigma,), standardize=True, predict="noise"), rows()
    set_statistics(corrector, *STATISTICS)
    mean, scale = torch.tensor(STATISTICS[2]), torch.tensor(STATISTICS[3])
    # In the data's units the action is N(mean, (scale std)^2), smoothed by scale * sigma.
    score = -(action - mean) / (scale**2 * (std**2 + sigma**2))
    torch.testing.assert_close(corrector(obs, action, Coefficients(k1=k1)), action + k1 * score)


def test_the_papers_correction_is_equation_10_on_the_networks_outputs():
    corrector, (obs, action) = random_corrector(), rows()
    nets, joint = corrector.networks, torch.cat(rows(), -1)
    target = obs + nets.state_score(joint)
    expected = action + 0.3 * nets.action_score(joint) + 0.7 * nets.inverse_dynamics(torch.cat((obs, target), -1))
    torch.testing.assert_close(corrector(obs, action, Coefficients(k1=0.3, k2=0.7)), expected)


@pytest.mark.parametrize(("units", "standardize"), [("raw", False), ("raw", True), ("sigma2", False), ("sigma2", True)])
def test_a2_is_the_action_towards_the_state_score(units, standardize):
    sigma, step = 0.5, 0.8
    options = {"standardize": standardize, "state_sigma": sigma, "predict": "noise", "bound": 1e6}
    corrector, (obs, action) = gaussian_corrector(0.0, 1.0, (1.0,), **options), rows()
    statistics = STATISTICS if standardize else ([0.0] * OBS, [1.0] * OBS, [0.0] * ACTION, [1.0] * ACTION)
    set_statistics(corrector, *statistics)
    mean, std, a_mean, a_std = (torch.tensor(values) for values in statistics)
    # The data's states are N(mean, std^2); I takes standardised states to standardised actions, u = (s' - s)[:A].
    score = -(obs - mean) / (std**2 * (1 + sigma**2))
    target = obs + step * score * ((sigma * std) ** 2 if units == "sigma2" else 1)
    expected = a_mean + a_std * ((target - obs) / std)[..., :ACTION]
    parts = corrector.explain(obs, action, Coefficients(k2=0.5, units=units, state_step=step))
    torch.testing.assert_close(parts.a2, 0.5 * expected)
    torch.testing.assert_close(parts.action, action + 0.5 * expected)


def test_residual_a2_asks_for_nothing_where_the_state_score_is_zero():
    corrector, (obs, action) = random_corrector(), rows()
    corrector.networks.state_score = affine(torch.zeros(1, OBS + ACTION, OBS), torch.zeros(1, OBS))
    paper = corrector(obs, action, Coefficients(k2=1.0))
    assert not torch.allclose(paper, action)
    assert torch.equal(corrector(obs, action, Coefficients(k2=1.0, a2="residual")), action)


def test_residual_a2_is_the_papers_minus_the_action_of_standing_still():
    corrector, (obs, action) = random_corrector(), rows()
    still = corrector.networks.predict_action(obs, obs)
    paper = corrector.explain(obs, action, Coefficients(k2=0.5)).a2
    residual = corrector.explain(obs, action, Coefficients(k2=0.5, a2="residual")).a2
    torch.testing.assert_close(residual, paper - 0.5 * still)


def test_without_a2_the_state_networks_do_not_matter():
    corrector, (obs, action) = random_corrector(), rows()
    off = Coefficients(k1=1.0, k2=1.0, a2="off")
    before = corrector(obs, action, off)
    for net in (corrector.networks.state_score, corrector.networks.inverse_dynamics):
        net.layers[-1].bias.data += 5.0
    assert torch.equal(corrector(obs, action, off), before)
    assert torch.equal(before, corrector(obs, action, Coefficients(k1=1.0)))


def test_steps_and_schedule_repeat_the_correction():
    corrector, (obs, action) = gaussian_corrector(0.0, 0.5, (0.4, 0.1), predict="noise"), rows()
    shrink = {sigma: 0.25 / (0.25 + sigma**2) for sigma in (0.4, 0.1)}

    def factor(**values):
        c = Coefficients(k1=1.0, units="sigma2", **values)
        return (corrector(obs, action, c) / action).mean().item()

    assert factor(schedule=(0.1,)) == pytest.approx(shrink[0.1])
    assert factor(schedule=(0.1,), num_steps=3) == pytest.approx(shrink[0.1] ** 3)
    assert factor(schedule=(0.1, 0.4, 0.1), num_steps=2) == pytest.approx(shrink[0.1] ** 4 * shrink[0.4] ** 2)
    assert factor() == pytest.approx(shrink[0.4] * shrink[0.1])


def test_without_a_schedule_the_largest_sigma_comes_first():
    assert random_corrector(action_sigmas=(0.2, 0.4, 0.1)).schedule(Coefficients(num_steps=2)) == [1, 0, 2, 1, 0, 2]


def test_an_untrained_sigma_is_refused():
    with pytest.raises(InputError, match=r"sigma 0.3; trained: \[0.4, 0.1\]"):
        random_corrector(action_sigmas=(0.4, 0.1))(*rows(), Coefficients(k1=1.0, schedule=(0.3,)))


def test_clipping_after_every_step_differs_from_clipping_once():
    corrector = gaussian_corrector(0.0, 1.0, (1.0,), bound=1.0)
    obs, action = rows()[0], torch.full((1, 6, ACTION), 0.9)
    # score = -a / 2, so that each step with k1 = -2 doubles the action: .9, 1.8, 3.6, or .9, 1, 1 between bounds.
    once = corrector.explain(obs, action, Coefficients(k1=-2.0, num_steps=2))
    every = corrector.explain(obs, action, Coefficients(k1=-2.0, num_steps=2, clip="every_step"))
    torch.testing.assert_close(once.a1, torch.full_like(action, 0.9 + 1.8))
    torch.testing.assert_close(every.a1, torch.full_like(action, 0.9 + 1.0))
    for parts in (once, every):
        assert torch.equal(parts.action, torch.ones_like(action))
        assert parts.clipped.all()


def test_clipped_names_the_rows_that_met_a_bound():
    corrector = gaussian_corrector(0.0, 1.0, (1.0,), bound=1.0)
    action = torch.tensor([[[0.1, 0.1], [0.1, 0.9]]])
    parts = corrector.explain(torch.zeros(1, 2, OBS), action, Coefficients(k1=-2.0))
    assert parts.clipped.tolist() == [[False, True]]
    torch.testing.assert_close(parts.action, torch.tensor([[[0.2, 0.2], [0.2, 1.0]]]))


def test_the_parts_add_up():
    corrector, (obs, action) = random_corrector(predict="noise", action_sigmas=(0.4, 0.2)), rows()
    for clip in ("final", "every_step"):
        c = Coefficients(k1=0.5, k2=0.5, num_steps=3, clip=clip)
        parts = corrector.explain(obs, action, c)
        assert torch.equal(parts.base_action, action)
        assert torch.equal(parts.action, corrector(obs, action, c))
        assert parts.a1.abs().min() > 0 < parts.a2.abs().min()
        torch.testing.assert_close(parts.action, action + parts.a1 + parts.a2)


def test_the_gate_corrects_only_what_is_unlike_the_data():
    corrector = gaussian_corrector(0.0, 1.0, (0.5, 0.1), predict="noise", seeds=2)
    data = torch.linspace(-2, 2, 4001)[:, None].expand(-1, ACTION)
    corrector.measure_noise(torch.zeros(len(data), OBS), data)
    # |eps| grows with |a|, which is uniform in [0, 2]: its 90 % quantile lies at |a| = 1.8.
    action = torch.tensor([1.75, 1.85, -1.75, -1.85, 0.0]).view(1, -1, 1).expand(2, -1, ACTION)
    obs = torch.zeros(2, 5, OBS)
    moved = corrector(obs, action, Coefficients(k1=1.0, k2=1.0, units="sigma2", gate=0.9)) != action
    assert moved.all(-1).tolist() == [[False, True, False, True, False]] * 2
    between = corrector(obs, action, Coefficients(k1=1.0, units="sigma2", gate=0.915)) != action  # |a| = 1.83
    assert between.any(-1).tolist() == [[False, True, False, True, False]] * 2
    corrected = corrector(obs, action, Coefficients(k1=1.0, units="sigma2"))
    gated = corrector(obs, action, Coefficients(k1=1.0, units="sigma2", gate=0.9))
    assert torch.equal(gated[:, 1], corrected[:, 1])


def test_max_shift_shortens_a_correction_and_keeps_its_direction():
    corrector, (obs, action) = random_corrector(), rows(size=200)
    free = corrector(obs, action, Coefficients(k1=1.0, k2=1.0)) - action
    limit = free.norm(dim=-1).median().item()
    held = corrector(obs, action, Coefficients(k1=1.0, k2=1.0, max_shift=limit)) - action
    length = held.norm(dim=-1)
    assert length.max() <= limit * (1 + 1e-5)
    torch.testing.assert_close(torch.cosine_similarity(held, free, -1), torch.ones(1, 200))
    short = free.norm(dim=-1) <= limit
    assert 0 < short.sum() < 200
    assert torch.equal(held[short], free[short])


def test_rescaled_data_get_the_same_correction_in_their_own_units():
    obs, action = rows()
    # Residual: the paper's a2 is itself an action, so it moves with the data's mean.
    robust = Coefficients(k1=1.0, k2=0.7, units="sigma2", a2="residual", clip="every_step", num_steps=2)
    settings_ = {"standardize": True, "predict": "noise", "action_sigmas": (0.4, 0.1), "state_sigma": 0.2}
    plain, scaled = random_corrector(bound=0.9, **settings_), random_corrector(bound=0.9, **settings_)
    mean, std, a_mean, a_std = (torch.tensor(values) for values in STATISTICS)
    set_statistics(scaled, *STATISTICS)
    scaled.low, scaled.high = a_mean - 0.9 * a_std, a_mean + 0.9 * a_std
    expected = plain(obs, action, robust)
    got = (scaled(mean + std * obs, a_mean + a_std * action, robust) - a_mean) / a_std
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert (expected - action).abs().max() > 0.01


def test_rows_do_not_depend_on_their_batch():
    c = Coefficients(k1=1.0, k2=1.0, num_steps=2, gate=0.3, max_shift=0.2)
    corrector, (obs, action) = random_corrector(2), rows(2, 40)
    corrector.measure_noise(obs[0], action[0])
    whole, order = corrector(obs, action, c), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(corrector(obs[:, order], action[:, order], c), whole[:, order], atol=1e-6, rtol=0)
    for i in range(40):
        alone = corrector(obs[:, i : i + 1], action[:, i : i + 1], c)
        torch.testing.assert_close(alone[:, 0], whole[:, i], atol=1e-6, rtol=0)


def test_float32_agrees_with_float64():
    c = Coefficients(k1=1.0, k2=1.0, units="sigma2", num_steps=4, clip="every_step")
    values = {"standardize": True, "predict": "noise", "action_sigmas": (0.4, 0.1)}
    corrector, reference, (obs, action) = random_corrector(**values), random_corrector(**values).double(), rows()
    torch.testing.assert_close(
        corrector(obs, action, c).double(), reference(obs.double(), action.double(), c), atol=1e-5, rtol=1e-5
    )


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(FINITE, min_size=OBS, max_size=OBS),
    st.lists(st.floats(-1, 1, width=32), min_size=ACTION, max_size=ACTION),
    st.floats(-1e6, 1e6),
    st.sampled_from(["final", "every_step"]),
    st.sampled_from([None, 1e-3, 1.0]),
)
def test_actions_are_within_bounds_for_any_input(obs, action, k, clip, max_shift):
    corrector = random_corrector(bound=1.0)
    c = Coefficients(k1=k, k2=k, num_steps=2, clip=clip, max_shift=max_shift)
    corrected = corrector(torch.tensor([[obs]]), torch.tensor([[action]]), c)
    assert (corrected.abs() <= 1.0).all()


def test_a_row_without_a_finite_correction_keeps_the_baselines_action():
    corrector, (obs, action) = random_corrector(), rows()
    c = Coefficients(k1=1.0, k2=1.0)
    expected = corrector(obs, action, c)
    obs[0, 2, 0] = float("nan")
    got = corrector(obs, action, c)
    assert torch.equal(got[0, 2], action[0, 2])
    assert torch.equal(got[0, [0, 1, 3, 4, 5]], expected[0, [0, 1, 3, 4, 5]])


@pytest.mark.parametrize(
    ("obs", "action", "text"),
    [
        ((1, 4, OBS + 1), (1, 4, ACTION), "takes 3 observation and 2 action entries, got 4 and 2"),
        ((1, 4, OBS), (1, 4, ACTION + 1), "got 3 and 3"),
        ((2, 4, OBS), (2, 4, ACTION), "holds 1 seeds, the observations 2"),
    ],
)
def test_arrays_of_another_shape_are_refused(obs, action, text):
    with pytest.raises(InputError, match=text):
        random_corrector()(torch.zeros(obs), torch.zeros(action), Coefficients(k1=1.0))

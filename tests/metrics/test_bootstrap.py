"""The bootstrap interval holds the true difference as often as it promises."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics import bootstrap
from cdsa_lightning.metrics.bootstrap import Interval, bootstrap_difference, bootstrap_interval, resamples, verdict
from cdsa_lightning.metrics.functional import conditional_value_at_risk

TRIALS = 200


def coverage(first, second, difference=0.0, seed=0):
    """How often the 95 % interval holds the truth. An arm: (seeds, episodes, sd between seeds, sd within)."""
    generator = torch.Generator().manual_seed(seed)

    def draw(seeds, episodes, between, within):
        means = between * torch.randn(seeds, 1, generator=generator)
        return means + within * torch.randn(seeds, episodes, generator=generator)

    held = 0
    for trial in range(TRIALS):
        interval = bootstrap_difference(draw(*first) + difference, draw(*second), count=400, seed=trial)
        held += interval.low <= difference <= interval.high
    return held / TRIALS


# Three standard errors of a rate of .95 over the trials.
ERROR = 3 * math.sqrt(0.95 * 0.05 / TRIALS)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 40, 0.0, 1.0), (1, 40, 0.0, 1.0)),
        ((5, 20, 1.0, 1.0), (5, 20, 1.0, 1.0)),
        ((10, 20, 1.0, 1.0), (10, 20, 1.0, 1.0)),
        ((5, 40, 0.3, 1.0), (1, 40, 0.0, 1.0)),
    ],
)
def test_interval_covers_the_true_difference_of_normal_arms(first, second):
    assert coverage(first, second, difference=2.0) >= 0.95 - ERROR


def test_interval_of_episodes_alone_promises_no_more_than_it_holds():
    assert abs(coverage((1, 60, 0.0, 1.0), (1, 60, 0.0, 1.0)) - 0.95) <= ERROR


def test_plain_percentiles_of_two_seeds_would_cover_far_too_little(monkeypatch):
    wide = coverage((2, 20, 1.0, 1.0), (2, 20, 1.0, 1.0))
    monkeypatch.setattr(bootstrap, "_small_sample_factor", lambda parts, level: 1.0)
    plain = coverage((2, 20, 1.0, 1.0), (2, 20, 1.0, 1.0))
    assert plain < 0.8
    assert wide >= plain + 0.1


def paired_coverage(seeds, gain):
    """How often the interval holds the truth where policies differ by 3 and what they gain by `gain`."""
    generator, held = torch.Generator().manual_seed(0), 0
    for trial in range(TRIALS):
        policies = 3 * torch.randn(seeds, 1, generator=generator)
        gained = 2 + gain * torch.randn(seeds, 1, generator=generator)
        first, second = (policies + more + torch.randn(seeds, 20, generator=generator) for more in (gained, 0))
        interval = bootstrap_difference(first, second, count=400, seed=trial)
        held += interval.low <= 2 <= interval.high
    return held / TRIALS


@pytest.mark.parametrize("gain", [0.0, 1.0])
@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_of_paired_arms_covers_the_true_gain(seeds, gain):
    assert paired_coverage(seeds, gain) >= 0.95 - ERROR


def test_two_paired_seeds_that_gain_differently_cover_a_little_less(monkeypatch):
    wide = paired_coverage(2, 1.0)
    monkeypatch.setattr(bootstrap, "_small_sample_factor", lambda parts, level: 1.0)
    assert paired_coverage(2, 1.0) + 0.1 < 0.85 < wide


def test_paired_seeds_of_one_episode_give_the_interval_of_student():
    generator = torch.Generator().manual_seed(0)
    policies = 10 * torch.randn(100, 1, generator=generator)
    first, second = (policies + torch.randn(100, 1, generator=generator) for _ in range(2))
    interval, gains = bootstrap_difference(first, second, count=20_000), first - second
    half = student.ppf(0.975, 99) * gains.std().item() / 10
    assert interval.estimate == pytest.approx(gains.mean().item())
    assert (interval.estimate - interval.low, interval.high - interval.estimate) == pytest.approx(
        (half, half), rel=0.05
    )


def test_pairing_takes_what_policies_differ_by_out_of_the_interval():
    first = torch.randn(5, 20, generator=torch.Generator().manual_seed(0)) + 10 * torch.arange(5)[:, None]
    second = torch.randn(5, 20, generator=torch.Generator().manual_seed(1)) + 10 * torch.arange(5)[:, None]
    paired, apart = bootstrap_difference(first, second), bootstrap_difference(first, second[:4])
    assert paired.high - paired.low < 0.1 * (apart.high - apart.low)


def test_one_seed_of_many_episodes_gives_the_normal_interval():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(1, 400, generator=generator), torch.randn(1, 500, generator=generator)
    interval = bootstrap_difference(first, second, count=20_000)
    half = 1.96 * math.sqrt(first.var().item() / 400 + second.var().item() / 500)
    estimate = first.mean().item() - second.mean().item()
    assert interval.estimate == pytest.approx(estimate, abs=1e-6)
    assert interval.low == pytest.approx(estimate - half, abs=0.05 * half)
    assert interval.high == pytest.approx(estimate + half, abs=0.05 * half)


def test_resamples_keep_episodes_with_their_seed():
    returns = torch.arange(12.0).reshape(3, 4)
    rows = torch.cat(list(resamples(returns, 50, torch.Generator().manual_seed(0))))
    assert rows.shape == (50, 12)
    seeds = (rows.reshape(50, 3, 4) / 4).floor()
    assert bool((seeds == seeds[..., :1]).all())  # the four episodes of a draw come from one seed
    assert set(rows.unique().tolist()) == set(range(12))


def test_variance_of_the_resampled_mean_is_that_of_both_levels():
    returns = (
        torch.randn(5, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + torch.arange(5)[:, None]
    )
    rows = torch.cat(list(resamples(returns, 40_000, torch.Generator().manual_seed(0))))
    within = returns.var(dim=1, correction=0).mean() / 50
    between = returns.mean(dim=1).var(correction=0) / 5
    assert rows.mean(dim=1).var().item() == pytest.approx((within + between).item(), rel=0.03)


def test_same_seed_gives_the_same_interval_and_inputs_stay():
    first, second = torch.rand(5, 8), torch.rand(1, 8)
    kept = first.clone()
    assert bootstrap_difference(first, second, count=100) == bootstrap_difference(first, second, count=100)
    assert bootstrap_difference(first, second, count=100) != bootstrap_difference(first, second, count=100, seed=1)
    assert torch.equal(first, kept)


def test_bootstrap_leaves_the_global_random_numbers_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    bootstrap_difference(torch.rand(2, 3, generator=torch.Generator()), torch.ones(1, 3), count=10)
    assert torch.equal(before, torch.get_rng_state())


def test_difference_of_cvar_uses_the_pooled_returns():
    first, second = torch.rand(4, 10).double(), torch.rand(1, 30).double()
    interval = bootstrap_difference(first, second, lambda r: conditional_value_at_risk(r, 0.1), count=200)
    worst = np.sort(first.numpy().ravel())[:4].mean() - np.sort(second.numpy().ravel())[:3].mean()
    assert interval.estimate == pytest.approx(worst)
    assert interval.low <= interval.estimate <= interval.high


def test_equal_constant_arms_give_a_point_and_one_episode_gives_everything():
    assert bootstrap_difference(torch.ones(5, 3), torch.ones(1, 3), count=10) == Interval(0.0, 0.0, 0.0)
    assert bootstrap_difference(torch.ones(5, 3), torch.ones(1, 1), count=10) == Interval(0.0, -math.inf, math.inf)


def test_verdict_needs_an_interval_on_one_side_of_zero():
    assert verdict(Interval(2, 1, 3)) == "improved"
    assert verdict(Interval(2, -1, 3)) == "no evidence"
    assert verdict(Interval(-2, -3, -1)) == "harmed"
    assert verdict(Interval(0, 0, 0)) == "no evidence"


def test_bootstrap_refuses_what_is_no_arm():
    with pytest.raises(InputError, match=r"\[seeds, episodes\]"):
        bootstrap_difference(torch.ones(3), torch.ones(1, 3))
    with pytest.raises(InputError, match="1 of 3 returns are NaN"):
        bootstrap_difference(torch.tensor([[1.0, math.nan, 2.0]]), torch.ones(1, 3))
    with pytest.raises(InputError, match="level"):
        bootstrap_difference(torch.ones(1, 3), torch.ones(1, 3), level=95)


def test_interval_of_one_arm_covers_its_true_mean():
    held = 0
    generator = torch.Generator().manual_seed(0)
    for trial in range(TRIALS):
        means = 3.0 + torch.randn(5, 1, generator=generator)
        interval = bootstrap_interval(means + torch.randn(5, 20, generator=generator), count=400, seed=trial)
        held += interval.low <= 3.0 <= interval.high
    assert held / TRIALS >= 0.95 - ERROR


def test_one_arm_is_a_difference_to_what_is_known_exactly():
    returns = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    one, two = bootstrap_interval(returns), bootstrap_difference(returns, torch.zeros(1, 2))
    assert (one.estimate, one.low, one.high) == pytest.approx((two.estimate, two.low, two.high))


def test_one_episode_has_an_estimate_and_no_interval():
    assert bootstrap_interval(torch.tensor([[2.5]])) == Interval(2.5, -math.inf, math.inf)

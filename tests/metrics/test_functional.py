"""The risk measures against closed forms."""

import math

import numpy as np
import pytest
import torch

from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.functional import (
    conditional_value_at_risk,
    normalized_score,
    standard_error,
    value_at_risk,
    violation_rate,
)

RETURNS = torch.randn(7, 101, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 30 - 5


@pytest.mark.parametrize("q", [0.01, 0.05, 0.1, 0.25, 0.333, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 101])
def test_value_at_risk_is_numpys_linear_percentile(q, count):
    returns = RETURNS[:, :count]
    expected = np.percentile(returns.numpy(), 100 * q, axis=-1, method="linear")
    np.testing.assert_allclose(value_at_risk(returns, q).numpy(), expected, rtol=1e-12)


def test_cvar_of_everything_is_the_mean():
    torch.testing.assert_close(conditional_value_at_risk(RETURNS, 1.0), RETURNS.mean(dim=-1))


def test_cvar_counts_the_last_episode_by_the_fraction_left():
    returns = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0], dtype=torch.float64)
    assert conditional_value_at_risk(returns, 0.4).item() == pytest.approx(1.5)
    assert conditional_value_at_risk(returns, 0.5).item() == pytest.approx((1 + 2 + 0.5 * 3) / 2.5)


@pytest.mark.parametrize("count", [10, 30, 70, 110])
def test_cvar_takes_whole_episodes_where_the_fraction_is_whole(count):
    returns = torch.arange(count, dtype=torch.float64)
    worst = count // 10
    assert conditional_value_at_risk(returns, 0.1).item() == pytest.approx((worst - 1) / 2, abs=1e-9)


def test_cvar_of_less_than_one_episode_is_the_worst_return():
    assert conditional_value_at_risk(torch.tensor([3.0, -1.0, 2.0]), 0.05).item() == -1.0


def test_cvar_is_the_integral_of_the_quantile_function():
    """CVaR_q = 1/q int_0^q F^-1(u) du with the empirical step function F."""
    returns, q = RETURNS[0].sort().values, 0.37
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * q
    step = returns[(grid * 101).long()]
    assert conditional_value_at_risk(RETURNS[0], q).item() == pytest.approx(step.mean().item(), abs=2e-3)


@pytest.mark.parametrize("q", [0.05, 0.1, 0.25])
def test_tails_of_the_uniform_and_the_normal_distribution(q):
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(400_000, generator=generator, dtype=torch.float64)
    assert value_at_risk(uniform, q).item() == pytest.approx(q, abs=3e-3)
    assert conditional_value_at_risk(uniform, q).item() == pytest.approx(q / 2, abs=3e-3)
    normal = torch.randn(400_000, generator=generator, dtype=torch.float64)
    quantile = math.sqrt(2) * torch.erfinv(torch.tensor(2 * q - 1, dtype=torch.float64)).item()
    density = math.exp(-(quantile**2) / 2) / math.sqrt(2 * math.pi)
    assert value_at_risk(normal, q).item() == pytest.approx(quantile, abs=0.02)
    assert conditional_value_at_risk(normal, q).item() == pytest.approx(-density / q, abs=0.02)


def test_cvar_never_exceeds_var():
    for q in (0.05, 0.1, 0.25, 0.9):
        assert bool((conditional_value_at_risk(RETURNS, q) <= value_at_risk(RETURNS, q) + 1e-12).all())


def test_normalized_score_maps_the_references_to_0_and_100():
    hopper = torch.tensor([-20.272305, 3234.3], dtype=torch.float64)
    torch.testing.assert_close(
        normalized_score(hopper, -20.272305, 3234.3), torch.tensor([0.0, 100.0], dtype=torch.float64)
    )


def test_violation_rate_counts_episodes_not_steps():
    assert violation_rate(torch.tensor([0, 30, 1, 0])).item() == 0.5
    assert violation_rate(torch.tensor([False, True])).item() == 0.5


def test_standard_error_of_several_seeds_is_the_spread_of_their_means():
    returns = torch.tensor([[1.0, 3.0], [4.0, 8.0], [0.0, 2.0]], dtype=torch.float64)  # means 2, 6, 1
    assert standard_error(returns) == pytest.approx(np.std([2, 6, 1], ddof=1) / math.sqrt(3))


def test_standard_error_of_one_seed_is_the_spread_of_its_episodes():
    assert standard_error(torch.tensor([[1.0, 3.0, 8.0]])) == pytest.approx(np.std([1, 3, 8], ddof=1) / math.sqrt(3))
    assert math.isnan(standard_error(torch.tensor([[1.0]])))


@pytest.mark.parametrize("function", [value_at_risk, conditional_value_at_risk])
def test_risk_measures_refuse_what_has_no_quantile(function):
    with pytest.raises(InputError, match=r"q must lie in \(0, 1\], got 10"):
        function(RETURNS, 10)
    with pytest.raises(InputError, match="at least one return"):
        function(torch.zeros(0), 0.1)
    with pytest.raises(InputError, match="2 of 3 returns are NaN or infinite"):
        function(torch.tensor([1.0, math.nan, math.inf]), 0.1)


def test_normalized_score_and_violation_rate_refuse_empty_scales():
    with pytest.raises(InputError, match="score_max must be above score_min, got 3 and 3"):
        normalized_score(torch.ones(2), 3, 3)
    with pytest.raises(InputError, match="at least one episode"):
        violation_rate(torch.zeros(0))

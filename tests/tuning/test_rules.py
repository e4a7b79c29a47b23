"""The two rules for when to correct, as tables."""

import numpy as np
import pytest

from cdsa_lightning.audit import Measures
from cdsa_lightning.errors import InputError
from cdsa_lightning.tuning import Returns, choose, data_rule, return_rule

ALL = ("none", "ann3", "gate90", "recommended")


def measures(r, rho=1.0, f99=0.0, sigma=0.4, spread=0.3):
    return Measures(r, rho, 0.5, f99, sigma, 100, spread)


@pytest.mark.parametrize(
    "r, rho, f99, name, why",
    [
        (0.4, 1.0, 0.0, "none", "acts as the data do"),
        (1.1, 0.0, 0.015, "none", "nothing to correct"),
        (1.11, 0.49, 0.0, "ann3", "is noisy around the data"),
        (1.11, 0.5, 0.119, "gate90", "leaves the data mildly"),
        (1.11, 0.5, 0.12, "none", "systematically outside the data"),
        (0.65, 1.0, 0.016, "gate90", "leaves the data mildly"),  # a deterministic policy of another behaviour
        (4.1, 0.9, 0.9, "none", "systematically outside the data"),  # noise 1.30
        (4.2, 0.8, 0.9, "ann3", "noise 1.88"),  # mostly systematic, and yet noisier than the data
        (6.0, 0.8, 0.9, "none", "noise 2.68"),  # noisier still, but what is left would be far outside
        (9.0, 1.0, 1.0, "none", "decide with returns"),
    ],
)
def test_the_data_rule_takes_its_branches_in_order(r, rho, f99, name, why):
    chosen, reason = data_rule(measures(r, rho, f99))
    assert chosen == name
    assert why in reason
    assert data_rule(measures(r, rho, f99), ALL)[0] == {"ann3": "recommended", "gate90": "none"}.get(name, name)
    assert f"r {r:.2f}, rho {rho:.2f}, noise {r * (1 - rho) ** 0.5:.2f}, f99 {f99:.1%} at sigma 0.4" in reason


def test_the_data_rule_says_where_it_was_not_fitted_and_where_a_gate_is_missing():
    assert "fitted at sigma 0.4, which this corrector lacks" in data_rule(measures(2.0, 1.0, 0.9, sigma=0.7))[1]
    name, reason = data_rule(measures(2.0, 1.0, 0.1), ("none", "ann3"))
    assert name == "none"
    assert "gate90 needs the data's noise" in reason


@pytest.mark.parametrize(
    "values, known, name",
    [([99.0, 100.9], ALL, "recommended"), ([1.0], ("none", "ann3"), "ann3"), ([100.0], ALL, "none")],
)
def test_the_return_rule_corrects_below_the_data_alone(values, known, name):
    chosen, reason = return_rule(Returns(np.array(values), 100.0), known)
    assert chosen == name
    assert "100.0" in reason
    assert "Fewer than 10" in reason
    assert "Fewer than" not in return_rule(Returns(np.ones(10), 0.0))[1]


def test_the_return_rule_leaves_alone_what_acts_far_outside():
    poor = Returns(np.zeros(10), 100.0)
    chosen, reason = return_rule(poor, ALL, measures(2.7, 1.0, 0.9))
    assert chosen == "none"
    assert "harms more often than it helps" in reason
    assert "r sqrt(rho) 2.70, limit 2.7" in reason
    assert return_rule(poor, ALL, measures(2.69, 1.0, 0.9))[0] == "recommended"
    assert return_rule(poor, ALL, measures(5.0, 0.4, 0.9))[0] == "recommended"  # noise, however much
    assert choose("auto", ALL, measures(2.7, 1.0, 0.9), poor)[:2] == ("none", "returns")


def test_auto_asks_returns_where_there_are_any():
    poor = Returns(np.zeros(10), 1.0)
    noisy, inside = measures(2.0, 0.1), measures(1.0)
    assert choose("auto", ALL, inside, poor)[:2] == ("recommended", "returns")
    assert choose("auto", ALL, noisy)[:2] == ("recommended", "data")
    assert choose("data", ALL, noisy, poor)[:2] == ("recommended", "data")
    assert choose("returns", ALL, inside, poor)[:2] == ("recommended", "returns")
    assert choose("none", ALL, noisy, poor)[:2] == ("none", "none")


def test_data_of_another_task_correct_nothing_by_themselves():
    noisy = measures(2.0, 0.1)
    assert data_rule(noisy, ALL)[0] == "recommended"
    name, reason = data_rule(noisy, ALL, "risky-transportation")
    assert name == "none"
    assert "these are data of risky-transportation" in reason
    assert choose("auto", ALL, noisy, data_of="risky-transportation")[:2] == ("none", "data")


def test_random_data_correct_nothing_by_themselves():
    name, reason = data_rule(measures(2.0, 0.1, spread=0.7), ALL)
    assert name == "none"
    assert "no behaviour to restore (tau 0.70)" in reason
    assert data_rule(measures(2.0, 0.1, spread=0.69), ALL)[0] == "recommended"


def test_an_unknown_selector_and_missing_returns_are_refused():
    with pytest.raises(InputError, match="Unknown selector 'datta'. Did you mean 'data'"):
        choose("datta", ALL, measures(1.0))
    with pytest.raises(InputError, match="--returns, or allow the environment with --with_env"):
        choose("returns", ALL, measures(1.0))

"""Where a search looks: what a corrector offers, and coefficients as parameters and back."""

from dataclasses import replace

import pytest
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.presets import coefficients_for
from cdsa_lightning.tuning import Space, candidates
from known_networks import ACTION, OBS, random_corrector


def test_subsets_of_the_sigmas_are_offered_largest_first():
    schedules = Space.of(random_corrector(action_sigmas=(0.1, 0.4, 0.2))).schedules
    assert schedules == ((0.4, 0.2, 0.1), (0.4, 0.2), (0.4, 0.1), (0.2, 0.1), (0.4,), (0.2,), (0.1,))
    many = Space.of(random_corrector(action_sigmas=(5.0, 4.0, 3.0, 2.0, 1.0))).schedules
    assert len(many) == 15 and (4.0, 3.0, 2.0) in many and (5.0, 3.0) not in many


def test_a_gate_is_offered_where_the_noise_was_measured_and_lengths_in_units_of_the_bounds():
    corrector = random_corrector(bound=3.0, action_sigmas=(0.4,))
    assert Space.of(corrector).gates == (None,)
    corrector.measure_noise(torch.randn(50, OBS), torch.randn(50, ACTION))
    assert Space.of(corrector).gates == (None, 0.5, 0.75, 0.9, 0.95)
    assert Space.of(corrector).shifts == pytest.approx((None, 0.75 * 2**0.5, 1.5 * 2**0.5, 3 * 2**0.5))
    assert Space.of(random_corrector(bound=float("inf"), action_sigmas=(0.4,))).shifts == (None,)


@pytest.mark.parametrize("name", ["risky-pointmass", "risky-transportation", "hopper-medium"])
def test_the_fixed_candidates_lie_inside(name):
    recommended = coefficients_for(name, "iql", "robust")
    corrector = random_corrector(action_sigmas=tuple(recommended.schedule))
    corrector.measure_noise(torch.randn(50, OBS), torch.randn(50, ACTION))
    space = Space.of(corrector)
    for label, coefficients in candidates(corrector, recommended).items():
        parameters = space.parameters(coefficients)
        assert parameters, label
        back = space.coefficients(parameters)
        assert back.changes_nothing if label == "none" else replace(back, state_step=1.0) == coefficients


@pytest.mark.parametrize(
    "change",
    [{"k1": 0.001}, {"k1": 3.0}, {"units": "raw"}, {"clip": "final"}, {"gate": 0.33}, {"schedule": (0.2, 0.4)}],
)
def test_what_lies_outside_has_no_parameters(change):
    space = Space.of(random_corrector(action_sigmas=(0.4, 0.2)))
    inside = Coefficients(k1=1.0, k2=0.5, units="sigma2", clip="every_step", a2="residual", num_steps=3)
    assert space.parameters(inside)["schedule"] == "0.4 0.2"
    assert space.parameters(replace(inside, **change)) == {}


def test_what_acts_alike_is_equal():
    space = Space.of(random_corrector(action_sigmas=(0.4,)))
    common = {"k1": 0.15000000000000002, "schedule": "0.4", "num_steps": 2, "gate": None, "max_shift": None}
    off = space.coefficients({**common, "k2": 1.0, "a2": "off", "state_step": 0.5})
    assert off == space.coefficients({**common, "k2": 0.0, "a2": "paper", "state_step": 2.0})
    assert off.k1 == 0.15
    assert space.coefficients({**common, "k1": 0.0, "k2": 1.0, "a2": "off", "state_step": 1.0}) == Coefficients.none()

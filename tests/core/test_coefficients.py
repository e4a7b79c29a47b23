"""Coefficients: one frozen value, and what it refuses."""

import dataclasses
import json

import pytest

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError


def test_none_changes_nothing():
    assert Coefficients.none() == Coefficients()
    assert Coefficients.none().changes_nothing


@pytest.mark.parametrize(
    ("values", "nothing"),
    [({"k1": 0.1}, False), ({"k2": 0.1}, False), ({"k2": 0.1, "a2": "off"}, True), ({"num_steps": 5}, True)],
)
def test_what_changes_nothing_is_known_beforehand(values, nothing):
    assert Coefficients(**values).changes_nothing is nothing


def test_coefficients_survive_json():
    before = Coefficients(1.0, 0.5, (0.4, 0.1), 3, "sigma2", 2.0, "residual", "every_step", 0.9, 0.3)
    assert Coefficients.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_a_schedule_may_be_written_as_a_list():
    assert Coefficients(schedule=[0.4, 1]) == Coefficients(schedule=(0.4, 1.0))


def test_coefficients_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Coefficients().k1 = 1.0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"k1": float("nan")}, "k1 must be finite, got nan"),
        ({"k2": float("inf")}, "k2 must be finite"),
        ({"state_step": float("-inf")}, "state_step must be finite"),
        ({"schedule": (0.1, 0.0)}, "must be positive"),
        ({"schedule": (float("nan"),)}, "must be positive"),
        ({"num_steps": 0}, "num_steps must be a whole number from 1 to 1000, got 0"),
        ({"num_steps": 10**30}, "from 1 to 1000, got 1000000000000000000000000000000"),
        ({"schedule": [0.1] * 1001}, "at most 1000 sigmas, got 1001"),
        ({"gate": 0.0}, "gate is a quantile"),
        ({"gate": 1.0}, "gate is a quantile"),
        ({"gate": float("nan")}, "gate is a quantile"),
        ({"max_shift": 0.0}, "max_shift must be positive"),
        ({"units": "sigma"}, "Did you mean 'sigma2'"),
        ({"a2": "papper"}, "Did you mean 'paper'"),
        ({"clip": "never"}, "Known: every_step, final"),
    ],
)
def test_values_without_meaning_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        Coefficients(**values)


def test_an_unknown_coefficient_is_named_with_its_neighbour():
    with pytest.raises(InputError, match="Unknown coefficient 'k3'.*'k[12]'"):
        Coefficients.from_dict({"k3": 1.0})

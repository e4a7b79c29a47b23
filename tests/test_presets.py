"""Presets and recommended coefficients: what is recommended can be trained and loaded."""

from __future__ import annotations

import pytest

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError, UnknownNameError
from cdsa_lightning.presets import PRESETS, coefficients_for, default_coefficients, get_preset
from cdsa_lightning.reference import read_coefficients
from cdsa_lightning.tasks import task_names

ROWS = list(read_coefficients())
CONFIGURED = {
    name: (0.7,)
    for name in (
        *("risky-pointmass", "risky-pointmass-codac"),
        *("risky-transportation", "risky-transportation-goods", "risky-transportation-airport"),
    )
}
"""Action sigmas that a task's configuration trains instead of the preset's."""


def test_the_paper_preset_is_table_3():
    paper = get_preset("paper")
    assert (paper.lr_score, paper.lr_inverse, paper.lr_schedule, paper.ema_decay) == (3e-4, 1e-3, "constant", 0.0)
    networks = paper.networks
    assert (networks.standardize, networks.predict) == (False, "score")
    assert (tuple(networks.action_sigmas), networks.state_sigma) == ((1.0,), 1.0)


def test_a_baselines_own_row_comes_before_the_row_for_any():
    assert coefficients_for("hopper-random", "iql", "paper") == Coefficients(k1=0.1, k2=1.0, schedule=(1.0,))
    assert coefficients_for("hopper-random", "por", "paper").k2 == 0.5
    robust = coefficients_for("hopper-random", "iql", "robust")
    assert (robust.k1, robust.schedule, robust.units, robust.a2) == (1.0, (0.4, 0.2, 0.1), "sigma2", "off")


def test_an_unknown_preset_is_answered_with_the_nearest():
    for call in (lambda: get_preset("papr"), lambda: coefficients_for("hopper-random", "iql", "papr")):
        with pytest.raises(UnknownNameError, match="Unknown preset 'papr'. Did you mean 'paper'"):
            call()


def test_a_missing_row_names_those_there_are():
    with pytest.raises(InputError, match=r"rows for the baselines iql, por. Name your own with --k1 and --k2"):
        coefficients_for("hopper-random", "mlp", "paper")
    with pytest.raises(InputError, match="No recommended coefficients for baseline 'iql' on task 'gym:Pendulum-v1'"):
        coefficients_for("gym:Pendulum-v1", "iql", "robust")


def test_a_corrector_without_a_row_carries_one_denoising_step_or_none():
    assert default_coefficients("gym:Pendulum-v1", "paper") == Coefficients.none()
    own = default_coefficients("gym:Pendulum-v1", "robust")
    assert (own.k1, own.units, own.a2, own.schedule) == (1.0, "sigma2", "off", ())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join((row["task"], row["baseline"], row["preset"])))
def test_a_recommended_schedule_is_one_that_is_trained(row):
    coefficients = coefficients_for(row["task"], row["baseline"], row["preset"])
    trained = PRESETS[row["preset"]].networks.action_sigmas
    if row["preset"] == "robust":
        trained = CONFIGURED.get(row["task"], trained)
    assert set(coefficients.schedule) <= set(trained)
    assert row["task"] in task_names()
    assert not coefficients.changes_nothing or row["k1"] == 0


def test_no_row_is_given_twice():
    keys = [(row["task"], row["baseline"], row["preset"]) for row in ROWS]
    assert len(keys) == len(set(keys))


def test_single_values_replace_those_of_a_preset():
    changed = get_preset("robust").override(lr_score=1e-4, state_sigma=0.2, predict=None)
    assert (changed.lr_score, changed.networks.state_sigma, changed.networks.predict) == (1e-4, 0.2, "noise")
    assert get_preset("robust").lr_score == 1e-3

"""The candidates, and what each makes of a policy's actions, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cdsa_lightning.audit import Reference
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.presets import coefficients_for
from cdsa_lightning.sources import Transitions
from cdsa_lightning.tuning import candidates, effect
from known_networks import ACTION, OBS, gaussian_corrector

SIGMAS = (0.1, 0.4, 0.2)
MEAN, STD = 0.5, 0.3


@pytest.fixture
def corrector():
    return gaussian_corrector(MEAN, STD, SIGMAS, predict="noise")


def test_no_correction_is_always_a_candidate(corrector):
    found = candidates(corrector, Coefficients.none())
    assert list(found) == ["none", "ann3"]
    assert found["none"].changes_nothing
    assert found["ann3"].schedule == (0.4, 0.2, 0.1)


def test_a_gate_is_offered_where_the_noise_of_the_data_is_known(corrector):
    corrector.measure_noise(torch.zeros(50, OBS), torch.randn(50, ACTION))
    found = candidates(corrector, Coefficients.none())
    assert found["gate90"] == replace(found["ann3"], gate=0.9)


def test_what_is_recommended_is_offered_where_it_is_something_else(corrector):
    assert "recommended" not in candidates(corrector, coefficients_for("hopper-medium", "iql", "robust"))
    assert "recommended" not in candidates(corrector, Coefficients(k1=1, units="sigma2", a2="off", clip="every_step"))
    own = coefficients_for("risky-pointmass", "cql", "robust")
    found = candidates(corrector, own)
    assert (found["recommended"], found["residual"]) == (own, replace(own, a2="residual"))
    assert "residual" not in candidates(corrector, coefficients_for("risky-transportation", "sac", "robust"))


def test_the_effect_of_denoising_is_the_factor_that_closed_forms_give(corrector):
    rng = np.random.default_rng(0)
    obs, flat = rng.normal(size=(2000, OBS)).astype(np.float32), np.zeros(2000, np.float32)
    action = rng.normal(MEAN, STD, (2000, ACTION)).astype(np.float32)
    data = Transitions(obs, action, flat, obs, flat > 0, flat.astype(np.int64))
    away = FunctionPolicy(lambda obs: torch.full((len(obs), ACTION), MEAN + 1.0), [-100.0] * ACTION, [100.0] * ACTION)
    none, ann3 = candidates(corrector, Coefficients.none()).values()
    reference = Reference(corrector, data, none, 1000)
    before, after = (effect(away, corrector, c, reference) for c in (none, ann3))
    kept = np.prod([1 - sigma**2 / (STD**2 + sigma**2) for sigma in SIGMAS])
    assert after.r / before.r == pytest.approx(kept, rel=1e-4)
    assert before.to_json()["drift"]["corrections"] == 0
    drift = ACTION * (1 - kept**2) / (2 * (STD**2 + 0.4**2))
    assert after.to_json()["drift"]["mean"] == pytest.approx(drift, rel=1e-4)

"""What a correction may never do, whatever comes in: change anything at k = 0, leave the bounds, move too far.

Inputs: any floats (denormal, huge, infinite, NaN), networks from tame to overflowing, every setting of Eq. 10.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cdsa_lightning as cdsa
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS
from property_inputs import ANY, NETWORKS, PROPERTY, coefficients, corrector, rows

OBSERVATIONS = st.lists(st.lists(ANY, min_size=OBS, max_size=OBS), min_size=1, max_size=5)
WEIGHTS = st.sampled_from([1e-3, 1.5, 1e4, 1e30])
NOTHING = coefficients().map(lambda c: {**c, "k1": 0.0, **({} if c["a2"] == "off" else {"k2": 0.0})})
PLAIN = {"seeds": 1, "standardize": True, "predict": "noise", "state_score_input": "state", "state_index": None}
FULL = Coefficients(k1=1.0, k2=0.5, units="sigma2", a2="residual", clip="every_step", num_steps=2)


def bounded(obs: torch.Tensor) -> torch.Tensor:
    """Some policy: actions from -1 to 1, bounds and both zeros among them."""
    return obs.nan_to_num(0.5)[..., :ACTION].clamp(-1, 1)


@PROPERTY
@given(NETWORKS, NOTHING, OBSERVATIONS, WEIGHTS)
def test_at_k_0_the_action_is_the_policys_own_bit_by_bit(values, c, obs, weight):
    made, policy = corrector(values, weight), FunctionPolicy(bounded, [-1.0] * ACTION, [1.0] * ACTION)
    obs = torch.tensor(obs).float().expand(made.num_seeds, -1, -1)
    found = CorrectedPolicy(policy, made, Coefficients(**c))(obs)
    assert torch.equal(found.view(torch.int32), bounded(obs).view(torch.int32))


@PROPERTY
@given(NETWORKS, NOTHING, st.sampled_from([np.float16, np.float32, np.float64]), st.integers(0, 2**16))
def test_in_one_line_as_well_whatever_the_precision_of_the_policy(values, c, dtype, salt):
    action = np.random.default_rng(salt).uniform(-1, 1, (4, ACTION)).astype(dtype)
    found = cdsa.correct(lambda obs: action, corrector(values), Coefficients(**c))(np.zeros((4, OBS)))
    assert np.array_equal(found, action)


@PROPERTY
@given(NETWORKS, coefficients(1e6), OBSERVATIONS, WEIGHTS, st.sampled_from([1e-30, 0.1, 1.0, 1e30]))
def test_actions_are_finite_and_within_the_bounds_and_the_region_of_trust(values, c, obs, weight, bound):
    made, c = corrector(values, weight, bound), Coefficients(**c)
    obs = torch.tensor(obs).float().expand(made.num_seeds, -1, -1)
    base = bounded(obs) * bound
    found = made(obs, base, c)
    assert bool((found.abs() <= bound).all())
    if c.max_shift is not None:
        # In double precision, and but for the rounding of the two actions to single: 2^-24 of each entry.
        length, rounding = (found.double() - base.double()).norm(dim=-1), 2.0**-23 * bound * ACTION**0.5
        assert bool((length <= c.max_shift * (1 + 1e-6) + rounding).all())


@PROPERTY
@given(NETWORKS, coefficients(10.0), st.lists(st.floats(0.01, 0.99), min_size=2, max_size=3), st.integers(0, 2**16))
def test_a_stricter_gate_corrects_fewer_rows_and_those_as_without_a_gate(values, c, gates, salt):
    made, c = corrector(values), replace(Coefficients(**c), gate=None)
    obs, action = rows(made.num_seeds, 20, salt)
    free, before = made(obs, action, c), torch.ones(made.num_seeds, 20, dtype=torch.bool)
    for gate in sorted(gates):
        found = made(obs, action, replace(c, gate=gate))
        same, kept = (found == free).all(-1), (found == action).all(-1)
        assert bool((same | kept).all())
        corrected = ~kept
        assert bool((corrected <= before).all())
        before = corrected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_observations_and_actions_that_are_no_numbers_are_refused_in_one_line(bad):
    safe = cdsa.correct(lambda obs: np.full(ACTION, bad if not obs.any() else 0.0), corrector({**PLAIN, "salt": 0}))
    with pytest.raises(InputError, match="of the observations are NaN or infinite"):
        safe(np.full(OBS, bad))
    with pytest.raises(InputError, match="of the actions of the policy are NaN or infinite"):
        safe(np.zeros(OBS))


@PROPERTY
@given(
    st.lists(st.one_of(st.floats(-1e308, 1e308), st.sampled_from([5e-324, 1e300])), min_size=OBS, max_size=OBS),
    st.sampled_from([np.float16, np.float32, np.float64, np.int32, np.uint8, bool]),
    st.sampled_from([0.1, 0.3, 1.0]),
)
def test_in_one_line_any_finite_number_of_any_kind_is_answered_within_the_bounds(obs, dtype, bound):
    with np.errstate(all="ignore"):
        given_ = np.nan_to_num(np.array(obs).astype(dtype))
    safe = cdsa.correct(lambda obs: obs[..., :ACTION], corrector({**PLAIN, "salt": 3}, bound=bound), FULL)
    found = safe(given_)
    assert found.shape == (ACTION,) and bool((np.abs(found.astype(np.float64)) <= np.float32(bound)).all())

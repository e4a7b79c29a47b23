"""One row is corrected alike whatever surrounds it: its batch, its number format, its library, a file in between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cdsa_lightning as cdsa
from cdsa_lightning.core.artifact import load_corrector, save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.policy import FunctionPolicy, NormalizedPolicy
from known_networks import ACTION, OBS
from property_inputs import NETWORKS, PROPERTY, coefficients, corrector, rows

SALT = st.integers(0, 2**16)
SINGLE = {"seeds": 1, "standardize": True, "predict": "noise", "state_score_input": "state_action", "state_index": None}
ONE = Coefficients(k1=1.0, k2=0.5, units="sigma2", a2="residual", clip="every_step", gate=0.3, max_shift=0.5)


def turn(obs):
    """A policy of NumPy or torch that no batch can disturb."""
    return obs[..., :ACTION] / 2


def away_from_the_gate(made: Corrector, c: Coefficients) -> Coefficients:
    """The same settings with a gate that no row of `rows` stands at: the last bit there decides, and may."""
    return c if c.gate is None else replace(c, gate=0.005 if c.gate < 0.5 else 0.995)


@PROPERTY
@given(NETWORKS, coefficients(), SALT, st.integers(1, 40), st.data())
def test_neither_the_order_nor_the_size_of_a_batch_matters(values, c, salt, count, data):
    made = corrector(values)
    c = away_from_the_gate(made, Coefficients(**c))
    obs, action = rows(made.num_seeds, count, salt)
    whole = made(obs, action, c)
    order = data.draw(st.permutations(range(count)))
    some = order[: data.draw(st.integers(1, count))]
    torch.testing.assert_close(made(obs[:, some], action[:, some], c), whole[:, some], atol=ATOL, rtol=0)
    strangers, others = rows(made.num_seeds, 3, salt + 1)
    among = made(torch.cat((strangers * 1e30, obs), 1), torch.cat((others, action), 1), c)
    torch.testing.assert_close(among[:, 3:], whole, atol=ATOL, rtol=0)


@pytest.mark.parametrize("ask", ["function", "policy", "network"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_no_rows_get_no_actions(ask, kind):
    zeros, ones = [0.0] * OBS, [1.0] * OBS
    policies = {
        "function": turn,
        "policy": FunctionPolicy(turn, [-1.0] * ACTION, [1.0] * ACTION),
        "network": NormalizedPolicy(torch.nn.Linear(OBS, ACTION), [-1.0] * ACTION, [1.0] * ACTION, zeros, ones),
    }
    safe = cdsa.correct(policies[ask], corrector({**SINGLE, "salt": 1}), ONE)
    assert safe(kind(np.zeros((0, OBS), np.float32))).shape == (0, ACTION)
    parts = safe.explain(kind(np.zeros((0, OBS), np.float32)))
    assert parts.p_value.shape == (0,) and parts.shift.shape == (0, ACTION)


def test_a_corrected_policy_of_many_seeds_takes_no_rows_too():
    made = corrector({**SINGLE, "seeds": 3, "salt": 1})
    for corrected in (made, made.select(0)):
        policy = CorrectedPolicy(FunctionPolicy(turn, [-1.0] * ACTION, [1.0] * ACTION), corrected, ONE)
        assert policy(torch.zeros(3, 0, OBS)).shape == (3, 0, ACTION)


@PROPERTY
@given(NETWORKS, coefficients(), SALT)
def test_a_corrector_is_the_same_after_a_time_in_double_precision(values, c, salt):
    made, again, c = corrector(values), corrector(values), Coefficients(**c)
    obs, action = rows(made.num_seeds, 8, salt)
    again.double()(obs.double(), action.double(), c)
    assert torch.equal(again.float()(obs, action, c), made(obs, action, c))


@pytest.mark.parametrize("salt", range(6))
def test_a_corrector_is_the_same_out_of_its_file(tmp_path, salt):
    rng = np.random.default_rng(salt)
    values = {**SINGLE, "seeds": 1 + salt % 3, "standardize": salt % 2 == 0, "salt": salt}
    made = corrector({**values, "state_index": (0, 2) if salt > 3 else None})
    made = made.ensemble() if salt % 2 else made
    read = load_corrector(save_corrector(made, tmp_path / "corrector.safetensors"))
    obs, action = rows(made.num_seeds, 20, salt)
    c = replace(ONE, k1=rng.uniform(-1, 1), units=["raw", "sigma2"][salt % 2])
    assert torch.equal(read(obs, action, c), made(obs, action, c))


@PROPERTY
@given(coefficients(), SALT, st.sampled_from(["float32", "float64"]), st.integers(1, 9))
def test_numpy_and_torch_and_a_corrected_policy_answer_alike_bit_by_bit(c, salt, dtype, count):
    made, c = corrector({**SINGLE, "salt": salt}), Coefficients(**c)
    safe = cdsa.correct(turn, made, c)
    obs = np.random.default_rng(salt).uniform(-2, 2, (count, OBS)).astype(np.float32).astype(dtype)
    told, given_ = safe(obs), torch.from_numpy(obs)
    assert told.dtype == dtype and safe(given_).dtype == getattr(torch, dtype)
    assert np.array_equal(safe(given_).numpy(), told)
    assert np.array_equal(safe.explain(obs).action, told)
    policy = CorrectedPolicy(FunctionPolicy(turn, [-1.0] * ACTION, [1.0] * ACTION), made, c)
    assert np.array_equal(policy(given_.float()).numpy(), told.astype(np.float32))


def test_arrays_that_run_backwards_or_cannot_be_written_are_taken():
    safe = cdsa.correct(lambda obs: np.ascontiguousarray(turn(obs)), corrector({**SINGLE, "salt": 2}), ONE)
    obs = np.random.default_rng(0).uniform(-1, 1, (4, OBS)).astype(np.float32)
    fixed = obs.copy()
    fixed.flags.writeable = False
    expected = safe(obs)
    assert np.array_equal(safe(obs[::-1]), expected[::-1])
    assert np.array_equal(safe(fixed), expected)
    assert np.array_equal(safe(obs.astype(">f4")), expected)
    assert np.array_equal(safe(obs.T.copy().T), expected)


ATOL = 1e-6

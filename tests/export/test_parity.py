"""What an export is asked, and how its answers are judged."""

import dataclasses

import numpy as np
import pytest
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.gate import is_open
from cdsa_lightning.errors import InputError
from cdsa_lightning.export import subject
from cdsa_lightning.export.latency import measure
from cdsa_lightning.export.parity import check, questions
from measured_correctors import measured_corrector

STEP = Coefficients(k1=1.0, units="sigma2", a2="off")


def test_a_thousand_questions_lie_around_the_data_and_far_outside():
    made = subject(measured_corrector(), STEP)
    obs, action = questions(made)
    nets = made.corrector.networks
    far = ((obs - nets.obs_mean) / nets.obs_std).norm(dim=-1)
    assert len(obs) == len(action) == 1000
    assert (far[:600].mean() < 3) and (far[-200:].mean() > 10)
    assert 0.05 < (action.abs() > 1).any(-1).float().mean() < 0.5 and action.abs().max() < 1.21
    assert torch.equal(questions(made)[0], obs)


def test_rows_where_32_bits_cannot_tell_open_from_closed_are_left_out():
    corrector = measured_corrector()
    made = subject(corrector, dataclasses.replace(STEP, gate=0.5))
    obs, action = questions(made)
    corrector.noise_quantiles[:] = 0  # the gate's threshold is set to the length of one row's noise
    eps = corrector.networks.action_noise(*corrector.networks.standardize(obs[None, :1], action[None, :1]), 0)
    corrector.noise_quantiles[0] = eps.detach().norm()
    again, _ = questions(subject(corrector, dataclasses.replace(STEP, gate=0.5)))
    assert is_open(eps * 1.001, corrector.noise_quantiles[0], 0.5).all()
    assert not (again == obs[0]).all(-1).any() and (again == obs[1]).all(-1).any()


@pytest.mark.parametrize("error, passes", [(0.0, True), (5e-6, True), (1e-4, False), (float("nan"), False)])
def test_what_differs_by_more_than_32_bits_must_is_refused(error, passes):
    made = subject(measured_corrector(), STEP)

    def ask(obs, action):
        return made.graph(torch.from_numpy(obs), torch.from_numpy(action)).numpy() + np.float32(error)

    if passes:
        found = check(made, ask, "test")
        assert found.observations == 1000 and abs(found.max_error - error) < 4e-6
    else:
        with pytest.raises(InputError, match="The test file does not compute"):
            check(made, ask, "test")


def test_an_answer_of_another_shape_is_refused():
    made = subject(measured_corrector(), STEP)
    with pytest.raises(InputError, match="differs by inf"):
        check(made, lambda obs, action: action[:, :1], "test")


def test_only_a_single_row_may_go_wrong_and_is_found():
    made = subject(measured_corrector(), STEP)

    def ask(obs, action):
        answer = made.graph(torch.from_numpy(obs), torch.from_numpy(action)).numpy()
        return answer + (len(obs) == 1)

    with pytest.raises(InputError, match="does not compute"):
        check(made, ask, "test")


def test_latencies_are_told_for_torch_and_every_file(monkeypatch):
    monkeypatch.setattr("cdsa_lightning.export.latency._ROUNDS", 1)
    found = measure(subject(measured_corrector(), STEP), [], batches=(1, 3))
    assert [one.name for one in found] == ["PyTorch, Corrector", "PyTorch, cdsa.correct"]
    assert all(set(one.microseconds) == {1, 3} and min(one.microseconds.values()) > 0 for one in found)

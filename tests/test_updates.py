"""Groups of parameters: who moves at which step, at which rate; eager, compiled and replayed steps are one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError
from cdsa_lightning.stepping import ParameterGroup, SteppedModule
from cdsa_lightning.updates import Updates
from training_data import train, write_npz


def group(**settings) -> ParameterGroup:
    return ParameterGroup("net", [], 1.0, **settings)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"every": 2}, [1, 3, 5]),
        ({"start": 2}, [2, 3, 4, 5]),
        ({"stop": 2}, [0, 1]),
        ({"start": 1, "stop": 5, "every": 2}, [2, 4]),
    ],
)
def test_a_group_moves_at_its_steps(settings, steps):
    assert [step for step in range(6) if group(**settings).moves(step)] == steps


def test_a_cosine_spans_the_steps_of_its_group():
    cosine = group(schedule="cosine", start=100, stop=200)
    assert cosine.rate(100, 1000) == 1.0
    assert cosine.rate(150, 1000) == pytest.approx(0.5)
    assert cosine.rate(200, 1000) == pytest.approx(0.0)
    assert group(schedule="cosine").rate(250, 1000) == pytest.approx(0.5 * (1 + 2**-0.5))
    assert group().rate(999, 1000) == 1.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(InputError, match="Unknown lr_schedule 'linear'"):
        Updates(nn.Linear(1, 1), [group(schedule="linear")])


class Pair(SteppedModule):
    """Two networks, of which the second moves at every second step from step 4 on, with a slow copy of the first."""

    run_name = "pair"

    def __init__(self, seeds=(0, 1), compile=False):  # noqa: A002
        super().__init__(seeds, 6, compile)
        self.save_hyperparameters()
        self.seen = []

    def build(self, info):
        widths, generators = (info.obs_dim, 8, info.action_dim), init_generators(self.seeds)
        self.one, self.two = (stacked_mlp(widths, nn.Tanh(), generators) for _ in range(2))
        self.register_buffer("slow", torch.zeros(1))

    def parameter_groups(self):
        one, two = list(self.one.parameters()), list(self.two.parameters())
        return [ParameterGroup("one", one, 1e-2), ParameterGroup("two", two, 1e-3, "cosine", start=4, every=2)]

    @property
    def noise_dim(self):
        return 2

    def losses(self, batch, noise):
        losses = {"one_loss": (self.one(batch.obs) - batch.action + 0.1 * noise).square().mean((-2, -1))}
        if "two" in self.moving:
            losses["two_loss"] = (self.two(batch.obs) - self.one(batch.obs, frozen=True)).square().mean((-2, -1))
        return losses

    def after_step(self, step):
        self.seen.append(self.moving)
        self.slow.lerp_(self.part("one")[:1].to(self.slow.dtype), (1 / step).to(self.slow.dtype))


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def test_a_module_is_told_who_moves_and_the_others_stay(npz, tmp_path):
    module = Pair()
    train(module, npz, 4, tmp_path / "early")
    start = [param.clone() for param in module.two.parameters()]
    again = Pair()
    again.build(module.data_info)
    for before, first in zip(again.two.parameters(), start, strict=True):
        assert torch.equal(before, first)
    module = Pair()
    train(module, npz, 9, tmp_path / "late")
    assert module.seen == [("one",)] * 5 + [("one", "two"), ("one",)] + [("one", "two"), ("one",)]
    state = module.updates.adam.state
    assert [int(state[slot["params"][0]]["step"]) for slot in module.updates.adam.param_groups] == [9, 2]


def test_neighbouring_groups_are_one_vector_and_others_are_refused(npz, tmp_path):
    module = Pair()
    train(module, npz, 2, tmp_path)
    size = sum(param.numel() for param in module.parameters())
    assert module.part("one", "two").numel() == size
    module.part("two").zero_()
    assert all(bool((param == 0).all()) for param in module.two.parameters())
    with pytest.raises(LookupError):
        module.part("three")


def test_compiled_phases_equal_eager_ones(npz, tmp_path):
    eager, compiled = Pair(), Pair(compile=True)
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize("stop", [5, 6, 8])
def test_phases_resume_exactly(npz, tmp_path, stop):
    whole = Pair()
    train(whole, npz, 15, tmp_path / "whole")
    first = Pair()
    first.schedule_steps = 15
    train(first, npz, stop, tmp_path / "first")
    second = Pair()
    train(second, npz, 15, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name

"""Policies: bounds, seeds, normalisation."""

import numpy as np
import pytest
import torch
from torch import nn

from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.policy import FunctionPolicy, NormalizedPolicy, Policy, act
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError


class SeedScale(Policy):
    """Seed e answers e + 1 times the observation."""

    num_seeds = 3

    def forward(self, obs):
        return self.clip(obs * torch.arange(1.0, 4.0)[:, None, None])


def linear(weight, bias=None):
    net = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    net.weight.data = torch.tensor(weight)
    if bias is not None:
        net.bias.data = torch.tensor(bias)
    return net


def test_actions_are_clipped_to_the_bounds_of_each_entry():
    policy = FunctionPolicy(lambda obs: obs, [-1.0, -2.0], [1.0, 0.5])
    torch.testing.assert_close(
        policy(torch.tensor([[5.0, 5.0], [-5.0, -5.0]])), torch.tensor([[1.0, 0.5], [-1.0, -2.0]])
    )


@pytest.mark.parametrize(
    ("low", "high"),
    [([-1.0], [1.0, 1.0]), ([[-1.0]], [[1.0]]), ([0.0], [0.0]), ([1.0], [-1.0]), ([float("nan")], [1.0])],
)
def test_bounds_that_are_no_interval_are_refused(low, high):
    with pytest.raises(InputError, match="bound"):
        FunctionPolicy(lambda obs: obs, low, high)


def test_the_caller_keeps_its_own_bounds():
    low = torch.tensor([-1.0])
    policy = FunctionPolicy(lambda obs: obs, low, [1.0])
    low -= 5
    assert policy.low.item() == -1.0


def test_bounds_travel_in_the_state_dict():
    source, target = SeedScale([-3.0], [3.0]), SeedScale([-1.0], [1.0])
    target.load_state_dict(source.state_dict())
    assert (target.low.item(), target.high.item()) == (-3.0, 3.0)


def test_a_normalized_policy_is_its_formula():
    policy = NormalizedPolicy(linear([[2.0, 0.0]], [1.0]), [-100.0], [100.0], [3.0, 0.0], [2.0, 1.0])
    assert policy(torch.tensor([[7.0, 9.0]])).item() == 2 * (7 - 3) / 2 + 1


def test_unit_outputs_span_uneven_bounds():
    policy = NormalizedPolicy(nn.Tanh(), [-1.0, 0.0], [3.0, 10.0], [0.0, 0.0], [1.0, 1.0], unit_output=True)
    torch.testing.assert_close(policy(torch.zeros(1, 2)), torch.tensor([[1.0, 5.0]]))
    torch.testing.assert_close(policy(torch.full((1, 2), 1e6)), torch.tensor([[3.0, 10.0]]))
    torch.testing.assert_close(policy(torch.full((1, 2), -1e6)), torch.tensor([[-1.0, 0.0]]))


@pytest.mark.parametrize("std", [[0.0], [-1.0], [float("nan")]])
def test_a_standard_deviation_must_be_positive(std):
    with pytest.raises(InputError, match="obs_std must be positive"):
        NormalizedPolicy(nn.Identity(), [-1.0], [1.0], [0.0], std)


def test_statistics_travel_in_the_state_dict():
    source = NormalizedPolicy(nn.Identity(), [-9.0], [9.0], [1.0], [2.0])
    target = NormalizedPolicy(nn.Identity(), [-1.0], [1.0], [0.0], [1.0])
    target.load_state_dict(source.state_dict())
    assert target(torch.tensor([[5.0]])).item() == 2.0


def test_a_policy_of_one_seed_sees_all_rows_as_one_batch():
    shapes = []
    policy = FunctionPolicy(lambda obs: shapes.append(obs.shape) or obs, [-9.0], [9.0])
    obs = torch.arange(6.0).reshape(2, 3, 1)
    torch.testing.assert_close(act(policy, obs), obs)
    assert shapes == [(6, 1)]


def test_each_seed_acts_on_its_own_rows():
    obs = torch.ones(3, 2, 1)
    torch.testing.assert_close(act(SeedScale([-9.0], [9.0]), obs)[:, 0, 0], torch.tensor([1.0, 2.0, 3.0]))


def test_another_number_of_seeds_is_refused():
    with pytest.raises(InputError, match="holds 3 seeds, the observations 2"):
        act(SeedScale([-9.0], [9.0]), torch.ones(2, 2, 1))


def test_a_numpy_function_becomes_a_policy():
    policy = FunctionPolicy(lambda obs: np.float64(2) * obs, [-9.0], [9.0], numpy=True)
    action = policy(torch.tensor([[1.5]], requires_grad=True))
    assert action.dtype == torch.float32
    assert action.item() == 3.0
    assert policy.on_host and not FunctionPolicy(torch.abs, [-9.0], [9.0]).on_host


def test_a_function_of_the_wrong_shape_is_told_the_right_one():
    policy = FunctionPolicy(lambda obs: obs[:, :1], [-1.0, -1.0], [1.0, 1.0])
    with pytest.raises(InputError, match=r"returned shape \(4, 1\), expected \(4, 2\)"):
        policy(torch.zeros(4, 2))


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_stacked_net_acts_for_one_seed_as_for_many(seeds):
    net = stacked_mlp((3, 4, 2), nn.Tanh(), init_generators(range(seeds)))
    policy = NormalizedPolicy(net, [-9.0] * 2, [9.0] * 2, torch.zeros(3), torch.ones(3), num_seeds=seeds)
    obs = torch.randn(seeds, 5, 3)
    torch.testing.assert_close(act(policy, obs), net(obs))
    if seeds == 1:
        torch.testing.assert_close(policy(obs[0]), net(obs)[0])

"""The random baseline."""

from pathlib import Path

import pytest
import torch

from cdsa_baselines.random import RandomPolicy, load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task


def test_actions_are_uniform_between_the_bounds():
    action = RandomPolicy([-2.0, 0.0], [2.0, 1.0])(torch.zeros(100_000, 3))
    # Moments of U(low, high): mean (l + h) / 2, variance (h - l)^2 / 12; 5 standard errors at this size.
    torch.testing.assert_close(action.mean(0), torch.tensor([0.0, 0.5]), atol=0.02, rtol=0)
    torch.testing.assert_close(action.var(0), torch.tensor([16 / 12, 1 / 12]), atol=0.02, rtol=0)
    assert abs(torch.corrcoef(action.T)[0, 1]) < 0.02


def test_the_seed_alone_decides():
    policy, other = RandomPolicy([-1.0], [1.0]), RandomPolicy([-1.0], [1.0], seed=7)
    torch.manual_seed(1)
    policy.reseed(7)
    torch.manual_seed(2)
    assert torch.equal(policy(torch.ones(5, 2)), other(torch.zeros(5, 2)))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    RandomPolicy([-1.0], [1.0])(torch.zeros(5, 2))
    assert torch.equal(torch.rand(1), expected)


def test_a_seed_axis_gets_draws_of_its_own():
    action = RandomPolicy([-1.0], [1.0])(torch.zeros(3, 4, 2))
    assert action.shape == (3, 4, 1)
    assert len(action.unique()) == 12


def test_infinite_bounds_and_checkpoints_are_refused():
    with pytest.raises(InputError, match="finite action bounds"):
        RandomPolicy([-1.0], [float("inf")])
    with pytest.raises(InputError, match="nothing to restore from 'x.pt'"):
        load(Path("x.pt"), box_task(3, [-1], [1]))

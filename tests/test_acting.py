"""Noisy policies and endless streams of episodes."""

import itertools

import numpy as np
import pytest
import torch

from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import NoisyPolicy, episode_seed, rollout, stream
from countdown import Countdown, CountdownTask, constant


def test_noise_has_the_asked_deviation_and_repeats_after_reseeding():
    noisy = NoisyPolicy(constant(0.0), 0.2, seed=7)
    obs = torch.zeros(4000, 2)
    first = noisy(obs)
    assert first.std().item() == pytest.approx(0.2, rel=0.03)
    assert first.mean().item() == pytest.approx(0.0, abs=0.01)
    assert not torch.equal(first, noisy(obs))
    noisy.reseed(7)
    assert torch.equal(first, noisy(obs))
    assert NoisyPolicy(constant(0.0), 50.0)(obs).abs().max() == 1.0


def test_noisy_rollouts_repeat_and_keep_the_seeds_apart():
    policy = NoisyPolicy(constant(0.0, seeds=2), 0.3)
    first, again = (rollout(policy, CountdownTask(), 5, seed=3) for _ in range(2))
    assert np.array_equal(first.returns, again.returns)
    assert not np.allclose(first.returns[0], first.returns[1] - 0.1 * first.lengths[1])


def test_stream_yields_whole_episodes_and_never_ends():
    env = CountdownTask().make_env(4)
    trajectories = list(itertools.islice(stream(constant(0.5), env, seed=9), 50))
    for trajectory in trajectories:
        length = len(trajectory.reward)
        assert trajectory.obs[:, 0].tolist() == list(range(length, -1, -1))
        assert len(set(trajectory.obs[:, 1])) == 1
        assert (trajectory.action == 0.5).all()
        assert trajectory.obs.dtype == trajectory.action.dtype == np.float32
        assert trajectory.terminated
        assert not trajectory.truncated
    begun = {np.float32(episode_seed(9, k)) for k in range(54)}
    assert {trajectory.obs[0, 1] for trajectory in trajectories} <= begun
    assert len(Countdown.begun) == len(set(Countdown.begun))


def test_stream_shares_lanes_out_among_training_seeds():
    env = CountdownTask().make_env(4)
    values = {round(float(t.action[0, 0]), 3) for t in itertools.islice(stream(constant(0.5, 2), env, 0), 20)}
    assert values == {0.5, 0.6}
    with pytest.raises(InputError, match="4 lanes.*3 seeds"):
        next(stream(constant(0.5, 3), env, 0))


@pytest.mark.parametrize("std", [-0.1, float("nan"), float("inf")])
def test_a_noise_that_is_no_deviation_is_refused(std):
    with pytest.raises(InputError, match="deviation"):
        NoisyPolicy(constant(0.0), std)

"""Rollouts: each episode once and whole, repeatable, paired, and the sums add up."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Correction, Corrector
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.envs import make_lanes
from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import NoisyPolicy, episode_seed, rollout, stream
from countdown import BOUNDS, Countdown, CountdownTask, constant, lengths_of


class Named:
    """A task of any registered environment."""

    def __init__(self, env_id):
        self.env_id = env_id

    def make_env(self, num_envs, **env_kwargs):
        return make_lanes(self.env_id, num_envs, **env_kwargs)


POINT = Named("cdsa/RiskyPointMass-v0")


def straight():
    """The straight line to the goal of Risky PointMass."""
    return FunctionPolicy(lambda obs: obs[:, 2:] - obs[:, :2], [-0.1, -0.1], [0.1, 0.1])


@pytest.mark.parametrize("lanes", [None, 1, 3, 7, 64])
def test_each_episode_is_run_exactly_once_whatever_the_lanes(lanes):
    episodes = rollout(constant(1.0), CountdownTask(), 20, seed=3, lanes=lanes)
    assert sorted(Countdown.begun) == sorted(episode_seed(3, i) for i in range(20))
    assert episodes.lengths.tolist() == [lengths_of(3, 20)]
    assert episodes.returns.tolist() == [lengths_of(3, 20)]
    assert episodes.terminated.all()


def test_training_seeds_act_side_by_side_and_start_alike():
    task = CountdownTask()
    episodes = rollout(constant(0.5, seeds=3), task, 10, seed=0, lanes=6)
    assert task.num_envs == 6
    assert episodes.lengths.tolist() == [lengths_of(0, 10)] * 3
    assert np.allclose(episodes.returns, episodes.lengths * np.array([[0.5], [0.6], [0.7]]))


def test_there_is_at_least_one_lane_per_training_seed():
    task = CountdownTask()
    assert rollout(constant(0.5, seeds=3), task, 2, seed=0, lanes=1).returns.shape == (3, 2)
    assert task.num_envs == 3


def test_finished_lanes_leave_the_policys_batch():
    policy = constant(1.0)
    policy.widths.clear()
    rollout(policy, CountdownTask(), 12, seed=1)
    lengths = np.array(lengths_of(1, 12))
    assert policy.widths == [int((lengths > step).sum()) for step in range(lengths.max())]


def test_infos_are_summed_spanned_or_any():
    episodes = rollout(constant(1.0), CountdownTask(), 8, seed=2, lanes=3)
    assert set(episodes.info) == {"cost", "success", "x_position"}
    assert np.allclose(episodes.info["cost"], 2 * episodes.lengths)
    assert np.allclose(episodes.info["x_position"], 0.5 * episodes.lengths)
    assert (episodes.info["success"] == 1).all()


def test_traces_are_whole_and_their_rewards_sum_to_the_returns():
    episodes = rollout(constant(0.3, seeds=2), CountdownTask(), 9, seed=4, record=5, lanes=4)
    assert [(trace.seed, trace.episode) for trace in episodes.traces] == list(itertools.product(range(2), range(5)))
    for trace in episodes.traces:
        length = episodes.lengths[trace.seed, trace.episode]
        assert trace.obs[:, 0].tolist() == list(range(length, -1, -1))
        assert set(trace.obs[:, 1]) == {np.float32(episode_seed(4, trace.episode))}
        assert trace.action.shape == trace.base_action.shape == (length, 2)
        assert trace.reward.sum() == pytest.approx(episodes.returns[trace.seed, trace.episode])


def test_long_episodes_fit_on_the_tape():
    episodes = rollout(constant(1.0), CountdownTask(), 2, seed=0, record=2, env_kwargs={"longest": 1000})
    assert [len(trace.reward) for trace in episodes.traces] == lengths_of(0, 2, 1000)
    assert max(len(trace.reward) for trace in episodes.traces) > 256


def test_a_rollout_repeats_for_its_seed_and_differs_for_another():
    first, again, other = (rollout(straight(), POINT, 30, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, other.returns)


def test_the_point_mass_does_not_depend_on_the_lanes_and_env_kwargs_reach_it():
    many, few = (rollout(straight(), POINT, 40, 0, lanes=n, env_kwargs={"start": "corner"}) for n in (40, 7))
    assert np.array_equal(many.returns, few.returns)
    assert np.array_equal(many.info["cost"], few.info["cost"])
    assert (many.info["in_risk_region"] > 0).all()
    # A straight line's return without accidents is -sum(distance + .1); each accident costs 50.
    calm = many.returns + 50 * many.info["cost"]
    assert ((calm > -6) & (calm < -4)).all()


def test_another_policy_meets_the_same_starts():
    still = FunctionPolicy(lambda obs: 0 * obs[:, :2], [-0.1, -0.1], [0.1, 0.1])
    pair = [rollout(policy, POINT, 6, seed=5, record=6, lanes=2) for policy in (straight(), still)]
    for a, b in zip(pair[0].traces, pair[1].traces, strict=True):
        assert np.array_equal(a.obs[0], b.obs[0])
    assert pair[1].lengths.tolist() == [[100] * 6]
    assert not pair[1].terminated.any()


def test_lockstep_mujoco_rollouts_equal_a_gymnasium_loop():
    # No matrix product: the same numbers in a batch of any size.
    policy = FunctionPolicy(lambda obs: np.sin(obs[:, 5:8] * 3), [-1.0] * 3, [1.0] * 3, numpy=True)
    episodes = rollout(policy, Named("Hopper-v5"), 5, seed=1, lanes=2)
    env = gym.make("Hopper-v5")
    for i in range(5):
        obs, info = env.reset(seed=episode_seed(1, i))
        start, total, steps, done = info["x_position"], 0.0, 0, False
        while not done:
            action = policy(torch.from_numpy(obs[None].astype(np.float32)))[0].numpy()
            obs, reward, terminated, truncated, info = env.step(action)
            total, steps, done = total + reward, steps + 1, terminated or truncated
        assert episodes.returns[0, i] == pytest.approx(total, rel=1e-12)
        assert episodes.lengths[0, i] == steps
        assert episodes.info["x_position"][0, i] == info["x_position"] - start


class Shifted(CorrectedPolicy):
    """A corrected policy with a known correction: the base action plus (.3, .4), seed e clipped where e = 1."""

    def __init__(self, seeds):
        Policy.__init__(self, *BOUNDS)
        self.policy, self.num_seeds = constant(0.0), seeds

    def explain(self, obs):
        base = torch.zeros(*obs.shape[:-1], 2)
        clipped = torch.zeros(obs.shape[:-1], dtype=torch.bool)
        clipped[1:] = True
        shift = torch.tensor([0.3, 0.4])
        return Correction(base, shift.expand_as(base), 0 * base, base + shift, clipped)


def test_a_corrected_policy_reports_shift_and_clip_fraction():
    episodes = rollout(Shifted(2), CountdownTask(), 7, seed=0, record=1, lanes=6)
    assert np.allclose(episodes.shift, 0.5)
    assert episodes.clip_fraction.tolist() == [[0.0] * 7, [1.0] * 7]
    assert np.allclose(episodes.returns, 0.3 * episodes.lengths)
    assert np.allclose(episodes.traces[0].action, (0.3, 0.4))
    assert (episodes.traces[0].base_action == 0).all()


def corrector(seeds):
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    settings = NetworkSettings(standardize=True, predict="noise", action_sigmas=(0.4, 0.2))
    return Corrector(Networks(2, 2, settings, generators), *BOUNDS, obs_dim=2)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_correctors_seeds_are_the_rollouts_and_none_changes_nothing(seeds):
    base = NoisyPolicy(constant(0.2), 0.1)
    same = rollout(CorrectedPolicy(base, corrector(seeds)), CountdownTask(), 4, seed=0)
    assert same.returns.shape == (seeds, 4)
    assert (same.shift == 0).all()
    moved = CorrectedPolicy(base, corrector(seeds), Coefficients(k1=1.0, k2=1.0, units="sigma2"))
    episodes = rollout(moved, CountdownTask(), 4, seed=0, record=1)
    assert (episodes.shift > 0).all()
    for trace in episodes.traces:
        shift = np.linalg.norm(trace.action - trace.base_action, axis=1).mean()
        assert episodes.shift[trace.seed, trace.episode] == pytest.approx(shift, rel=1e-5)


def test_an_uncorrected_policy_shifts_and_clips_nothing():
    episodes = rollout(constant(0.5), CountdownTask(), 4, seed=0)
    assert (episodes.shift == 0).all()
    assert (episodes.clip_fraction == 0).all()


def test_the_policys_mode_is_restored_and_the_environment_closed():
    closed = []

    class Task(CountdownTask):
        def make_env(self, num_envs, **env_kwargs):
            env = super().make_env(num_envs)
            env.close_extras = lambda **kwargs: closed.append(True)
            return env

    policy = constant(0.0).train()
    rollout(policy, Task(), 1, seed=0)
    assert policy.training
    assert closed == [True]


def test_a_nan_action_names_step_episode_and_seed():
    def turns_nan(obs):
        return np.where(obs[:, :1] <= 3, np.nan, 0.5) * np.ones((1, 2), np.float32)

    policy = FunctionPolicy(turns_nan, *BOUNDS, numpy=True)
    steps = lengths_of(0, 1)[0]
    with pytest.raises(InputError, match=rf"step {max(0, steps - 3)} of episode 0 \(training seed 0\)"):
        rollout(policy, CountdownTask(), 1, seed=0)
    with pytest.raises(InputError, match="NaN"):
        list(itertools.islice(stream(policy, CountdownTask().make_env(2), 0), 50))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"lanes": 0}, "lanes must be at least 1, got 0"),
        ({"record": -1}, "record"),
        ({"seed": -1}, "-1"),
    ],
)
def test_unusable_numbers_are_named(arguments, text):
    with pytest.raises(InputError, match=text):
        rollout(constant(0.0), CountdownTask(), **{"episodes": 2, "seed": 0, **arguments})


def test_a_policy_of_another_action_space_is_refused():
    policy = FunctionPolicy(lambda obs: obs, [-1.0] * 3, [1.0] * 3)
    with pytest.raises(InputError, match=r"3 action entries.*\(2,\)"):
        rollout(policy, CountdownTask(), 1, seed=0)

"""The lockstep MuJoCo lanes against gymnasium's environments, bit for bit."""

import warnings

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from cdsa_lightning.envs.mujoco import MUJOCO_LANES, MujocoLanes
from cdsa_lightning.errors import InputError

SEEDS = [3, 1, 4]


def make(env_id, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env_id, **kwargs)


def follow(lanes, singles, steps, seed=0):
    """Drive both with the same actions, compare everything; return how many episodes ended."""
    obs, _ = lanes.reset(seed=SEEDS)
    assert (obs == [env.reset(seed=s)[0] for env, s in zip(singles, SEEDS, strict=True)]).all()
    rng, ends = np.random.default_rng(seed), 0
    for _ in range(steps):
        actions = rng.uniform(-1, 1, lanes.action_space.shape).astype(np.float32)
        obs, reward, terminated, truncated, infos = lanes.step(actions)
        for i, env in enumerate(singles):
            o, r, te, tr, info = env.step(actions[i])
            assert (o == obs[i]).all()
            assert (r, te, tr) == (reward[i], terminated[i], truncated[i])
            assert all(infos[key][i] == value for key, value in info.items())
        done = terminated | truncated
        if done.any():
            ends += int(done.sum())
            obs, _ = lanes.reset(options={"reset_mask": done})
            for i in np.flatnonzero(done):
                assert (singles[i].reset()[0] == obs[i]).all()
    return ends


@pytest.mark.parametrize("env_id", MUJOCO_LANES)
def test_lanes_equal_gymnasium_bit_for_bit_over_several_episodes(env_id):
    # Half-cheetahs never fall: a short time limit ends their episodes.
    limit = {"max_episode_steps": 60}
    ends = follow(MujocoLanes(env_id, 3, **limit), [make(env_id, **limit) for _ in SEEDS], 150)
    assert ends >= 6


def test_keywords_reach_the_environment():
    kwargs = {"ctrl_cost_weight": 0.3, "terminate_when_unhealthy": False, "reset_noise_scale": 0.02}
    kwargs["exclude_current_positions_from_observation"] = False
    lanes = MujocoLanes("Hopper-v5", 3, **kwargs)
    assert lanes.single_observation_space.shape == (12,)
    follow(lanes, [make("Hopper-v5", **kwargs) for _ in SEEDS], 80)


def test_float64_actions_agree_too():
    lanes, single = MujocoLanes("Walker2d-v5", 1), make("Walker2d-v5")
    lanes.reset(seed=0)
    single.reset(seed=0)
    action = np.random.default_rng(0).uniform(-1, 1, 6)
    assert lanes.step(action[None])[1][0] == single.step(action)[1]


def test_the_time_limit_is_gymnasiums():
    assert MujocoLanes("HalfCheetah-v5", 1)._limit == 1000


def test_a_finished_lane_stays_frozen_and_costs_no_physics(monkeypatch):
    lanes = MujocoLanes("Hopper-v5", 3)
    lanes.reset(seed=SEEDS)
    rng = np.random.default_rng(0)
    done = np.zeros(3, dtype=bool)
    while not done.any():
        obs, _, terminated, truncated, infos = lanes.step(rng.uniform(-1, 1, (3, 3)))
        done = terminated | truncated
    stepped = []
    real = mujoco.mj_step
    monkeypatch.setattr(mujoco, "mj_step", lambda model, data, nstep: (stepped.append(data), real(model, data, nstep)))
    for _ in range(3):
        after, reward, terminated, truncated, later = lanes.step(rng.uniform(-1, 1, (3, 3)))
        assert (after[done] == obs[done]).all()
        assert (reward[done] == 0).all()
        assert (terminated | truncated)[done].all()
        assert (later["x_position"][done] == infos["x_position"][done]).all()
    assert not [data for data in stepped for lane in np.flatnonzero(done) if data is lanes._data[lane]]
    assert stepped


def test_a_masked_reset_leaves_the_other_lanes_alone():
    lanes = MujocoLanes("HalfCheetah-v5", 3)
    lanes.reset(seed=SEEDS)
    before = lanes.step(np.full((3, 6), 0.5))[0]
    after, _ = lanes.reset(seed=[8, 8, 8], options={"reset_mask": np.array([False, True, False])})
    assert (after[[0, 2]] == before[[0, 2]]).all()
    assert (after[1] == make("HalfCheetah-v5").reset(seed=8)[0]).all()


def test_another_environment_is_refused_with_the_alternatives():
    with pytest.raises(InputError, match="Hopper-v5.*make_lanes"):
        MujocoLanes("Ant-v5", 2)

"""AntMaze in D4RL's frame: observation, start, goal, reward."""

import gymnasium as gym
import numpy as np
import pytest

import cdsa_lightning.envs  # noqa: F401  (registers the ids)
from cdsa_lightning.envs.antmaze import AntMaze
from cdsa_lightning.errors import InputError


def teleport(env, xy):
    """Put the ant at `xy` of the observation's frame."""
    ant = env.unwrapped._env.ant_env
    qpos = ant.data.qpos.copy()
    qpos[:2] = np.asarray(xy) + env.unwrapped._origin
    ant.set_state(qpos, ant.data.qvel.copy() * 0)


@pytest.mark.parametrize(
    ("name", "corner", "horizon"),
    [
        ("UMaze", (0, 8), 700),
        ("UMazeDiverse", (0, 8), 700),
        ("MediumPlay", (20, 20), 1000),
        ("MediumDiverse", (20, 20), 1000),
        ("LargePlay", (32, 24), 1000),
        ("LargeDiverse", (32, 24), 1000),
    ],
)
def test_starts_at_the_origin_with_the_goal_in_d4rls_corner(name, corner, horizon):
    env = gym.make(f"cdsa/AntMaze{name}-v0")
    assert env.spec.max_episode_steps == horizon
    goals = []
    for seed in range(3):
        obs, _ = env.reset(seed=seed)
        assert obs.shape == (29,)
        assert np.abs(obs[:2]).max() <= 0.1
        goals.append(env.unwrapped.goal - corner)
    assert (np.array(goals) >= 0).all()
    assert (np.array(goals) <= 1.5).all()
    assert len({tuple(goal) for goal in goals}) == 3
    env.close()


def test_the_reward_is_one_at_the_goal_and_ends_the_episode():
    env = gym.make("cdsa/AntMazeUMaze-v0")
    env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step(np.zeros(8, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)
    teleport(env, env.unwrapped.goal + (0.3, 0.0))
    obs, reward, terminated, truncated, info = env.step(np.zeros(8, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert np.linalg.norm(obs[:2] - env.unwrapped.goal) < 0.5
    env.close()


def test_walls_stand_where_d4rls_map_has_them():
    env = gym.make("cdsa/AntMazeUMaze-v0")
    env.reset(seed=0)
    inner = env.unwrapped._env
    # The wall of the U lies between start (0, 0) and goal (0, 8): blocked at y = 4 for x = 0 and 4, open at x = 8.
    blocks = {
        tuple(np.round(inner.ant_env.model.geom_pos[i, :2] - env.unwrapped._origin))
        for i in range(inner.ant_env.model.ngeom)
        if inner.ant_env.model.geom(i).name.startswith("block")
    }
    assert {(0.0, 4.0), (4.0, 4.0), (-4.0, 0.0), (12.0, 4.0)} <= blocks
    assert not {(8.0, 4.0), (0.0, 0.0), (0.0, 8.0)} & blocks
    env.close()


def test_the_observation_is_qpos_and_qvel_with_xy_shifted():
    env = gym.make("cdsa/AntMazeMediumPlay-v0")
    env.reset(seed=0)
    obs = env.step(np.full(8, 0.3, np.float32))[0]
    data = env.unwrapped._env.ant_env.data
    assert np.allclose(obs[2:15], data.qpos[2:])
    assert np.allclose(obs[15:], data.qvel)
    assert np.allclose(obs[:2], data.qpos[:2] - env.unwrapped._origin)
    env.close()


def test_episodes_repeat_for_a_seed():
    env = gym.make("cdsa/AntMazeUMaze-v0")
    runs = []
    for _ in range(2):
        env.reset(seed=5)
        runs.append([env.step(np.full(8, 0.2, np.float32))[0] for _ in range(10)])
    assert np.array_equal(*runs)
    env.close()


def test_an_unknown_maze_is_named():
    with pytest.raises(InputError, match="'huge'.*medium"):
        AntMaze("huge")

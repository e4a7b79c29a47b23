"""Risky PointMass against closed forms, and one point against thousands."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import cdsa_lightning.envs  # noqa: F401  (registers the ids)
from cdsa_lightning.envs.risky_pointmass import (
    CENTRE,
    GOAL,
    RADIUS,
    RiskyPointMass,
    RiskyPointMassVector,
    in_disc,
    transition,
)
from cdsa_lightning.errors import InputError

ID = "cdsa/RiskyPointMass-v0"


def one(position, action=(0.0, 0.0), luck=0.0, risk_prob=0.9, risk_penalty=50.0):
    """`transition` of a single point."""
    args = (np.array(value)[None] for value in (position, action, luck))
    following, reward, terminated, infos = transition(*args, risk_prob, risk_penalty)
    return following[0], reward[0], terminated[0], {key: value[0] for key, value in infos.items()}


def test_the_reward_is_minus_the_distance_before_the_step_minus_a_tenth():
    following, reward, terminated, _ = one((0.1, 0.9), (0.05, -0.1))
    assert reward == pytest.approx(-0.8 - 0.1)
    assert np.allclose(following, (0.15, 0.8))
    assert not terminated


def test_actions_are_clipped_to_a_tenth_and_states_to_the_unit_square():
    assert np.allclose(one((0.5, 0.05), (7.0, -7.0))[0], (0.6, 0.0))
    assert np.allclose(one((0.97, 0.97), (1.0, 1.0))[0], (1.0, 1.0))


@pytest.mark.parametrize(("offset", "ends"), [(0.049, True), (0.051, False)])
def test_an_episode_terminates_within_a_twentieth_of_the_goal(offset, ends):
    assert bool(one(GOAL + (offset, 0.0))[2]) is ends


def test_the_disc_has_radius_three_tenths_around_the_middle():
    angle = np.linspace(0, 2 * np.pi, 50)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert in_disc(CENTRE + 0.2999 * ring).all()
    assert not in_disc(CENTRE + 0.3001 * ring).any()


def test_an_accident_costs_the_penalty_and_sets_cost_to_one():
    _, lucky, _, infos = one(CENTRE, luck=0.89)
    assert infos["cost"] == 0
    assert infos["in_risk_region"]
    _, unlucky, _, infos = one(CENTRE, luck=0.91)
    assert infos["cost"] == 1
    assert lucky - unlucky == pytest.approx(50.0)
    assert one((0.1, 0.9), luck=0.99)[3]["cost"] == 0


def test_accidents_happen_with_probability_one_minus_risk_prob():
    env = RiskyPointMassVector(200, risk_prob=0.7)
    env.reset(seed=0)
    env._position[:] = CENTRE
    costs = np.concatenate([env.step(np.zeros((200, 2)))[4]["cost"] for _ in range(50)])
    assert abs(costs.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / costs.size)


@pytest.mark.parametrize(("risk_prob", "rate"), [(1.0, 0.0), (0.0, 1.0)])
def test_certain_luck_and_certain_accidents(risk_prob, rate):
    env = RiskyPointMassVector(50, risk_prob=risk_prob)
    env.reset(seed=1)
    env._position[:] = CENTRE
    assert env.step(np.zeros((50, 2)))[4]["cost"].mean() == rate


def test_a_straight_line_from_the_corner_crosses_the_disc_and_reaches_the_goal():
    env = RiskyPointMassVector(64, start="corner", risk_prob=1.0)
    obs, _ = env.reset(seed=2)
    inside, lengths = np.zeros(64), np.zeros(64)
    for _ in range(100):
        delta = obs[:, 2:] - obs[:, :2]
        obs, _, terminated, truncated, infos = env.step(delta)
        lengths += ~(terminated | truncated)
        inside += infos["in_risk_region"] & ~(terminated | truncated)
        if terminated.all():
            break
    assert terminated.all()
    assert not truncated.any()
    # From .8 to .85 down to .1 at a tenth per step: 7 or 8 moves, and one more step to see that the goal is reached.
    assert set(lengths) <= {7.0, 8.0}
    # The diagonal is .6 long inside the disc, .1414 per step.
    assert set(inside) <= {4.0, 5.0}


def test_an_episode_is_truncated_after_a_hundred_steps():
    env = gym.make(ID, start="corner")
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(100)]
    assert flags[-1] == (False, True)
    assert not any(any(flag) for flag in flags[:-1])


@pytest.mark.parametrize(("start", "low", "high"), [("uniform", 0.1, 0.9), ("corner", 0.8, 0.85)])
def test_starts_lie_where_the_specification_says(start, low, high):
    env = RiskyPointMassVector(500)
    obs, infos = env.reset(seed=3, options={"start": start})
    position = obs[:, :2]
    assert (position >= low - 1e-6).all()
    assert (position <= high + 1e-6).all()
    assert not infos["in_risk_region"].any()
    assert position.std(axis=0) == pytest.approx(np.full(2, (high - low) / np.sqrt(12)), rel=0.25)


def test_one_point_and_a_lane_with_its_seed_agree_bit_for_bit_over_several_episodes():
    seeds = [5, 9, 5]
    lanes = RiskyPointMassVector(3, start="uniform")
    singles = [RiskyPointMass() for _ in seeds]
    obs, _ = lanes.reset(seed=seeds)
    assert (obs == [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]).all()
    rng, episodes, cost = np.random.default_rng(0), 0, 0.0
    for _ in range(400):
        actions = rng.uniform(-0.1, 0.1, (3, 2)).astype(np.float32)
        obs, reward, terminated, truncated, infos = lanes.step(actions)
        for i, env in enumerate(singles):
            o, r, te, tr, info = env.step(actions[i])
            assert (o == obs[i]).all()
            assert (r, te, tr) == (reward[i], terminated[i], truncated[i])
            assert all(infos[key][i] == value for key, value in info.items())
        cost += infos["cost"].sum()
        done = terminated | truncated
        if done.any():
            episodes += done.sum()
            obs, _ = lanes.reset(options={"reset_mask": done})
            for i in np.flatnonzero(done):
                assert (singles[i].reset()[0] == obs[i]).all()
    assert episodes >= 9
    assert cost > 0


def test_a_lane_does_not_depend_on_its_neighbours():
    alone, many = RiskyPointMassVector(1), RiskyPointMassVector(50)
    alone.reset(seed=[7])
    many.reset(seed=[7, *range(100, 149)])
    for _ in range(30):
        a, b = alone.step(np.full((1, 2), 0.03)), many.step(np.full((50, 2), 0.03))
        assert all((x[0] == y[0]).all() for x, y in zip(a[:4], b[:4], strict=True))


def test_gymnasium_accepts_the_environment(recwarn):
    check_env(gym.make(ID, render_mode="rgb_array").unwrapped)
    assert not [str(w.message) for w in recwarn if "WARN" in str(w.message)]


def test_gymnasium_makes_the_native_vector_environment():
    env = gym.make_vec(ID, num_envs=4, start="corner", vectorization_mode="vector_entry_point")
    assert isinstance(env, RiskyPointMassVector)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert env.reset(seed=0)[0].dtype == np.float32
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_the_picture_shows_disc_goal_and_point():
    env = RiskyPointMass(render_mode="rgb_array", start="corner")
    env.reset(seed=0)
    frame = env.render()
    assert frame.shape == (320, 320, 3)
    assert frame.dtype == np.uint8
    red = (frame == (244, 190, 190)).all(axis=-1).mean()
    assert red == pytest.approx(np.pi * RADIUS**2, rel=0.02)
    rows, columns = np.nonzero((frame == (40, 70, 200)).all(axis=-1))
    x, y = (columns.mean() + 0.5) / 320, 1 - (rows.mean() + 0.5) / 320
    assert np.allclose((x, y), env._position, atol=0.01)
    assert RiskyPointMassVector(2).render() is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"risk_prob": 1.2}, "1.2"), ({"start": "center"}, "'corner'"), ({"render_mode": "human"}, "rgb_array")],
)
def test_unusable_arguments_are_named(arguments, text):
    for kind in (RiskyPointMass, RiskyPointMassVector):
        with pytest.raises(InputError, match=text):
            kind(**arguments)
    with pytest.raises(InputError, match="corner"):
        RiskyPointMass().reset(options={"start": "cornr"})


def test_a_nan_action_is_refused():
    env = RiskyPointMass()
    env.reset(seed=0)
    with pytest.raises(InputError, match="NaN"):
        env.step(np.array([np.nan, 0.0]))

"""Risky PointMass against closed forms, and one point against thousands."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from cdsa_lightning.envs import world_map  # registers the ids
from cdsa_lightning.envs.risky_pointmass import (
    CENTRE,
    GOAL,
    MAP,
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


GOALS = {"start": [0.9, 0.15], "goal": (0.85, 0.9)}


def test_a_point_to_start_from_and_another_goal_are_alike_alone_and_as_a_lane():
    lanes, single = RiskyPointMassVector(2, **GOALS), RiskyPointMass(**GOALS)
    obs, (alone, _) = lanes.reset(seed=[3, 4])[0], single.reset(seed=3)
    assert np.allclose(obs, [[0.9, 0.15, 0.85, 0.9]] * 2)
    length, ended = 0, False
    while not ended:
        assert (obs[0] == alone).all()
        action = (alone[2:] - alone[:2]).astype(np.float32)
        obs, reward, terminated, *_ = lanes.step(np.stack([action, action]))
        alone, paid, ended, _, _ = single.step(action)
        length += 1
        assert (reward[0], terminated[0]) == (paid, ended)
    assert length == 9  # eight moves along the edge, and one more step to see that the goal is reached
    first = RiskyPointMass(**GOALS)
    first.reset(seed=3)
    assert first.step(np.zeros(2))[1] == pytest.approx(-np.hypot(0.05, 0.75) - 0.1)


def test_one_episode_can_start_elsewhere():
    lanes, single = RiskyPointMassVector(2), RiskyPointMass()
    assert np.allclose(single.reset(seed=0, options={"start": [0.1, 0.9]})[0][:2], (0.1, 0.9))
    assert np.allclose(lanes.reset(seed=0, options={"start": [0.1, 0.9]})[0][:, :2], (0.1, 0.9))
    assert not np.allclose(lanes.reset(seed=0)[0][:, :2], (0.1, 0.9))


def test_the_map_shows_the_disc_and_the_goal_that_is_asked_for():
    assert [place.centre for place in MAP.places] == [(0.1, 0.1)]
    points = np.random.default_rng(0).uniform(size=(1000, 2))
    assert (MAP.regions[0].contains(points) == in_disc(points)).all()
    asked = world_map(ID, goal=[0.85, 0.9])
    assert asked is not None and asked.places[0].centre == (0.85, 0.9) and asked.regions == MAP.regions


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
    [
        ({"risk_prob": 1.2}, "1.2"),
        ({"start": "center"}, "'corner'.*Or give a point"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"start": [0.5, 0.6]}, r"The start \[0.5, 0.6\] lies in the risk region 'risky disc': choose a point outside"),
        ({"start": [0.5, 1.1]}, r"The start \[0.5, 1.1\] lies outside the map: x in 0 to 1, y in 0 to 1"),
        ({"start": [0.5]}, r"The start is a point \(x, y\), got \[0.5\]"),
        ({"goal": [0.3, 0.5]}, r"The goal \[0.3, 0.5\] lies in the risk region 'risky disc'"),
        ({"goal": [-0.1, 0.5]}, r"The goal \[-0.1, 0.5\] lies outside the map"),
        ({"goal": "corner"}, r"The goal is a point \(x, y\), got 'corner'"),
    ],
)
def test_unusable_arguments_are_named(arguments, text):
    for kind in (RiskyPointMass, RiskyPointMassVector):
        with pytest.raises(InputError, match=text):
            kind(**arguments)
    with pytest.raises(InputError, match="corner"):
        RiskyPointMass().reset(options={"start": "cornr"})
    for env in (RiskyPointMass(), RiskyPointMassVector(2)):
        with pytest.raises(InputError, match="risky disc"):
            env.reset(options={"start": [0.5, 0.5]})


def test_a_nan_action_is_refused():
    env = RiskyPointMass()
    env.reset(seed=0)
    with pytest.raises(InputError, match="NaN"):
        env.step(np.array([np.nan, 0.0]))

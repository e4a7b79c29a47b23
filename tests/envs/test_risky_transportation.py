"""Risky transportation against closed forms, and one traveller against thousands."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from cdsa_lightning.envs import world_map  # importing it registers the ids
from cdsa_lightning.envs.risky_transportation import RiskyTransportation, RiskyTransportationVector
from cdsa_lightning.envs.travel import REGIONS, Rules
from cdsa_lightning.errors import InputError, UnknownNameError
from cdsa_lightning.tasks import get_task

IDS = ["cdsa/RiskyTransportation-v0", "cdsa/RiskyTransportationGoods-v0", "cdsa/RiskyTransportationAirport-v0"]


def walk(env, *actions):
    """What the last of `actions` gives."""
    for action in actions:
        last = env.step(np.array(action, dtype=np.float32))
    return last


def begun(start, **rules):
    env = RiskyTransportation(start=start, **rules)
    env.reset(seed=0)
    return env


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_accepts_the_environment(env_id):
    check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)


def test_a_step_is_a_quarter_and_diagonals_are_no_faster():
    assert walk(begun((1.0, 6.0)), (1.0, 0.0))[0][:2] == pytest.approx((1.25, 6.0))
    far = walk(begun((1.0, 6.0)), (1.0, 1.0))[0][:2]
    assert far == pytest.approx((1 + 0.25 / np.sqrt(2), 6 + 0.25 / np.sqrt(2)))
    assert walk(begun((1.0, 6.0)), (0.2, 0.0))[0][:2] == pytest.approx((1.05, 6.0))
    assert walk(begun((9.9, 9.95), target=(1.0, 9.0)), (1.0, 1.0))[0][:2] == pytest.approx((10.0, 10.0))


def test_the_reward_is_minus_the_straight_way_to_the_target_before_the_step():
    assert walk(begun((9.0, 5.0)), (0.0, 0.0))[1] == pytest.approx(-4.0)


def test_reaching_the_target_earns_ten_and_ends_the_episode():
    obs, reward, terminated, truncated, info = walk(begun((9.0, 9.5)), (0.0, -1.0))
    assert reward == pytest.approx(-0.5 + 10)
    assert terminated
    assert not truncated
    assert info["success"]


def test_the_way_of_the_goods_task_leads_past_the_goods_until_they_are_picked_up():
    env = begun((2.5, 7.5), task="goods")
    to_target = np.hypot(9 - 2.5, 9 - 7)
    obs, reward, *_ = walk(env, (0.0, -1.0))
    assert reward == pytest.approx(-(0.5 + to_target))
    assert obs.tolist() == pytest.approx([2.5, 7.25, 0, 1, 0, 1, 0])
    assert walk(env, (1.0, 0.0))[1] == pytest.approx(-np.hypot(9 - 2.5, 9 - 7.25))


def test_the_goods_task_does_not_end_at_the_target_without_the_goods():
    assert not walk(begun((9.0, 9.2), task="goods"), (0.0, -1.0))[2]
    assert walk(begun((9.0, 9.2), task="path"), (0.0, -1.0))[2]


def test_a_step_from_the_airport_lands_ahead_and_only_once():
    env = begun((1.8, 6.0), task="airport")
    onward = np.hypot(9 - 7.2, 9 - 6.4)
    obs, reward, *_ = walk(env, (0.0, 1.0))  # walks into the airport
    assert reward == pytest.approx(-(0.5 + onward))
    assert obs[6] == 0
    obs, *_ = walk(env, (-1.0, -1.0))  # flies, wherever it points
    assert obs.tolist() == pytest.approx([7.2, 6.4, 0, 0, 1, 0, 1])
    assert walk(env, (0.0, 0.0))[1] == pytest.approx(-onward)
    assert Rules(task="airport").route(env.lanes._now) == pytest.approx(onward)


def test_the_airport_is_left_alone_where_the_direct_way_is_shorter_and_in_the_other_tasks():
    assert walk(begun((9.0, 5.0), task="airport"), (0.0, 0.0))[1] == pytest.approx(-4.0)
    assert walk(begun((1.8, 6.5), task="path"), (1.0, 0.0))[0][:2] == pytest.approx((2.05, 6.5))


@pytest.mark.parametrize(("risk_prob", "cost"), [(0.0, 0.0), (1.0, 1.0)])
def test_an_accident_costs_fifty_and_names_its_region(risk_prob, cost):
    # From beside the river one step leads into it; risk looks at where a step begins.
    env = begun((4.4, 2.0), risk_prob=risk_prob)
    _, _, _, _, info = walk(env, (1.0, 0.0))
    assert info == {"cost": 0.0, "in_risk_region": False, "risk_region": "", "success": False}
    _, reward, terminated, _, info = walk(env, (0.0, 0.0))
    assert reward == pytest.approx(-np.hypot(9 - 4.65, 7) - 50 * cost)
    assert not terminated
    assert info == {"cost": cost, "in_risk_region": True, "risk_region": "river", "success": False}


def test_accidents_happen_as_often_as_risk_prob_says():
    lanes = RiskyTransportationVector(4000, risk_prob=0.3)
    lanes.reset(seed=0)
    lanes._now.position[:] = (5.1, 2.0)
    costs = lanes.step(np.zeros((4000, 2)))[4]["cost"]
    assert abs(costs.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 4000)


@pytest.mark.parametrize("start", ["depot", "uniform"])
def test_starts_are_where_they_are_said_to_be_and_never_in_a_region(start):
    lanes = RiskyTransportationVector(500, start=start)
    position = lanes.reset(seed=3)[0][:, :2]
    low, high = (0.5, 1.5) if start == "depot" else (0.0, 10.0)
    assert position.min() >= low
    assert position.max() <= high
    assert np.ptp(position, axis=0) == pytest.approx([high - low] * 2, rel=0.05)
    assert not any(region.contains(position).any() for region in REGIONS)


def test_one_traveller_and_the_same_among_many_live_the_same_life():
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(200, 5, 2))
    lanes = RiskyTransportationVector(5, task="goods", start="uniform", risk_prob=0.5)
    together = [lanes.reset(seed=[10, 11, 12, 13, 14])[0]]
    rewards = []
    for action in actions:
        obs, reward, *_ = lanes.step(action)
        together.append(obs)
        rewards.append(reward)
    env = RiskyTransportation(task="goods", start="uniform", risk_prob=0.5)
    obs, _ = env.reset(seed=13)
    for step, action in enumerate(actions):
        assert np.array_equal(obs, together[step][3])
        obs, reward, terminated, truncated, _ = env.step(action[3])
        assert reward == rewards[step][3]
        assert truncated == (step == 199)
        if terminated:
            break


def test_the_map_of_a_task_shows_its_places():
    places = {name: [place.name for place in get_task(name).map.places] for name in TASK_PLACES}
    assert places == TASK_PLACES


TASK_PLACES = {
    "risky-transportation": ["goal"],
    "risky-transportation-goods": ["goal", "goods"],
    "risky-transportation-airport": ["goal", "airport", "landing"],
}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"start": (2.2, 3.3)}, "The start .* 'mountain'"),
        ({"target": (5.1, 2.0)}, "The target .* 'river'"),
        ({"target": (5.1, 12.0)}, "outside the map"),
        ({"target": "north"}, "The target is a point"),
        ({"risk_prob": 1.5}, "risk_prob .* 1.5"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
    ],
)
def test_a_world_that_cannot_be_is_refused(rules, said):
    with pytest.raises(InputError, match=said):
        RiskyTransportationVector(1, **rules)


def test_a_map_with_settings_that_the_world_lacks_is_refused():
    with pytest.raises(InputError, match="RiskyTransportation-v0 has no map with {'wind': 3}"):
        world_map("cdsa/RiskyTransportation-v0", wind=3)
    assert world_map("Hopper-v5") is None


def test_unknown_names_come_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="airport, goods, path"):
        RiskyTransportation(task="ship")
    with pytest.raises(UnknownNameError, match="depot, uniform"):
        RiskyTransportation().reset(options={"start": "moon"})
    with pytest.raises(InputError, match="NaN"):
        walk(begun((1.0, 6.0)), (np.nan, 0.0))

"""Any gymnasium environment as lanes, and which form `make_lanes` chooses."""

import gymnasium as gym
import numpy as np
import pytest

from cdsa_lightning.envs import Lanes, make_lanes, register
from cdsa_lightning.envs.mujoco import MujocoLanes
from cdsa_lightning.envs.risky_pointmass import RiskyPointMassVector
from cdsa_lightning.errors import InputError


def pendulums(n):
    return Lanes([lambda: gym.make("Pendulum-v1", max_episode_steps=20) for _ in range(n)])


def test_lanes_equal_single_environments():
    lanes, single = pendulums(2), gym.make("Pendulum-v1", max_episode_steps=20)
    obs, _ = lanes.reset(seed=4)
    assert (obs[1] == single.reset(seed=5)[0]).all()
    for k in range(20):
        obs, reward, _, truncated, _ = lanes.step(np.full((2, 1), 0.1 * k, np.float32))
        o, r, _, tr, _ = single.step(np.full(1, 0.1 * k, np.float32))
        assert (o == obs[1]).all()
        assert reward[1] == pytest.approx(r)
        assert truncated[1] == tr
    assert truncated.all()


def test_a_finished_lane_is_not_stepped_until_it_is_reset():
    lanes = pendulums(2)
    lanes.reset(seed=0)
    for _ in range(10):
        lanes.step(np.zeros((2, 1)))
    lanes.reset(options={"reset_mask": np.array([False, True])})
    for _ in range(10):
        obs, _, _, truncated, _ = lanes.step(np.zeros((2, 1)))
    assert truncated.tolist() == [True, False]
    after, reward, _, truncated, _ = lanes.step(np.ones((2, 1)))
    assert (after[0] == obs[0]).all()
    assert (after[1] != obs[1]).any()
    assert reward[0] == 0
    assert truncated[0]


def test_infos_hold_one_number_per_lane_and_nothing_else():
    class Chatty(gym.Wrapper):
        def step(self, action):
            *rest, info = self.env.step(action)
            return *rest, {**info, "success": True, "count": 2, "text": "no number", "list": [1]}

    lanes = Lanes([lambda: Chatty(gym.make("Pendulum-v1")) for _ in range(3)])
    lanes.reset(seed=0)
    infos = lanes.step(np.zeros((3, 1)))[4]
    assert set(infos) == {"success", "count"}
    assert infos["success"].dtype == bool
    assert infos["count"].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("env_id", "kind"),
    [("Hopper-v5", MujocoLanes), ("cdsa/RiskyPointMass-v0", RiskyPointMassVector), ("Pendulum-v1", Lanes)],
)
def test_make_lanes_chooses_the_fastest_form(env_id, kind):
    lanes = make_lanes(env_id, 2)
    assert type(lanes) is kind
    assert lanes.reset(seed=0)[0].shape == (2, *lanes.single_observation_space.shape)
    lanes.close()


def test_make_lanes_hands_keywords_on():
    assert make_lanes("cdsa/RiskyPointMass-v0", 2, start="corner").start == "corner"


def test_registering_twice_changes_nothing():
    before = gym.spec("cdsa/RiskyPointMass-v0")
    register()
    assert gym.spec("cdsa/RiskyPointMass-v0") is before


def test_a_discrete_action_space_is_refused_with_the_reason():
    with pytest.raises(InputError, match="continuous actions"):
        make_lanes("CartPole-v1", 2)


def test_an_unknown_environment_is_named():
    with pytest.raises(InputError, match="Hoper-v5"):
        make_lanes("Hoper-v5", 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda lanes: lanes.step(np.zeros((3, 1))), r"\(2, 1\)"),
        (lambda lanes: lanes.reset(seed=[1, 2, 3]), "one seed per lane"),
        (lambda lanes: lanes.reset(options={"reset_mask": np.ones(3, bool)}), "reset_mask"),
    ],
)
def test_wrong_shapes_are_named(call, text):
    lanes = pendulums(2)
    lanes.reset(seed=0)
    with pytest.raises(InputError, match=text):
        call(lanes)


def test_no_lanes_at_all_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        RiskyPointMassVector(0)
    with pytest.raises(InputError, match="at least one"):
        Lanes([])


@pytest.mark.parametrize("kind", [Lanes, MujocoLanes, RiskyPointMassVector])
def test_what_was_refused_has_nothing_to_close(kind):
    kind.__new__(kind).close()  # as gymnasium's __del__ does

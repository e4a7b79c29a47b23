"""Names of observation entries: as many as there are entries, each once, and found by name or by number."""

import gymnasium
import pytest

from cdsa_lightning.envs.names import observation_index, observation_names
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task, task_names


@pytest.mark.parametrize("name", task_names())
def test_every_task_has_a_name_for_each_entry(name):
    task = get_task(name)
    names = observation_names(task.env_id, task.obs_dim)
    assert len(set(names)) == len(names) == task.obs_dim
    assert not names[0].startswith("obs_")


@pytest.mark.parametrize(("env_id", "x_velocity"), [("Hopper-v5", 5), ("HalfCheetah-v5", 8), ("Walker2d-v5", 8)])
def test_velocities_of_the_robots_stand_where_they_are_named(env_id, x_velocity):
    env = gymnasium.make(env_id)
    env.reset(seed=0)
    inner = env.unwrapped
    inner.set_state(inner.data.qpos * 0 + 1.0, inner.data.qvel * 0 + range(1, len(inner.data.qvel) + 1))
    obs = inner._get_obs()
    names = observation_names(env_id, len(obs))
    assert names[x_velocity : x_velocity + 2] == ("x_velocity", "z_velocity")
    assert obs[x_velocity : x_velocity + 2].tolist() == [1.0, 2.0]
    assert all(name.endswith("_angle") for name in names[1:x_velocity])
    joints = [name.removesuffix("_angle") for name in names[1:x_velocity]]
    assert [name.removesuffix("_velocity") for name in names[x_velocity + 2 :]] == joints
    env.close()


def test_positions_come_first_in_the_plane_and_in_mazes():
    assert observation_names("cdsa/RiskyPointMass-v0", 4) == ("x", "y", "goal_x", "goal_y")
    assert observation_names("cdsa/RiskyTransportationGoods-v0", 7)[:4] == ("x", "y", "task_path", "task_goods")
    maze = observation_names("cdsa/AntMazeUMaze-v0", 29)
    assert maze[:4] == ("x", "y", "z", "obs_3") and maze[-1] == "obs_28"


def test_what_is_not_known_is_numbered():
    assert observation_names("Pendulum-v1", 3) == ("obs_0", "obs_1", "obs_2")
    assert observation_names("Hopper-v5", 12)[0] == "obs_0"  # with the position that is usually left out


def test_an_entry_is_found_by_name_or_by_number():
    names = ("x", "y", "speed")
    assert [observation_index(names, wanted) for wanted in ("speed", "0", "x")] == [2, 0, 0]


@pytest.mark.parametrize("wanted", ["sped", "3", "-1", "1.0", ""])
def test_an_unknown_entry_lists_the_names(wanted):
    with pytest.raises(InputError, match="Known: speed, x, y. Or write a number, 0 to 2") as caught:
        observation_index(("x", "y", "speed"), wanted)
    assert ("Did you mean 'speed'?" in str(caught.value)) == (wanted == "sped")

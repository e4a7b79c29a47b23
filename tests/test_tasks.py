"""Tasks: one row each, checked against the worlds they name."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.errors import InputError
from cdsa_lightning.recipes.pointmass import safe_pointmass
from cdsa_lightning.reference import read_table1
from cdsa_lightning.shards import Output
from cdsa_lightning.tasks import Task, get_task, task_names


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))


def test_the_papers_fifteen_tasks_come_first_in_the_papers_order():
    assert task_names()[:15] == [row["task"] for row in read_table1()]
    assert "risky-pointmass" in task_names()


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("hopper-medium", (11, 3)),
        ("halfcheetah-random", (17, 6)),
        ("walker2d-expert", (17, 6)),
        ("risky-pointmass", (4, 2)),
    ],
)
def test_dimensions_and_bounds_come_from_the_environment(name, dims):
    task = get_task(name)
    assert (task.obs_dim, task.action_dim) == dims
    assert task.low.shape == task.high.shape == dims[1:]
    assert (task.low < task.high).all()
    assert np.allclose(FunctionPolicy(lambda obs: obs, task.low, task.high).low.numpy(), task.low)


def test_bounds_handed_out_cannot_change_the_task():
    task = get_task("risky-pointmass")
    task.low[:] = 7
    assert np.allclose(task.low, -0.1)


def test_walker2d_runs_on_version_4_whose_foot_friction_is_d4rls():
    assert {get_task(name).env_id for name in task_names() if name.startswith("walker2d")} == {"Walker2d-v4"}


def test_scores_map_the_reference_returns_to_0_and_100():
    task = get_task("hopper-medium")
    assert np.allclose(task.normalized_score([-20.272305, 3234.3]), [0.0, 100.0])
    assert get_task("antmaze-umaze").normalized_score(0.25) == 25.0
    assert get_task("risky-pointmass").normalized_score([[-5.0]]).tolist() == [[-5.0]]


def test_an_unknown_task_names_the_nearest_and_all():
    with pytest.raises(InputError, match=r"Did you mean 'hopper-medium'.*antmaze-umaze.*gym:<EnvId>"):
        get_task("hoper-medium")


def test_any_gymnasium_environment_is_a_task_without_data():
    task = get_task("gym:Pendulum-v1")
    assert (task.obs_dim, task.action_dim, task.local_source()) == (3, 1, None)
    with pytest.raises(InputError, match="has no data set of its own"):
        task.transitions()
    with pytest.raises(InputError, match="Gymnasium knows no environment 'Nothing-v0'"):
        get_task("gym:Nothing-v0")


def test_discrete_actions_are_refused_with_the_reason():
    with pytest.raises(InputError, match="Discrete actions; the method needs continuous"):
        _ = get_task("gym:CartPole-v1").action_dim


def test_an_unknown_keyword_of_the_environment_is_an_input_error():
    with pytest.raises(InputError, match="wings"):
        get_task("risky-pointmass").make_single(wings=2)


def test_lanes_and_single_environments_take_the_tasks_keywords():
    task = Task("corner", "cdsa/RiskyPointMass-v0", {"start": "corner"})
    obs, _ = task.make_env(5).reset(seed=0)
    assert (obs[:, :2] >= 0.8 - 1e-6).all()
    obs, _ = task.make_single().reset(seed=0)
    assert (obs[:2] >= 0.8 - 1e-6).all()
    obs, _ = task.make_env(50, start="uniform").reset(seed=0)
    assert (obs[:, :2] < 0.8).any()


def test_without_data_the_error_names_both_ways_to_get_them():
    with pytest.raises(InputError) as error:
        get_task("hopper-medium").transitions()
    assert "cdsa datasets --download hopper-medium" in str(error.value)
    assert "cdsa collect --task hopper-medium --baseline mlp" in str(error.value)
    with pytest.raises(InputError) as error:
        get_task("risky-pointmass").transitions()
    assert str(error.value).endswith("You can collect them: cdsa collect --task risky-pointmass")


def test_the_first_local_source_is_taken_and_told(caplog):
    task = get_task("risky-pointmass")
    safe_pointmass(task, Output("cdsa/risky-pointmass-v0"), episodes=10)
    assert task.local_source() == "minari:cdsa/risky-pointmass-v0"
    with caplog.at_level(logging.INFO):
        data = task.transitions()
    assert data.num_episodes == 10
    assert "from minari:cdsa/risky-pointmass-v0" in caplog.text


def test_data_that_do_not_fit_the_environment_are_refused():
    safe_pointmass(get_task("risky-pointmass"), Output("cdsa/risky-pointmass-v0"), episodes=10)
    with pytest.raises(InputError, match=r"has 4 observation and 2 action entries, Hopper-v5 has 11 and 3"):
        get_task("hopper-medium").transitions("minari:cdsa/risky-pointmass-v0")


def test_a_setting_that_the_environment_does_not_have_is_named():
    with pytest.raises(InputError, match=r"RiskyPointMass-v0 cannot be made with .*'foo': 1"):
        get_task("risky-pointmass").make_env(2, foo=1)


def test_measuring_a_mujoco_task_leaves_no_file_behind(tmp_path):
    code = "from cdsa_lightning.tasks import get_task; t = get_task('halfcheetah-medium'); t.obs_dim; t.make_env(2)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_observations_are_scaled_by_their_bounds_where_they_have_any():
    centre, half_width = get_task("risky-transportation").obs_scale
    assert centre.tolist() == [5, 5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert half_width.tolist() == [5, 5, 0.5, 0.5, 0.5, 0.5, 0.5]
    centre, half_width = get_task("hopper-medium").obs_scale
    assert not centre.any()
    assert (half_width == 1).all()
    assert get_task("risky-pointmass").obs_scale[1].tolist() == [0.5] * 4

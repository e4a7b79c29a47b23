"""The safe data of the point mass are safe, arrive, and obey the environment."""

import numpy as np
import pytest

from cdsa_lightning.envs.risky_pointmass import in_disc
from cdsa_lightning.recipes.pointmass import safe_pointmass
from cdsa_lightning.shards import Output
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.tasks import get_task


@pytest.fixture(autouse=True)
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))


@pytest.fixture
def task():
    return get_task("risky-pointmass")


def fingerprint(dataset_id):
    return load_transitions(f"minari:{dataset_id}").fingerprint


def test_the_safe_recipe_never_enters_the_disc_and_always_arrives(task):
    done = safe_pointmass(task, Output("cdsa/safe-v0"), episodes=400)
    data = load_transitions("minari:cdsa/safe-v0")
    assert done.episodes == data.num_episodes == data.terminated.sum() == 400
    assert not in_disc(data.obs[:, :2]).any()
    assert not in_disc(data.next_obs[:, :2]).any()
    assert np.abs(data.action).max() <= 0.1 + 1e-6
    distance = np.linalg.norm(data.obs[:, :2] - 0.1, axis=1)
    assert np.allclose(data.reward, -distance - 0.1, atol=1e-5)
    assert np.array_equal(data.terminated, distance < 0.05)
    assert np.abs(np.clip(data.obs[:, :2] + data.action, 0, 1) - data.next_obs[:, :2]).max() < 1e-6


def test_the_safe_recipe_passes_on_both_sides_and_repeats_itself(task):
    safe_pointmass(task, Output("cdsa/safe-v0"), episodes=200)
    safe_pointmass(task, Output("cdsa/again-v0"), episodes=200)
    safe_pointmass(task, Output("cdsa/other-v0"), seed=1, episodes=200)
    assert fingerprint("cdsa/safe-v0") == fingerprint("cdsa/again-v0") != fingerprint("cdsa/other-v0")
    obs = load_transitions("minari:cdsa/safe-v0").obs
    assert ((obs[:, 0] < 0.3) & (obs[:, 1] > 0.7)).any()
    assert ((obs[:, 0] > 0.7) & (obs[:, 1] < 0.3)).any()

"""The safe data of Risky transportation: shortest ways, no state in a region, and the environment's own steps."""

import numpy as np
import pytest

from cdsa_lightning.envs.maps import Disc, WorldMap
from cdsa_lightning.envs.risky_transportation import Rules
from cdsa_lightning.errors import InputError
from cdsa_lightning.recipes.routes import Planner
from cdsa_lightning.recipes.transportation import safe_transportation
from cdsa_lightning.shards import Output
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.tasks import get_task


@pytest.fixture(autouse=True)
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))


@pytest.fixture(scope="module")
def planner():
    return Planner(WorldMap((0, 0), (10, 10), (Disc("hill", (5.0, 5.0), 1.6),), ()), margin=0.4)


def length(start, way):
    return np.linalg.norm(np.diff(np.vstack([start, way]), axis=0), axis=1).sum()


def test_the_way_around_a_disc_is_hardly_longer_than_two_tangents_and_an_arc(planner):
    start, end = np.array([1.0, 5.0]), np.array([9.0, 5.0])
    way = planner.way(start, end)
    tangent = np.sqrt(4.0**2 - 2.0**2)
    shortest = 2 * tangent + 2.0 * (np.pi - 2 * np.arccos(2.0 / 4.0))
    assert np.array_equal(way[-1], end)
    assert shortest * 0.99 < length(start, way) < shortest * 1.05


def test_a_way_keeps_the_margin_all_along(planner):
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, end = rng.uniform(0, 10, size=(2, 2))
        if planner.is_free(np.stack([start, end])).all():
            corners = np.vstack([start, planner.way(start, end)])
            along = np.concatenate([np.linspace(a, b, 100) for a, b in zip(corners, corners[1:], strict=False)])
            assert np.linalg.norm(along - 5.0, axis=1).min() > 2.0 - 0.03


def test_what_is_in_sight_is_reached_straight_and_what_is_walled_off_not_at_all(planner):
    end = np.array([9.0, 0.5])
    assert np.array_equal(planner.way(np.array([0.5, 0.5]), end), end[None])
    wall = WorldMap((0, 0), (10, 10), tuple(Disc("wall", (5.0, y), 0.6) for y in range(11)), ())
    with pytest.raises(InputError, match=r"no way from \[1.0, 1.0\] to \[9.0, 0.5\]"):
        Planner(wall, 0.2).way(np.array([1.0, 1.0]), end)


def test_the_safe_recipe_touches_no_region_and_obeys_the_environment():
    done = safe_transportation(get_task("risky-transportation"), Output("cdsa/safe-v0"), episodes=40)
    data = load_transitions("minari:cdsa/safe-v0")
    rules = Rules()
    position, after = data.obs[:, :2].astype(float), data.next_obs[:, :2].astype(float)
    assert done.episodes == data.num_episodes == 40
    assert (rules.map.region_of(position) < 0).all()
    assert (rules.map.region_of(after) < 0).all()
    assert np.linalg.norm(data.action, axis=1).max() <= 1 + 1e-6
    assert np.abs(np.clip(position + 0.25 * data.action, 0, 10) - after).max() < 1e-5
    arrived = np.linalg.norm(after - 9.0, axis=1) < 0.3
    assert np.array_equal(data.terminated, arrived)
    assert np.allclose(data.reward, -np.linalg.norm(position - 9.0, axis=1) + 10 * arrived, atol=1e-4)
    assert data.terminated.sum() > 30  # most have done their errands before their 200 steps are over
    # At full speed: noise of .05 makes a step longer or shorter, and longer ones are cut.
    assert 0.9 < np.linalg.norm(data.action, axis=1).mean() <= 1
    assert (np.ptp(position, axis=0) > 8).all()


def test_the_safe_recipe_repeats_itself_and_refuses_no_episodes():
    task = get_task("risky-transportation")
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        safe_transportation(task, Output(f"cdsa/{name}-v0"), seed=seed, episodes=3)
    one, again, other = (load_transitions(f"minari:cdsa/{name}-v0").fingerprint for name in ("one", "again", "other"))
    assert one == again != other
    with pytest.raises(InputError, match="episodes must be at least 1"):
        safe_transportation(task, Output("cdsa/none-v0"), episodes=0)

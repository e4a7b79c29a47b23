"""The safe data of Risky transportation: shortest ways, no state in a region, and the environment's own steps."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from cdsa_lightning.envs.maps import Disc, WorldMap
from cdsa_lightning.envs.risky_transportation import RiskyTransportation
from cdsa_lightning.envs.travel import Rules
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


@pytest.fixture
def data():
    done = safe_transportation(get_task("risky-transportation"), Output("cdsa/safe-v0"), episodes=40)
    data = load_transitions("minari:cdsa/safe-v0")
    assert done.episodes == data.num_episodes == 40
    return data


def test_the_safe_recipe_touches_no_region_and_goes_everywhere_at_full_speed(data):
    world = Rules().map
    position = np.concatenate([data.obs[:, :2], data.next_obs[:, :2]]).astype(float)
    assert (world.region_of(position) < 0).all()
    assert (np.ptp(position, axis=0) > 8).all()
    # Noise of .05 makes a step longer or shorter, and longer ones are cut.
    assert 0.9 < np.linalg.norm(data.action, axis=1).mean() <= 1
    assert data.terminated.sum() > 15


def test_the_safe_episodes_are_what_the_environment_gives_to_a_traveller_with_that_target(data):
    for number in range(10):
        rows = data.episode == number
        obs, action, reward, after = (part[rows] for part in (data.obs, data.action, data.reward, data.next_obs))
        if not data.terminated[rows][-1]:
            continue
        # The distances to the target along the way say where it is.
        towards = least_squares(
            lambda t, o=obs, r=reward: np.linalg.norm(o[:-1, :2] - t, axis=1) + r[:-1], after[-1, :2]
        )
        env = RiskyTransportation(start=obs[0, :2].astype(float), target=towards.x, risk_prob=0.0)
        env.reset(seed=0)
        for step, (wanted, next_obs, earned) in enumerate(zip(action, after, reward, strict=True)):
            seen, given, terminated, _, _ = env.step(wanted)
            assert np.abs(seen - next_obs).max() < 1e-4
            assert given == pytest.approx(earned, abs=1e-2)
            assert terminated == (step == len(action) - 1)


def test_the_safe_recipe_repeats_itself_and_refuses_no_episodes():
    task = get_task("risky-transportation")
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        safe_transportation(task, Output(f"cdsa/{name}-v0"), seed=seed, episodes=3)
    one, again, other = (load_transitions(f"minari:cdsa/{name}-v0").fingerprint for name in ("one", "again", "other"))
    assert one == again != other
    with pytest.raises(InputError, match="episodes must be at least 1"):
        safe_transportation(task, Output("cdsa/none-v0"), episodes=0)

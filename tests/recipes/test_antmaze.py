"""Walks through mazes: ways without walls, an ant that is led along them, rewards of the evaluation."""

import numpy as np
import pytest
import torch

from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.envs.antmaze import MAZES, cell_of, place_of
from cdsa_lightning.errors import InputError
from cdsa_lightning.recipes import antmaze
from cdsa_lightning.recipes.antmaze import walk_maze, way
from cdsa_lightning.tasks import get_task


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def walker(answer, seen=None):
    def torques(obs):
        if seen is not None:
            seen.append(obs[0].numpy())
        return torch.full((len(obs), 8), answer)

    return FunctionPolicy(torques, np.full(8, -1.0, np.float32), np.full(8, 1.0, np.float32))


def test_the_way_around_the_u_is_the_known_one():
    assert way("umaze", (1, 1), (3, 1)) == [(1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert way("umaze", (1, 1), (1, 1)) == []


@pytest.mark.parametrize("maze", MAZES)
def test_every_way_leads_from_neighbour_to_neighbour_through_no_wall(maze):
    cells = way(maze, (1, 1), MAZES[maze][1])
    assert cells[-1] == MAZES[maze][1]
    assert all(MAZES[maze][0][row][column] != 1 for row, column in cells)
    steps = np.abs(np.diff([(1, 1), *cells], axis=0)).sum(1)
    assert (steps == 1).all()


def test_no_way_leads_into_a_wall():
    with pytest.raises(InputError, match="no way from cell"):
        way("umaze", (1, 1), (2, 1))


def test_places_and_cells_are_each_others_inverse_with_the_start_at_the_origin():
    assert place_of((1, 1)).tolist() == [0, 0]
    assert place_of((3, 1)).tolist() == [0, 8]
    assert [cell_of(place_of(cell) + 1.9) for cell in ((1, 1), (5, 2))] == [(1, 1), (5, 2)]


def test_the_walker_sees_its_body_and_a_vector_of_length_ten_to_the_next_cell():
    seen = []
    walk_maze(get_task("antmaze-umaze"), "test/ant-v0", walker(0.0, seen), steps=3)
    data = get_task("antmaze-umaze").transitions("minari:test/ant-v0")
    assert np.allclose([row[:27] for row in seen], data.obs[:, 2:29], atol=1e-5)
    towards = place_of((1, 2)) - data.obs[0, :2]
    assert np.allclose(seen[0][27:], 10 * towards / np.linalg.norm(towards), atol=1e-4)


def test_exactly_so_many_steps_are_kept_the_last_ones_marked_as_cut(monkeypatch):
    monkeypatch.setattr(antmaze, "SHARD_STEPS", 8)
    collected = walk_maze(get_task("antmaze-umaze"), "test/ant-v0", walker(0.1), steps=12, seed=3)
    assert (collected.steps, collected.episodes) == (12, 2)
    data = get_task("antmaze-umaze").transitions("minari:test/ant-v0")
    assert data.metadata["cdsa"]["cut_episodes"] == [0, 1]
    assert np.abs(data.obs[[0, 8], :2]).max() < 0.2  # each begins at the start
    spread = (data.action - 0.1).std()
    assert 0.1 < spread < 0.3  # the noise, .2


def test_in_larger_mazes_episodes_begin_in_other_cells(monkeypatch):
    monkeypatch.setattr(antmaze, "SHARD_STEPS", 2)
    walk_maze(get_task("antmaze-medium-play"), "test/ant-v0", walker(0.0), steps=12)
    data = get_task("antmaze-medium-play").transitions("minari:test/ant-v0")
    cells = {cell_of(place) for place in data.obs[:, :2]}
    assert len(cells) > 2
    assert all(MAZES["medium"][0][row][column] != 1 for row, column in cells)


def test_the_same_seed_makes_the_same_data():
    task = get_task("antmaze-umaze")
    prints = []
    for number, seed in enumerate((1, 1, 2)):
        walk_maze(task, f"test/ant-v{number}", walker(0.2), steps=4, seed=seed)
        prints.append(task.transitions(f"minari:test/ant-v{number}").fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 1, "seed": -1}, {"steps": 1, "noise": -0.1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="at least 1"):
        walk_maze(get_task("antmaze-umaze"), "test/ant-v0", walker(0.0), **wrong)


def test_no_episode_starts_in_a_wall():
    env = get_task("antmaze-umaze").make_single()
    with pytest.raises(InputError, match="it is a wall"):
        env.reset(options={"start": (0, 0)})
    obs, _ = env.reset(seed=0, options={"start": (3, 3)})
    assert np.abs(obs[:2] - place_of((3, 3))).max() < 0.2
    assert np.abs(env.reset(seed=0)[0][:2]).max() < 0.2
    env.close()

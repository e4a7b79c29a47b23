"""The straight line to the goal."""

from pathlib import Path

import pytest
import torch

from cdsa_baselines.shortest_path import ShortestPath, load
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task

from .checkpoints import box_task


@pytest.fixture
def policy():
    return load(None, get_task("risky-pointmass"))


def walk(policy, start, goal, steps):
    """Positions visited from `start`, rows of x, y."""
    path = [torch.tensor(start)]
    for _ in range(steps):
        path.append(path[-1] + policy(torch.cat([path[-1], torch.tensor(goal)])[None])[0])
    return torch.stack(path)


def test_it_walks_the_straight_line_at_full_speed(policy):
    path = walk(policy, [0.9, 0.5], [0.1, 0.1], 8)
    torch.testing.assert_close(path[-1], torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(path[:, 1] - 0.1, (path[:, 0] - 0.1) / 2)
    torch.testing.assert_close(path.diff(dim=0)[:7].abs().amax(1), torch.full((7,), 0.1))


def test_the_last_step_ends_on_the_goal_and_stays(policy):
    path = walk(policy, [0.13, 0.08], [0.1, 0.1], 2)
    torch.testing.assert_close(path[1:], torch.tensor([[0.1, 0.1], [0.1, 0.1]]))
    assert torch.equal(policy(torch.full((1, 4), 0.1)), torch.zeros(1, 2))


def test_further_entries_of_the_observation_are_ignored(policy):
    near = torch.tensor([[0.1, 0.9, 0.5, 0.2]])
    torch.testing.assert_close(policy(torch.cat([near, torch.ones(1, 3)], dim=1)), policy(near))


def test_uneven_bounds_keep_the_direction():
    policy = ShortestPath([-0.1, -1.0], [0.4, 0.2])
    action = policy(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, -1.0, -1.0]]))
    torch.testing.assert_close(action, torch.tensor([[0.2, 0.2], [-0.1, -0.1]]))


def test_it_crosses_the_disc_and_reaches_the_goal_in_the_environment(policy):
    env = get_task("risky-pointmass").make_single(start="corner")
    obs, _ = env.reset(seed=0)
    inside, terminated, steps = False, False, 0
    while not terminated and steps < 100:
        action = policy(torch.as_tensor(obs, dtype=torch.float32)[None])[0].numpy()
        obs, _, terminated, _, info = env.step(action)
        inside, steps = inside or bool(info["in_risk_region"]), steps + 1
    assert inside
    assert terminated
    assert steps <= 10


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (box_task(11, [-1] * 3, [1] * 3), "11 observation and 3 action entries"),
        (box_task(3, [-1] * 2, [1] * 2), "3 observation and 2 action entries"),
        (box_task(4, [0.5] * 2, [1] * 2), "without room around 0"),
        (box_task(4, [-1] * 2, [1] * 2), "observations between .*inf"),
    ],
)
def test_another_kind_of_world_is_refused(task, text):
    with pytest.raises(InputError, match=text):
        load(None, task)


def test_a_checkpoint_is_refused():
    with pytest.raises(InputError, match="nothing to restore"):
        load(Path("x.npz"), get_task("risky-pointmass"))

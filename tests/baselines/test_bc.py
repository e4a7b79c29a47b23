"""BC and 10%BC: updates against plain PyTorch, seeds, and data in which the best trajectories act otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_baselines.bc import BC, BC10
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, plain_mlp, record


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def test_updates_agree_with_the_equation_in_plain_torch(npz, tmp_path):
    module = BC(seeds=(0, 1), hidden=16, lr=1e-3)
    steps = record(module)
    train(module, npz, 25, tmp_path / "run", precision="64-true")
    start, info = build_like(module), module.data_info
    mean, std = torch.tensor(info.obs_mean).double(), torch.tensor(info.obs_std).double() + 1e-3
    for seed in range(2):
        pi = plain_mlp(start.actor, seed)
        adam = torch.optim.Adam(pi.parameters(), lr=1e-3)
        for step in steps:
            s, a, *_ = step.of(seed)
            loss = ((torch.tanh(pi((s - mean) / std)) - a / 0.1) ** 2).mean()
            assert float(step.losses["actor_loss"][seed]) == pytest.approx(loss.item(), abs=1e-6)
            adam_step(adam, loss)
        assert difference(pi, module.actor, seed) < 1e-6


def test_stacked_seeds_match_solo_training(npz, tmp_path):
    stacked = BC(seeds=(3, 5), hidden=16)
    train(stacked, npz, 50, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate((3, 5)):
        solo = BC(seeds=(seed,), hidden=16)
        train(solo, npz, 50, tmp_path / f"solo{seed}", precision="64-true")
        for name, value in solo.state_dict().items():
            torch.testing.assert_close(stacked.state_dict()[name][[row]], value, atol=1e-6, rtol=0, msg=name)


def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path):
    whole, first, second = (BC(seeds=(0, 1), hidden=16) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    train(first, npz, 17, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow
def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = BC(seeds=(0, 1), hidden=16), BC(seeds=(0, 1), hidden=16, compile=True)
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


@pytest.fixture
def mixed(tmp_path):
    """A hundred episodes; the ten with the highest returns act with .05 tanh(2 s), the others with the opposite."""
    rng = np.random.default_rng(0)
    obs, episode = rng.uniform(-1, 1, size=(4000, 4)).astype(np.float32), np.arange(4000) // 40
    best = rng.permutation(100)[:10]
    sign = np.where(np.isin(episode, best), 1, -1)[:, None]
    action = (0.05 * sign * np.tanh(2 * obs[:, :2])).astype(np.float32)
    reward = np.where(np.isin(episode, best), 1.0, 0.5).astype(np.float32)
    arrays = {"obs": obs, "actions": action, "rewards": reward, "next_obs": obs, "episode": episode}
    np.savez(tmp_path / "mixed.npz", terminals=np.zeros(4000, bool), **arrays)
    return tmp_path / "mixed.npz"


@pytest.mark.parametrize(("kind", "restore", "share"), [(BC, BC.load, 1.0), (BC10, BC10.load, 0.1)])
def test_all_data_are_cloned_or_the_best_tenth(mixed, tmp_path, kind, restore, share):
    module = kind(seeds=(0, 1), hidden=32, lr=2e-3)
    train(module, mixed, 600, tmp_path / "run", batch_size=128, top_fraction=share)
    assert module.data_info.transitions == 4000 * share
    obs = 2 * torch.rand(2, 500, 4, generator=torch.Generator().manual_seed(0)) - 1
    mean = -0.04 if kind is BC else 0.05  # of nine opposite actions and one; squared error finds their mean
    error = restore(tmp_path / "run" / "last.ckpt", get_task(TASK))(obs) - mean * (2 * obs[..., :2]).tanh()
    assert error.abs().mean() < 0.01


def test_the_tenth_is_not_trained_on_all_data_by_mistake(npz, tmp_path):
    with pytest.raises(InputError, match="these are all of them.*--data.top_fraction 0.1"):
        train(BC10(seeds=(0,), hidden=8), npz, 10, tmp_path / "run")


def test_the_two_do_not_take_each_others_checkpoints(npz, tmp_path):
    train(BC(seeds=(0,), hidden=8), npz, 10, tmp_path / "run")
    with pytest.raises(InputError, match="not a checkpoint of 'bc10': it holds 'bc'. Name it with --baseline bc"):
        BC10.load(tmp_path / "run" / "last.ckpt", get_task(TASK))


@pytest.mark.parametrize(("restore", "name"), [(BC.load, "bc"), (BC10.load, "bc10")])
def test_a_missing_checkpoint_names_the_command_that_makes_one(restore, name):
    with pytest.raises(InputError, match=f"cdsa fit --config configs/baselines/{name}.yaml --data.task {TASK}"):
        restore(None, get_task(TASK))

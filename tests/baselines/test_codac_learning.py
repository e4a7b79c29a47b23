"""CODAC learns what is best on the mean and in the tail, distrusts what the data lack, and learns online."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Trainer

from cdsa_baselines.codac import CODAC
from cdsa_lightning.data import DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.replay import ReplayData
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

FAST = {"hidden": 24, "quantiles": 8, "samples": 4, "lr": 3e-3, "actor_lr": 3e-3, "temperature": 0.002, "seeds": (0, 1)}


def write_bandit(path, reward, low=-0.1, rows=4000):
    """One-step episodes with uniform actions; `reward` maps unit actions [N, 2] and a generator to rewards [N]."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(size=(rows, 4)).astype(np.float32)
    action = rng.uniform(low, 0.1, size=(rows, 2)).astype(np.float32)
    arrays = {"obs": obs, "next_obs": obs, "actions": action, "rewards": reward(action / 0.1, rng).astype(np.float32)}
    np.savez(path, terminals=np.ones(rows, bool), episode=np.arange(rows), **arrays)
    return path


def info_of(task):
    """The statistics of a made-up data set of `task`."""
    world = get_task(task)
    size, low, high = world.obs_dim, np.asarray(world.low, float).tolist(), np.asarray(world.high, float).tolist()
    return DataInfo(
        **{"task": task, "env_id": world.env_id, "source": "npz:none", "provenance": "npz", "fingerprint": "0"},
        **{"transitions": 1, "mean_return": 0.0, "min_return": 0.0, "max_return": 1.0, "low": low, "high": high},
        **{"obs_mean": [0.0] * size, "obs_std": [1.0] * size, "action_mean": low, "action_std": high},
    )


def act(root):
    return CODAC.load(root / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4)) / 0.1


def tempting(unit, rng):
    """Mean .2 a above zero, but one time in five 4 a is lost there: the tail is best at a = 0."""
    first = unit[:, 0]
    return first - 4 * np.maximum(first, 0) * (rng.uniform(size=len(unit)) < 0.2)


@pytest.mark.parametrize(("risk", "low", "high"), [("neutral", 0.6, 1.0), ("cvar", -0.35, 0.25)])
def test_the_mean_tempts_and_the_tail_deters(tmp_path, risk, low, high):
    npz = write_bandit(tmp_path / "bandit.npz", tempting)
    module = CODAC(omega=0.0, risk=risk, **FAST)
    train(module, npz, 500, tmp_path / "run")
    chosen = act(tmp_path / "run")[..., 0].mean(1)
    assert bool(((low <= chosen) & (chosen <= high)).all()), chosen


def test_it_learns_the_rewarded_action_offline(tmp_path):
    npz = write_bandit(tmp_path / "bandit.npz", lambda unit, rng: -5 * ((unit - [0.4, -0.4]) ** 2).sum(-1))
    module = CODAC(omega=0.1, zeta=-1.0, **FAST)
    train(module, npz, 500, tmp_path / "run")
    chosen = act(tmp_path / "run")
    assert (chosen.mean(1) - torch.tensor([0.4, -0.4])).abs().max() < 0.15


def test_conservatism_prefers_the_actions_of_the_data(tmp_path):
    npz = write_bandit(tmp_path / "half.npz", lambda unit, rng: 0 * unit[:, 0], low=0.0)  # both entries above 0
    gaps = []
    for omega in (0.0, 1.0):
        module = CODAC(omega=omega, zeta=-1.0, **FAST)
        train(module, npz, 150, tmp_path / str(omega))
        with torch.no_grad():
            obs, fractions = torch.rand(2, 100, 4), torch.rand(2, 100, 8)
            inside, outside = torch.rand(2, 100, 1, 2), -torch.rand(2, 100, 1, 2)
            gaps.append((module.critic(obs, inside, fractions) - module.critic(obs, outside, fractions)).mean())
    assert gaps[1] > gaps[0] + 1


def test_it_learns_from_its_own_experience(tmp_path):
    module = CODAC(omega=0.0, hidden=16, quantiles=8, seeds=(0, 1))
    data = ReplayData(TASK, batch_size=16, random_steps=50)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=40, accelerator="cpu", default_root_dir=tmp_path, enable_model_summary=False, **quiet)
    trainer.fit(module, data)
    held = data.play.journal.latest(data.play.journal.held)
    assert held.shape[:2] == (2, 90)
    assert bool((held[..., 4:6].abs() <= 0.1 + 1e-6).all())
    assert len({tuple(row) for row in held[0, 50:, 4:6].tolist()}) == 40  # it explores


def test_exploring_without_noise_is_the_policy(tmp_path):
    module = CODAC(omega=0.0, hidden=16, seeds=(0, 1))
    train(module, write_npz(tmp_path / "data.npz"), 10, tmp_path / "run")
    obs = torch.rand(2, 5, 4)
    torch.testing.assert_close(module.explore(obs, torch.zeros(2, 5, 2)), module.policy()(obs))
    far = module.explore(obs, 100 * torch.ones(2, 5, 2))
    torch.testing.assert_close(far, torch.full((2, 5, 2), 0.1))


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("hopper-random", (1.0, 10.0, 3e-5, True)),
        ("hopper-medium", (10.0, 10.0, 3e-5, True)),
        ("walker2d-medium", (10.0, 10.0, 3e-5, False)),
        ("walker2d-medium-replay", (1.0, 10.0, 3e-6, True)),
        ("hopper-medium-expert", (10.0, 10.0, 3e-5, False)),
        ("halfcheetah-medium-expert", (0.1, -1.0, 3e-4, False)),
        ("antmaze-umaze", (10.0, 10.0, 3e-5, False)),
    ],
)
def test_what_is_not_chosen_is_the_authors_choice_for_the_task(task, wanted, tmp_path):
    module = CODAC(hidden=8, seeds=(0,))
    module.ensure_built(info_of(task))
    found = (module.omega, module.zeta, module.actor_lr, module.automatic_entropy)
    assert found == wanted
    assert tuple(module.hparams[key] for key in ("omega", "zeta", "actor_lr", "automatic_entropy")) == wanted
    names = [group.name for group in module.parameter_groups()]
    assert ("temperature" in names, "multiplier" in names) == (wanted[3], wanted[1] >= 0)


def test_what_is_chosen_counts(tmp_path):
    module = CODAC(omega=3.0, automatic_entropy=False, hidden=8, seeds=(0,))
    module.ensure_built(info_of("hopper-medium"))
    assert (module.omega, module.zeta, module.automatic_entropy) == (3.0, 10.0, False)


def test_a_missing_checkpoint_names_the_command_that_makes_one():
    with pytest.raises(InputError, match=r"configs/baselines/codac.yaml --data.task risky-pointmass"):
        CODAC.load(None, get_task(TASK))


@pytest.mark.parametrize(
    ("name", "value"),
    [("risk", "cvr"), ("level", 0.0), ("level", 1.5), ("samples", 0), ("quantiles", 0), ("omega", -1.0)]
    + [("actor_lr", -1.0), ("temperature", -1.0), ("reward", "scald")],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError):
        CODAC(**{name: value})

"""TD3+BC: its updates against the paper's equations in plain PyTorch, its seeds, and a world with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_baselines.td3_bc import TD3BC
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, follow, plain_mlp, record


@pytest.fixture
def npz(tmp_path):
    """Transitions of which some are terminal."""
    arrays = dict(np.load(write_npz(tmp_path / "data.npz")))
    arrays["terminals"] = np.arange(2000) % 7 == 6
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_updates_agree_with_the_equations_in_plain_torch(npz, tmp_path):
    module = TD3BC(seeds=(0, 1), hidden=16, lr=1e-3, target_rate=0.05, noise_std=0.5)
    steps = record(module)
    train(module, npz, 25, tmp_path / "run", precision="64-true")
    start, info = build_like(module), module.data_info
    mean, std = torch.tensor(info.obs_mean).double(), torch.tensor(info.obs_std).double() + 1e-3
    for seed in range(2):
        q1, q2 = (plain_mlp(start.critic.net, row) for row in (seed, seed + 2))
        slow_q1, slow_q2 = (plain_mlp(start.critic.net, row) for row in (seed, seed + 2))
        pi, slow_pi = plain_mlp(start.actor, seed), plain_mlp(start.actor, seed)
        critic_adam = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=1e-3)
        actor_adam = torch.optim.Adam(pi.parameters(), lr=1e-3)
        for number, step in enumerate(steps, 1):
            s, a, s_next, r, d, z = step.of(seed)
            s, s_next, a = (s - mean) / std, (s_next - mean) / std, a / 0.1  # the box is [-.1, .1]
            a_next = (torch.tanh(slow_pi(s_next)) + (0.5 * z).clip(-0.5, 0.5)).clip(-1, 1)
            pair = torch.cat([s_next, a_next], 1)
            y = (r + 0.99 * (1 - d) * torch.minimum(slow_q1(pair), slow_q2(pair))).detach()
            pair = torch.cat([s, a], 1)
            critic_loss = ((q1(pair) - y) ** 2).mean() + ((q2(pair) - y) ** 2).mean()
            q = q1(torch.cat([s, torch.tanh(pi(s))], 1))
            lam = 2.5 / q.abs().mean().item()
            actor_loss = -lam * q.mean() + ((torch.tanh(pi(s)) - a) ** 2).mean()
            assert float(step.losses["critic_loss"][seed]) == pytest.approx(critic_loss.item(), abs=1e-6)
            if number % 2:
                assert "actor_loss" not in step.losses
                adam_step(critic_adam, critic_loss)
                continue
            assert float(step.losses["actor_loss"][seed]) == pytest.approx(actor_loss.item(), abs=1e-6)
            adam_step(actor_adam, actor_loss)
            adam_step(critic_adam, critic_loss)
            for slow, fast in ((slow_q1, q1), (slow_q2, q2), (slow_pi, pi)):
                follow(slow, fast, 0.05)
        pairs = [(q1, module.critic.net, seed), (q2, module.critic.net, seed + 2), (pi, module.actor, seed)]
        pairs += [(slow_q1, module.target_critic.net, seed), (slow_q2, module.target_critic.net, seed + 2)]
        for plain, stacked, row in [*pairs, (slow_pi, module.target_actor, seed)]:
            print(difference(plain, stacked, row))
            assert difference(plain, stacked, row) < 1e-6


def test_stacked_seeds_match_solo_training(npz, tmp_path):
    stacked = TD3BC(seeds=(3, 5), hidden=16)
    train(stacked, npz, 50, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate((3, 5)):
        solo = TD3BC(seeds=(seed,), hidden=16)
        train(solo, npz, 50, tmp_path / f"solo{seed}", precision="64-true")
        together = stacked.state_dict()
        for name, value in solo.state_dict().items():
            torch.testing.assert_close(together[name][row::2], value, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("stop", [11, 24])  # before and after an actor's step, within a chunk of 10
def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path, stop):
    whole, first, second = (TD3BC(seeds=(0, 1), hidden=16) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    train(first, npz, stop, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow  # compiles the steps with and without the actor
def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = TD3BC(seeds=(0, 1), hidden=16), TD3BC(seeds=(0, 1), hidden=16, compile=True)
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


def test_it_learns_the_rewarded_action(tmp_path):
    rng = np.random.default_rng(0)
    obs = rng.uniform(size=(4000, 4)).astype(np.float32)
    action = rng.uniform(-0.1, 0.1, size=(4000, 2)).astype(np.float32)
    reward = -(((action - [0.05, -0.05]) / 0.1) ** 2).sum(-1).astype(np.float32)  # a bandit: best at (.05, -.05)
    arrays = {"obs": obs, "actions": action, "rewards": reward, "next_obs": obs, "episode": np.arange(4000)}
    np.savez(tmp_path / "bandit.npz", terminals=np.ones(4000, bool), **arrays)
    module = TD3BC(seeds=(0, 1), hidden=64, lr=2e-3, alpha=1.0)
    train(module, tmp_path / "bandit.npz", 1000, tmp_path / "run", batch_size=128)
    act = TD3BC.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4))
    assert (act - torch.tensor([0.05, -0.05])).abs().mean() < 0.02


def test_the_policy_acts_as_the_actor_on_standardised_observations(npz, tmp_path):
    module = TD3BC(seeds=(0, 1), hidden=16)
    train(module, npz, 20, tmp_path / "run")
    obs, info = torch.rand(2, 30, 4), module.data_info
    policy = TD3BC.load(tmp_path / "run" / "last.ckpt", get_task(TASK))
    for seed in range(2):
        plain = plain_mlp(module.actor, seed).float()
        wanted = 0.1 * plain((obs[seed] - torch.tensor(info.obs_mean)) / (torch.tensor(info.obs_std) + 1e-3)).tanh()
        torch.testing.assert_close(policy(obs)[seed], wanted, atol=1e-6, rtol=0)


def test_a_missing_checkpoint_names_the_command_that_makes_one():
    with pytest.raises(
        InputError, match=r"cdsa fit --config configs/baselines/td3_bc.yaml --data.task risky-pointmass"
    ):
        TD3BC.load(None, get_task(TASK))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"alpha": -1.0}, "alpha must be 0 .* got -1.0"),
        ({"noise_std": -0.1}, "noise_std and noise_clip must be 0 or more, got -0.1"),
        ({"noise_clip": float("nan")}, "noise_clip must be 0 or more, got 0.2 and nan"),
        ({"actor_every": 0}, "actor_every must be at least 1 .* got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        TD3BC(**settings)

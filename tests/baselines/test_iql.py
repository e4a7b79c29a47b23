"""IQL: its losses against the paper's equations written out, and learning where the best action is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_baselines.iql import IQL
from cdsa_lightning.data import Batch
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, follow, plain_mlp, record


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def mlp(module, row, x):
    """One network of a stack, in NumPy."""
    layers = [(layer.weight[row].detach().numpy(), layer.bias[row].detach().numpy()) for layer in module.layers]
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight + bias, 0)
    return x @ layers[-1][0] + layers[-1][1]


def test_losses_agree_with_the_equations_in_numpy(npz, tmp_path):
    module = IQL(seeds=(0, 1), hidden=32)
    train(module, npz, 30, tmp_path / "run")  # target and critic differ by now
    info, rng = module.data_info, np.random.default_rng(1)
    obs, next_obs = rng.uniform(size=(2, 2, 64, 4)).astype(np.float32)
    action = rng.uniform(-0.1, 0.1, size=(2, 64, 2)).astype(np.float32)
    reward, terminated = rng.normal(size=(2, 64, 1)).astype(np.float32), rng.uniform(size=(2, 64, 1)) < 0.3
    batch = Batch(*(torch.tensor(np.asarray(x, np.float32)) for x in (obs, action, next_obs, reward, terminated)))
    losses = module.losses(batch, torch.empty(0))
    for seed in range(2):
        u = np.clip(action[seed] / 0.1, -1 + 1e-5, 1 - 1e-5)
        pair = np.concatenate([obs[seed], u], -1)
        twins = (seed, seed + 2)
        target = np.minimum(*(mlp(module.target.net, row, pair) for row in twins))
        advantage = target - mlp(module.value, seed, obs[seed])
        tau = np.where(advantage < 0, 1 - 0.7, 0.7)
        scaled = reward[seed] * 1000 / (info.max_return - info.min_return)
        bootstrap = scaled + 0.99 * (1 - terminated[seed]) * mlp(module.value, seed, next_obs[seed])
        critic = sum(((mlp(module.critic.net, row, pair) - bootstrap) ** 2).mean() for row in twins)
        mean, log_std = np.tanh(mlp(module.actor.net, seed, obs[seed])), module.actor.log_std[seed].detach().numpy()
        density = -0.5 * ((u - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
        log_prob = density.sum(-1, keepdims=True)
        policy = -(np.minimum(np.exp(3 * advantage), 100) * log_prob).mean()
        wanted = {"value_loss": (tau * advantage**2).mean(), "critic_loss": critic, "policy_loss": policy}
        for name, value in wanted.items():
            assert float(losses[name][seed].detach()) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_updates_agree_with_the_equations_in_plain_torch(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays |= {"terminals": np.arange(2000) % 7 == 6, "actions": (2 * arrays["actions"]).clip(-0.1, 0.1)}
    np.savez(npz, **arrays)
    module = IQL(seeds=(0, 1), hidden=16, lr=1e-3, target_rate=0.05, expectile=0.8, beta=2.0)
    steps = record(module)
    train(module, npz, 25, tmp_path / "run", precision="64-true")
    start, info = build_like(module), module.data_info
    scale = 1000 / (info.max_return - info.min_return)
    for seed in range(2):
        q1, q2, slow_q1, slow_q2 = (plain_mlp(start.critic.net, row) for row in (seed, seed + 2, seed, seed + 2))
        value, mean = plain_mlp(start.value, seed), plain_mlp(start.actor.net, seed)
        log_std = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        critic_adam = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=1e-3)
        value_adam = torch.optim.Adam(value.parameters(), lr=1e-3)
        actor_adam = torch.optim.Adam([*mean.parameters(), log_std])
        for number, step in enumerate(steps):
            s, a, s_next, r, d, _ = step.of(seed)
            a = (a / 0.1).clip(-1 + 1e-5, 1 - 1e-5)
            pair = torch.cat([s, a], 1)
            u = torch.minimum(slow_q1(pair), slow_q2(pair)).detach() - value(s)
            value_loss = (torch.where(u < 0, 1 - 0.8, 0.8) * u**2).mean()
            y = (scale * r + 0.99 * (1 - d) * value(s_next)).detach()
            critic_loss = ((q1(pair) - y) ** 2).mean() + ((q2(pair) - y) ** 2).mean()
            pi = torch.distributions.Normal(torch.tanh(mean(s)), log_std.exp())
            weight = torch.exp(2.0 * u.detach()).clip(max=100)
            policy_loss = -(weight * pi.log_prob(a).sum(1, keepdim=True)).mean()
            wanted = {"value_loss": value_loss, "critic_loss": critic_loss, "policy_loss": policy_loss}
            for name, loss in wanted.items():
                assert float(step.losses[name][seed]) == pytest.approx(loss.item(), rel=1e-6, abs=1e-6), name
            actor_adam.param_groups[0]["lr"] = 1e-3 * (1 + np.cos(np.pi * number / 25)) / 2
            for adam, loss in ((value_adam, value_loss), (critic_adam, critic_loss), (actor_adam, policy_loss)):
                adam_step(adam, loss)
            follow(slow_q1, q1, 0.05)
            follow(slow_q2, q2, 0.05)
        pairs = [(q1, module.critic.net, seed), (q2, module.critic.net, seed + 2), (value, module.value, seed)]
        pairs += [(slow_q1, module.target.net, seed), (slow_q2, module.target.net, seed + 2)]
        for plain, stacked, row in [*pairs, (mean, module.actor.net, seed)]:
            assert difference(plain, stacked, row) < 1e-6
        torch.testing.assert_close(module.actor.log_std[seed, 0], log_std, atol=1e-6, rtol=0)


def test_the_target_follows_the_critic_at_its_rate(npz, tmp_path):
    module = IQL(seeds=(0,), hidden=16, target_rate=0.25, inner_steps=1)
    trace = []
    module.after_step = lambda step: (
        trace.append((module.slow_critic.flat.clone(), module.part("critic").clone())),
        IQL.after_step(module, step),
    )
    train(module, npz, 3, tmp_path / "run")
    trace.append((module.slow_critic.flat.clone(), None))
    for (before, critic), (after, _) in zip(trace, trace[1:], strict=False):
        torch.testing.assert_close(after, before + 0.25 * (critic - before))


def test_stacked_seeds_match_solo_training(npz, tmp_path):
    stacked = IQL(seeds=(3, 5), hidden=16)
    train(stacked, npz, 50, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate((3, 5)):
        solo = IQL(seeds=(seed,), hidden=16)
        train(solo, npz, 50, tmp_path / f"solo{seed}", precision="64-true")
        together = stacked.state_dict()
        for name, value in solo.state_dict().items():
            torch.testing.assert_close(together[name][row::2], value, atol=1e-6, rtol=0, msg=name)


def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path):
    whole, first, second = (IQL(seeds=(0, 1), hidden=16) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    first.schedule_steps = 40  # the cosine runs to the planned end, not to the interruption
    train(first, npz, 17, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow
def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = IQL(seeds=(0, 1), hidden=16), IQL(seeds=(0, 1), hidden=16, compile=True)
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


def test_it_learns_the_rewarded_action(tmp_path):
    rng = np.random.default_rng(0)
    obs = rng.uniform(size=(4000, 4)).astype(np.float32)
    action = rng.uniform(-0.1, 0.1, size=(4000, 2)).astype(np.float32)
    reward = -(((action - [0.05, -0.05]) / 0.1) ** 2).sum(-1).astype(np.float32)  # a bandit: best at (.05, -.05)
    np.savez(
        tmp_path / "bandit.npz", obs=obs, actions=action, rewards=reward, next_obs=obs, terminals=np.ones(4000, bool),
        episode=np.arange(4000),
    )  # fmt: skip
    module = IQL(seeds=(0, 1), hidden=32, reward="raw", lr=1e-3, beta=10.0)
    train(module, tmp_path / "bandit.npz", 1500, tmp_path / "run", batch_size=128)
    act = IQL.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4))
    assert (act.mean(1) - torch.tensor([0.05, -0.05])).abs().max() < 0.02
    assert (act - torch.tensor([0.05, -0.05])).abs().mean() < 0.02


def test_a_missing_checkpoint_names_the_command_that_makes_one():
    with pytest.raises(InputError, match=r"cdsa fit --config configs/baselines/iql.yaml --data.task risky-pointmass"):
        IQL.load(None, get_task(TASK))


@pytest.mark.parametrize("settings", [{"expectile": 1.0}, {"reward": "scaledd"}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        IQL(**settings)

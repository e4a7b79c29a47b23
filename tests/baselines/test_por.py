"""POR: its updates against the paper's equations in plain PyTorch, its phases, and worlds with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_baselines.por import POR
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, follow, plain_mlp, record

SMALL = {"hidden": 16, "action_hidden": 24}
RESIDUAL = {"variant": "por_r", "alpha": 2.0, "reward": "raw"}
CLIMBING = {"variant": "por_q", "alpha": 5.0, "reward": "raw", "pretrain_steps": 13}


@pytest.fixture
def npz(tmp_path):
    """Transitions of which some are terminal."""
    arrays = dict(np.load(write_npz(tmp_path / "data.npz")))
    arrays["terminals"] = np.arange(2000) % 7 == 6
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


class Gaussian:
    """N(net(x), exp(log_std)^2) of one seed, with Adam."""

    def __init__(self, actor, row, lr):
        self.net = plain_mlp(actor.net, row)
        self.log_std = torch.nn.Parameter(actor.log_std[row, 0].detach().double())
        self.adam = torch.optim.Adam([*self.net.parameters(), self.log_std], lr=lr)

    def __call__(self, x):
        return torch.distributions.MultivariateNormal(self.net(x), torch.diag(self.log_std.clamp(-5, 2).exp() ** 2))

    def step(self, loss, rate=None):
        if rate is not None:
            self.adam.param_groups[0]["lr"] = rate
        adam_step(self.adam, loss)

    def difference(self, actor, row):
        return max(
            difference(self.net, actor.net, row), float((self.log_std - actor.log_std[row, 0]).detach().abs().max())
        )


@pytest.mark.parametrize("settings", [RESIDUAL | {"layer_norm": True}, CLIMBING | {"layer_norm": False}])
def test_updates_agree_with_the_equations_in_plain_torch(npz, tmp_path, settings):
    module = POR(seeds=(0, 1), value_lr=3e-3, behavior_lr=2e-3, policy_lr=1e-3, target_rate=0.1, **SMALL, **settings)
    steps, total = record(module), 33
    train(module, npz, total, tmp_path / "run", precision="64-true")
    start, first = build_like(module), settings.get("pretrain_steps", 0)
    tau, alpha = module.hparams["expectile"], settings["alpha"]
    for seed in range(2):
        v1, v2, slow1, slow2 = (plain_mlp(start.value.net, row) for row in (seed, seed + 2) * 2)
        value_adam = torch.optim.Adam([*v1.parameters(), *v2.parameters()], lr=3e-3)
        g, pi = Gaussian(start.goal, seed, 1e-3), Gaussian(start.action, seed, 1e-3)
        b = Gaussian(start.behavior, seed, 2e-3) if first else None
        for number, step in enumerate(steps):
            s, a, s_next, r, d, z = step.of(seed)
            if number < first:
                loss = -b(s).log_prob(s_next).mean()
                assert {name: float(x[seed]) for name, x in step.losses.items()} == {
                    "behavior_loss": pytest.approx(loss.item(), abs=1e-6)
                }
                b.step(loss)
                continue
            y = (r + 0.99 * (1 - d) * torch.minimum(slow1(s_next), slow2(s_next))).detach()
            wanted = {"value_loss": 0.0}
            for v in (v1, v2):
                u = y - v(s)
                wanted["value_loss"] += (torch.where(u < 0, 1 - tau, tau) * u**2).mean() / 2
            if b is None:
                weight = (alpha * (y - torch.minimum(v1(s), v2(s)))).exp().clip(max=100).detach()[:, 0]
                wanted["goal_loss"] = -(weight * g(s).log_prob(s_next)).mean()
            else:
                g_hat = g(s).mean + g.log_std.clamp(-5, 2).exp() * z
                value = torch.minimum(v1(g_hat), v2(g_hat))
                lam = alpha / value.abs().mean().item()
                wanted["goal_loss"] = -lam * value.mean() - b(s).log_prob(g_hat).mean()
            wanted["action_loss"] = -pi(torch.cat([s, s_next], 1)).log_prob(a / 0.1).mean()  # the box is [-.1, .1]
            assert set(step.losses) == set(wanted)
            for name, loss in wanted.items():
                assert float(step.losses[name][seed]) == pytest.approx(loss.item(), abs=1e-6), name
            rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * (number - first) / (total - first)))
            g.step(wanted["goal_loss"], rate)
            pi.step(wanted["action_loss"], rate)
            adam_step(value_adam, wanted["value_loss"])
            follow(slow1, v1, 0.1)
            follow(slow2, v2, 0.1)
        plain = [(v1, module.value.net, seed), (v2, module.value.net, seed + 2)]
        plain += [(slow1, module.target.net, seed), (slow2, module.target.net, seed + 2)]
        assert max(difference(*trio) for trio in plain) < 1e-6
        assert max(g.difference(module.goal, seed), pi.difference(module.action, seed)) < 1e-6
        assert b is None or b.difference(module.behavior, seed) < 1e-6


@pytest.mark.parametrize("settings", [RESIDUAL, CLIMBING])
def test_stacked_seeds_match_solo_training(npz, tmp_path, settings):
    stacked = POR(seeds=(3, 5), **SMALL, **settings)
    train(stacked, npz, 50, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate((3, 5)):
        solo = POR(seeds=(seed,), **SMALL, **settings)
        train(solo, npz, 50, tmp_path / f"solo{seed}", precision="64-true")
        together = stacked.state_dict()
        for name, value in solo.state_dict().items():
            torch.testing.assert_close(together[name][row::2], value, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("stop", [10, 17, 24])  # in the first phase; in the chunk that begins the second; within it
def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path, stop):
    whole, first, second = (POR(seeds=(0, 1), **SMALL, **CLIMBING) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    first.schedule_steps = 40  # the cosine runs to the planned end, not to the interruption
    if stop == 10:  # a run must be planned to reach the second phase: this one is cut off after its first chunk
        train(first, npz, 40, tmp_path / "first", limit_train_batches=1, max_epochs=1)
    else:
        train(first, npz, stop, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow  # compiles the steps of both phases
def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = (POR(seeds=(0, 1), compile=compile, **SMALL, **CLIMBING) for compile in (False, True))
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


def test_weighted_imitation_goes_where_the_reward_is_and_finds_the_action_that_leads_there(tmp_path):
    rng = np.random.default_rng(0)
    obs = rng.uniform(size=(4000, 4)).astype(np.float32)
    action = rng.uniform(-0.1, 0.1, size=(4000, 2)).astype(np.float32)
    next_obs = obs + np.pad(10 * action, ((0, 0), (0, 2)))
    reward = -(((action - [0.05, -0.05]) / 0.1) ** 2).sum(-1).astype(np.float32)  # a bandit: best at (.05, -.05)
    arrays = {"obs": obs, "actions": action, "rewards": reward, "next_obs": next_obs, "episode": np.arange(4000)}
    np.savez(tmp_path / "bandit.npz", terminals=np.ones(4000, bool), **arrays)
    module = POR(
        "por_r", 0.7, 10.0, policy_lr=3e-3, reward="raw", value_lr=3e-3, hidden=32, action_hidden=32, seeds=(0, 1)
    )
    train(module, tmp_path / "bandit.npz", 1000, tmp_path / "run", batch_size=128)
    act = POR.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4))
    assert (act - torch.tensor([0.05, -0.05])).abs().mean() < 0.02


def test_climbing_leaves_the_data_by_lambda_times_their_variance(tmp_path):
    # V(s) = 4 + s_1 is linear and b(s) = N(s, sigma^2), so that the best goal is s + lambda sigma^2 (1, 0, 0, 0).
    rng = np.random.default_rng(0)
    obs = rng.uniform(-2, 2, size=(8000, 4)).astype(np.float32)
    next_obs = obs + 0.5 * rng.standard_normal((8000, 4)).astype(np.float32)
    arrays = {"obs": obs, "next_obs": next_obs, "rewards": 4 + obs[:, 0], "episode": np.arange(8000)}
    np.savez(tmp_path / "line.npz", terminals=np.ones(8000, bool), actions=0.1 * np.tanh(obs[:, :2]), **arrays)
    settings = {"pretrain_steps": 500, "hidden": 32, "action_hidden": 8, "reward": "raw", "seeds": (0, 1)}
    rates = {"policy_lr": 3e-3, "value_lr": 3e-3, "behavior_lr": 3e-3}
    module = POR("por_q", expectile=0.5, alpha=4.0, **rates, **settings)
    train(module, tmp_path / "line.npz", 1300, tmp_path / "run", batch_size=64)
    points = torch.rand(2, 500, 4) * 2 - 1
    with torch.no_grad():
        goal, data = module.goal(points), module.behavior(points)
        assert (data - points).mean(1).abs().max() < 0.2
        torch.testing.assert_close(module.behavior.log_std.exp(), torch.full((2, 1, 4), 0.5), atol=0.05, rtol=0)
        weight = 4.0 / (4 + goal[..., 0]).mean(1)  # lambda
        wanted = torch.stack([weight * 0.25, *torch.zeros(3, 2)], -1)
    # Beside b as it was learned, so that its own errors drop out.
    torch.testing.assert_close((goal - data).mean(1), wanted, atol=0.08, rtol=0)

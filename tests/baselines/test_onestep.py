"""One-step RL: three phases against the paper's equations written out, and learning where the best action is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cdsa_baselines.onestep import OneStep
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, follow, plain_mlp, record

PHASES = {"behavior_steps": 12, "critic_steps": 12, "policy_steps": 12}


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def small(seeds=(0, 1), **settings):
    return OneStep(seeds=seeds, **({"hidden": 16, "samples": 3, "lr": 1e-2} | PHASES | settings))


def normal(net, obs):
    """The distribution of the paper's code: tanh of the mean, log-deviation between -5 and 0."""
    mean, log_std = net(obs).chunk(2, -1)
    return torch.distributions.Normal(mean.tanh(), (-5 + 2.5 * (log_std.tanh() + 1)).exp())


def policy_loss(module, actor, behavior, critic, obs, action, noise):
    """The third phase's loss, written with PyTorch's distributions."""
    pi, beta, first, others = normal(actor, obs), normal(behavior, obs), noise[:, :2], noise[:, 2:].reshape(-1, 3, 2)
    if module.improvement == "reverse_kl":
        drawn = pi.mean + pi.stddev * first
        value = critic(torch.cat([obs, drawn], -1))
        kl = 0.0
        for k in range(3):
            a = pi.mean + pi.stddev * others[:, k]
            kl = kl + (pi.log_prob(a) - beta.log_prob(a)).sum(-1, keepdim=True) / 3
        return (-value + module.alpha * kl).mean()
    with torch.no_grad():
        drawn = [beta.mean + beta.stddev * others[:, k] for k in range(3)]
        value = sum(critic(torch.cat([obs, a], -1)) for a in drawn) / 3
        weight = (module.temperature * (critic(torch.cat([obs, action], -1)) - value)).exp().clamp(max=100)
    return (-weight * pi.log_prob(action.clamp(-0.9999, 0.9999)).sum(-1, keepdim=True)).mean()


@pytest.mark.parametrize(("improvement", "strength"), [("reverse_kl", 0.3), ("exponential", 3.0)])
def test_three_phases_agree_with_the_equations(npz, tmp_path, improvement, strength):
    module = small(improvement=improvement, alpha=strength, temperature=strength)
    steps = record(module)
    train(module, npz, 36, tmp_path / "run", precision="64-true")
    start = build_like(module)
    for row in range(2):
        behavior, critic = plain_mlp(start.behavior.net, row), plain_mlp(start.critic, row)
        target, actor = plain_mlp(start.critic, row), plain_mlp(start.actor.net, row)
        adams = [torch.optim.Adam(net.parameters(), lr=1e-2) for net in (behavior, critic, actor)]
        for number, step in enumerate(steps):
            obs, action, next_obs, reward, done, noise = step.of(row)
            action = action / 0.1
            if number < 12:
                loss, name = -normal(behavior, obs).log_prob(action).sum(-1).mean(), "behavior_loss"
            elif number < 24:
                beta = normal(behavior, next_obs)
                next_action = (beta.mean + beta.stddev * noise[:, :2]).clamp(-1, 1)
                with torch.no_grad():
                    aim = reward + 0.99 * (1 - done) * target(torch.cat([next_obs, next_action], -1))
                loss, name = (aim - critic(torch.cat([obs, action], -1))).square().mean(), "critic_loss"
            else:
                if number == 24:
                    actor.load_state_dict(behavior.state_dict())
                loss = policy_loss(module, actor, behavior, critic, obs, action, noise)
                name = "policy_loss"
            assert list(step.losses) == [name]
            assert float(step.losses[name][row]) == pytest.approx(float(loss.detach()), rel=1e-7, abs=1e-9)
            adam_step(adams[number // 12], loss)
            if 12 <= number < 24 and number % 2:  # after every second step
                follow(target, critic, 0.005)
        pairs = ((behavior, module.behavior.net), (critic, module.critic), (actor, module.actor.net))
        assert max(difference(*pair, row) for pair in (*pairs, (target, module.target))) < 1e-7


def test_stacked_seeds_are_solo_seeds(npz, tmp_path):
    stacked, solo = small((3, 7)), small((7,))
    for module in (stacked, solo):
        train(module, npz, 50, tmp_path / str(len(module.seeds)), precision="64-true")
    own = stacked.state_dict()
    for name, value in solo.state_dict().items():
        torch.testing.assert_close(own[name][1::2], value, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("stop", [7, 12, 29])
def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path, stop):
    whole, first, second = small(), small(), small()
    train(whole, npz, 36, tmp_path / "whole")
    first.schedule_steps = 36  # the phases of the planned run, not of the interrupted one
    train(first, npz, stop, tmp_path / "first")
    train(second, npz, 36, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_compiled_run_equals_an_eager_one(npz, tmp_path):
    eager, compiled = small(), small(compile=True)
    for number, module in enumerate((eager, compiled)):
        train(module, npz, 36, tmp_path / str(number))
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


def test_the_policy_is_the_behaviour_until_the_third_phase(npz, tmp_path):
    module = small()
    module.schedule_steps = 36
    train(module, npz, 20, tmp_path / "run")
    for behavior, actor in zip(module.behavior.parameters(), module.actor.parameters(), strict=True):
        assert torch.equal(behavior, actor)


def test_a_short_run_shortens_all_phases_and_says_so(npz, tmp_path, capsys):
    module = small(behavior_steps=500, critic_steps=2000, policy_steps=100)
    train(module, npz, 26, tmp_path / "run")
    assert "to 5, 20 and 1 steps, in proportion to 500, 2000, 100" in capsys.readouterr().out
    assert module.phases == [5, 25]


def test_a_run_that_is_made_longer_keeps_its_phases(npz, tmp_path):
    first, second = small(behavior_steps=500, critic_steps=2000, policy_steps=100), small()
    train(first, npz, 26, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    assert second.phases == [5, 25]


def test_the_estimated_divergence_is_that_of_the_normal_distributions(npz, tmp_path):
    module = small((0,), samples=50_000, alpha=1.0)
    train(module, npz, 3, tmp_path / "run", batch_size=2)
    generator = torch.Generator().manual_seed(0)
    obs, zeros = torch.rand(1, 4, 4, generator=generator), torch.zeros(1, 4, 2)
    with torch.no_grad():
        module.actor.net.layers[-1].bias.add_(torch.tensor([0.3, -0.3, 0.1, -0.2]))
        loss = module._reverse_kl(obs, zeros, zeros, torch.randn(1, 4, 50_000, 2, generator=generator))
        pi, beta = (
            torch.distributions.Normal(mean, log_std.exp())
            for mean, log_std in (module.actor.distribution(obs), module.behavior.distribution(obs))
        )
        value = module.critic(torch.cat([obs, pi.mean], -1))
        wanted = torch.distributions.kl_divergence(pi, beta).sum(-1, keepdim=True)
    assert float(wanted.min()) > 0.5
    torch.testing.assert_close(loss + value, wanted, rtol=0.03, atol=0)


@pytest.mark.parametrize("improvement", ["reverse_kl", "exponential"])
def test_it_learns_the_rewarded_action(tmp_path, improvement):
    rng = np.random.default_rng(0)
    obs = rng.uniform(size=(4000, 4)).astype(np.float32)
    action = rng.uniform(-0.1, 0.1, size=(4000, 2)).astype(np.float32)
    reward = -(((action - [0.03, -0.03]) / 0.1) ** 2).sum(-1).astype(np.float32)  # a bandit: best at (.03, -.03)
    done = np.ones(4000, bool)
    np.savez(
        tmp_path / "bandit.npz", obs=obs, actions=action, rewards=reward, next_obs=obs, terminals=done,
        episode=np.arange(4000),
    )  # fmt: skip
    phases = {"behavior_steps": 150, "critic_steps": 600, "policy_steps": 350}
    module = OneStep(improvement, 0.01, 10.0, hidden=32, lr=3e-3, seeds=(0, 1), **phases)
    train(module, tmp_path / "bandit.npz", 1100, tmp_path / "run", batch_size=64)
    act = OneStep.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4))
    assert (act.mean(1) - torch.tensor([0.03, -0.03])).abs().max() < 0.015
    assert (act - torch.tensor([0.03, -0.03])).abs().mean() < 0.015


def test_the_deviation_stays_between_its_bounds(npz, tmp_path):
    module = small((0,))
    train(module, npz, 3, tmp_path / "run")
    with torch.no_grad():
        for bias, bound in ((99.0, 1.0), (-99.0, math.exp(-5))):
            module.actor.net.layers[-1].bias.fill_(bias)
            mean, log_std = module.actor.distribution(torch.rand(1, 8, 4))
            torch.testing.assert_close(log_std.exp(), torch.full((1, 8, 2), bound))
            torch.testing.assert_close(mean, torch.full((1, 8, 2), math.copysign(1, bias)))


def test_a_missing_checkpoint_names_the_command_that_makes_one():
    with pytest.raises(InputError, match=r"configs/baselines/onestep.yaml --data.task risky-pointmass"):
        OneStep.load(None, get_task(TASK))


@pytest.mark.parametrize(
    "settings",
    [{"improvement": "reverse_k"}, {"behavior_steps": 0}, {"samples": 0}, {"alpha": -1.0}, {"temperature": -0.1}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        OneStep(**settings)


def test_a_run_too_short_for_three_phases_is_refused(npz, tmp_path):
    with pytest.raises(InputError, match="three phases"):
        train(small(), npz, 2, tmp_path / "run")

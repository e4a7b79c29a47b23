"""CODAC: its update against the paper's equations written out, what a tail measure avoids, and learning online."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as dist

from cdsa_baselines.codac import CODAC
from training_data import train, write_npz

from .plain import build_like, difference, follow, plain_mlp, record
from .test_quantiles import PlainQuantileNet

CONSTRAINED = {"omega": 2.0, "zeta": 0.5, "automatic_entropy": True}
PLAIN = {"omega": 0.5, "zeta": -1.0, "risk": "cvar", "level": 0.25}
ONLINE = {"omega": 0.0}


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def small(seeds=(0, 1), **settings):
    return CODAC(seeds=seeds, **({"hidden": 16, "samples": 2, "quantiles": 4, "lr": 1e-2, "actor_lr": 1e-2} | settings))


def squashed(actor, obs):
    """The policy as PyTorch's distributions have it."""
    mean, log_std = actor(obs).chunk(2, -1)
    normal = dist.Normal(mean, log_std.clamp(-20, 2).exp())
    return normal, dist.TransformedDistribution(normal, dist.TanhTransform(cache_size=1))


def draw(policy, noise):
    """Action [B, A] and log-density [B] of `noise` in a policy of `squashed`."""
    normal, tanh = policy
    action = tanh.transforms[0](normal.mean + normal.stddev * noise)
    return action, tanh.log_prob(action).sum(-1)


def fractions_of(noise):
    """Midpoints and widths: uniform numbers plus .1, scaled to sum one."""
    widths = dist.Normal(0.0, 1.0).cdf(noise) + 0.1
    edges = torch.nn.functional.pad((widths / widths.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    return (edges[:, 1:] + edges[:, :-1]) / 2, edges.diff(dim=-1)


def quantile_loss(z, target, fractions, weights):
    z, target = torch.broadcast_tensors(z.unsqueeze(2), target.unsqueeze(1))
    huber = torch.nn.functional.huber_loss(z, target, reduction="none")
    return ((fractions.unsqueeze(2) - (target < z).double()).abs() * weights.unsqueeze(1) * huber).sum(2).mean()


class Reference:
    """One seed of CODAC, two actions, four observations, four quantiles, two samples of each kind."""

    def __init__(self, start, row):
        self.settings = start
        self.critics = [PlainQuantileNet(start.critic, row + 2 * twin) for twin in range(2)]
        self.targets = [PlainQuantileNet(start.critic, row + 2 * twin) for twin in range(2)]
        self.actor, self.slow_actor = (plain_mlp(start.actor.net, row) for _ in range(2))
        self.log_eta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        self.log_multiplier = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        groups = (*self.critics[0].parameters(), *self.critics[1].parameters()), self.actor.parameters()
        groups = (*groups, [self.log_eta], [self.log_multiplier])
        self.adams = [torch.optim.Adam(params, lr=1e-2) for params in groups]

    def step(self, obs, action, next_obs, reward, done, noise):
        own, after, tau, next_tau, own_tau, pick, others = noise.split((2, 2, 4, 4, 4, *self.conservative), -1)
        me, action = self.settings, action / 0.1
        eta = self.log_eta.exp().detach() if me.automatic_entropy else 0.2
        (tau, _), (next_tau, next_widths), (own_tau, own_widths) = map(fractions_of, (tau, next_tau, own_tau))
        with torch.no_grad():
            next_action, density = draw(squashed(self.slow_actor, next_obs), after)
            next_z = torch.minimum(*(target(next_obs, next_action, next_tau) for target in self.targets))
            aim = reward + 0.99 * (1 - done) * (next_z - eta * density.unsqueeze(1))
        z = [critic(obs, action, tau) for critic in self.critics]
        losses = {"critic_loss": sum(quantile_loss(own_z, aim, tau, next_widths) for own_z in z)}
        chosen, density = draw(squashed(self.actor, obs), own)
        worth = [(own_widths * critic(obs, chosen, me.level * own_tau)).sum(1) for critic in self.critics]
        losses["policy_loss"] = (eta * density - torch.minimum(*worth)).mean()
        losses["temperature_loss"] = (-self.log_eta * (density.detach() - 3)).mean()
        if me.omega:
            gaps = self.gaps(obs, next_obs, z, tau, pick, others)
            multiplier = self.log_multiplier.exp()
            if me.zeta >= 0:
                gaps = [gap - me.zeta for gap in gaps]
                losses["multiplier_loss"] = -0.5 * multiplier * sum(gap.detach() for gap in gaps)
            losses["conservative_loss"] = sum(gaps) * (multiplier.detach() if me.zeta >= 0 else 1)
        critic_loss = losses["critic_loss"] + losses.get("conservative_loss", 0)
        aims = (critic_loss, losses["policy_loss"], losses["temperature_loss"], losses.get("multiplier_loss"))
        for adam, loss in zip(self.adams, aims, strict=True):  # all gradients, before any network moves
            for param in adam.param_groups[0]["params"]:
                param.grad = None if loss is None else torch.autograd.grad(loss, param, retain_graph=True)[0]
        for adam in self.adams:
            adam.step()
        for slow, fast in zip((*self.targets, self.slow_actor), (*self.critics, self.actor), strict=True):
            follow(slow, fast, 0.005)
        return losses

    @property
    def conservative(self):
        return (1, 12) if self.settings.omega else (0, 0)

    def gaps(self, obs, next_obs, z, tau, pick, others):
        uniform = dist.Normal(0.0, 1.0).cdf
        index = (uniform(pick) * 4).floor().long()
        others, sampled = others.unflatten(1, (6, 2)), []
        with torch.no_grad():
            for k in range(2):
                sampled.append((2 * uniform(others[:, k]) - 1, torch.full((len(obs),), -2 * math.log(2))))
                sampled.append(draw(squashed(self.actor, obs), others[:, 2 + k]))
                sampled.append(draw(squashed(self.actor, next_obs), others[:, 4 + k]))
        gaps = []
        for critic, own in zip(self.critics, z, strict=True):
            scores = [critic(obs, a, tau.gather(1, index))[:, 0] - density for a, density in sampled]
            gaps.append(self.settings.omega * (torch.stack(scores).logsumexp(0) - own.mean(1)).mean())
        return gaps


@pytest.mark.parametrize("settings", [CONSTRAINED, PLAIN, ONLINE], ids=["constrained", "plain", "online"])
def test_updates_agree_with_the_equations(npz, tmp_path, settings):
    module = small(**settings)
    steps = record(module)
    train(module, npz, 15, tmp_path / "run", precision="64-true")
    start = build_like(module)
    for row in range(2):
        reference = Reference(start, row)
        for step in steps:
            wanted = reference.step(*step.of(row))
            for name, value in step.losses.items():
                assert float(value[row]) == pytest.approx(float(wanted[name].detach()), rel=1e-6, abs=1e-8), name
        assert difference(reference.actor, module.actor.net, row) < 1e-6
        assert difference(reference.slow_actor, module.target_actor.net, row) < 1e-6
        for networks, stacked in ((reference.critics, module.critic), (reference.targets, module.target_critic)):
            for twin, network in enumerate(networks):
                now = PlainQuantileNet(stacked, row + 2 * twin)
                for own, other in zip(network.parameters(), now.parameters(), strict=True):
                    torch.testing.assert_close(own, other, atol=1e-6, rtol=0)
        if module.automatic_entropy:
            torch.testing.assert_close(module.log_eta[row], reference.log_eta, atol=1e-8, rtol=0)
        if module.constrained:
            torch.testing.assert_close(module.log_multiplier[row], reference.log_multiplier, atol=1e-8, rtol=0)


@pytest.mark.parametrize("settings", [CONSTRAINED, PLAIN], ids=["constrained", "plain"])
def test_stacked_seeds_are_solo_seeds(npz, tmp_path, settings):
    stacked, solo = small((3, 7), **settings), small((7,), **settings)
    for module in (stacked, solo):
        train(module, npz, 50, tmp_path / str(len(module.seeds)), precision="64-true")
    own = stacked.state_dict()
    for name, value in solo.state_dict().items():
        torch.testing.assert_close(own[name][1::2], value, atol=1e-6, rtol=0, msg=name)


def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path):
    whole, first, second = (small(**CONSTRAINED) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    train(first, npz, 17, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_compiled_run_equals_an_eager_one(npz, tmp_path):
    eager, compiled = small(lr=1e-3, **CONSTRAINED), small(lr=1e-3, compile=True, **CONSTRAINED)
    for number, module in enumerate((eager, compiled)):
        train(module, npz, 20, tmp_path / str(number))
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)

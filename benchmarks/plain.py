"""Offline algorithms as public single-file implementations write them: the loops that `baselines.py` compares with.

`nn.Linear` networks, one optimizer each, a batch indexed out of tensors at every step, `.item()` of every loss. Each
algorithm is a class with ``step(batch)``; the batch is (obs, action, reward, next_obs, terminated).
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform


def mlp(*sizes, out=None):
    layers = []
    for i, o in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1], *([out] if out else []))


def soft_update(target, source, rate=0.005):
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.data.copy_((1 - rate) * slow.data + rate * fast.data)


def frozen(net):
    return copy.deepcopy(net).requires_grad_(False)


class TwinQ(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.q1, self.q2 = mlp(dim, *hidden, 1), mlp(dim, *hidden, 1)

    def both(self, obs, action):
        pair = torch.cat((obs, action), -1)
        return self.q1(pair).squeeze(-1), self.q2(pair).squeeze(-1)

    def forward(self, obs, action):
        return torch.min(*self.both(obs, action))


class Gaussian(nn.Module):
    """A mean network and a deviation that is free of the input."""

    def __init__(self, *sizes, out=None):
        super().__init__()
        self.net, self.log_std = mlp(*sizes, out=out), nn.Parameter(torch.zeros(sizes[-1]))

    def forward(self, x):
        return Independent(Normal(self.net(x), self.log_std.clamp(-5, 2).exp()), 1)


class TanhGaussian(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.net = mlp(*sizes[:-1], 2 * sizes[-1])

    def forward(self, obs, count=None):
        mean, log_std = self.net(obs).chunk(2, -1)
        normal = Normal(mean, log_std.clamp(-20, 2).exp())
        dist = TransformedDistribution(normal, TanhTransform(cache_size=1), validate_args=False)
        action = dist.rsample() if count is None else dist.rsample((count,)).transpose(0, 1)
        if count is None:
            return action, dist.log_prob(action).sum(-1)
        wide = TransformedDistribution(
            Normal(mean.unsqueeze(1), log_std.clamp(-20, 2).exp().unsqueeze(1)), TanhTransform(cache_size=1)
        )
        return action, wide.log_prob(action.clamp(-0.999999, 0.999999)).sum(-1)


def adam(net, lr=3e-4):
    return torch.optim.Adam(net.parameters(), lr=lr)


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class IQL:
    def __init__(self, S, A, device, steps):
        hidden = (256, 256)
        self.q = TwinQ(S + A, hidden).to(device)
        self.target, self.v = frozen(self.q), mlp(S, *hidden, 1).to(device)
        self.actor = Gaussian(S, *hidden, A, out=nn.Tanh()).to(device)
        self.q_opt, self.v_opt, self.actor_opt = adam(self.q), adam(self.v), adam(self.actor)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_opt, steps)

    def step(self, batch):
        obs, action, reward, next_obs, terminated = batch
        with torch.no_grad():
            target_q, next_v = self.target(obs, action), self.v(next_obs).squeeze(-1)
        adv = target_q - self.v(obs).squeeze(-1)
        v_loss = (torch.abs(0.7 - (adv < 0).float()) * adv**2).mean()
        descend(self.v_opt, v_loss)
        targets = reward + (1 - terminated) * 0.99 * next_v.detach()
        q_loss = sum(nn.functional.mse_loss(q, targets) for q in self.q.both(obs, action)) / 2
        descend(self.q_opt, q_loss)
        soft_update(self.target, self.q)
        weight = torch.exp(3.0 * adv.detach()).clamp(max=100.0)
        actor_loss = (-weight * self.actor(obs).log_prob(action)).mean()
        descend(self.actor_opt, actor_loss)
        self.schedule.step()
        return v_loss.item(), q_loss.item(), actor_loss.item()


class TD3BC:
    def __init__(self, S, A, device, steps):
        hidden = (256, 256)
        self.actor, self.q = mlp(S, *hidden, A, out=nn.Tanh()).to(device), TwinQ(S + A, hidden).to(device)
        self.actor_target, self.q_target, self.count = frozen(self.actor), frozen(self.q), 0
        self.actor_opt, self.q_opt = adam(self.actor), adam(self.q)

    def step(self, batch):
        obs, action, reward, next_obs, terminated = batch
        self.count += 1
        with torch.no_grad():
            noise = (torch.randn_like(action) * 0.2).clamp(-0.5, 0.5)
            next_action = (self.actor_target(next_obs) + noise).clamp(-1, 1)
            target = reward + (1 - terminated) * 0.99 * self.q_target(next_obs, next_action)
        q_loss = sum(nn.functional.mse_loss(q, target) for q in self.q.both(obs, action))
        descend(self.q_opt, q_loss)
        logged = [q_loss.item()]
        if self.count % 2 == 0:
            own = self.actor(obs)
            q = self.q.q1(torch.cat((obs, own), -1))
            actor_loss = -2.5 / q.abs().mean().detach() * q.mean() + nn.functional.mse_loss(own, action)
            descend(self.actor_opt, actor_loss)
            logged.append(actor_loss.item())
            soft_update(self.q_target, self.q)
            soft_update(self.actor_target, self.actor)
        return logged


class CQL:
    def __init__(self, S, A, device, steps):
        hidden, self.A = (256, 256, 256), A
        self.q1, self.q2 = mlp(S + A, *hidden, 1).to(device), mlp(S + A, *hidden, 1).to(device)
        self.t1, self.t2 = frozen(self.q1), frozen(self.q2)
        self.actor, self.log_alpha = TanhGaussian(S, *hidden, A).to(device), torch.zeros(1, device=device)
        self.log_alpha.requires_grad_()
        self.opts = adam(self.q1), adam(self.q2), adam(self.actor, 3e-5)
        self.alpha_opt = torch.optim.Adam([self.log_alpha], 3e-5)

    def values(self, q, obs, actions):
        wide = obs.unsqueeze(1).expand(-1, actions.shape[1], -1)
        return q(torch.cat((wide, actions), -1)).squeeze(-1)

    def step(self, batch):
        obs, action, reward, next_obs, terminated = batch
        new, log_pi = self.actor(obs)
        alpha_loss = -(self.log_alpha * (log_pi - self.A).detach()).mean()
        descend(self.alpha_opt, alpha_loss)
        pair = torch.cat((obs, new), -1)
        actor_loss = (
            self.log_alpha.exp().detach() * log_pi - torch.min(self.q1(pair), self.q2(pair)).squeeze(-1)
        ).mean()
        with torch.no_grad():
            next_pair = torch.cat((next_obs, self.actor(next_obs)[0]), -1)
            target = torch.min(self.t1(next_pair), self.t2(next_pair)).squeeze(-1)
            target = reward + (1 - terminated) * 0.99 * target
            uniform = torch.empty(len(obs), 10, self.A, device=obs.device).uniform_(-1, 1)
            here, here_log = self.actor(obs, 10)
            after, after_log = self.actor(next_obs, 10)
            density = -self.A * torch.log(torch.tensor(2.0, device=obs.device))
        losses = []
        for q in (self.q1, self.q2):
            own = q(torch.cat((obs, action), -1)).squeeze(-1)
            parts = (
                self.values(q, obs, uniform) - density,
                self.values(q, obs, after) - after_log,
                self.values(q, obs, here) - here_log,
            )
            gap = torch.logsumexp(torch.cat(parts, 1), 1).mean() - own.mean()
            losses.append(nn.functional.mse_loss(own, target) + 10 * gap)
        for optimizer, loss, keep in (
            (self.opts[2], actor_loss, True),
            (self.opts[0], losses[0], True),
            (self.opts[1], losses[1], False),
        ):
            optimizer.zero_grad()
            if optimizer is self.opts[2]:
                gradients = torch.autograd.grad(loss, list(self.actor.parameters()), retain_graph=keep)
                for param, gradient in zip(self.actor.parameters(), gradients, strict=True):
                    param.grad = gradient
            else:
                loss.backward()
            optimizer.step()
        soft_update(self.t1, self.q1)
        soft_update(self.t2, self.q2)
        return [alpha_loss.item(), actor_loss.item(), *(loss.item() for loss in losses)]


class POR:
    def __init__(self, S, A, device, steps):
        self.v1, self.v2 = mlp(S, 256, 256, 1).to(device), mlp(S, 256, 256, 1).to(device)
        self.t1, self.t2 = frozen(self.v1), frozen(self.v2)
        self.goal, self.actor = Gaussian(S, 256, 256, S).to(device), Gaussian(2 * S, 1024, 1024, A).to(device)
        self.v_opt = torch.optim.Adam([*self.v1.parameters(), *self.v2.parameters()], 1e-4)
        self.goal_opt, self.actor_opt = adam(self.goal, 1e-3), adam(self.actor, 1e-3)
        self.schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, steps) for o in (self.goal_opt, self.actor_opt)]

    def step(self, batch):
        obs, action, reward, next_obs, terminated = batch
        with torch.no_grad():
            target = reward + (1 - terminated) * 0.99 * torch.min(self.t1(next_obs), self.t2(next_obs)).squeeze(-1)
        values = self.v1(obs).squeeze(-1), self.v2(obs).squeeze(-1)
        v_loss = sum((torch.abs(0.7 - ((target - v) < 0).float()) * (target - v) ** 2).mean() for v in values) / 2
        descend(self.v_opt, v_loss)
        soft_update(self.t1, self.v1)
        soft_update(self.t2, self.v2)
        weight = torch.exp(3.0 * (target - torch.min(*values)).detach()).clamp(max=100.0)
        goal_loss = -(weight * self.goal(obs).log_prob(next_obs)).mean()
        descend(self.goal_opt, goal_loss)
        actor_loss = -self.actor(torch.cat((obs, next_obs), -1)).log_prob(action).mean()
        descend(self.actor_opt, actor_loss)
        for schedule in self.schedules:
            schedule.step()
        return v_loss.item(), goal_loss.item(), actor_loss.item()


ALGORITHMS = {"iql": IQL, "td3_bc": TD3BC, "cql": CQL, "por": POR}

"""Quantile networks: fractions, the quantile loss and what it converges to, and critics against plain layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from cdsa_baselines import _quantiles
from cdsa_baselines._quantiles import QuantileTwins, partition, quantile_huber, uniform


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_twins(seeds=2, in_features=5, hidden=8):
    twins = QuantileTwins(in_features, hidden, [torch.Generator().manual_seed(seed) for seed in range(seeds)]).double()
    for number, norm in enumerate((twins.base_norm, twins.embed_norm, twins.merge_norm)):
        for param in norm.parameters():
            param.data.copy_(1 + 0.3 * numbers(*param.shape, seed=number))  # as after some training
    return twins


class PlainQuantileNet(nn.Module):
    """One quantile network of linear layers, with the weights of network `row` of a `QuantileTwins`."""

    def __init__(self, twins, row):
        super().__init__()
        for name in ("base", "embed", "merge", "last"):
            stacked = getattr(twins, name)
            layer = nn.Linear(*stacked.weight.shape[1:], dtype=torch.float64)
            layer.weight.data.copy_(stacked.weight[row].T)
            layer.bias.data.copy_(stacked.bias[row, 0])
            setattr(self, name, layer)
        for name in ("base_norm", "embed_norm", "merge_norm"):
            stacked = getattr(twins, name)
            norm = nn.LayerNorm(stacked.weight.shape[-1], dtype=torch.float64)
            norm.weight.data.copy_(stacked.weight[row, 0])
            norm.bias.data.copy_(stacked.bias[row, 0])
            setattr(self, name, norm)

    def forward(self, obs, action, fractions):
        """obs [B, S], action [B, A], fractions [B, T] -> [B, T]."""
        h = self.base_norm(self.base(torch.cat([obs, action], -1))).relu()
        waves = [torch.cos(torch.pi * i * fractions) for i in range(1, 65)]
        e = self.embed_norm(self.embed(torch.stack(waves, -1))).sigmoid()
        return self.last(self.merge_norm(self.merge(h.unsqueeze(1) * e)).relu()).squeeze(-1)


def test_normal_numbers_become_uniform_ones():
    drawn = uniform(numbers(5000))
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 0.01


def test_a_partition_fills_the_unit_interval_with_ascending_intervals():
    middle, width = partition(numbers(3, 7, 32))
    torch.testing.assert_close(width.sum(-1), torch.ones(3, 7, dtype=torch.float64))
    edges = torch.nn.functional.pad(width.cumsum(-1), (1, 0))
    torch.testing.assert_close(middle, (edges[..., 1:] + edges[..., :-1]) / 2)
    assert float((width.amin(-1) / width.amax(-1)).min()) > 1 / 11 - 1e-9  # none falls together with the next


def test_the_quantile_loss_is_the_double_sum_of_the_paper():
    z, target, fractions = numbers(2, 1, 3, 4), 2 * numbers(1, 3, 6, seed=1), uniform(numbers(1, 3, 4, seed=2))
    _, weights = partition(numbers(1, 3, 6, seed=3))
    found = quantile_huber(z, target, fractions, weights)
    for twin in range(2):
        for b in range(3):
            total = 0.0
            for i in range(4):
                for j in range(6):
                    u = float(target[0, b, j] - z[twin, 0, b, i])
                    huber = u * u / 2 if abs(u) <= 1 else abs(u) - 0.5
                    total += float(weights[0, b, j]) * abs(float(fractions[0, b, i]) - (u < 0)) * huber / 4
            assert float(found[twin, 0, b]) == pytest.approx(total, rel=1e-12)


def test_the_minimum_of_the_quantile_loss_is_at_the_quantiles():
    fractions = torch.tensor([[[0.05, 0.3, 0.5, 0.8, 0.95]]], dtype=torch.float64)
    target = 50 * numbers(1, 1, 4000)  # spread far beyond Huber's threshold
    z = torch.zeros(1, 1, 5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([z], lr=2.0)
    for _ in range(400):
        adam.zero_grad()
        quantile_huber(z, target, fractions, torch.full_like(target, 1 / 4000)).sum().backward()
        adam.step()
    wanted = np.quantile(target.numpy(), fractions.flatten().numpy())
    np.testing.assert_allclose(z.detach().flatten().numpy(), wanted, atol=2.0)


def test_twins_are_plain_quantile_networks():
    twins, obs, actions = make_twins(), numbers(2, 6, 3), numbers(2, 6, 4, 2, seed=1)
    fractions = uniform(numbers(2, 6, 5, seed=2))
    values = twins(obs, actions, fractions)
    assert values.shape == (2, 2, 6, 4, 5)
    for twin in range(2):
        for seed in range(2):
            plain = PlainQuantileNet(twins, 2 * twin + seed)
            for n in range(4):
                wanted = plain(obs[seed], actions[seed, :, n], fractions[seed])
                torch.testing.assert_close(values[twin, seed, :, n], wanted)


def test_the_values_do_not_depend_on_how_many_rows_are_judged_at_once(monkeypatch):
    twins, obs, actions = make_twins(), numbers(2, 7, 3), numbers(2, 7, 4, 2, seed=1)
    fractions = uniform(numbers(2, 7, 5, seed=2))
    whole = twins(obs, actions, fractions)
    for rows in (1, 160):  # one state at a time; two, with one left over
        monkeypatch.setattr(_quantiles, "ROWS_AT_ONCE", rows)
        torch.testing.assert_close(twins(obs, actions, fractions), whole)


def test_gradients_pass_frozen_twins_without_reaching_them():
    twins, obs, fractions = make_twins(), numbers(2, 6, 3), uniform(numbers(2, 6, 5, seed=2))
    actions = numbers(2, 6, 1, 2, seed=1).requires_grad_()
    loose = actions.detach().clone().requires_grad_()
    (frozen,) = torch.autograd.grad(twins(obs, actions, fractions, frozen=True).sum(), actions)
    twins(obs, actions, fractions, frozen=True).sum().backward()
    assert all(param.grad is None for param in twins.parameters())
    torch.testing.assert_close(frozen, torch.autograd.grad(twins(obs, loose, fractions).sum(), loose)[0])
    assert float(frozen.abs().min()) > 0

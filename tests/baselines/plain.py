"""Plain networks out of stacked weights, for tests that write an update straight from a paper's equations.

One `nn.Linear` per layer and one network per seed, in double precision: of the code under test only its numbers enter.

    steps = record(module)                                    # before `train(module, ..., precision="64-true")`
    critic = plain_mlp(build_like(module).critic.net, row)    # the weights that training began with
    adam = torch.optim.Adam(critic.parameters(), lr=3e-4)     # then the equations, for every step of `steps`
    assert difference(critic, module.critic.net, row) < 1e-9
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cdsa_lightning.data import Batch


class Step(NamedTuple):
    """What one gradient step was given, and the losses [E] that it found."""

    batch: Batch
    noise: Tensor
    moving: tuple[str, ...]
    losses: dict[str, Tensor]

    def of(self, row: int) -> tuple[Tensor, ...]:
        """obs [B, S], action [B, A], next_obs [B, S], reward [B, 1], terminated [B, 1], noise [B, N] of one seed."""
        return (*(part[row] for part in self.batch), self.noise[row])


def record(module) -> list[Step]:
    """A list that fills with the steps of `module` while it is trained eagerly."""
    steps, losses = [], module.losses

    def recorded(batch, noise):
        found = losses(batch, noise)
        copies = {name: value.detach().clone() for name, value in found.items()}
        steps.append(Step(Batch(*(part.clone() for part in batch)), noise.clone(), module.moving, copies))
        return found

    module.losses = recorded
    return steps


def build_like(module):
    """A module of the same class, settings and data, with the weights that `module` began with, in double precision."""
    settings = {key: value for key, value in module.hparams.items() if not key.startswith("_")}
    other = type(module)(**copy.deepcopy(settings))
    other.ensure_built(module.data_info)
    return other.double()


def plain_mlp(stacked, row: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Network `row` of a `StackedMLP` as linear layers, layer normalisations where it has them, and activations."""
    modules: list[nn.Module] = []
    for index, layer in enumerate(stacked.layers):
        modules.append(nn.Linear(*layer.weight.shape[1:], dtype=torch.float64))
        if index + 1 < len(stacked.layers):
            if len(stacked.norms):
                modules.append(nn.LayerNorm(layer.weight.shape[2], dtype=torch.float64))
            modules.append(activation())
    plain = nn.Sequential(*modules)
    with torch.no_grad():
        for own, given in zip(plain.parameters(), _parameters(stacked, row), strict=True):
            own.copy_(given)
    return plain


def difference(plain: nn.Sequential, stacked, row: int) -> float:
    """The largest difference between the parameters of a plain network and network `row` of a `StackedMLP`."""
    pairs = zip(plain.parameters(), _parameters(stacked, row), strict=True)
    return max(float((own.detach() - given).abs().max()) for own, given in pairs)


def follow(target: nn.Module, online: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate online."""
    with torch.no_grad():
        for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
            slow.copy_((1 - rate) * slow + rate * fast)


def adam_step(adam: torch.optim.Adam, loss: Tensor) -> None:
    """One step of `adam` down the gradient of `loss`; of all other parameters the gradients stay as they are."""
    params = [param for group in adam.param_groups for param in group["params"]]
    for param, gradient in zip(params, torch.autograd.grad(loss, params, retain_graph=True), strict=True):
        param.grad = gradient
    adam.step()


def _parameters(stacked, row: int) -> list[Tensor]:
    """The parameters of network `row`, in the order and the layout of `plain_mlp`."""
    found = []
    for index, layer in enumerate(stacked.layers):
        found += [layer.weight[row].detach().T, layer.bias[row, 0].detach()]
        if index < len(stacked.norms):
            norm = stacked.norms[index]
            found += [norm.weight[row, 0].detach(), norm.bias[row, 0].detach()]
    return [value.double() for value in found]

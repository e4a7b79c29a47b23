r"""One training seed of a policy as a policy of its own, with products of two axes instead of three.

y[0] = x[0] W[e] + b[e]     ->     y = x W + b
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cdsa_lightning.core.nets import StackedLayerNorm, StackedLinear, StackedMLP
from cdsa_lightning.core.policy import Policy, act
from cdsa_lightning.errors import InputError

__all__ = ["exportable"]

_ALONE = "Export the corrector alone (leave the policy out), and hand it the actions of whatever acts."


def exportable(policy: object, name: str, row: int, obs_dim: int) -> Policy:
    """`policy`, or its training seed `row`, as something that can become a graph.

    Args:
        policy: What shall be fused with a corrector.
        name: Of it, for the errors.
        row: Which of its training seeds, counted from 0.
        obs_dim: S, for a try.

    Raises:
        InputError: it is no `Policy`, draws random numbers, computes outside torch, has no such
            seed, or stacks its seeds in another way than `core.nets`.
    """
    if not isinstance(policy, Policy):
        raise InputError(f"{name} is a {type(policy).__name__}, no cdsa_lightning.Policy. {_ALONE}")
    if policy.stochastic:
        raise InputError(f"{name} draws random numbers, and an exported graph is a function of its input. {_ALONE}")
    if policy.on_host:
        raise InputError(f"{name} computes in Python, outside torch, and cannot become a graph. {_ALONE}")
    return _single_seed(policy, name, row, obs_dim)


def _single_seed(policy: Policy, name: str, row: int, obs_dim: int) -> Policy:
    """A copy of one training seed, on the CPU and in eval()."""
    if not 0 <= row < policy.num_seeds:
        raise InputError(
            f"{name} has no training seed {row}; it holds {policy.num_seeds}: policy_seed names one, from 0."
        )
    one = copy.deepcopy(policy).cpu().eval().requires_grad_(False)
    if policy.num_seeds > 1:
        for layer in one.modules():
            if isinstance(layer, StackedLinear | StackedLayerNorm) and len(layer.weight) == policy.num_seeds:
                layer.weight = nn.Parameter(layer.weight[row : row + 1], requires_grad=False)
                layer.bias = nn.Parameter(layer.bias[row : row + 1], requires_grad=False)
        one.num_seeds = 1
    _flatten(one)
    if not _agrees(one, policy, row, obs_dim):
        raise InputError(
            f"The {policy.num_seeds} training seeds of {name} cannot be taken apart: they are not stacked as "
            f"cdsa_lightning.core.nets stacks them. Load a checkpoint of one seed. {_ALONE}"
        )
    return one


class _Flat(nn.Module):
    """A `StackedMLP` of one network, [1, B, I] -> [1, B, O], out of torch's own layers."""

    def __init__(self, net: StackedMLP) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, stacked in enumerate(net.layers):
            layers.append(_linear(stacked))  # type: ignore[arg-type]
            if index < len(net.layers) - 1:
                layers += [_norm(net.norms[index])] if len(net.norms) else []  # type: ignore[arg-type]
                layers.append(net.activation)
        self.layers = nn.Sequential(*layers).requires_grad_(False)

    def forward(self, x: Tensor, rows: slice | None = None, frozen: bool = False) -> Tensor:
        return self.layers(x.squeeze(0)).unsqueeze(0)


def _linear(stacked: StackedLinear) -> nn.Linear:
    into, out = stacked.weight.shape[1:]
    layer = nn.Linear(into, out)
    layer.weight.data, layer.bias.data = stacked.weight[0].T.contiguous(), stacked.bias[0, 0].clone()
    return layer


def _norm(stacked: StackedLayerNorm) -> nn.LayerNorm:
    layer = nn.LayerNorm(stacked.weight.shape[-1])
    layer.weight.data, layer.bias.data = stacked.weight[0, 0].clone(), stacked.bias[0, 0].clone()
    return layer


def _flatten(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, StackedMLP) and len(child.layers[0].weight) == 1:  # type: ignore[arg-type]
            setattr(module, name, _Flat(child))
        else:
            _flatten(child)


@torch.no_grad()
def _agrees(one: Policy, policy: Policy, row: int, obs_dim: int) -> bool:
    """Whether `one` acts as that seed does."""
    obs = torch.randn(policy.num_seeds, 16, obs_dim, generator=torch.Generator().manual_seed(0))
    try:
        found = one(obs[row])
    except RuntimeError:  # a product that does not fit: something was not sliced
        return False
    return torch.allclose(found, act(policy, obs.to(policy.low.device))[row].cpu(), atol=1e-5)

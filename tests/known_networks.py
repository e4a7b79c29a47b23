"""Correctors whose networks are known in closed form: affine maps with weights set by hand."""

from __future__ import annotations

import torch

from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.nets import LeakyReLU, StackedMLP, stacked_mlp
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.core.seeds import init_generators

OBS, ACTION = 3, 2


def random_networks(seeds: int = 1, obs_dim: int = OBS, state_index=None, **settings) -> Networks:
    """Freshly initialised networks of seeds 0, 1, ..."""
    return Networks(obs_dim, ACTION, NetworkSettings(**settings), init_generators(range(seeds)), state_index)


def random_corrector(seeds: int = 1, bound: float = 100.0, state_index=None, **settings) -> Corrector:
    """A corrector of freshly initialised networks; the bounds are far away unless said."""
    networks = random_networks(seeds, state_index=state_index, **settings)
    return Corrector(networks, [-bound] * ACTION, [bound] * ACTION, OBS).eval()


def affine(weight: torch.Tensor, bias: torch.Tensor) -> StackedMLP:
    """The network y[l] = x[l] weight[l] + bias[l]; weight [L, I, O], bias [L, O]."""
    copies, inputs, outputs = weight.shape
    net = stacked_mlp((inputs, outputs), LeakyReLU(1.0), init_generators(range(copies)))
    net.layers[0].weight.data, net.layers[0].bias.data = weight.float(), bias.float().unsqueeze(1)
    return net


def gaussian_corrector(
    mean: float, std: float, sigmas: tuple[float, ...], seeds: int = 1, gain: float = 0.0, **options
) -> Corrector:
    """Exact scores of a | s ~ N(mean + gain s[:A], std^2) at each sigma and of s ~ N(0, 1); I(s, s') = (s' - s)[:A].

    All in the networks' own units; `options` go to `random_corrector`.
    """
    corrector = random_corrector(seeds, action_sigmas=sigmas, **options)
    nets, settings = corrector.networks, corrector.networks.settings
    pick_action = torch.cat((-gain * torch.eye(OBS, ACTION), torch.eye(ACTION)))
    weights, biases = [], []
    for sigma in sigmas:
        slope = -1 / (std**2 + sigma**2) * (-sigma if settings.predict == "noise" else 1)
        weights += [slope * pick_action] * seeds
        biases += [-slope * mean * torch.ones(ACTION)] * seeds
    nets.action_score = affine(torch.stack(weights), torch.stack(biases))
    sigma = settings.state_sigma
    slope = -1 / (1 + sigma**2) * (-sigma if settings.predict == "noise" else 1)
    seen = OBS + (ACTION if settings.state_score_input == "state_action" else 0)
    nets.state_score = affine(slope * torch.eye(seen, OBS).repeat(seeds, 1, 1), torch.zeros(seeds, OBS))
    step = torch.cat((-torch.eye(OBS), torch.eye(OBS)))[:, :ACTION]
    nets.inverse_dynamics = affine(step.repeat(seeds, 1, 1), torch.zeros(seeds, ACTION))
    return corrector


def set_statistics(corrector: Corrector, obs_mean, obs_std, action_mean, action_std) -> None:
    """The statistics that a standardised corrector was trained under."""
    for name, values in locals().items():
        if name != "corrector":
            getattr(corrector.networks, name).copy_(torch.as_tensor(values))

"""One corrector and one policy of two training seeds, and what they become in every format."""

from pathlib import Path

import torch
from torch import nn

from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.policy import NormalizedPolicy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.export import FORMATS, export, subject
from known_networks import ACTION, OBS
from measured_correctors import measured_corrector

COEFFICIENTS = Coefficients(k1=0.7, k2=0.5, units="sigma2", num_steps=2, gate=0.2, max_shift=0.5, a2="residual")


def clone(seeds=2, layer_norm=True):
    """A policy whose seeds are stacked, over standardised observations."""
    net = stacked_mlp((OBS, 16, 16, ACTION), nn.ReLU(inplace=True), init_generators(range(seeds)), layer_norm)
    mean, std = torch.linspace(-1, 1, OBS), torch.linspace(0.5, 2, OBS)
    return NormalizedPolicy(net, [-1.0] * ACTION, [1.0] * ACTION, mean, std, num_seeds=seeds).eval()


def corrector():
    made = measured_corrector(2, action_sigmas=(0.4,))
    made.info = {"task": "risky-pointmass", "fingerprint": "f00d", "preset": "robust", "seeds": [4, 7]}
    return made


def alone(corrector):
    return subject(corrector, COEFFICIENTS, 1)


def fused(corrector, policy):
    return subject(corrector, COEFFICIENTS, 1, policy, 0, "clone")


def files(folder: Path, corrector, alone, fused):
    """(kind, format) -> what was written; kind is corrector or policy."""
    save_corrector(corrector, folder / "whole.safetensors")
    made = {}
    for name, kind in FORMATS.items():
        made["corrector", name] = export(alone, name, folder / f"corrector{kind.suffix}")
        made["policy", name] = export(fused, name, folder / f"policy{kind.suffix}")
    return made

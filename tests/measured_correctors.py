"""Correctors with statistics and measured noise, as a fit leaves them, only untrained."""

from __future__ import annotations

import torch

from cdsa_lightning.core.corrector import Corrector
from known_networks import ACTION, OBS, random_corrector, set_statistics


def measured_corrector(seeds: int = 1, bound: float = 1.0, state_index=None, **settings) -> Corrector:
    """Random networks over standardised values unless `settings` say otherwise; data around the statistics."""
    settings = {"standardize": True, "predict": "noise", "action_sigmas": (0.4, 0.1), "state_sigma": 0.3} | settings
    corrector = random_corrector(seeds, bound, state_index, **settings)
    seen = OBS if state_index is None else len(state_index)
    mean, std = torch.linspace(-2, 3, seen), torch.linspace(0.2, 2, seen)
    if settings["standardize"]:
        set_statistics(corrector, mean, std, torch.linspace(-0.3, 0.4, ACTION), torch.linspace(0.3, 0.6, ACTION))
    obs, action = questions(500, 1)
    corrector.measure_noise(obs, action)
    return corrector


def questions(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations, and actions within the bounds of 1 and outside."""
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, OBS, generator=draw), 1.5 * torch.randn(rows, ACTION, generator=draw)

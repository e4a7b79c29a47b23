"""What property tests draw from: coefficients, correctors with random weights and statistics, rows of any floats."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st

from cdsa_lightning.core.corrector import Corrector
from known_networks import ACTION, OBS, random_corrector, set_statistics

SIGMAS = (0.4, 0.1)
PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=30, phases=[Phase.explicit, Phase.generate, Phase.shrink]
)
"""The same examples in every run, so that a property fails for a change of the code and for nothing else."""

SPECIAL = [0.0, -0.0, 2.0**-149, -(2.0**-130), 2.0**-100, 2.0**127, -(2.0**127), np.inf, -np.inf, np.nan]
ANY = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32))
NETWORKS = st.fixed_dictionaries(
    {
        "seeds": st.integers(1, 3),
        "standardize": st.booleans(),
        "predict": st.sampled_from(["score", "noise"]),
        "state_score_input": st.sampled_from(["state_action", "state"]),
        "state_index": st.sampled_from([None, (0, 2)]),
        "salt": st.integers(0, 2**16),
    }
)


def coefficients(most: float = 1.0) -> st.SearchStrategy[dict]:
    """Arguments of `Coefficients`: every setting of Eq. 10, with k1 and k2 up to `most` of either sign."""
    strength = st.one_of(st.sampled_from([most, -0.7 * most, 0.3 * most]), st.floats(-most, most))
    return st.fixed_dictionaries(
        {
            "k1": strength,
            "k2": strength,
            "schedule": st.lists(st.sampled_from(SIGMAS), max_size=3),
            "num_steps": st.integers(1, 3),
            "units": st.sampled_from(["raw", "sigma2"]),
            "state_step": st.floats(-2, 2),
            "a2": st.sampled_from(["paper", "residual", "off"]),
            "clip": st.sampled_from(["final", "every_step"]),
            "gate": st.sampled_from([None, 0.05, 0.5, 0.777, 0.99]),
            "max_shift": st.sampled_from([None, 1e-3, 0.1, 1.0]),
        }
    )


def corrector(values: dict, weight: float = 1.5, bound: float = 1.0) -> Corrector:
    """The corrector of one drawing of `NETWORKS`.

    Args:
        values: The drawing.
        weight: What every weight is multiplied by: above 1 the networks bend within the rows, far above they saturate.
        bound: Of actions, either side.
    """
    options = dict(values)
    rng = np.random.default_rng(options.pop("salt"))
    made = random_corrector(options.pop("seeds"), bound, action_sigmas=SIGMAS, state_sigma=0.2, **options)
    for parameter in made.parameters():
        parameter.data = torch.from_numpy(rng.permuted(parameter.data.numpy(), axis=-2)) * weight
    if values["standardize"]:
        seen = OBS if values["state_index"] is None else len(values["state_index"])
        draws = [rng.uniform(*ends, size) for size in (seen, ACTION) for ends in ((-2, 2), (0.2, 5))]
        set_statistics(made, *(np.float32(draw) for draw in draws))
    data = (torch.from_numpy(rng.normal(size=(500, width))).float() for width in (OBS, ACTION))
    made.requires_grad_(False).measure_noise(*data)
    return made


def rows(seeds: int, count: int, salt: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations [E, B, S] of unit size and actions [E, B, A] within [-1, 1]."""
    rng = np.random.default_rng(salt)
    obs, action = rng.normal(size=(seeds, count, OBS)), rng.uniform(-1, 1, (seeds, count, ACTION))
    return torch.from_numpy(obs).float(), torch.from_numpy(action).float()

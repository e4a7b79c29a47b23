r"""Whether a file computes what PyTorch computes, on a thousand observations near the data and far outside.

    |file - eager64| <= 1e-5 max(1, |bounds|) + 2 max |eager32 - eager64|

eager is the module that was exported, in 32 and in 64 bits: a file may not be worse than float32 has to be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cdsa_lightning.core.gate import is_open
from cdsa_lightning.errors import InputError
from cdsa_lightning.export.subject import Subject

__all__ = ["OBSERVATIONS", "Parity", "check", "questions"]

OBSERVATIONS = 1000
_SPARE = 200
_FAR = ((600, 1.0), (200, 3.0), (200 + _SPARE, 10.0))  # rows, and how many deviations they spread over
_BATCHES = (1, 7)  # asked besides the whole, from the front


@dataclass(frozen=True)
class Parity:
    """The largest differences over all observations and batch sizes, action units.

    Attributes:
        observations: How many.
        max_error: Between the file and PyTorch, both in 32 bits.
        max_error_64: Between the file and the correction in 64 bits.
        eager_error_64: Between PyTorch in 32 bits and the correction in 64.
        tolerance: Largest `max_error_64` that is let pass.
    """

    observations: int
    max_error: float
    max_error_64: float
    eager_error_64: float
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the file."""
        return asdict(self)


def check(subject: Subject, ask: Callable[[np.ndarray, np.ndarray], np.ndarray], what: str) -> Parity:
    """How far a file's answers are from PyTorch's.

    Args:
        subject: What was exported.
        ask: Observations [B, S] and actions [B, A] to the file's answers [B, A].
        what: The file's format, for the error.

    Raises:
        InputError: farther than the tolerance, or not finite.
    """
    obs, action = questions(subject)
    eager = subject.eager(obs, action).numpy()
    exact = subject.eager(obs, action, torch.float64).numpy()
    answers = [(slice(0, size), ask(obs[:size].numpy(), action[:size].numpy())) for size in (len(obs), *_BATCHES)]
    own = float(abs(eager - exact).max())
    scale = max([1.0, *(abs(bound) for bound in subject.about["low"] + subject.about["high"] if np.isfinite(bound))])
    parity = Parity(
        len(obs),
        max(_gap(found, eager[rows]) for rows, found in answers),
        max(_gap(found, exact[rows]) for rows, found in answers),
        own,
        1e-5 * scale + 2 * own,
    )
    if not parity.max_error_64 <= parity.tolerance:  # also where it is NaN
        raise InputError(
            f"The {what} file does not compute what PyTorch computes: it differs by {parity.max_error_64:.2g} over "
            f"{len(obs)} observations, and {parity.tolerance:.2g} is let pass. Nothing was written. A policy whose "
            "Python code branches on values cannot be exported; another --format or the corrector alone may be."
        )
    return parity


def _gap(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")


def questions(subject: Subject, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A thousand observations around the data and far outside, and actions within the bounds and a little outside.

    Where a gate is so near its threshold that 32 bits cannot tell open from closed, both answers are right: such rows
    are left out.
    """
    rng, rows = np.random.default_rng(seed), sum(count for count, _ in _FAR)
    mean, std = _statistics(subject)
    spread = np.concatenate([np.full(count, far) for count, far in _FAR])
    obs = mean + std * spread[:, None] * rng.standard_normal((rows, len(mean)))
    low, high = (np.asarray(subject.about[name]) for name in ("low", "high"))
    nets = subject.corrector.networks
    middle, width = (getattr(nets, name).double().numpy() for name in ("action_mean", "action_std"))
    low, high = (
        np.where(np.isfinite(low), low, middle - 3 * width),
        np.where(np.isfinite(high), high, middle + 3 * width),
    )
    action = low + (high - low) * rng.uniform(-0.1, 1.1, (rows, len(low)))
    given = torch.from_numpy(obs).float(), torch.from_numpy(action).float()
    keep = _decided(subject, *given)
    return given[0][keep][:OBSERVATIONS], given[1][keep][:OBSERVATIONS]


def _statistics(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each observation entry: the corrector's, else the policy's, else 0 and 1."""
    nets, mean, std = (
        subject.corrector.networks,
        np.zeros(subject.corrector.obs_dim),
        np.ones(subject.corrector.obs_dim),
    )
    own = getattr(subject.policy, "obs_mean", None), getattr(subject.policy, "obs_std", None)
    if isinstance(own[0], Tensor) and isinstance(own[1], Tensor) and own[0].shape == own[1].shape == mean.shape:
        mean, std = own[0].double().numpy(), own[1].double().numpy()
    if nets.settings.standardize:
        seen = slice(None) if nets.state_index is None else nets.state_index
        mean[seen], std[seen] = nets.obs_mean.double().numpy(), nets.obs_std.double().numpy()
    return mean, std


@torch.no_grad()
def _decided(subject: Subject, obs: Tensor, action: Tensor) -> Tensor:
    c, corrector = subject.coefficients, subject.corrector
    if c.gate is None:
        return torch.ones(len(obs), dtype=torch.bool)
    base = action if subject.policy is None else subject.policy(obs)
    nets, level = corrector.networks, corrector.schedule(c)[0]
    eps = nets.action_noise(*nets.standardize(obs[None], base[None]), level)
    table = corrector.noise_quantiles[level]
    return (is_open(eps * (1 - 1e-4), table, c.gate) == is_open(eps * (1 + 1e-4), table, c.gate))[0, :, 0]

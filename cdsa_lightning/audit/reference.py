r"""The data as a corrector sees them: the predicted noise of their actions, ranks among it, densities along a line."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import Transitions

__all__ = ["SIGMA", "Reference", "density_drift", "p_values"]

SIGMA = 0.4
"""The level that the measures are taken at, where it was trained; the thresholds below were fitted there."""

_NODES = 9


class Reference:
    """Rows of the data, and how long the predicted noise of their own actions is.

    Half of the rows drawn are ranked against (`lengths`), in the other half the policy is asked. Both are random rows
    of what the corrector was fitted on: the quantiles are in-sample. `spread` is tau of `cdsa_lightning.audit.measure`.

    Args:
        corrector: Whose action score is asked; each training seed has quantiles of its own.
        data: Where rows are drawn from.
        coefficients: Name the level where sigma .4 was not trained.
        rows: In each half, as far as there are so many.
        seed: Of the draw.

    Raises:
        InputError: fewer than two rows, or data of other widths than the corrector's.
    """

    def __init__(
        self, corrector: Corrector, data: Transitions, coefficients: Coefficients, rows: int = 10_000, seed: int = 0
    ) -> None:
        if rows < 1 or len(data) < 2:
            raise InputError(f"An audit ranks against at least one row of data, got rows={rows} of {len(data)}.")
        if (data.obs_dim, data.action_dim) != (corrector.obs_dim, corrector.action_dim):
            raise InputError(
                f"The data have {data.obs_dim} observation and {data.action_dim} action entries, the corrector "
                f"{corrector.obs_dim} and {corrector.action_dim}: they belong to different tasks."
            )
        trained = corrector.networks.settings.action_sigmas
        self.level = trained.index(SIGMA) if SIGMA in trained else corrector.schedule(coefficients)[0]
        self.sigma = trained[self.level]
        self.members = [corrector] if corrector.num_seeds == 1 else [*map(corrector.select, range(corrector.num_seeds))]
        chosen = np.random.default_rng(seed).permutation(len(data))[: 2 * rows]
        ranked, asked = np.sort(chosen[::2]), np.sort(chosen[1::2])
        self.obs, self.action = torch.from_numpy(data.obs[asked]), torch.from_numpy(data.action[asked])
        obs, action = torch.from_numpy(data.obs[ranked]), torch.from_numpy(data.action[ranked])
        self.lengths = [self.length(seed, obs, action) for seed in range(len(self.members))]
        self.spread = float(np.mean([self._spread(seed, obs, action) for seed in range(len(self.members))]))

    @torch.no_grad()
    def _spread(self, seed: int, obs: Tensor, action: Tensor) -> float:
        """tau of Gaussian actions around a mean that depends on the state, from the loss of the denoiser."""
        nets = self.members[seed].networks
        s, u = nets.standardize(obs[None], action[None])
        noise = torch.randn(u.shape, generator=torch.Generator().manual_seed(0))
        loss = float((nets.action_noise(s, u + self.sigma * noise, self.level) - noise).square().mean())
        overall = float((u - u.mean(1, keepdim=True)).square().mean().sqrt())
        known = self.sigma * math.sqrt(loss / (1.0 - loss)) if loss < 1.0 else math.inf
        return min(known / overall, 1.0) if overall else 0.0

    def member(self, seed: int) -> int:
        """The training seed of the corrector that stands beside this one of the policy."""
        return seed if seed < len(self.members) else 0

    @torch.no_grad()
    def noise(self, seed: int, obs: Float[Tensor, "N S"], action: Float[Tensor, "N A"]) -> Float[Tensor, "N A"]:
        """eps of actions, as one training seed predicts it."""
        nets = self.members[self.member(seed)].networks
        s, u = nets.standardize(obs[None], action[None])
        return nets.action_noise(s, u, self.level)[0]

    def length(self, seed: int, obs: Tensor, action: Tensor) -> np.ndarray:
        """|eps| of actions, as one training seed predicts it, [N] float64."""
        return self.noise(seed, obs, action).norm(dim=-1).double().numpy()

    def drift(self, seed: int, obs: Tensor, start: Tensor, end: Tensor) -> np.ndarray:
        """D of each correction from `start` to `end` that moved the action."""
        moved = (start != end).any(-1)
        corrector = self.members[self.member(seed)]
        return density_drift(corrector, obs[moved], start[moved], end[moved], self.level).numpy()


def p_values(lengths: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The share of the reference that is at least as long as each of `lengths`, itself counted: in (0, 1]."""
    below = np.searchsorted(np.sort(reference), lengths, side="left")
    return (1 + len(reference) - below) / (1 + len(reference))


@torch.no_grad()
def density_drift(
    corrector: Corrector,
    obs: Float[Tensor, "N S"],
    start: Float[Tensor, "N A"],
    end: Float[Tensor, "N A"],
    level: int,
) -> Float[Tensor, " N"]:
    """log p_sigma(end | s) - log p_sigma(start | s), by the trapezoid rule along the straight line between them.

    Args:
        corrector: Of one training seed.
        obs, start, end: In the environment's units.
        level: Of the action sigmas.
    """
    nets, sigma = corrector.networks, corrector.networks.settings.action_sigmas[level]
    s, u = nets.standardize(obs[None], start[None])
    way = nets.standardize_action(end[None]) - u
    steps = torch.linspace(0, 1, _NODES)
    slope = [-(nets.action_noise(s, u + t * way, level) * way).sum(-1)[0] / sigma for t in steps.tolist()]
    return torch.trapezoid(torch.stack(slope), dx=1 / (_NODES - 1), dim=0)

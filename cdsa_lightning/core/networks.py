r"""The three networks of the method over standardised values, and what they predict.

    g_theta(s, u): score of the action,   h_phi(s, u) or h_phi(s): score of the state,   I_phi(s, s'): the action

with s = (obs - mean) / std and u = (action - mean) / std (mean 0 and deviation 1 in the paper's preset). Everything is
spoken of as predicted noise, eps = -sigma * score, which has unit size at every sigma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from cdsa_lightning.core.losses import denoising_score_loss, inverse_dynamics_loss, noise_prediction_loss
from cdsa_lightning.core.nets import StackedMLP, inverse_dynamics_net, score_net
from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["NetworkSettings", "Networks"]


@dataclass(frozen=True)
class NetworkSettings:
    """What the three networks see and predict; the defaults are the paper's.

    Args:
        standardize: Whether observations and actions are standardised with the data's statistics.
        predict: ``score``: the output is the score, Eq. 6 and 8. ``noise``: the output is eps, score = -eps / sigma.
        action_sigmas: One action-score network for each, in (standardised) action units.
        state_sigma: Perturbation of the state score, in (standardised) state units.
        state_score_input: ``state_action``: h(s, a), section 4. ``state``: h(s), Algorithm 2.

    Raises:
        InputError: no sigma, a sigma that is not positive, or an unknown choice.
    """

    standardize: bool = False
    predict: str = "score"
    action_sigmas: Sequence[float] = (1.0,)
    state_sigma: float = 1.0
    state_score_input: str = "state_action"

    def __post_init__(self) -> None:
        object.__setattr__(self, "action_sigmas", tuple(float(sigma) for sigma in self.action_sigmas))
        if not self.action_sigmas:
            raise InputError("action_sigmas is empty; name at least one sigma, for instance [1.0].")
        for sigma in (*self.action_sigmas, self.state_sigma):
            if not 0 < sigma < float("inf"):
                raise InputError(f"sigma must be positive, got {sigma}.")
        if len(set(self.action_sigmas)) != len(self.action_sigmas):
            raise InputError(f"action_sigmas must differ from each other, got {list(self.action_sigmas)}.")
        if self.predict not in ("score", "noise"):
            raise unknown_name("value of predict", self.predict, ("score", "noise"))
        if self.state_score_input not in ("state_action", "state"):
            raise unknown_name("value of state_score_input", self.state_score_input, ("state_action", "state"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written into an artefact's header."""
        return asdict(self) | {"action_sigmas": list(self.action_sigmas)}


class Networks(nn.Module):
    """g, h and I of E training seeds, with one action score per sigma, and the statistics they were trained under.

    Args:
        obs_dim: S, entries of a policy's observation.
        action_dim: A.
        settings: What the networks see and predict.
        generators: One per seed, E in all, for the initial weights.
        state_index: Which observation entries the networks see (D of them); None for all.
        ensemble: Answer with the mean over the E members, as a single seed; such networks are no longer trained.

    Raises:
        InputError: an entry of `state_index` that no observation has.
    """

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    sigmas: Tensor

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        settings: NetworkSettings,
        generators: Sequence[Generator],
        state_index: Sequence[int] | None = None,
        ensemble: bool = False,
    ) -> None:
        super().__init__()
        self.settings, self.members, self.ensemble = settings, len(generators), ensemble
        self.num_seeds = 1 if ensemble else self.members
        self.state_index = None if state_index is None else list(state_index)
        if any(not 0 <= i < obs_dim for i in self.state_index or ()):
            raise InputError(f"state_index {self.state_index} names entries that an observation of {obs_dim} lacks.")
        self.action_dim, self.state_dim = action_dim, obs_dim if state_index is None else len(state_index)
        pair = self.state_dim + action_dim
        # Level-major: the networks of one sigma are neighbours, so that picking a level is a slice.
        levels = [generator for _ in settings.action_sigmas for generator in generators]
        self.action_score = score_net(pair, action_dim, levels)
        seen = pair if settings.state_score_input == "state_action" else self.state_dim
        self.state_score = score_net(seen, self.state_dim, generators)
        self.inverse_dynamics = inverse_dynamics_net(self.state_dim, action_dim, generators)
        self.register_buffer("obs_mean", torch.zeros(self.state_dim))
        self.register_buffer("obs_std", torch.ones(self.state_dim))
        self.register_buffer("action_mean", torch.zeros(action_dim))
        self.register_buffer("action_std", torch.ones(action_dim))
        sigmas = torch.tensor(settings.action_sigmas).view(-1, 1, 1, 1)
        self.register_buffer("sigmas", sigmas, persistent=False)  # known from the settings

    @property
    def noise_dim(self) -> int:
        """Normal numbers per transition and step: one action per level and one state."""
        return len(self.settings.action_sigmas) * self.action_dim + self.state_dim

    def standardize(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [E, B, S] (cut to the state) and actions [E, B, A] as the networks see them."""
        if self.state_index is not None:
            obs = obs[..., self.state_index]
        if self.settings.standardize:
            obs = (obs - self.obs_mean) / self.obs_std
        return obs, self.standardize_action(action)

    def standardize_action(self, action: Tensor) -> Tensor:
        """Actions [..., A] as the networks see them."""
        return (action - self.action_mean) / self.action_std if self.settings.standardize else action

    def _ask(self, net: StackedMLP, x: Float[Tensor, "E B I"], rows: slice | None = None) -> Float[Tensor, "E B O"]:
        """What `net` says about `x`; of an ensemble, what its members say about it on average."""
        if not self.ensemble:
            return net(x, rows)
        return net(x.expand(self.members, -1, -1), rows).mean(0, keepdim=True)

    def action_noise(self, s: Tensor, u: Tensor, level: int) -> Float[Tensor, "E B A"]:
        """eps of the action at one level of `action_sigmas`: -sigma * g(s, u)."""
        rows = slice(level * self.members, (level + 1) * self.members)
        output = self._ask(self.action_score, torch.cat((s, u), -1), rows)
        return output if self.settings.predict == "noise" else -self.settings.action_sigmas[level] * output

    def state_noise(self, s: Tensor, u: Tensor) -> Float[Tensor, "E B D"]:
        """eps of the state: -sigma * h(s, u)."""
        joint = torch.cat((s, u), -1) if self.settings.state_score_input == "state_action" else s
        output = self._ask(self.state_score, joint)
        return output if self.settings.predict == "noise" else -self.settings.state_sigma * output

    def losses(
        self,
        obs: Float[Tensor, "E B S"],
        action: Float[Tensor, "E B A"],
        next_obs: Float[Tensor, "E B S"],
        noise: Float[Tensor, "E B N"],
    ) -> dict[str, Float[Tensor, " E"]]:
        """Eq. 6, 8 and 9 on one batch per seed.

        Args:
            obs, action, next_obs: In the data's units.
            noise: Standard normal, N = M * A + D: M action levels, then the state.
        """
        settings, levels = self.settings, len(self.settings.action_sigmas)
        s, u = self.standardize(obs, action)
        s_next, _ = self.standardize(next_obs, action)
        seeds, batch, split = s.shape[0], s.shape[1], levels * self.action_dim
        z = noise[..., :split].reshape(seeds, batch, levels, self.action_dim).permute(2, 0, 1, 3)
        joint = torch.cat((s.expand(levels, *s.shape), u + self.sigmas * z), -1).flatten(0, 1)
        g = self.action_score(joint).unflatten(0, (levels, seeds))
        z_state = noise[..., split:]
        perturbed = s + settings.state_sigma * z_state
        h = self.state_score(
            torch.cat((perturbed, u), -1) if settings.state_score_input == "state_action" else perturbed
        )
        if settings.predict == "noise":
            action_loss, state_loss = noise_prediction_loss(g, z), noise_prediction_loss(h, z_state)
        else:
            action_loss = denoising_score_loss(g, z, self.sigmas)
            state_loss = denoising_score_loss(h, z_state, settings.state_sigma)
        inverse = self.inverse_dynamics(torch.cat((s, s_next), -1))
        return {
            "action_score_loss": action_loss.sum(0),
            "state_score_loss": state_loss,
            "inverse_dynamics_loss": inverse_dynamics_loss(inverse, u),
        }

    def predict_action(self, s: Tensor, s_target: Tensor) -> Float[Tensor, "E B A"]:
        """I(s, s_target) in action units, from standardised states."""
        u = self._ask(self.inverse_dynamics, torch.cat((s, s_target), -1))
        return u * self.action_std + self.action_mean if self.settings.standardize else u

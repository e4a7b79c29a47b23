r"""The correction of an action towards the data: Eq. 10 and Algorithm 2 of the CDSA paper (arXiv 2406.07541).

    for sigma in schedule:
        a2 = I(s, s + state_step * h(s, a))  [ - I(s, s) where residual ]
        a  = clip(a + k1 * g_sigma(s, a) + k2 * a2)
    return a, kept within max_shift of the baseline's action

Networks see standardised values (the paper's preset standardises with mean 0 and deviation 1). Their scores are turned
into the data's units here: d log p / da = score / std, and one denoising step is sigma^2 * std * score.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.gate import QUANTILES, is_open, length_quantiles
from cdsa_lightning.core.nets import StackedLinear
from cdsa_lightning.core.networks import Networks
from cdsa_lightning.core.policy import Policy, act
from cdsa_lightning.errors import InputError

__all__ = ["QUANTILES", "CorrectedPolicy", "Correction", "Corrector"]


class Correction(NamedTuple):
    """One corrected batch and its parts, all in the environment's action units.

    `a1` and `a2` are the summed contributions k1 * g and k2 * I of all steps, after the gate: base_action + a1 + a2 is
    the action before clipping and trust region. `clipped` says in which rows the action bounds changed an entry.
    """

    base_action: Float[Tensor, "*seeds B A"]
    a1: Float[Tensor, "*seeds B A"]
    a2: Float[Tensor, "*seeds B A"]
    action: Float[Tensor, "*seeds B A"]
    clipped: Tensor


class Corrector(nn.Module):
    """The networks of E training seeds with action bounds and the coefficients of Eq. 10.

    Args:
        networks: g, h and I with their statistics.
        low, high: Action bounds, [A].
        obs_dim: S, entries of a policy's observation.
        coefficients: Used where a caller names none.
        info: Plain values that say where the corrector comes from (task, env_id, preset, fingerprint, ...).
    """

    low: Tensor
    high: Tensor
    noise_quantiles: Tensor
    mean_noise_quantiles: Tensor

    def __init__(
        self,
        networks: Networks,
        low: Any,
        high: Any,
        obs_dim: int,
        coefficients: Coefficients | None = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.networks, self.obs_dim, self.info = networks, obs_dim, dict(info or {})
        self.coefficients = coefficients or Coefficients.none()
        self.num_seeds, self.action_dim = networks.num_seeds, networks.action_dim
        levels = len(networks.settings.action_sigmas)
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float32).clone())
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float32).clone())
        self.register_buffer("noise_quantiles", torch.zeros(levels, self.num_seeds, QUANTILES))
        self.register_buffer("mean_noise_quantiles", torch.zeros(levels, 1, QUANTILES))  # of the mean over the seeds

    def schedule(self, coefficients: Coefficients) -> list[int]:
        """Levels visited, in order.

        Raises:
            InputError: a sigma that no network was trained for.
        """
        trained = self.networks.settings.action_sigmas
        wanted = coefficients.schedule or tuple(sorted(trained, reverse=True))
        for sigma in wanted:
            if sigma not in trained:
                raise InputError(f"No action score was trained at sigma {sigma}; trained: {list(trained)}.")
        return [trained.index(sigma) for sigma in wanted] * coefficients.num_steps

    def _check(self, obs: Tensor, action: Tensor) -> None:
        if (obs.shape[-1], action.shape[-1]) != (self.obs_dim, self.action_dim):
            raise InputError(
                f"The corrector takes {self.obs_dim} observation and {self.action_dim} action entries, "
                f"got {obs.shape[-1]} and {action.shape[-1]}. It was fitted on {self.info.get('task', 'another task')}."
            )
        if obs.shape[0] != self.num_seeds:
            raise InputError(f"The corrector holds {self.num_seeds} seeds, the observations {obs.shape[0]}.")

    def _bound(self, action: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(action, self.low), self.high)

    def _a2(self, s: Tensor, u: Tensor, c: Coefficients) -> Tensor:
        nets, sigma = self.networks, self.networks.settings.state_sigma
        step = -sigma * nets.state_noise(s, u)  # sigma^2 * score, standardised
        if c.units == "raw":  # the data's score is score / std; in standardised units that is one more / std
            step = step / (sigma * nets.obs_std) ** 2
        a2 = nets.predict_action(s, s + c.state_step * step)
        return a2 - nets.predict_action(s, s) if c.a2 == "residual" else a2

    def _a1(self, eps: Tensor, level: int, c: Coefficients) -> Tensor:
        sigma, std = self.networks.settings.action_sigmas[level], self.networks.action_std
        return -eps / (sigma * std) if c.units == "raw" else -sigma * std * eps

    def explain(
        self,
        obs: Float[Tensor, "E B S"],
        action: Float[Tensor, "E B A"],
        coefficients: Coefficients | None = None,
        noise: Float[Tensor, "E B A"] | None = None,
    ) -> Correction:
        """The corrected action and its parts; `action` is the baseline's.

        A row in which the networks' answer is not finite keeps the baseline's action, within the bounds. `noise` is
        what the first level of the schedule predicts, where the caller has asked already.

        Raises:
            InputError: widths or a number of seeds that are not the corrector's, or a schedule that was not trained.
        """
        c = coefficients or self.coefficients
        self._check(obs, action)
        a, total1, total2 = action, torch.zeros_like(action), torch.zeros_like(action)
        clipped = torch.zeros(action.shape[:-1], dtype=torch.bool, device=action.device)
        if c.changes_nothing:
            return Correction(action, total1, total2, action, clipped)
        nets, levels = self.networks, self.schedule(c)
        s, u = nets.standardize(obs, action)
        allowed: Any = 1.0
        if c.gate is not None:
            noise = nets.action_noise(s, u, levels[0]) if noise is None else noise
            allowed = is_open(noise, self.noise_quantiles[levels[0]], c.gate)
        for i, level in enumerate(levels):
            if i:
                u = nets.standardize_action(a)
            eps = noise if noise is not None and not i else nets.action_noise(s, u, level) if c.k1 else a
            a1 = c.k1 * allowed * self._a1(eps, level, c) if c.k1 else torch.zeros_like(a)
            a2 = c.k2 * allowed * self._a2(s, u, c) if c.k2 and c.a2 != "off" else torch.zeros_like(a)
            free = a + a1 + a2
            total1, total2 = total1 + a1, total2 + a2
            bounded = self._bound(free)
            last = i == len(levels) - 1
            if last or c.clip == "every_step":
                clipped = clipped | (free != bounded).any(-1)
            a = bounded if last or c.clip == "every_step" else free
        if c.max_shift is not None:
            shift = a - action
            length = shift.norm(dim=-1, keepdim=True)
            shortened = self._bound(action + shift * (c.max_shift / length.clamp_min(1e-12)))
            a = torch.where(length > c.max_shift, shortened, a)
        a = torch.where(a.isfinite().all(-1, keepdim=True), a, self._bound(action))
        return Correction(action, total1, total2, a, clipped)

    def select(self, row: int) -> Corrector:
        """One training seed of this corrector as a corrector of its own, for deployment or for policies without seeds.

        Args:
            row: Which seed, counted from 0.

        Raises:
            InputError: there is no such row, or this is an ensemble.
        """
        if self.networks.ensemble:
            raise InputError(
                f"This corrector is the mean of {self.networks.members} seeds, of which none can be taken out again: "
                "select one of the corrector that the ensemble was made of."
            )
        if not 0 <= row < self.num_seeds:
            raise InputError(f"There is no seed {row}; the corrector holds {self.num_seeds}, counted from 0.")
        one = copy.deepcopy(self)
        for layer in one.modules():
            if isinstance(layer, StackedLinear):  # level-major: this seed's row of every level
                layer.weight = nn.Parameter(layer.weight.detach()[row :: self.num_seeds], layer.weight.requires_grad)
                layer.bias = nn.Parameter(layer.bias.detach()[row :: self.num_seeds], layer.bias.requires_grad)
        one.noise_quantiles = self.noise_quantiles[:, row : row + 1].clone()
        one.mean_noise_quantiles = one.noise_quantiles.clone()
        one.num_seeds = one.networks.num_seeds = one.networks.members = 1
        return one

    def ensemble(self) -> Corrector:
        """The mean over the training seeds of g, h and I as one corrector, which any policy can be corrected by.

        Its gate knows the quantiles of the mean's noise that `measure_noise` kept. A file from before they were kept
        lacks them; `CorrectedPolicy` then refuses a gate until `measure_noise` is called on the ensemble.
        """
        one = copy.deepcopy(self)
        one.noise_quantiles = (self.noise_quantiles if self.num_seeds == 1 else self.mean_noise_quantiles).clone()
        one.mean_noise_quantiles = one.noise_quantiles.clone()
        one.networks.ensemble = True
        one.num_seeds = one.networks.num_seeds = 1
        return one

    @torch.no_grad()
    def measure_noise(self, obs: Float[Tensor, "N S"], action: Float[Tensor, "N A"]) -> None:
        """Keep the quantiles of the predicted noise's length on data, which `gate` is measured against.

        Args:
            obs, action: Rows of the dataset; ten thousand are plenty.
        """
        seeds = (self.num_seeds, -1, -1)
        s, u = self.networks.standardize(obs.expand(*seeds), action.expand(*seeds))
        for level in range(len(self.networks.settings.action_sigmas)):
            eps = self.networks.action_noise(s, u, level)
            self.noise_quantiles[level] = length_quantiles(eps)
            self.mean_noise_quantiles[level] = length_quantiles(eps.mean(0, keepdim=True))

    def forward(
        self, obs: Float[Tensor, "E B S"], action: Float[Tensor, "E B A"], coefficients: Coefficients | None = None
    ) -> Float[Tensor, "E B A"]:
        return self.explain(obs, action, coefficients).action


class CorrectedPolicy(Policy):
    """A policy whose actions are corrected: itself a `Policy` (Algorithm 2).

    Args:
        policy: The baseline, one seed or E seeds.
        corrector: One seed or E seeds; two different numbers above 1 do not fit together.
        coefficients: None for the corrector's own.

    Raises:
        InputError: numbers of seeds or of action entries or bounds that do not fit, a schedule that was not trained,
            or a gate where the data's noise was not measured.
    """

    def __init__(self, policy: Policy, corrector: Corrector, coefficients: Coefficients | None = None) -> None:
        if not isinstance(policy, Policy):
            raise InputError(f"{policy!r} is no Policy; wrap a function: FunctionPolicy(function, low, high).")
        super().__init__(policy.low, policy.high)
        if policy.action_dim != corrector.action_dim:
            raise InputError(
                f"The policy has {policy.action_dim} action entries, the corrector {corrector.action_dim}."
            )
        if policy.num_seeds != corrector.num_seeds and min(policy.num_seeds, corrector.num_seeds) != 1:
            raise InputError(
                f"The policy holds {policy.num_seeds} seeds and the corrector {corrector.num_seeds}; "
                "fit both with as many."
            )
        low, high = policy.low.cpu(), policy.high.cpu()
        if not (torch.allclose(low, corrector.low.cpu()) and torch.allclose(high, corrector.high.cpu())):
            raise InputError(
                f"The policy acts in {low.tolist()} to {high.tolist()}, "
                f"the corrector in {corrector.low.tolist()} to {corrector.high.tolist()}."
            )
        self.policy, self.corrector = policy, corrector
        self.coefficients = coefficients or corrector.coefficients
        corrector.schedule(self.coefficients)
        if self.coefficients.gate is not None and not bool(corrector.noise_quantiles.any()):
            raise InputError(
                "gate needs the data's noise, which was not measured: call corrector.measure_noise first, "
                "or fit the corrector again."
            )
        self.num_seeds = max(policy.num_seeds, corrector.num_seeds)
        self.stochastic, self.on_host = policy.stochastic, policy.on_host
        self.eval()

    def reseed(self, seed: int) -> None:
        self.policy.reseed(seed)

    def explain(self, obs: Tensor) -> Correction:
        """The corrected action of each row with its parts.

        Args:
            obs: [B, S], or [E, B, S] with one block of rows per training seed.

        Raises:
            InputError: no tensor, or one of another number of dimensions.
        """
        if not isinstance(obs, Tensor) or obs.ndim not in (2, 3):
            found = f"shape {tuple(obs.shape)}" if isinstance(obs, Tensor) else f"a {type(obs).__name__}"
            raise InputError(
                f"Observations are a tensor [B, S] (or [seeds, B, S]), got {found}: "
                "torch.as_tensor(obs, dtype=torch.float32), and [None] for a single observation."
            )
        obs = obs.to(self.low.dtype)
        stacked = obs if obs.ndim == 3 else obs.unsqueeze(0)
        seeds, rows = stacked.shape[0], self.corrector.num_seeds
        base = act(self.policy, stacked)
        if rows == 1 and seeds > 1:  # one corrector serves all seeds of the policy
            flat = self.corrector.explain(stacked.flatten(0, 1)[None], base.flatten(0, 1)[None], self.coefficients)
            parts = Correction(*(part[0].unflatten(0, (seeds, -1)) for part in flat))
        else:
            parts = self.corrector.explain(stacked, base, self.coefficients)
        return parts if obs.ndim == 3 else Correction(*(part[0] for part in parts))

    def forward(self, obs: Tensor) -> Float[Tensor, "*seeds B A"]:
        return self.explain(obs).action

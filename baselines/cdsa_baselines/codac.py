r"""Conservative offline distributional actor-critic (Ma, Jayaraman and Bastani 2021, arXiv 2107.06106).

    y    = r + gamma (1 - d) (min Z_bar(s', b; tau_j) - eta log pi_bar(b | s')),   b ~ pi_bar(s')
    L_Z  = E quantile Huber loss of Z(s, a; tau_i) against y_j + alpha (C - zeta)
    C    = omega E [log sum_k exp(Z(s, a_k; tau) - log p_k) - mean_i Z(s, a; tau_i)]
    L_pi = E [eta log pi(b | s) - min Phi(Z(s, b; .))],   b ~ pi(s)

alpha >= 0 ascends on C - zeta; where zeta is negative it is 1 and zeta 0, and omega = 0 leaves Z without conservatism.
The a_k are n uniform actions, n of pi(s) and n of pi(s'), each with its density p_k, all at one fraction tau out of the
state's own. Phi is the mean over fractions in (0, 1), `neutral`, or in (0, level), `cvar`. The temperature eta is
fixed, or follows the target entropy. Observations and rewards enter raw. Settings per task: `codac.csv`.

All losses are taken at the same parameters, and one step moves all networks; then the targets follow, the policy's
too. Where the authors weigh the fractions below the level, at most fivefold, they are drawn below it here, so that
``cvar`` is the mean of the tail itself. Actions live in [-1, 1], and so do their densities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cdsa_baselines._nets import ActionBox, TanhGaussianActor, Target, frozen_copy, require_reward, reward_transform
from cdsa_baselines._quantiles import QuantileTwins, partition, quantile_huber, uniform
from cdsa_baselines._tables import boolean, task_settings
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["CODAC"]

RISKS = ("neutral", "cvar")
MAX_MULTIPLIER = 1e6
COLUMNS: dict[str, Callable[[str], Any]] = {
    **{"omega": float, "zeta": float, "actor_lr": float, "automatic_entropy": boolean, "source": str}
}


class CODAC(Baseline):
    """Trains CODAC on a task's transitions, or online; a setting left at None is the authors' for the task.

    Args:
        omega: Weight of the conservative term C; 0 online.
        zeta: The size that alpha allows C; negative for a fixed weight.
        actor_lr: Learning rate of the policy and of its temperature.
        automatic_entropy: Whether the temperature follows `target_entropy`.
        risk: ``neutral`` or ``cvar``.
        level: Share of the returns, the worst, whose mean ``cvar`` maximises.
        temperature: eta, where it is fixed.
        target_entropy: In nats, of actions in [-1, 1]; the authors' code has the same for all tasks.
        samples: n, sampled actions of each kind.
        quantiles: Fractions per state and action.
        discount: gamma.
        lr: Learning rate of the critics and of alpha.
        target_rate: Share of critics and policy that their targets take on at each step.
        hidden: Width of all hidden layers.
        reward: ``raw``, ``minus_one``, ``ten_minus_five`` (10 r - 5) or ``scaled``.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range, or an unknown name.
    """

    run_name = "codac"
    log_eta: nn.Parameter
    log_multiplier: nn.Parameter
    target_actor: Any  # a TanhGaussianActor, frozen

    def __init__(
        self,
        omega: float | None = None,
        zeta: float | None = None,
        actor_lr: float | None = None,
        automatic_entropy: bool | None = None,
        risk: str = "neutral",
        level: float = 0.1,
        temperature: float = 0.2,
        target_entropy: float = -3.0,
        samples: int = 10,
        quantiles: int = 32,
        discount: float = 0.99,
        lr: float = 3e-4,
        target_rate: float = 0.005,
        hidden: int = 256,
        reward: str = "raw",
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        if risk not in RISKS:
            raise unknown_name("risk", risk, RISKS)
        if not 0 < level <= 1:
            raise InputError(f"level must lie above 0 and be at most 1, got {level}.")
        if min(samples, quantiles) < 1:
            raise InputError(f"samples and quantiles must be at least 1, got {samples} and {quantiles}.")
        for name, value in (("omega", omega), ("actor_lr", actor_lr), ("temperature", temperature)):
            if value is not None and value < 0:
                raise InputError(f"{name} must not be negative, got {value}.")
        self.given = {"omega": omega, "zeta": zeta, "actor_lr": actor_lr, "automatic_entropy": automatic_entropy}
        self.level = level if risk == "cvar" else 1.0
        self.temperature, self.target_entropy = temperature, target_entropy
        self.samples, self.quantiles = samples, quantiles
        self.discount, self.lr, self.target_rate, self.hidden = discount, lr, target_rate, hidden
        self.reward = require_reward(reward)

    def build(self, info: DataInfo) -> None:
        row = task_settings("codac.csv", COLUMNS, info.task)
        self.source = row.pop("source")
        settings: dict[str, Any] = {key: row[key] if value is None else value for key, value in self.given.items()}
        self.omega, self.zeta = settings["omega"], settings["zeta"]
        self.actor_lr, self.automatic_entropy = settings["actor_lr"], settings["automatic_entropy"]
        self.save_hyperparameters(settings)
        generators, pair = init_generators(self.seeds), info.obs_dim + info.action_dim
        self.scale, self.shift = reward_transform(self.reward, info)
        self.box = ActionBox(info)
        self.critic = QuantileTwins(pair, self.hidden, generators)
        self.actor = TanhGaussianActor((info.obs_dim, self.hidden, self.hidden, info.action_dim), generators)
        self.target_critic, self.target_actor = frozen_copy(self.critic), frozen_copy(self.actor)
        self.constrained = self.omega > 0 and self.zeta >= 0
        if self.automatic_entropy:
            self.log_eta = nn.Parameter(torch.zeros(len(self.seeds), 1))
        if self.constrained:
            self.log_multiplier = nn.Parameter(torch.zeros(len(self.seeds), 1))

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.is_global_zero:
            told = ", ".join(f"{key} {self.hparams[key]}" for key in self.given)
            print(f"CODAC on {self.data_info.task}: {told}. What you did not choose is {self.source}.", flush=True)

    def parameter_groups(self) -> list[ParameterGroup]:
        groups = [
            ParameterGroup("critic", list(self.critic.parameters()), self.lr),
            ParameterGroup("actor", list(self.actor.parameters()), self.actor_lr),
        ]
        if self.automatic_entropy:
            groups.append(ParameterGroup("temperature", [self.log_eta], self.actor_lr))
        if self.constrained:
            groups.append(ParameterGroup("multiplier", [self.log_multiplier], self.lr))
        return groups

    @property
    def noise_dim(self) -> int:
        return sum(self._draws)

    @property
    def _draws(self) -> tuple[int, ...]:
        """Numbers per transition: actions of the policy's loss and of the target, fractions of the critic, of the
        target and of the policy's loss, then the fraction and the actions of the conservative term."""
        size, many = self.data_info.action_dim, self.quantiles
        conservative = (1, 3 * self.samples * size) if self.omega else (0, 0)
        return size, size, many, many, many, *conservative

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow = Target(self.target_critic, self.target_actor)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs, action = batch.obs, self.box.to_unit(batch.action)
        own_noise, next_noise, fraction_noise, next_widths, own_widths, pick, others = noise.split(self._draws, -1)
        eta = self.log_eta.exp().detach() if self.automatic_entropy else self.temperature

        with torch.no_grad():
            fractions, _ = partition(fraction_noise)
            next_fractions, weights = partition(next_widths)
            next_mean, next_log_std = self.target_actor.distribution(batch.next_obs)
            next_action, next_log_prob = self.actor.squash(next_mean, next_log_std, next_noise)
            next_z = self._judge(self.target_critic, batch.next_obs, next_action, next_fractions).amin(0)
            reward = batch.reward * self.scale + self.shift
            entropy = -eta * next_log_prob.squeeze(-1)
            aim = reward + self.discount * (1 - batch.terminated) * (next_z + entropy.unsqueeze(-1))
        z = self._judge(self.critic, obs, action, fractions)
        losses = {"critic_loss": quantile_huber(z, aim, fractions, weights).sum(0)}

        mean, log_std = self.actor.distribution(obs)
        own_action, log_prob = self.actor.squash(mean, log_std, own_noise)
        own_fractions, weights = partition(own_widths)
        worth = self._judge(self.critic, obs, own_action, self.level * own_fractions, frozen=True)
        log_prob = log_prob.squeeze(-1)
        losses["policy_loss"] = eta * log_prob - (weights * worth).sum(-1).amin(0)
        if self.automatic_entropy:
            losses["temperature_loss"] = -self.log_eta * (log_prob.detach() + self.target_entropy)
        if self.omega:
            index = (uniform(pick) * self.quantiles).long().clamp_max(self.quantiles - 1)
            sampled = self._sampled(obs, batch.next_obs, mean, log_std, others, fractions.gather(-1, index))
            excess = self.omega * (sampled - z.mean(-1))
            if self.constrained:
                multiplier = self.log_multiplier.exp().clamp_max(MAX_MULTIPLIER)
                excess = excess - self.zeta
                losses["multiplier_loss"] = -multiplier * excess.detach().mean(0)
                excess = multiplier.detach() * excess
            losses["conservative_loss"] = excess.sum(0)
        return {name: loss.mean(-1) for name, loss in losses.items()}

    def _judge(
        self,
        critic: nn.Module,
        obs: Float[Tensor, "E B S"],
        action: Float[Tensor, "E B A"],
        fractions: Float[Tensor, "E B T"],
        frozen: bool = False,
    ) -> Float[Tensor, "2 E B T"]:
        return critic(obs, action.unsqueeze(-2), fractions, frozen).squeeze(-2)

    def _sampled(
        self, obs: Tensor, next_obs: Tensor, mean: Tensor, log_std: Tensor, noise: Tensor, fraction: Tensor
    ) -> Float[Tensor, "2 E B"]:
        """log sum_k exp(Z(s, a_k; tau) - log p_k) over uniform actions, those of pi(s) and those of pi(s')."""
        uniform_noise, here_noise, next_noise = noise.unflatten(-1, (3 * self.samples, -1)).chunk(3, -2)
        with torch.no_grad():
            here_action, here_density = self.actor.squash(mean.unsqueeze(-2), log_std.unsqueeze(-2), here_noise)
            mean, log_std = self.actor.distribution(next_obs)
            next_action, next_density = self.actor.squash(mean.unsqueeze(-2), log_std.unsqueeze(-2), next_noise)
            uniform_density = torch.full_like(here_density, -here_noise.shape[-1] * math.log(2))
            density = torch.cat((uniform_density, here_density, next_density), -2).squeeze(-1)
            actions = torch.cat((2 * uniform(uniform_noise) - 1, here_action, next_action), -2)
        return (self.critic(obs, actions, fraction).squeeze(-1) - density).logsumexp(-1)

    def after_step(self, step: Tensor) -> None:
        self.slow.follow(self.part("critic", "actor"), self.target_rate)

    @torch.no_grad()
    def explore(self, obs: Float[Tensor, "E n S"], noise: Float[Tensor, "E n A"]) -> Float[Tensor, "E n A"]:
        """Actions drawn from the policy of every seed, in the environment's units.

        Args:
            obs: Raw observations of n lanes per seed.
            noise: Standard normal numbers.
        """
        return self.box.from_unit(self.actor.sample(obs, noise))

    def policy(self) -> Policy:
        """The deterministic action of every seed, in the environment's units."""
        return self.acting(self.actor)

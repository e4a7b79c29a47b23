r"""Soft actor-critic with automatic temperature (Haarnoja et al. 2018, arXiv 1801.01290 and 1812.05905).

    L_Q   = sum_i E 1/2 (Q_i(s, a) - c r - gamma (1 - d) (min_j Qbar_j(s', b') - eta log pi(b' | s')))^2          Eq. 5
    L_pi  = E [eta log pi(b | s) - min_j Q_j(s, b)]                                                             Eq. 7
    L_eta = -log(eta) E [log pi(b | s) + H],      b ~ pi(s), b' ~ pi(s'), H = -A                               Eq. 18

(numbered as in 1812.05905, where the temperature eta is alpha; Eq. 18 has eta where implementations have its
logarithm). All three are taken at the same parameters, their gradients do not mix, and one step moves everything; then
the target critics follow. Common implementations move the critics within the step, before the actor looks at them.

It learns from a data set (`TransitionData`) as well as from what it does itself (`replay.ReplayData`, which asks
`explore` for actions). Observations stay raw unless `standardize_obs`, rewards but for the reward scale c of the first
paper, which is 1 unless said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cdsa_baselines._nets import ActionBox, Standardizer, TanhGaussianActor, Target, Twins, frozen_copy
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["SAC"]


class SAC(Baseline):
    """Trains SAC, online or on a task's transitions; the defaults are the authors'.

    Args:
        discount: gamma.
        lr: Learning rate of all networks and of the temperature.
        target_rate: Share of the critics that the targets take on at each step.
        target_entropy: H, in nats, of actions scaled to [-1, 1]; None for minus their number.
        hidden: Width of the two hidden layers.
        reward_scale: c, by which rewards are multiplied in the critics' target ("reward scale" of 1801.01290).
        standardize_obs: Whether the networks see (obs - mean) / std: the data's statistics, or online the centre and
            the half width of what the environment says to be bounded.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range.
    """

    run_name = "sac"

    def __init__(
        self,
        discount: float = 0.99,
        lr: float = 3e-4,
        target_rate: float = 0.005,
        target_entropy: float | None = None,
        hidden: int = 256,
        reward_scale: float = 1.0,
        standardize_obs: bool = False,
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        for name, value in (("discount", discount), ("target_rate", target_rate)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} must lie between 0 and 1, got {value}.")
        if not 0 < reward_scale < math.inf:
            raise InputError(f"reward_scale must be positive and finite, got {reward_scale}.")
        self.discount, self.lr, self.target_rate = discount, lr, target_rate
        self.target_entropy, self.hidden, self.reward_scale = target_entropy, hidden, reward_scale
        self.standardised = standardize_obs

    def build(self, info: DataInfo) -> None:
        generators, widths = init_generators(self.seeds), (self.hidden, self.hidden)
        self.box = ActionBox(info)
        self.standardize = Standardizer(info) if self.standardised else nn.Identity()
        self.entropy = -float(info.action_dim) if self.target_entropy is None else self.target_entropy
        self.critic = Twins((info.obs_dim + info.action_dim, *widths, 1), generators)
        self.actor = TanhGaussianActor((info.obs_dim, *widths, info.action_dim), generators)
        self.target = frozen_copy(self.critic)
        self.log_eta = nn.Parameter(torch.zeros(len(self.seeds), 1, 1))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("critic", list(self.critic.parameters()), self.lr),
            ParameterGroup("actor", list(self.actor.parameters()), self.lr),
            ParameterGroup("temperature", [self.log_eta], self.lr),
        ]

    @property
    def noise_dim(self) -> int:
        return 2 * self.data_info.action_dim

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow_critic = Target(self.target)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs, next_obs = self.standardize(batch.obs), self.standardize(batch.next_obs)
        eta = self.log_eta.detach().exp()
        noise_here, noise_next = noise.chunk(2, -1)
        own, log_prob = self.actor.squash(*self.actor.distribution(obs), noise_here)
        with torch.no_grad():
            next_own, next_log_prob = self.actor.squash(*self.actor.distribution(next_obs), noise_next)
            next_value = self.target(torch.cat((next_obs, next_own), -1)).amin(0) - eta * next_log_prob
            bootstrap = self.reward_scale * batch.reward + self.discount * (1 - batch.terminated) * next_value

        q = self.critic(torch.cat((obs, self.box.to_unit(batch.action)), -1))
        own_q = self.critic(torch.cat((obs, own), -1), frozen=True).amin(0)
        parts = {
            "critic_loss": 0.5 * (q - bootstrap).square().sum(0),
            "actor_loss": eta * log_prob - own_q,
            "temperature_loss": -self.log_eta * (log_prob.detach() + self.entropy),
        }
        return {name: loss.mean((-2, -1)) for name, loss in parts.items()}

    def after_step(self, step: Tensor) -> None:
        self.slow_critic.follow(self.part("critic"), self.target_rate)

    @torch.no_grad()
    def explore(self, obs: Float[Tensor, "E n S"], noise: Float[Tensor, "E n A"]) -> Float[Tensor, "E n A"]:
        """Actions drawn from the policy of every seed, in the environment's units.

        Args:
            obs: Raw observations of n lanes per seed.
            noise: Standard normal numbers.
        """
        return self.box.from_unit(self.actor.sample(self.standardize(obs), noise))

    def policy(self) -> Policy:
        """The deterministic action of every seed, in the environment's units."""
        return self.acting(self.actor)

r"""Implicit Q-learning (Kostrikov, Nair and Levine 2021, arXiv 2110.06169).

    L_V  = E |tau - 1(u < 0)| u^2,                 u = min Q_target(s, a) - V(s)              Eq. 5
    L_Q  = E (r + gamma (1 - d) V(s') - Q(s, a))^2                                            Eq. 6
    L_pi = -E min(exp(beta u), 100) log pi(a | s)                                             Eq. 7

All three are taken at the same parameters, their gradients do not mix, and one step moves all networks; then the
target critic follows. Rewards are scaled by 1000 / (largest - smallest return of the data) on MuJoCo tasks, and shifted
by -1 on AntMaze. The policy's mean is tanh of a network, its deviation is free of the state; it acts with the mean.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cdsa_baselines._nets import (
    ActionBox,
    GaussianActor,
    Target,
    Twins,
    asymmetric_square,
    frozen_copy,
    require_reward,
    reward_transform,
)
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["IQL"]

MAX_WEIGHT = 100.0


class IQL(Baseline):
    """Trains IQL on a task's transitions; the defaults are the authors' for MuJoCo tasks.

    Args:
        expectile: tau; .9 for AntMaze.
        beta: Inverse temperature of the advantage weights; 10 for AntMaze.
        discount: gamma.
        lr: Learning rate of all networks; the policy's decays to 0 with a cosine.
        target_rate: Share of the critic that the target takes on at each step.
        hidden: Width of the two hidden layers.
        reward: ``scaled`` by 1000 / (max - min return), ``minus_one`` (AntMaze), or ``raw``.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range.
    """

    run_name = "iql"

    def __init__(
        self,
        expectile: float = 0.7,
        beta: float = 3.0,
        discount: float = 0.99,
        lr: float = 3e-4,
        target_rate: float = 0.005,
        hidden: int = 256,
        reward: str = "scaled",
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        if not 0 < expectile < 1:
            raise InputError(f"expectile must lie between 0 and 1, got {expectile}.")
        self.expectile, self.beta, self.discount, self.lr = expectile, beta, discount, lr
        self.target_rate, self.hidden, self.reward = target_rate, hidden, require_reward(reward)

    def build(self, info: DataInfo) -> None:
        generators = init_generators(self.seeds)
        obs_dim, action_dim, hidden = info.obs_dim, info.action_dim, (self.hidden, self.hidden)
        self.scale, self.shift = reward_transform(self.reward, info)
        self.box = ActionBox(info)
        self.critic = Twins((obs_dim + action_dim, *hidden, 1), generators)
        self.value = stacked_mlp((obs_dim, *hidden, 1), nn.ReLU(), generators)
        self.actor = GaussianActor((obs_dim, *hidden, action_dim), generators, squash=True)
        self.target = frozen_copy(self.critic)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("critic", list(self.critic.parameters()), self.lr),
            ParameterGroup("value", list(self.value.parameters()), self.lr),
            ParameterGroup("actor", list(self.actor.parameters()), self.lr, "cosine"),
        ]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow_critic = Target(self.target)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs, action = batch.obs, self.box.to_unit(batch.action).clamp(-1 + 1e-5, 1 - 1e-5)
        pair = torch.cat((obs, action), -1)
        with torch.no_grad():
            target_q = self.target(pair).amin(0)
            next_v = self.value(batch.next_obs)
            bootstrap = batch.reward * self.scale + self.shift + self.discount * (1 - batch.terminated) * next_v

        advantage = target_q - self.value(obs)
        value_loss = asymmetric_square(advantage, self.expectile)
        critic_loss = (self.critic(pair) - bootstrap).square().sum(0)
        weight = (self.beta * advantage.detach()).exp().clamp_max(MAX_WEIGHT)
        policy_loss = -weight * self.actor.log_prob(obs, action)
        parts = {"value_loss": value_loss, "critic_loss": critic_loss, "policy_loss": policy_loss}
        return {name: loss.mean((-2, -1)) for name, loss in parts.items()}

    def after_step(self, step: Tensor) -> None:
        self.slow_critic.follow(self.part("critic"), self.target_rate)

    def policy(self) -> Policy:
        """The mean action of every seed, in the environment's units."""
        return self.acting(self.actor)

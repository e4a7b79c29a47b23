r"""Implicit Q-learning (Kostrikov, Nair and Levine 2021, arXiv 2110.06169).

    L_V  = E |tau - 1(u < 0)| u^2,                 u = min Q_target(s, a) - V(s)              Eq. 5
    L_Q  = E (r + gamma (1 - d) V(s') - Q(s, a))^2                                            Eq. 6
    L_pi = -E min(exp(beta u), 100) log pi(a | s)                                             Eq. 7

All three are taken at the same parameters, their gradients do not mix, and one step moves all networks; then the
target critic follows. Rewards are scaled by 1000 / (largest - smallest return of the data) on MuJoCo tasks, and shifted
by -1 on AntMaze. The policy's mean is tanh of a network, its deviation is free of the state; it acts with the mean.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from cdsa_lightning.core.nets import StackedMLP, stacked_mlp
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.stepping import ParameterGroup, SteppedModule, flatten
from cdsa_lightning.tasks import Task

__all__ = ["IQL", "load"]

MAX_WEIGHT = 100.0
LOG_STD_RANGE = (-5.0, 2.0)
REWARDS = ("scaled", "minus_one", "raw")


class IQL(SteppedModule):
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
    middle: Tensor
    half_range: Tensor

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
        if reward not in REWARDS:
            raise unknown_name("reward", reward, REWARDS)
        self.expectile, self.beta, self.discount, self.lr = expectile, beta, discount, lr
        self.target_rate, self.hidden, self.reward = target_rate, hidden, reward

    def build(self, info: DataInfo) -> None:
        generators = init_generators(self.seeds)
        obs_dim, action_dim, hidden = info.obs_dim, info.action_dim, (self.hidden, self.hidden)
        # Twins are neighbours on the stacked axis: critic 1 of all seeds, then critic 2 of all seeds.
        self.critic = stacked_mlp((obs_dim + action_dim, *hidden, 1), nn.ReLU(), generators * 2)
        self.value = stacked_mlp((obs_dim, *hidden, 1), nn.ReLU(), generators)
        self.actor = stacked_mlp((obs_dim, *hidden, action_dim), nn.ReLU(), generators)
        self.log_std = nn.Parameter(torch.zeros(len(self.seeds), 1, action_dim))
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        low, high = torch.tensor(info.low), torch.tensor(info.high)
        self.register_buffer("middle", (low + high) / 2, persistent=False)
        self.register_buffer("half_range", (high - low) / 2, persistent=False)
        spread = info.max_return - info.min_return
        if self.reward == "scaled" and not spread > 0:
            raise InputError("All episodes of the data have the same return; use --model.reward raw.")
        self.reward_scale = 1000 / spread if self.reward == "scaled" else 1.0
        self.reward_shift = -1.0 if self.reward == "minus_one" else 0.0

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup(list(self.critic.parameters()), self.lr),
            ParameterGroup(list(self.value.parameters()), self.lr),
            ParameterGroup([*self.actor.parameters(), self.log_std], self.lr, "cosine"),
        ]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.target_flat = flatten(list(self.target.parameters()))

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs = batch.obs
        action = ((batch.action - self.middle) / self.half_range).clamp(-1 + 1e-5, 1 - 1e-5)
        pair = torch.cat((obs, action), -1)
        with torch.no_grad():
            target_q = self._twins(self.target, pair).amin(0)
            next_v = self.value(batch.next_obs)
            reward = batch.reward * self.reward_scale + self.reward_shift
            bootstrap = reward + self.discount * (1 - batch.terminated) * next_v

        advantage = target_q - self.value(obs)
        value_loss = (self.expectile - (advantage.detach() < 0).float()).abs() * advantage.square()
        critic_loss = (self._twins(self.critic, pair) - bootstrap).square().sum(0)
        weight = (self.beta * advantage.detach()).exp().clamp_max(MAX_WEIGHT)
        policy_loss = -weight * self._log_prob(obs, action)
        parts = {"value_loss": value_loss, "critic_loss": critic_loss, "policy_loss": policy_loss}
        return {name: loss.mean((-2, -1)) for name, loss in parts.items()}

    def _twins(self, critic: StackedMLP, pair: Tensor) -> Tensor:
        return critic(pair.repeat(2, 1, 1)).unflatten(0, (2, -1))

    def _log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        log_std = self.log_std.clamp(*LOG_STD_RANGE)
        z = (action - self.actor(obs).tanh()) / log_std.exp()
        return (-0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(-1, keepdim=True)

    def after_step(self, step: int) -> None:
        self.target_flat.lerp_(self.flat[self.slices[0]], self.target_rate)

    def policy(self) -> Policy:
        """The mean action of every seed, in the environment's units."""
        info, net = self.data_info, nn.Sequential(copy.deepcopy(self.actor), nn.Tanh()).requires_grad_(False)
        zeros, ones = torch.zeros(info.obs_dim), torch.ones(info.obs_dim)
        policy = NormalizedPolicy(net, info.low, info.high, zeros, ones, unit_output=True, num_seeds=len(self.seeds))
        return policy.to(self.device).eval()


def load(checkpoint: Path | None, task: Task) -> Policy:
    """IQL's policy from a checkpoint of `cdsa fit`.

    Raises:
        InputError: no checkpoint, or one of another algorithm or task.
    """
    if checkpoint is None:
        raise InputError(
            "The baseline 'iql' needs a checkpoint. Train one with "
            f"'cdsa fit --config configs/baselines/iql.yaml --data.task {task.name}'."
        )
    return IQL.restore(checkpoint, task.name).policy()

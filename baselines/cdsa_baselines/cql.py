r"""Conservative Q-learning, CQL(H) (Kumar, Zhou, Tucker and Levine 2020, arXiv 2006.04779), on top of SAC.

    L_Q  = E (r + gamma (1 - d) Q_bar(s') - Q(s, a))^2 + alpha C,     C = E [log sum_a' exp Q(s, a') - Q(s, a)]   Eq. 4
    log sum_a' exp Q(s, a') ~ logsumexp_j (Q(s, a_j) - log p_j(a_j))                                       appendix F
    L_pi = E [eta log pi(b | s) - min Q(s, b)],   L_eta = -log(eta) E [log pi(b | s) - A],   b ~ pi(s)

The a_j are n uniform actions, n of pi(s) and n of pi(s'), each with its own density p_j, all judged at s. The backup
Q_bar(s') is the smaller of two target critics at one action of pi(s'), or, with `max_backup`, the smaller of their
maxima over n; it holds no entropy. With a Lagrange gap tau, alpha alpha' (C - tau) takes the place of alpha C, and
alpha' ascends on it. For its first steps the policy clones: log pi(a | s) takes the place of min Q(s, b).

All losses are taken at the same parameters, their gradients do not mix, and one step moves all networks; then the
target critics follow. The authors' code steps eta first, and takes the gap from alpha C instead of C; as there, the
squared error goes without the paper's 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cdsa_baselines._nets import (
    ActionBox,
    Standardizer,
    TanhGaussianActor,
    Target,
    Twins,
    frozen_copy,
    require_reward,
    reward_transform,
)
from cdsa_lightning.core.nets import affine
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["CQL"]

HIDDEN_LAYERS = 3
MAX_MULTIPLIER = 1e6
ROWS_AT_ONCE = 1024


class CQL(Baseline):
    """Trains CQL(H) on a task's transitions; the defaults are the authors' for MuJoCo tasks.

    Args:
        alpha: Weight of the conservative term; 5 for AntMaze.
        samples: n, sampled actions of each kind.
        lagrange_gap: tau, in units of Q; None for a fixed weight. .8 for AntMaze.
        max_backup: Back up the best of n actions; for AntMaze.
        cloning_steps: First steps, in which the policy clones the data.
        discount: gamma.
        lr: Learning rate of the critics and of alpha'.
        policy_lr: Learning rate of the policy and of its temperature eta; 1e-4 for AntMaze.
        target_rate: Share of the critics that the targets take on at each step.
        hidden: Width of the three hidden layers.
        reward: ``raw``, ``ten_minus_five`` (10 r - 5, for AntMaze), ``minus_one`` or ``scaled``.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range.
    """

    run_name = "cql"
    standardised = True
    cloning: Tensor

    def __init__(
        self,
        alpha: float = 10.0,
        samples: int = 10,
        lagrange_gap: float | None = None,
        max_backup: bool = False,
        cloning_steps: int = 40_000,
        discount: float = 0.99,
        lr: float = 3e-4,
        policy_lr: float = 3e-5,
        target_rate: float = 0.005,
        hidden: int = 256,
        reward: str = "raw",
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        if samples < 1:
            raise InputError(f"samples must be at least 1, got {samples}.")
        for name, value in (("alpha", alpha), ("cloning_steps", cloning_steps), ("lagrange_gap", lagrange_gap or 0)):
            if value < 0:
                raise InputError(f"{name} must not be negative, got {value}.")
        self.alpha, self.samples, self.lagrange_gap, self.max_backup = alpha, samples, lagrange_gap, max_backup
        self.cloning_steps, self.discount, self.lr, self.policy_lr = cloning_steps, discount, lr, policy_lr
        self.target_rate, self.hidden, self.reward = target_rate, hidden, require_reward(reward)

    def build(self, info: DataInfo) -> None:
        generators, widths = init_generators(self.seeds), (self.hidden,) * HIDDEN_LAYERS
        self.scale, self.shift = reward_transform(self.reward, info)
        self.standardize, self.box = Standardizer(info), ActionBox(info)
        self.critic = Twins((info.obs_dim + info.action_dim, *widths, 1), generators)
        self.actor = TanhGaussianActor((info.obs_dim, *widths, info.action_dim), generators, (-5.0, 2.0))
        self.target = frozen_copy(self.critic)
        self.log_eta = nn.Parameter(torch.zeros(len(self.seeds), 1, 1))
        if self.lagrange_gap is not None:
            self.log_multiplier = nn.Parameter(torch.zeros(len(self.seeds), 1, 1))
        self.register_buffer("cloning", torch.tensor(float(self.cloning_steps > 0)))

    def parameter_groups(self) -> list[ParameterGroup]:
        groups = [
            ParameterGroup("critic", list(self.critic.parameters()), self.lr),
            ParameterGroup("actor", list(self.actor.parameters()), self.policy_lr),
            ParameterGroup("temperature", [self.log_eta], self.policy_lr),
        ]
        if self.lagrange_gap is not None:
            groups.append(ParameterGroup("multiplier", [self.log_multiplier], self.lr))
        return groups

    @property
    def noise_dim(self) -> int:
        return sum(self._draws) * self.data_info.action_dim

    @property
    def _draws(self) -> tuple[int, int, int, int, int]:
        """Actions per transition: of the policy loss, of the backup, uniform, of pi(s), of pi(s')."""
        return 1, self.samples if self.max_backup else 1, self.samples, self.samples, self.samples

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow_critic = Target(self.target)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs, next_obs = self.standardize(batch.obs), self.standardize(batch.next_obs)
        action, size = self.box.to_unit(batch.action), batch.action.shape[-1]
        draws = noise.unflatten(-1, (-1, size)).split(self._draws, -2)  # [E, B, n, A] each
        policy_noise, backup_noise, uniform_noise, here_noise, next_noise = draws

        mean, log_std = self.actor.distribution(obs)
        new_action, log_prob = self.actor.squash(mean, log_std, policy_noise.squeeze(-2))
        with torch.no_grad():
            here_mean, here_log_std = mean.unsqueeze(-2), log_std.unsqueeze(-2)
            next_mean, next_log_std = (part.unsqueeze(-2) for part in self.actor.distribution(next_obs))
            backup_action, _ = self.actor.squash(next_mean, next_log_std, backup_noise)
            next_q = judge(self.target, next_obs, backup_action).amax(-1, keepdim=True).amin(0)
            reward = batch.reward * self.scale + self.shift
            bootstrap = reward + self.discount * (1 - batch.terminated) * next_q

            uniform = torch.erf(uniform_noise / math.sqrt(2))  # of normal numbers: uniform on (-1, 1)
            here_action, here_density = self.actor.squash(here_mean, here_log_std, here_noise)
            next_action, next_density = self.actor.squash(next_mean, next_log_std, next_noise)
            uniform_density = torch.full_like(here_density, -size * math.log(2))
            density = torch.cat((uniform_density, here_density, next_density), -2).squeeze(-1)
            actions = torch.cat((action.unsqueeze(-2), uniform, here_action, next_action), -2)

        q, others = judge(self.critic, obs, actions).split((1, 3 * self.samples), -1)
        critic_loss = (q - bootstrap).square().sum(0)
        excess = self.alpha * ((others - density).logsumexp(-1, keepdim=True) - q)
        policy_loss = self.log_eta.detach().exp() * log_prob - self._merit(obs, action, new_action, mean, log_std)
        temperature_loss = -self.log_eta * (log_prob.detach() - size)
        parts = {"critic_loss": critic_loss, "policy_loss": policy_loss, "temperature_loss": temperature_loss}
        if self.lagrange_gap is not None:
            multiplier = self.log_multiplier.exp().clamp_max(MAX_MULTIPLIER)
            excess = excess - self.alpha * self.lagrange_gap
            parts["multiplier_loss"] = -multiplier * excess.detach().mean(0)
            excess = multiplier.detach() * excess
        parts["conservative_loss"] = excess.sum(0)
        return {name: loss.mean((-2, -1)) for name, loss in parts.items()}

    def _merit(self, obs: Tensor, action: Tensor, new_action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """What the policy ascends on beside its entropy: log pi(a | s) while it clones, min Q(s, b) from then on."""
        value = self.critic(torch.cat((obs, new_action), -1), frozen=True).amin(0)
        if not self.cloning_steps:
            return value
        # Both at each step: which of them counts is a number on the device, which a recorded step can change.
        return value + self.cloning * (tanh_gaussian_log_prob(action, mean, log_std) - value)

    def after_step(self, step: Tensor) -> None:
        self.slow_critic.follow(self.part("critic"), self.target_rate)
        self.cloning.copy_(step < self.cloning_steps)

    def policy(self) -> Policy:
        """The deterministic action of every seed, in the environment's units."""
        return self.acting(self.actor)


def judge(critic: Twins, obs: Float[Tensor, "E B S"], actions: Float[Tensor, "E B N A"]) -> Float[Tensor, "2 E B N"]:
    """Both critics' values of N actions per observation."""
    seeds, batch, count, _ = actions.shape
    if obs.device.type != "cpu" or torch.compiler.is_compiling():
        return critic(_pairs(obs, actions).flatten(1, 2)).view(2, seeds, batch, count)
    # One network after another, some rows after others: a CPU's cache then holds what lies between two layers.
    piece, values = max(ROWS_AT_ONCE // count, 1), []
    layers = [zip(*(param.unbind() for param in layer.parameters()), strict=True) for layer in critic.net.layers]
    for network, (*hidden, last) in enumerate(zip(*layers, strict=True)):
        seed = network % seeds
        for some_obs, some_actions in zip(obs[seed].split(piece), actions[seed].split(piece), strict=True):
            x = _pairs(some_obs, some_actions).flatten(0, 1)
            for place, (weight, bias) in enumerate(hidden):
                x = affine(bias, x, weight, between=place > 0).relu_()
            weight, bias = last
            values.append(affine(bias, x, weight, between=False))
    return torch.cat(values).view(2, seeds, batch, count)


def _pairs(obs: Float[Tensor, "*B S"], actions: Float[Tensor, "*B N A"]) -> Float[Tensor, "*B N I"]:
    return torch.cat((obs.unsqueeze(-2).expand(*actions.shape[:-1], -1), actions), -1)


def tanh_gaussian_log_prob(
    action: Float[Tensor, "E B A"], mean: Float[Tensor, "E B A"], log_std: Float[Tensor, "E B A"]
) -> Float[Tensor, "E B 1"]:
    """Log-density of tanh N(mean, exp(log_std)^2) at actions in [-1, 1], the bounds themselves pulled in by 1e-6."""
    action = action.clamp(-1 + 1e-6, 1 - 1e-6)
    gaussian = -0.5 * ((action.atanh() - mean) * (-log_std).exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
    return (gaussian - (1 - action.square()).log()).sum(-1, keepdim=True)

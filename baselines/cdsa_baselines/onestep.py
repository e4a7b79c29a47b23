r"""One step of policy improvement (Brandfonbrener, Whitney, Ranganath and Bruna 2021, arXiv 2106.08909).

Three phases follow each other, each of them at the end result of the one before.

    L_beta = -E log beta(a | s)                                                  the behaviour, by maximum likelihood
    L_Q    = E (r + gamma (1 - d) Q_target(s', a') - Q(s, a))^2,  a' ~ beta(s')  its value, evaluated on-policy
    L_pi   = E -Q(s, a) + alpha KL(pi || beta),  a ~ pi(s)                       improvement ``reverse_kl``
    L_pi   = -E min(exp(tau (Q(s, a) - V(s))), 100) log pi(a | s)                improvement ``exponential``

pi begins as beta. KL and V(s) = E_beta Q(s, a) are means over 10 samples. Both policies are normal with a mean of tanh
and a log-deviation between -5 and 0; the agent acts with the mean.

The authors' code offers two estimates of the value after the step: a' out of the data (SARSA), and a' ~ beta(s'). The
second is taken here, because transitions do not carry the next action; both estimate Q^beta.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from cdsa_baselines._nets import ActionBox, Target, frozen_copy, gaussian_log_prob
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["IMPROVEMENTS", "OneStep"]

IMPROVEMENTS = ("reverse_kl", "exponential")
MAX_WEIGHT = 100.0
LOG_STD = (-5.0, 0.0)
TARGET_EVERY = 2


class _Gaussian(nn.Module):
    """N(tanh f(s), exp(g(s))^2) with g between the bounds of `LOG_STD`; not cut at the box of actions."""

    def __init__(self, sizes: Sequence[int], generators: list[Generator]) -> None:
        super().__init__()
        self.net = stacked_mlp((*sizes[:-1], 2 * sizes[-1]), nn.ReLU(), generators)

    def forward(self, obs: Float[Tensor, "E B S"]) -> Float[Tensor, "E B A"]:
        """The mean."""
        return self.net(obs).chunk(2, -1)[0].tanh()

    def distribution(self, obs: Float[Tensor, "E B S"]) -> tuple[Tensor, Tensor]:
        """Mean and log-deviation, [E, B, A] each."""
        mean, log_std = self.net(obs).tanh().chunk(2, -1)
        low, high = LOG_STD
        return mean, low + (high - low) / 2 * (log_std + 1)


class OneStep(Baseline):
    """Trains One-step RL on a task's transitions; the defaults are the authors'.

    A run of fewer steps than the three phases have shortens them alike, a longer one goes on improving the policy.

    Args:
        improvement: ``reverse_kl`` or ``exponential``.
        alpha: Weight of KL(pi || beta); the authors choose it per task from .03, .1, .3, 1, 3, 10, by the score.
        temperature: tau, of the exponential weights; the authors choose it from .1, .3, 1, 3, 10, 30.
        samples: Actions that KL and V are estimated with.
        behavior_steps: Gradient steps of the first phase.
        critic_steps: Gradient steps of the second phase.
        policy_steps: Gradient steps of the third phase.
        discount: gamma.
        lr: Learning rate of all networks.
        target_rate: Share of the critic that the target takes on at every other step.
        hidden: Width of the two hidden layers.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range, an unknown improvement, or a run of fewer than three steps.
    """

    run_name = "onestep"

    def __init__(
        self,
        improvement: str = "reverse_kl",
        alpha: float = 1.0,
        temperature: float = 1.0,
        samples: int = 10,
        behavior_steps: int = 500_000,
        critic_steps: int = 2_000_000,
        policy_steps: int = 100_000,
        discount: float = 0.99,
        lr: float = 1e-4,
        target_rate: float = 0.005,
        hidden: int = 1024,
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        if improvement not in IMPROVEMENTS:
            raise unknown_name("improvement", improvement, IMPROVEMENTS)
        self.lengths = (behavior_steps, critic_steps, policy_steps)
        if min(*self.lengths, samples) < 1:
            raise InputError(f"Phases and samples must be at least 1, got {(*self.lengths, samples)}.")
        if alpha < 0 or temperature < 0:
            raise InputError(f"alpha and temperature must not be negative, got {alpha} and {temperature}.")
        self.improvement, self.alpha, self.temperature, self.samples = improvement, alpha, temperature, samples
        self.discount, self.lr, self.target_rate, self.hidden = discount, lr, target_rate, hidden
        self.phases: list[int] | None = None  # the steps at which the second and the third phase begin

    def build(self, info: DataInfo) -> None:
        generators = init_generators(self.seeds)
        obs_dim, action_dim, hidden = info.obs_dim, info.action_dim, (self.hidden, self.hidden)
        self.box = ActionBox(info)
        self.behavior = _Gaussian((obs_dim, *hidden, action_dim), generators)
        self.critic = stacked_mlp((obs_dim + action_dim, *hidden, 1), nn.ReLU(), generators)
        self.actor = _Gaussian((obs_dim, *hidden, action_dim), generators)
        self.target = frozen_copy(self.critic)

    @property
    def noise_dim(self) -> int:
        return (1 + self.samples) * self.data_info.action_dim

    def parameter_groups(self) -> list[ParameterGroup]:
        if self.phases is None:
            self.phases = self._plan()
        second, third = self.phases
        return [
            ParameterGroup("behavior", list(self.behavior.parameters()), self.lr, stop=second),
            ParameterGroup("critic", list(self.critic.parameters()), self.lr, start=second, stop=third),
            ParameterGroup("actor", list(self.actor.parameters()), self.lr, start=third),
        ]

    def _plan(self) -> list[int]:
        behavior, critic, policy = self.lengths
        full, steps = sum(self.lengths), self.schedule_steps or self.trainer.max_steps
        if steps < 0 or steps >= full:
            return [behavior, behavior + critic]
        if steps < 3:
            raise InputError(f"One-step RL has three phases; max_steps must be at least 3, got {steps}.")
        policy = max(1, round(policy * steps / full))
        behavior = min(max(1, round(behavior * steps / full)), steps - policy - 1)
        if self.trainer.is_global_zero:
            published = ", ".join(str(length) for length in self.lengths)
            told = f"{behavior}, {steps - policy - behavior} and {policy} steps, in proportion to {published}"
            print(f"max_steps {steps} shortens the three phases of One-step RL to {told}.", flush=True)
        return [behavior, steps - policy]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["phases"] = self.phases  # a run that is resumed with more steps goes on where this one stood

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.phases = checkpoint["phases"]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow_critic = Target(self.target)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        action = self.box.to_unit(batch.action)
        own, others = noise.tensor_split((action.shape[-1],), -1)
        losses = {}
        if "behavior" in self.moving:
            losses["behavior_loss"] = -gaussian_log_prob(action, *self.behavior.distribution(batch.obs))
        if "critic" in self.moving:
            losses["critic_loss"] = (
                self.critic(torch.cat((batch.obs, action), -1)) - self._return(batch, own)
            ).square()
        if "actor" in self.moving:
            improve = self._reverse_kl if self.improvement == "reverse_kl" else self._exponential
            losses["policy_loss"] = improve(batch.obs, action, own, others.unflatten(-1, (self.samples, -1)))
        return {name: loss.mean((-2, -1)) for name, loss in losses.items()}

    @torch.no_grad()
    def _return(self, batch: Batch, noise: Tensor) -> Float[Tensor, "E B 1"]:
        """What the critic aims at: r + gamma (1 - d) Q_target(s', a'), a' ~ beta(s') within the box."""
        mean, log_std = self.behavior.distribution(batch.next_obs)
        next_action = (mean + log_std.exp() * noise).clamp(-1, 1)
        next_q = self.target(torch.cat((batch.next_obs, next_action), -1))
        return batch.reward + self.discount * (1 - batch.terminated) * next_q

    def _reverse_kl(self, obs: Tensor, action: Tensor, own: Tensor, others: Tensor) -> Float[Tensor, "E B 1"]:
        """-Q(s, a) + alpha KL, its samples drawn from pi as its gradient demands."""
        mean, log_std = self.actor.distribution(obs)
        q = self.critic(torch.cat((obs, mean + log_std.exp() * own), -1), frozen=True)
        with torch.no_grad():
            prior_mean, prior_log_std = self.behavior.distribution(obs)
        mean, log_std, prior_mean, prior_log_std = (p.unsqueeze(-2) for p in (mean, log_std, prior_mean, prior_log_std))
        drawn = mean + log_std.exp() * others
        foreign = (drawn - prior_mean) * (-prior_log_std).exp()  # the noise by which beta would have drawn the same
        ratio = prior_log_std - log_std + (foreign.square() - others.square()) / 2  # log pi - log beta
        return -q + self.alpha * ratio.sum(-1).mean(-1, keepdim=True)

    def _exponential(self, obs: Tensor, action: Tensor, own: Tensor, others: Tensor) -> Float[Tensor, "E B 1"]:
        """Maximum likelihood, weighted by the exponential of the advantage over beta."""
        with torch.no_grad():
            mean, log_std = (part.unsqueeze(-2) for part in self.behavior.distribution(obs))
            drawn = mean + log_std.exp() * others
            pairs = torch.cat((obs.unsqueeze(-2).expand(*drawn.shape[:-1], -1), drawn), -1)
            value = self.critic(pairs.flatten(1, 2)).unflatten(1, drawn.shape[1:3]).mean(-2)
            advantage = self.critic(torch.cat((obs, action), -1)) - value
            weight = (self.temperature * advantage).exp().clamp_max(MAX_WEIGHT)
        return -weight * gaussian_log_prob(action.clamp(-1 + 1e-4, 1 - 1e-4), *self.actor.distribution(obs))

    def after_step(self, step: Tensor) -> None:
        if "behavior" in self.moving:
            self.part("actor").copy_(self.part("behavior"))  # so that the third phase begins with beta
        if "critic" in self.moving:
            turn = (step % TARGET_EVERY == 0).to(step.dtype)
            self.slow_critic.flat.lerp_(self.part("critic"), self.target_rate * turn)

    def policy(self) -> Policy:
        """The mean action of every seed, in the environment's units; before the third phase that of the behaviour."""
        return self.acting(self.actor)

r"""TD3+BC (Fujimoto and Gu 2021, arXiv 2106.06860): TD3 (arXiv 1802.09477) with behaviour cloning in the actor's loss.

    L_Q  = sum_i E (r + gamma (1 - d) min_j Qbar_j(s', a') - Q_i(s, a))^2                  TD3, algorithm 1
           a' = clip(pibar(s') + clip(noise_std z, -noise_clip, noise_clip), -1, 1),   z ~ N(0, 1)
    L_pi = E [-lambda Q_1(s, pi(s)) + (pi(s) - a)^2],   lambda = alpha / E |Q_1(s, pi(s))|             Eq. 5

Observations are standardised, actions live in [-1, 1], rewards stay raw; lambda is a number per batch and seed. The
actor moves at every second step, and the targets Qbar, pibar follow when it does. Both losses are taken at the same
parameters; the authors' code moves the critic within the step, before the actor looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cdsa_baselines._nets import ActionBox, Standardizer, Target, Twins, frozen_copy
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["TD3BC"]


class TD3BC(Baseline):
    """Trains TD3+BC on a task's transitions; the defaults are the authors'.

    Args:
        alpha: Weight of the critic against cloning; 0 clones.
        discount: gamma.
        lr: Learning rate of actor and critics.
        target_rate: Share of the networks that their targets take on when the actor moves.
        noise_std: Deviation of the noise on the target's actions, in half ranges of the action box.
        noise_clip: Largest noise on the target's actions.
        actor_every: Critic steps per actor step.
        hidden: Width of the two hidden layers.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range.
    """

    run_name = "td3_bc"
    standardised = True

    def __init__(
        self,
        alpha: float = 2.5,
        discount: float = 0.99,
        lr: float = 3e-4,
        target_rate: float = 0.005,
        noise_std: float = 0.2,
        noise_clip: float = 0.5,
        actor_every: int = 2,
        hidden: int = 256,
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        if not alpha >= 0:
            raise InputError(f"alpha must be 0 (cloning) or more (published: 2.5), got {alpha}.")
        if not (noise_std >= 0 and noise_clip >= 0):
            raise InputError(f"noise_std and noise_clip must be 0 or more, got {noise_std} and {noise_clip}.")
        if actor_every < 1:
            raise InputError(f"actor_every must be at least 1 critic step (published: 2), got {actor_every}.")
        self.alpha, self.discount, self.lr, self.target_rate = alpha, discount, lr, target_rate
        self.noise_std, self.noise_clip, self.actor_every, self.hidden = noise_std, noise_clip, actor_every, hidden

    def build(self, info: DataInfo) -> None:
        generators = init_generators(self.seeds)
        obs_dim, action_dim, hidden = info.obs_dim, info.action_dim, (self.hidden, self.hidden)
        self.standardize, self.box = Standardizer(info), ActionBox(info)
        self.critic = Twins((obs_dim + action_dim, *hidden, 1), generators)
        self.actor = stacked_mlp((obs_dim, *hidden, action_dim), nn.ReLU(), generators)
        self.target_critic, self.target_actor = frozen_copy(self.critic), frozen_copy(self.actor)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("critic", list(self.critic.parameters()), self.lr),
            ParameterGroup("actor", list(self.actor.parameters()), self.lr, every=self.actor_every),
        ]

    @property
    def noise_dim(self) -> int:
        return self.data_info.action_dim

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow = Target(self.target_critic, self.target_actor)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs, next_obs = self.standardize(batch.obs), self.standardize(batch.next_obs)
        action = self.box.to_unit(batch.action)
        with torch.no_grad():
            jitter = (self.noise_std * noise).clamp(-self.noise_clip, self.noise_clip)
            next_action = (self.target_actor(next_obs).tanh() + jitter).clamp(-1, 1)
            next_q = self.target_critic(torch.cat((next_obs, next_action), -1)).amin(0)
            bootstrap = batch.reward + self.discount * (1 - batch.terminated) * next_q

        q = self.critic(torch.cat((obs, action), -1))
        losses = {"critic_loss": (q - bootstrap).square().sum(0).mean((-2, -1))}
        if "actor" in self.moving:
            own = self.actor(obs).tanh()
            first = slice(0, len(self.seeds))  # critic 1 of every seed
            q1 = self.critic.net(torch.cat((obs, own), -1), first, frozen=True)
            weight = self.alpha / q1.detach().abs().mean((-2, -1))
            losses["actor_loss"] = (own - action).square().mean((-2, -1)) - weight * q1.mean((-2, -1))
        return losses

    def after_step(self, step: Tensor) -> None:
        if "actor" in self.moving:
            self.slow.follow(self.part("critic", "actor"), self.target_rate)

    def policy(self) -> Policy:
        """The actor of every seed, in the environment's units."""
        return self.acting(nn.Sequential(self.actor, nn.Tanh()))

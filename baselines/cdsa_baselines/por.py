r"""Policy-guided offline RL (Xu, Jiang, Li and Zhan 2022, arXiv 2210.08323): g says where to go, pi how to get there.

    L_V  = E |tau - 1(u < 0)| u^2 for both twins,      u = r + gamma (1 - d) min V_target(s') - V(s)
    L_g  = -E min(exp(alpha (u of min V)), 100) log g(s' | s)                                       por_r
    L_g  = E lambda (-min V(g_hat)) - log b(g_hat | s),      g_hat ~ g(. | s)                       por_q
           lambda = alpha / mean |min V(g_hat)|,     b trained before: L_b = -E log b(s' | s)
    L_pi = -E log pi(a | s, s')

g and b are Gaussians over the next state itself, not over a difference; observations enter raw. It acts with the mean
of g, then the mean of pi, clipped, without tanh. All losses are taken at the same parameters, and one step moves all
networks; then the target values follow. Which g, tau and alpha a task gets is published per task: `por.csv`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cdsa_baselines._goal_policy import GoalThenAction
from cdsa_baselines._goals import take_goal_network
from cdsa_baselines._nets import (
    ActionBox,
    GaussianActor,
    Target,
    Twins,
    asymmetric_square,
    frozen_copy,
    gaussian_log_prob,
    require_reward,
    reward_transform,
)
from cdsa_baselines._tables import boolean, task_settings
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.stepping import Baseline, ParameterGroup
from cdsa_lightning.tasks import Task

__all__ = ["POR"]

MAX_WEIGHT = 100.0
VARIANTS = ("por_r", "por_q")
COLUMNS: dict[str, Callable[[str], Any]] = {
    **{"variant": str, "expectile": float, "alpha": float, "layer_norm": boolean, "policy_lr": float},
    **{"reward": require_reward, "source": str},
}


class POR(Baseline):
    """Trains POR on a task's transitions; a setting left at None is the authors' for the task.

    Args:
        variant: How g learns: ``por_r`` imitates next states weighted by their advantage, ``por_q`` climbs V held back
            by the behaviour goal network.
        expectile: tau.
        alpha: Inverse temperature of the weights (por_r), or the weight of V (por_q).
        layer_norm: Normalise the hidden layers of V.
        policy_lr: Learning rate of g and pi; decays to 0 with a cosine.
        reward: ``scaled`` by 1000 / (max - min return), ``minus_one`` (AntMaze), or ``raw``.
        pretrain_steps: Steps that train the behaviour goal network before all others begin (por_q). The run's
            max_steps counts them.
        behavior_goal: The behaviour goal network that the authors published for the task, a state dict; it takes the
            place of those steps (por_q).
        behavior_lr: Learning rate of the behaviour goal network.
        value_lr: Learning rate of V.
        discount: gamma.
        target_rate: Share of V that the target takes on at each step.
        hidden: Width of the two hidden layers of V, g and the behaviour goal network.
        action_hidden: Width of the two hidden layers of pi.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.

    Raises:
        InputError: a value out of range.
    """

    run_name = "por"

    def __init__(
        self,
        variant: str | None = None,
        expectile: float | None = None,
        alpha: float | None = None,
        layer_norm: bool | None = None,
        policy_lr: float | None = None,
        reward: str | None = None,
        pretrain_steps: int = 1_000_000,
        behavior_goal: str | None = None,
        behavior_lr: float = 1e-4,
        value_lr: float = 1e-4,
        discount: float = 0.99,
        target_rate: float = 0.005,
        hidden: int = 256,
        action_hidden: int = 1024,
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        if variant is not None and variant not in VARIANTS:
            raise unknown_name("variant of POR", variant, VARIANTS)
        if expectile is not None and not 0 < expectile < 1:
            raise InputError(f"expectile must lie between 0 and 1, got {expectile}.")
        if alpha is not None and not alpha > 0:
            raise InputError(f"alpha must be positive, got {alpha}.")
        if pretrain_steps < 1:
            raise InputError(
                f"pretrain_steps must be at least 1, got {pretrain_steps}. To do without, give behavior_goal."
            )
        self.given = {"variant": variant, "expectile": expectile, "alpha": alpha, "layer_norm": layer_norm}
        self.given |= {"policy_lr": policy_lr, "reward": None if reward is None else require_reward(reward)}
        self.pretrain_steps, self.behavior_goal, self.behavior_lr = pretrain_steps, behavior_goal, behavior_lr
        self.value_lr, self.discount, self.target_rate = value_lr, discount, target_rate
        self.hidden, self.action_hidden = hidden, action_hidden

    def build(self, info: DataInfo) -> None:
        self._settle(info)
        generators, size, wide = init_generators(self.seeds), info.obs_dim, self.action_hidden
        widths = (size, self.hidden, self.hidden)
        self.scale, self.shift = reward_transform(self.reward, info)
        self.box = ActionBox(info)
        self.value = Twins((*widths, 1), generators, self.layer_norm)
        self.goal = GaussianActor((*widths, size), generators, squash=False)
        self.action = GaussianActor((2 * size, wide, wide, info.action_dim), generators, squash=False)
        self.target = frozen_copy(self.value)
        if self.variant == "por_q":
            self.behavior = GaussianActor((*widths, size), generators, squash=False)

    def _settle(self, info: DataInfo) -> None:
        """Take the settings that were not given from the table, and keep all of them with the hyperparameters."""
        row = task_settings("por.csv", COLUMNS, info.task, variant=self.given["variant"])
        self.source = row.pop("source")
        settings: dict[str, Any] = {key: row[key] if value is None else value for key, value in self.given.items()}
        self.variant, self.expectile, self.alpha = settings["variant"], settings["expectile"], settings["alpha"]
        self.layer_norm, self.policy_lr, self.reward = (settings[k] for k in ("layer_norm", "policy_lr", "reward"))
        self.save_hyperparameters(settings)
        self.pretrains = self.variant == "por_q" and self.behavior_goal is None
        if self.variant != "por_q" and self.behavior_goal is not None:
            raise InputError(f"behavior_goal is for por_q; on {info.task!r} this would train {self.variant}.")

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        steps, first = self.trainer.max_steps, self.pretrain_steps
        if self.pretrains and steps <= first:
            raise InputError(
                f"On {self.data_info.task!r} POR first trains its behaviour goal network for pretrain_steps = {first} "
                f"steps, which leaves nothing of max_steps = {steps} for the policy. Give "
                f"--trainer.max_steps {first + 1_000_000}, fewer --model.pretrain_steps, or the authors' network as "
                "--model.behavior_goal PATH."
            )
        if self.behavior_goal is not None:
            take_goal_network(Path(self.behavior_goal), self.behavior)
        if self.trainer.is_global_zero:
            told = ", ".join(f"{key} {self.hparams[key]}" for key in self.given)
            chosen = ", ".join(key for key, value in self.given.items() if value is not None)
            but = f", but your {chosen}" if chosen else ""
            print(f"POR on {self.data_info.task} with {self.source}{but}: {told}.", flush=True)

    def parameter_groups(self) -> list[ParameterGroup]:
        start = self.pretrain_steps if self.pretrains else 0
        groups = [
            ParameterGroup("value", list(self.value.parameters()), self.value_lr, start=start),
            ParameterGroup("goal", list(self.goal.parameters()), self.policy_lr, "cosine", start=start),
            ParameterGroup("action", list(self.action.parameters()), self.policy_lr, "cosine", start=start),
        ]
        if self.pretrains:
            groups.append(ParameterGroup("behavior", list(self.behavior.parameters()), self.behavior_lr, stop=start))
        return groups

    @property
    def noise_dim(self) -> int:
        return self.data_info.obs_dim if self.variant == "por_q" else 0

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.slow_value = Target(self.target)

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        obs, next_obs = batch.obs, batch.next_obs
        if "behavior" in self.moving:
            return {"behavior_loss": -self.behavior.log_prob(obs, next_obs).mean((-2, -1))}
        with torch.no_grad():
            next_v = self.target(next_obs).amin(0)
            bootstrap = batch.reward * self.scale + self.shift + self.discount * (1 - batch.terminated) * next_v

        values = self.value(obs)
        value_loss = asymmetric_square(bootstrap - values, self.expectile).mean(0)
        if self.variant == "por_r":
            advantage = bootstrap - values.detach().amin(0)
            weight = (self.alpha * advantage).exp().clamp_max(MAX_WEIGHT)
            goal_loss = -weight * self.goal.log_prob(obs, next_obs)
        else:
            goal_loss = self._climb(obs, noise)
        action_loss = -self.action.log_prob(torch.cat((obs, next_obs), -1), self.box.to_unit(batch.action))
        parts = {"value_loss": value_loss, "goal_loss": goal_loss, "action_loss": action_loss}
        return {name: loss.mean((-2, -1)) for name, loss in parts.items()}

    def _climb(self, obs: Float[Tensor, "E B S"], noise: Float[Tensor, "E B S"]) -> Float[Tensor, "E B 1"]:
        """por_q: lambda (-V(g_hat)) - log b(g_hat | s)."""
        drawn = self.goal(obs) + self.goal.log_std.clamp(*self.goal.log_std_range).exp() * noise
        with torch.no_grad():  # b judges; it does not move
            mean, log_std = self.behavior(obs), self.behavior.log_std.clamp(*self.behavior.log_std_range)
        value = self.value(drawn, frozen=True).amin(0)
        weight = self.alpha / value.detach().abs().mean((-2, -1), keepdim=True)
        return -weight * value - gaussian_log_prob(drawn, mean, log_std)

    def after_step(self, step: Tensor) -> None:
        if "value" in self.moving:
            self.slow_value.follow(self.part("value"), self.target_rate)

    def policy(self) -> Policy:
        """The mean of pi at the mean of g, for every seed, in the environment's units."""
        return self.acting(GoalThenAction(self.goal, self.action))

    @classmethod
    def fit_command(cls, task: Task) -> str:
        both = task_settings("por.csv", COLUMNS, task.name)["variant"] == "por_q"  # its first phase counts as well
        return f"{super().fit_command(task)}{' --trainer.max_steps 2000000' if both else ''}"

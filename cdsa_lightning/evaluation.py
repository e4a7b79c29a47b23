r"""Evaluation: every policy on one task, and what the difference between a policy and its corrected self amounts to.

An arm is one policy under one name; an arm named ``cdsa(X)`` is compared with the arm ``X``. The difference of the mean
returns comes with a 95 % interval of the hierarchical bootstrap, and the verdict is read off that interval alone.
One code path serves the command line and the callback; nothing here knows a logger, a file or a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cdsa_lightning.comparison import arm_name, baseline_of
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.bootstrap import Interval, Verdict, bootstrap_difference, verdict
from cdsa_lightning.metrics.functional import (
    conditional_value_at_risk,
    standard_error,
    value_at_risk,
    violation_rate,
)
from cdsa_lightning.resources import available_memory, require_memory
from cdsa_lightning.rollout import Episodes, rollout
from cdsa_lightning.tasks import Task

__all__ = ["STATISTICS", "Difference", "Evaluator", "Report", "traced"]

_EPISODE_BYTES = 100  # of the ten or so numbers that are kept of each
Statistic = Callable[[Episodes, Task], float | None]


def _var(percent: int) -> Statistic:
    return lambda episodes, task: float(value_at_risk(_pooled(episodes), percent / 100))


def _cvar(percent: int) -> Statistic:
    return lambda episodes, task: float(conditional_value_at_risk(_pooled(episodes), percent / 100))


def _info(key: str) -> Statistic:
    return lambda episodes, task: float(episodes.info[key].mean()) if key in episodes.info else None


def _violations(episodes: Episodes, task: Task) -> float | None:
    steps = episodes.info.get("in_risk_region")
    return None if steps is None else float(violation_rate(torch.as_tensor(steps).reshape(-1)))


def _success(episodes: Episodes, task: Task) -> float | None:
    if "success" in episodes.info:
        return float(episodes.info["success"].mean())
    # The risky worlds end at the goal and nowhere else; in MuJoCo an end is a fall.
    return float(episodes.terminated.mean()) if "in_risk_region" in episodes.info else None


# A new metric is one line here; None where the environment does not have it.
STATISTICS: dict[str, Statistic] = {
    "return": lambda episodes, task: float(episodes.returns.mean()),
    "standard_error": lambda episodes, task: standard_error(torch.as_tensor(episodes.returns)),
    "normalized_score": lambda episodes, task: float(task.normalized_score(episodes.returns).mean()),
    **{f"var_{percent}": _var(percent) for percent in (5, 10, 25)},
    **{f"cvar_{percent}": _cvar(percent) for percent in (5, 10, 25)},
    "violation_rate": _violations,
    "risk_steps": _info("in_risk_region"),
    "cost": _info("cost"),
    "success_rate": _success,
    "episode_length": lambda episodes, task: float(episodes.lengths.mean()),
    "forward_distance": _info("x_position"),
    "shift": lambda episodes, task: float(episodes.shift.mean()),
    "clip_fraction": lambda episodes, task: float(episodes.clip_fraction.mean()),
}


@dataclass(frozen=True)
class Difference:
    """An arm minus its baseline: mean return and CVaR_10 with their 95 % intervals, and what the former says."""

    arm: str
    baseline: str
    mean: Interval
    cvar_10: Interval
    verdict: Verdict


@dataclass(frozen=True)
class Report:
    """The episodes of every arm, and what they say.

    Args:
        task: What was evaluated on.
        arms: The episodes of each arm by name.
        seed: The seed of the environments.
        env_kwargs: Settings of the environment that differ from the task's.

    Raises:
        InputError: there is no arm, an arm has no episode, or a return is NaN or infinite.
    """

    task: Task
    arms: dict[str, Episodes]
    seed: int = 0
    env_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.arms:
            raise InputError("There is no policy to evaluate: give at least one {name: policy}.")
        for name, episodes in self.arms.items():
            if episodes.returns.size == 0:
                raise InputError(f"{name!r} has no episodes: evaluate with episodes >= 1.")
            broken = np.argwhere(~np.isfinite(episodes.returns))
            if len(broken):
                row, column = broken[0].tolist()
                raise InputError(
                    f"{len(broken)} returns of {name!r} are NaN or infinite, first in seed {row}, episode {column}: "
                    "look for NaN in the checkpoint or in the corrector."
                )

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Per arm the normalised score of every episode, [E, n]; returns where the task has no scale."""
        return {name: np.asarray(self.task.normalized_score(arm.returns)) for name, arm in self.arms.items()}

    @cached_property
    def statistics(self) -> dict[str, dict[str, float]]:
        """Per arm the entries of `STATISTICS` that its environment has."""
        return {name: _statistics(episodes, self.task) for name, episodes in self.arms.items()}

    @cached_property
    def per_seed(self) -> dict[str, list[dict[str, float]]]:
        """Per arm the same statistics of each training seed alone."""
        return {
            name: [_statistics(_one_seed(episodes, seed), self.task) for seed in range(len(episodes.returns))]
            for name, episodes in self.arms.items()
        }

    @cached_property
    def differences(self) -> list[Difference]:
        """Every arm ``cdsa(X)...`` against the arm ``X``, in the order of the arms."""
        pairs = ((name, baseline_of(name)) for name in self.arms)
        return [self._difference(name, base) for name, base in pairs if base is not None and base in self.arms]

    def _difference(self, arm: str, baseline: str) -> Difference:
        first, second = (torch.as_tensor(self.arms[name].returns) for name in (arm, baseline))
        mean = bootstrap_difference(first, second)
        tail = bootstrap_difference(first, second, lambda pooled: conditional_value_at_risk(pooled, 0.1))
        return Difference(arm, baseline, mean, tail, verdict(mean))

    def scalars(self) -> dict[str, float]:
        """What a logger takes, for instance ``eval/cdsa(por)/var_10``."""
        flat = {f"eval/{name}/{key}": v for name, values in self.statistics.items() for key, v in values.items()}
        for difference in self.differences:
            for key, interval in (("difference", difference.mean), ("cvar_10_difference", difference.cvar_10)):
                start = f"eval/{difference.arm}/{key}"
                flat |= {start: interval.estimate, f"{start}_low": interval.low, f"{start}_high": interval.high}
        return {key: value for key, value in flat.items() if math.isfinite(value)}

    def sentence(self) -> str:
        """The verdict on the whole correction in plain words; without a corrected arm, what each arm returned."""
        if not self.differences:
            arms = (f"{name} returned {values['return']:.1f}" for name, values in self.statistics.items())
            return f"On {self.task.name}, {', '.join(arms)}."
        whole = (gap for gap in self.differences if gap.arm == arm_name("cdsa", gap.baseline))
        return self._verdict(next(whole, self.differences[0]))

    def _verdict(self, difference: Difference) -> str:
        before, after = self.statistics[difference.baseline], self.statistics[difference.arm]
        said = {
            "improved": f"correction improved {difference.baseline}",
            "harmed": f"correction harmed {difference.baseline}",
            "no evidence": f"there is no evidence that correction changed the return of {difference.baseline}",
        }[difference.verdict]
        gap = difference.mean
        text = f"On {self.task.name}, {said}: mean return {before['return']:.1f} -> {after['return']:.1f}, "
        if math.isfinite(gap.low):
            text += f"difference {gap.estimate:+.1f} (95 % interval {gap.low:+.1f} to {gap.high:+.1f})"
        else:
            text += f"difference {gap.estimate:+.1f} (one episode says nothing about its error)"
        if self.task.score_max is not None:
            text += f"; normalised score {before['normalized_score']:.1f} -> {after['normalized_score']:.1f}"
        if "violation_rate" in before:
            text += f"; episodes in a risk region {before['violation_rate']:.1%} -> {after['violation_rate']:.1%}"
        return text + "."

    def to_json(self) -> dict[str, Any]:
        """Plain values only; None for what is not finite."""
        first = next(iter(self.arms.values())).returns
        plain = {
            "task": self.task.name,
            "env_id": self.task.env_id,
            "env_kwargs": dict(self.env_kwargs or {}),
            "seed": self.seed,
            "episodes_per_seed": first.shape[1],
            "arms": {
                name: {**values, "seeds": len(self.per_seed[name]), "per_seed": self.per_seed[name]}
                for name, values in self.statistics.items()
            },
            "differences": [
                {
                    "arm": d.arm,
                    "baseline": d.baseline,
                    "mean_return": vars(d.mean),
                    "cvar_10": vars(d.cvar_10),
                    "verdict": d.verdict,
                }
                for d in self.differences
            ],
            "sentence": self.sentence(),
        }
        return _finite(plain)


def traced(task: Task) -> int:
    """Traces to keep per training seed: a few where there is a map to draw them on."""
    return 1 if task.map is None else 8


class Evaluator:
    """Rolls policies out on one task: all their seeds and episodes side by side.

    Args:
        task: What to evaluate on.
        episodes: Episodes per training seed; the task's own number by default.
        seed: Of the environments and of stochastic policies; every arm gets the same.
        record: Keep the traces of so many episodes per seed.
        env_kwargs: Settings of the environment that differ from the task's.

    Raises:
        InputError: `episodes` is below 1.
    """

    def __init__(
        self,
        task: Task,
        episodes: int | None = None,
        seed: int = 0,
        record: int = 0,
        env_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.task = task
        self.episodes = task.episodes if episodes is None else episodes
        if self.episodes < 1:
            raise InputError(f"An evaluation needs at least one episode per seed, got episodes={self.episodes}.")
        self.seed, self.record, self.env_kwargs = seed, record, env_kwargs

    def run(self, policies: Mapping[str, Policy]) -> Report:
        """Roll out each of `policies` and compare every ``cdsa(X)`` with ``X``.

        Raises:
            InputError: a policy does not fit the task, or a return is NaN or infinite.
        """
        rows = self.episodes * sum(policy.num_seeds for policy in policies.values())
        what, remedy = f"{self.episodes:,} episodes per seed", "Lower the number of episodes."
        require_memory(_EPISODE_BYTES * rows, what, remedy, available_memory())
        arms = {
            name: rollout(
                policy, self.task, self.episodes, self.seed, record=self.record, env_kwargs=self.env_kwargs or None
            )
            for name, policy in policies.items()
        }
        return Report(self.task, arms, self.seed, self.env_kwargs)


def _statistics(episodes: Episodes, task: Task) -> dict[str, float]:
    values = {key: statistic(episodes, task) for key, statistic in STATISTICS.items()}
    return {key: value for key, value in values.items() if value is not None}


def _one_seed(episodes: Episodes, seed: int) -> Episodes:
    rows = {key: value[seed : seed + 1] for key, value in vars(episodes).items() if isinstance(value, np.ndarray)}
    info = {key: value[seed : seed + 1] for key, value in episodes.info.items()}
    return replace(episodes, **rows, info=info, traces=[])


def _pooled(episodes: Episodes) -> torch.Tensor:
    return torch.as_tensor(episodes.returns).reshape(-1)


def _finite(value: Any) -> Any:
    """`value` with every NaN and infinity inside replaced by None, for JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

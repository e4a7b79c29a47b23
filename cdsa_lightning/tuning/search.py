r"""A search over coefficients in the environment, for those who may use it, and what its best trial is worth.

    c_n = TPE( (c_1, J_1), ..., (c_{n-1}, J_{n-1});  seed, n ),       J_n: the objective, for all n on the same episodes

The fixed candidates are the first trials, "no correction" the very first. The sampler is seeded anew for every trial
and knows finished trials alone, so that a search that was killed goes on as if it had not been; of its trials it loses
the one under way. The largest of many noisy numbers is too large, therefore `judge` looks at other episodes: the best
trial is chosen if and only if there the interval of its gain over no correction lies above 0 and the return is not
harmed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.metrics.bootstrap import Interval, Verdict, verdict
from cdsa_lightning.tuning.outcomes import OBJECTIVES, Objective, Outcome, mean_difference
from cdsa_lightning.tuning.space import Space
from cdsa_lightning.tuning.storage import find_optuna, open_storage, reached, understood, without_password

if TYPE_CHECKING:
    import optuna

__all__ = ["Judgement", "Search", "Trial", "best_of", "check_search", "judge"]

_STUDY, _SUBJECT, _TRIAL = "cdsa tune", "subject", "trial"


@dataclass(frozen=True)
class Trial:
    """Coefficients under a name, what their episodes gave, and the objective's value."""

    name: str
    coefficients: Coefficients
    outcome: Outcome
    value: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the episodes."""
        return {"name": self.name, "value": self.value, "coefficients": self.coefficients.to_dict()}


def check_search(count: int, objective: str, fixed: Collection[str]) -> None:
    """See, before any episode, that a search can be run.

    Args:
        count: Trials in all.
        objective: One of `OBJECTIVES`.
        fixed: Names of the first trials.

    Raises:
        InputError: no trial is left beside the fixed ones, an unknown objective, or Optuna is not installed.
    """
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    if count <= len(fixed):
        raise InputError(
            f"The first {len(fixed)} trials are the fixed candidates ({', '.join(fixed)}): {count} leave none to "
            f"search with, give --trials {len(fixed) + 1} or more."
        )
    find_optuna()


class Search:
    """A search with its trials in a storage; one process at a time.

    Args:
        storage: A file (SQLite), made where it is missing, or the URL of a data base.
        subject: All that decides what a trial measures, as plain values: kept there, and compared with what is there.
        fixed: The first trials by name.
        space: Where to search after them.
        objective: What for.
        count: Trials in all, the fixed and the finished ones among them.
        seed: Of the sampler.

    Raises:
        InputError: Optuna is missing, the storage cannot be used, or it holds another search.
    """

    def __init__(
        self,
        storage: str,
        subject: Mapping[str, Any],
        fixed: Mapping[str, Coefficients],
        space: Space,
        objective: Objective,
        count: int,
        seed: int = 0,
    ) -> None:
        self._optuna = find_optuna()
        self.storage, self.fixed, self.space = storage, dict(fixed), space
        self.objective, self.count, self.seed = objective, count, seed
        self._direction = "maximize" if objective.sign > 0 else "minimize"
        kept = open_storage(storage)
        with reached(storage), understood(storage):
            self.study: optuna.Study = self._optuna.create_study(
                storage=kept,
                study_name=_STUDY,
                direction=self._direction,
                load_if_exists=True,
            )
            self._claim({**subject, **self._facts()})

    def _facts(self) -> dict[str, Any]:
        return {
            "candidates": {name: coefficients.to_dict() for name, coefficients in self.fixed.items()},
            "objective": self.objective.name,
            "sampler_seed": self.seed,
            "space": self.space.to_json(),
        }

    def _claim(self, subject: dict[str, Any]) -> None:
        """Keep what the trials are of; where there is something, it must be the same."""
        there = self.study.user_attrs.get(_SUBJECT)
        if there is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(_SUBJECT, subject)
        else:
            _same(self.storage, there, json.loads(json.dumps(subject)))

    def run(
        self, measure: Callable[[Coefficients], Outcome], told: Callable[[int, Trial], None] | None = None
    ) -> list[Trial]:
        """Run the trials that are missing; all finished ones, in order.

        Args:
            measure: Episodes with these coefficients, the same ones at every call. Not called for coefficients that
                were measured before.
            told: Called with the number, from 1, and the trial after each that was run.

        Raises:
            InputError: the storage fails.
        """
        names = list(self.fixed)
        with reached(self.storage):
            trials = self.finished()
            known = {trial.coefficients: trial.outcome for trial in trials}
            while len(trials) < self.count:
                number = len(trials) + 1
                if number <= len(names):
                    name, coefficients = names[number - 1], self.fixed[names[number - 1]]
                    parameters = self.space.parameters(coefficients)
                else:
                    name, parameters = f"trial {number}", self._drawn(number)
                    coefficients = self.space.coefficients(parameters)
                if coefficients not in known:
                    known[coefficients] = measure(coefficients)
                trials.append(self._keep(self._trial(name, coefficients, known[coefficients]), parameters))
                if told is not None:
                    told(number, trials[-1])
        return trials

    def finished(self) -> list[Trial]:
        """The trials that are in the storage, in order."""
        with understood(self.storage):
            kept = [trial.user_attrs[_TRIAL] for trial in self.study.get_trials(deepcopy=False)]
            return [
                self._trial(one["name"], Coefficients.from_dict(one["coefficients"]), Outcome.from_json(one["outcome"]))
                for one in kept
            ]

    def _trial(self, name: str, coefficients: Coefficients, outcome: Outcome) -> Trial:
        return Trial(name, coefficients, outcome, self.objective.value(outcome))

    def _drawn(self, number: int) -> dict[str, Any]:
        """The parameters that the sampler asks for, in memory: a storage holds finished trials alone."""
        drawn = int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
        sampler = self._optuna.samplers.TPESampler(seed=drawn)
        memory = self._optuna.create_study(direction=self._direction, sampler=sampler)
        memory.add_trials(self.study.get_trials(deepcopy=False))
        parameters: dict[str, Any] = memory.ask(self.space.distributions()).params
        return parameters

    def _keep(self, trial: Trial, parameters: dict[str, Any]) -> Trial:
        """Write a finished trial, whole or not at all; one without parameters teaches the sampler nothing."""
        self.study.add_trial(
            self._optuna.trial.create_trial(
                value=trial.value,
                params=parameters,
                distributions=self.space.distributions() if parameters else {},
                user_attrs={_TRIAL: trial.to_json() | {"outcome": trial.outcome.to_json()}},
            )
        )
        return trial


def best_of(trials: list[Trial], objective: Objective) -> Trial:
    """The best by the objective; among equals by the mean return, then the first."""
    return max(trials, key=lambda trial: (objective.sign * trial.value, float(trial.outcome.returns.mean())))


@dataclass(frozen=True)
class Judgement:
    """What is chosen: the best trial or "none", and the reason in a sentence.

    `gain` is how much better the best trial was in the objective on episodes that it was not chosen by, `difference`
    that of the mean return there; None where "none" was the best trial itself.
    """

    name: str
    reason: str
    gain: Interval | None = None
    difference: Interval | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the difference of the mean return says."""
        return None if self.difference is None else verdict(self.difference)


def judge(trials: list[Trial], objective: Objective, again: Mapping[str, Outcome]) -> Judgement:
    """The best trial if it proves better than no correction on other episodes, else "none".

    Args:
        trials: Those of the search, "none" the first.
        objective: What was searched for.
        again: Other episodes of "none" and of the best trial, by name.
    """
    best, none, count = best_of(trials, objective), trials[0], len(trials)
    if best.coefficients.changes_nothing:
        value = f"{objective.label} {none.value:.4g}"
        return Judgement("none", f"None of {count} trials was better than no correction ({value}): no correction.")
    gain = objective.gain(again[best.name], again["none"])
    change = mean_difference(again[best.name], again["none"])
    promised = objective.sign * (best.value - none.value)
    fresh = again["none"].returns.shape[1]
    measured = (
        f"The best of {count} trials, {best.name}, promised a gain of {promised:.4g} in the {objective.label}; on "
        f"{fresh} fresh episodes per seed the gain is {gain.estimate:+.4g} (95 % interval {gain.low:+.4g} to "
        f"{gain.high:+.4g})"
    )
    if verdict(change) == "harmed":
        lost = f"{change.estimate:+.4g} ({change.low:+.4g} to {change.high:+.4g})"
        return Judgement("none", f"{measured}, but the mean return is harmed, {lost}: no correction.", gain, change)
    if verdict(gain) != "improved":
        return Judgement("none", f"{measured}, which does not show that it is better: no correction.", gain, change)
    return Judgement(best.name, f"{measured}: {best.name} is better than no correction.", gain, change)


def _same(storage: str, there: Any, here: dict[str, Any]) -> None:
    """The trials in the storage are of this very search."""
    kept = there if isinstance(there, dict) else {}
    differing = [key for key in sorted({*kept, *here}) if kept.get(key) != here.get(key)]
    if differing:
        said = "; ".join(f"{key} {_short(kept.get(key))} there, {_short(here.get(key))} here" for key in differing[:3])
        raise InputError(
            f"{without_password(storage)} holds the trials of another search ({said}): name another --storage, or "
            "repeat the command that began it."
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 70 else f"{text[:67]}..."

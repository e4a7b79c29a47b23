"""`cdsa tune --with_env`: episodes of every candidate, the search, and how far a rule stays behind the best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdsa_lightning.commands.corrected import Corrected
    from cdsa_lightning.commands.options import Options
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.evaluation import Evaluator
    from cdsa_lightning.tuning import Judgement, Outcome, Search, Trial

__all__ = ["Searched", "compared", "judged", "measure_candidates", "run_search"]

_EPISODES = 10
_FRESH = 5  # times as many episodes decide whether the best trial is kept
_OTHER_SEEDS = 1_000_000


@dataclass(frozen=True)
class Searched:
    """A search that has ended: its trials, the best, and what becomes of that on fresh episodes."""

    search: Search
    trials: list[Trial]
    best: Trial

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """Episodes of the same."""
        return {trial.name: trial.outcome for trial in self.trials if trial.name in self.shown}

    @property
    def shown(self) -> dict[str, Coefficients]:
        """The fixed candidates, and the best trial."""
        return {**self.search.fixed, self.best.name: self.best.coefficients}

    @property
    def values(self) -> dict[str, float]:
        """The objective of the same."""
        return {name: self.search.objective.value(outcome) for name, outcome in self.outcomes.items()}


def measure_candidates(options: Options, subject: Corrected, found: dict[str, Coefficients]) -> dict[str, Outcome]:
    """Episodes with every candidate."""
    from cdsa_lightning.tuning import episodes_with

    evaluator = _evaluator(options, subject)
    return {name: episodes_with(evaluator, subject.policy, coefficients) for name, coefficients in found.items()}


def run_search(
    options: Options,
    subject: Corrected,
    found: dict[str, Coefficients],
    trials: int,
    storage: str,
    objective: str,
) -> Searched:
    """Search, or go on with the search in `storage`, telling of every trial.

    Raises:
        InputError: the storage cannot be used or holds another search, or there are too few trials.
    """
    from cdsa_lightning.tuning import OBJECTIVES, Search, Space, best_of, episodes_with, without_password

    goal, evaluator, policy = OBJECTIVES[objective], _evaluator(options, subject), subject.policy
    space = Space.of(policy.corrector)
    search = Search(storage, _facts(options, subject, evaluator), found, space, goal, trials, options.seed)
    before = len(search.finished())

    def told(number: int, trial: Trial) -> None:
        if not options.quiet:
            print(f"trial {number} of {trials}: {goal.label} {trial.value:.4g} ({_brief(trial)})", flush=True)

    if not options.quiet:
        done = f", {before} trials are there" if before else ""
        print(f"trials        {without_password(storage)}{done}; the same --storage goes on where a search stopped")
    finished = search.run(lambda coefficients: episodes_with(evaluator, policy, coefficients), told)
    return Searched(search, finished, best_of(finished, goal))


def judged(options: Options, subject: Corrected, searched: Searched, rules: dict[str, str]) -> tuple[Judgement, Any]:
    """The best trial on fresh episodes beside "none" and what the rules choose; and all of it as plain values.

    Args:
        options: What was asked for.
        subject: Whose episodes.
        searched: The search.
        rules: What each rule chooses, one of the fixed candidates.
    """
    from cdsa_lightning.tuning import episodes_with, judge, without_password

    search, best, goal = searched.search, searched.best, searched.search.objective
    wanted = {"none": search.fixed["none"], best.name: best.coefficients}
    wanted |= {name: search.fixed[name] for name in rules.values()}
    fresh = _evaluator(options, subject, _FRESH, options.seed + _OTHER_SEEDS)
    again = {name: episodes_with(fresh, subject.policy, coefficients) for name, coefficients in wanted.items()}
    judgement = judge(searched.trials, goal, again)
    values = {name: goal.value(outcome) for name, outcome in again.items()}
    return judgement, {
        "storage": without_password(search.storage),
        "objective": goal.name,
        "best": best.to_json(),
        "values": searched.values,
        "trials": [trial.to_json() for trial in searched.trials],
        "again": {
            "episodes_per_seed": fresh.episodes,
            "seed": fresh.seed,
            goal.name: values,
            "gain": judgement.gain.to_json() if judgement.gain else None,
            "mean_return_difference": judgement.difference.to_json() if judgement.difference else None,
            "verdict": judgement.verdict,
            "regret": {rule: goal.sign * (values[best.name] - values[name]) for rule, name in rules.items()},
        },
        "rules": rules,
    }


def compared(baseline: str, outcomes: dict[str, Outcome], chosen: str, by_data: str) -> dict[str, Any]:
    """The mean return of every candidate, and what the choice and the data rule leave to the best of them."""
    from cdsa_lightning.metrics.bootstrap import verdict
    from cdsa_lightning.tuning import mean_difference

    means = {name: float(outcome.returns.mean()) for name, outcome in outcomes.items()}
    best = max(means, key=lambda name: means[name])
    gaps = {name: mean_difference(one, outcomes["none"]) for name, one in outcomes.items() if name != "none"}
    return {
        "episodes_per_seed": outcomes["none"].returns.shape[1],
        "mean_return": means,
        "best": best,
        "regret": means[best] - means[chosen],
        "data_rule": by_data,
        "data_rule_regret": means[best] - means[by_data],
        "differences": [
            {"arm": f"cdsa({baseline}) {name}", "mean_return": gap.to_json(), "verdict": verdict(gap)}
            for name, gap in gaps.items()
        ],
    }


def _evaluator(options: Options, subject: Corrected, times: int = 1, seed: int | None = None) -> Evaluator:
    from cdsa_lightning.evaluation import Evaluator

    episodes = _EPISODES if options.episodes is None else options.episodes
    return Evaluator(
        subject.task, times * episodes, options.seed if seed is None else seed, env_kwargs=options.env_kwargs
    )


def _facts(options: Options, subject: Corrected, evaluator: Evaluator) -> dict[str, Any]:
    """All that decides what a trial measures, apart from its coefficients; files by their content."""
    from cdsa_lightning.collection import checkpoint_sha256

    checkpoint, corrector = subject.about["checkpoint"], subject.about["corrector"]
    return {
        "task": subject.task.name,
        "env_kwargs": options.env_kwargs or {},
        "baseline": options.baseline,
        "checkpoint": checkpoint_sha256(Path(checkpoint)) if checkpoint else None,
        "action_noise": options.action_noise,
        "corrector": checkpoint_sha256(Path(corrector)),
        "corrector_seed": options.corrector_seed,
        "ensemble": subject.about["ensemble"],
        "episodes": evaluator.episodes,
        "seed": options.seed,
    }


def _brief(trial: Trial) -> str:
    """A candidate's name, or what is not at its default in a trial's coefficients."""
    if not trial.name.startswith("trial "):
        return trial.name
    if trial.coefficients.changes_nothing:
        return "no correction"
    hidden = ("units", "clip")
    values = trial.coefficients.to_dict()
    return ", ".join(f"{key} {value}" for key, value in values.items() if key not in hidden and value is not None)

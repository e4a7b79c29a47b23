"""`cdsa tune`: choose coefficients for a policy, and tell why; "no correction" is always a candidate.

From data alone, by the returns of some episodes, or, with --with_env --trials, by a search in the environment. The
policy, the corrector and its data are found as `cdsa evaluate` finds them, which then takes the file written here:
`cdsa evaluate --coefficients runs/TASK/tune/DATE-TIME/coefficients.json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.commands.options import ROWS, SINGLE, Options, add_rows, build, spell_out
from cdsa_lightning.errors import InputError, unknown_name

if TYPE_CHECKING:
    import numpy as np

    from cdsa_lightning.audit import Measures
    from cdsa_lightning.commands.corrected import Corrected
    from cdsa_lightning.commands.measured import Searched
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.tuning import Choice, Outcome, Returns

__all__ = ["TuneOptions", "main", "tune"]

_SKIPPED = {"ablation", "wandb", "coefficients", *SINGLE}
_RETURN = "return"


@dataclass(frozen=True)
class TuneOptions:
    """What is chosen from; see `main` for what each is."""

    selector: str = "auto"
    returns: str | None = None
    with_env: bool = False
    trials: int | None = None
    storage: str | None = None
    objective: str | None = None
    rows: int = ROWS

    @property
    def asks_returns(self) -> bool:
        """The choice is made by returns where there are any."""
        return self.selector == "returns" or (self.selector == "auto" and self.trials is None)


def main(argv: list[str]) -> None:
    """Parse `argv` and choose."""
    from jsonargparse import ArgumentParser

    about = "Choose coefficients for a policy from data, without its environment unless --with_env."
    parser = ArgumentParser(prog="cdsa tune", description=about, **STRICT)
    parser.add_class_arguments(Options, as_group=False, skip=_SKIPPED)
    rules = "auto (by the search, else by returns where there are any, else by data), returns, data or none."
    parser.add_argument("--selector", default="auto", help=rules)
    parser.add_argument("--returns", metavar="FILE", help="Returns of the policy's own episodes: .json, .npz or text.")
    parser.add_argument("--with_env", action="store_true", help="Measure them, and those of every candidate.")
    trials = "With --with_env: search in the environment, with so many trials, the candidates the first of them."
    parser.add_argument("--trials", type=int | None, default=None, help=trials)
    storage = "Where trials are kept and go on: a file or a data base's URL; by default trials.db beside the result."
    parser.add_argument("--storage", type=str | None, default=None, metavar="FILE|URL", help=storage)
    goal = "What is searched for: return (the default), cvar_10 or violation."
    parser.add_argument("--objective", type=str | None, default=None, help=goal)
    add_rows(parser)
    given = vars(parse(parser, spell_out(argv)))
    tune(build(Options, given), build(TuneOptions, given))


def tune(options: Options, own: TuneOptions) -> Choice:
    """Choose as `options` and `own` describe, print it, and keep it in a run directory.

    Raises:
        InputError: something named does not exist or does not fit, or something not named was not found.
    """
    from cdsa_lightning.audit import Reference, audit
    from cdsa_lightning.commands.corrected import find_corrected
    from cdsa_lightning.commands.tuned import keep
    from cdsa_lightning.runs import new_run
    from cdsa_lightning.tuning import candidates, check_search, effect

    given = _check(options, own)
    subject = find_corrected(options)
    if own.asks_returns and (own.with_env or given is not None):
        _same_task(subject)  # before episodes that would say nothing
    policy, corrector, coefficients = subject.policy.policy, subject.policy.corrector, subject.policy.coefficients
    found = candidates(corrector, coefficients)
    if own.trials is not None:
        check_search(own.trials, own.objective or _RETURN, found)
    reference = Reference(corrector, subject.data, coefficients, own.rows, options.seed)
    measures = audit(policy, reference, found["none"], seed=options.seed).measures
    directory = Path(options.output) if options.output else new_run(subject.task.name, "tune", options.runs)
    searched, outcomes = _episodes(options, own, subject, found, directory)
    returns = _returns(subject, given if outcomes is None else outcomes["none"].returns.reshape(-1))
    choice, environment = _choose(options, own, subject, found, measures, returns, searched, outcomes)
    shown = searched.shown if searched else found
    effects = {name: effect(policy, corrector, c, reference, options.seed) for name, c in shown.items()}
    said = {
        **choice.to_json(),
        "measures": asdict(measures) | {"kind": measures.kind},
        "returns": returns.to_json() if returns else None,
        "candidates": {key: {"coefficients": shown[key].to_dict(), **e.to_json()} for key, e in effects.items()},
        "environment": environment,
        "about": {**subject.about, "rows": own.rows, "asked": own.selector},
    }
    keep(said, directory, measures, returns, options.quiet)
    return choice


def _check(options: Options, own: TuneOptions) -> np.ndarray | None:
    """The returns that were given, if any; what contradicts itself is refused."""
    from cdsa_lightning.tuning import SELECTORS, read_returns

    if own.selector not in SELECTORS:
        raise unknown_name("selector", own.selector, SELECTORS)
    if own.returns and own.with_env:
        raise InputError("--with_env measures the returns that --returns names: give one of the two.")
    if options.episodes is not None and not own.with_env:
        raise InputError("--episodes are run in the environment: add --with_env.")
    if own.trials is not None and not own.with_env:
        raise InputError("--trials are run in the environment: add --with_env.")
    for name in ("storage", "objective"):
        if getattr(own, name) is not None and own.trials is None:
            raise InputError(f"--{name} is for a search: add --trials 40, for instance.")
    return read_returns(own.returns) if own.returns else None


def _other_task(subject: Corrected) -> str:
    """The task that the data are of, where it is not the policy's; else empty."""
    fitted = str(subject.policy.corrector.info.get("task"))
    return "" if fitted == subject.task.name else fitted


def _same_task(subject: Corrected) -> None:
    """The policy's returns can be compared with those of the data."""
    if fitted := _other_task(subject):
        raise InputError(
            f"The data are those of task {fitted!r}, whose returns say nothing about {subject.task.name!r}: search in "
            "the environment with --with_env --trials 40."
        )


def _episodes(
    options: Options, own: TuneOptions, subject: Corrected, found: dict[str, Coefficients], directory: Path
) -> tuple[Searched | None, dict[str, Outcome] | None]:
    """The search, and the episodes of the candidates, as far as they are asked for."""
    from cdsa_lightning.commands.measured import measure_candidates, run_search

    if own.trials is not None:
        storage = own.storage or str(directory / "trials.db")
        searched = run_search(options, subject, found, own.trials, storage, own.objective or _RETURN)
        return searched, searched.outcomes
    return None, measure_candidates(options, subject, found) if own.with_env else None


def _returns(subject: Corrected, values: np.ndarray | None) -> Returns | None:
    """The policy's returns beside those of the data, where both are there and of one task."""
    from cdsa_lightning.tuning import Returns

    if values is None or _other_task(subject):
        return None
    return Returns(values, float(subject.data.episode_returns(whole_only=True).mean()))


def _choose(
    options: Options,
    own: TuneOptions,
    subject: Corrected,
    found: dict[str, Coefficients],
    measures: Measures,
    returns: Returns | None,
    searched: Searched | None,
    outcomes: dict[str, Outcome] | None,
) -> tuple[Choice, dict[str, Any] | None]:
    """The choice, and what was measured in the environment as plain values."""
    from cdsa_lightning.commands.measured import compared, judged
    from cdsa_lightning.tuning import Choice, choose, data_rule, return_rule

    data_of = _other_task(subject)
    by_rule = {"data": data_rule(measures, found, data_of)[0]}
    if returns is not None:
        by_rule["returns"] = return_rule(returns, found, measures)[0]
    judgement, search = judged(options, subject, searched, by_rule) if searched else (None, None)
    if judgement is not None and own.selector == "auto":
        name, rule, reason = judgement.name, "search", judgement.reason
    else:
        name, rule, reason = choose(own.selector, found, measures, returns, data_of)
    coefficients = (searched.shown if searched else found)[name]
    choice = Choice(coefficients, name, rule, reason, subject.task.name, subject.baseline)
    if outcomes is None:
        return choice, None
    environment = compared(subject.baseline, outcomes, name, by_rule["data"])
    return choice, environment | ({"search": search} if search else {})

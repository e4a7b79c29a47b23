"""`cdsa tune`: choose coefficients for a policy from data, and tell why; "no correction" is always a candidate.

The policy, the corrector and its data are found as `cdsa evaluate` finds them, which then takes the file written here:
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
    from cdsa_lightning.audit import Measures
    from cdsa_lightning.commands.corrected import Corrected
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.core.policy import Policy
    from cdsa_lightning.evaluation import Report
    from cdsa_lightning.tuning import Choice, Returns

__all__ = ["TuneOptions", "main", "tune"]

_SKIPPED = {"ablation", "wandb", "coefficients", *SINGLE}
_EPISODES = 10


@dataclass(frozen=True)
class TuneOptions:
    """What is chosen from; see `main` for what each is."""

    selector: str = "auto"
    returns: str | None = None
    with_env: bool = False
    rows: int = ROWS


def main(argv: list[str]) -> None:
    """Parse `argv` and choose."""
    from jsonargparse import ArgumentParser

    about = "Choose coefficients for a policy from data, without its environment unless --with_env."
    parser = ArgumentParser(prog="cdsa tune", description=about, **STRICT)
    parser.add_class_arguments(Options, as_group=False, skip=_SKIPPED)
    rules = "auto (by returns where there are any, else by data), returns, data or none."
    parser.add_argument("--selector", default="auto", help=rules)
    parser.add_argument("--returns", metavar="FILE", help="Returns of the policy's own episodes: .json, .npz or text.")
    parser.add_argument("--with_env", action="store_true", help="Measure them, and those of every candidate.")
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
    from cdsa_lightning.tuning import Choice, Returns, candidates, choose, data_rule, effect, read_returns

    _check(options, own)
    given = read_returns(own.returns) if own.returns else None
    subject = find_corrected(options)
    baseline, corrected = subject.baseline, subject.policy
    compares = own.selector in ("returns", "auto") and (own.with_env or given is not None)
    if compares:
        _same_task(subject)  # before episodes that would say nothing
    found = candidates(corrected.corrector, corrected.coefficients)
    reference = Reference(corrected.corrector, subject.data, corrected.coefficients, own.rows, options.seed)
    measures = audit(corrected.policy, reference, found["none"], seed=options.seed).measures
    effects = {
        name: effect(corrected.policy, corrected.corrector, c, reference, options.seed) for name, c in found.items()
    }
    report = _measured(options, subject, found) if own.with_env else None
    if report is not None:
        given = report.arms[baseline].returns.reshape(-1)
    returns = None
    if compares and given is not None:
        returns = Returns(given, float(subject.data.episode_returns(whole_only=True).mean()))
    name, rule, reason = choose(own.selector, found, measures, returns)
    choice = Choice(found[name], name, rule, reason, subject.task.name, baseline)
    said = {
        **choice.to_json(),
        "measures": asdict(measures) | {"kind": measures.kind},
        "returns": returns.to_json() if returns else None,
        "candidates": {key: {"coefficients": found[key].to_dict(), **e.to_json()} for key, e in effects.items()},
        "environment": _compared(report, baseline, found, name, data_rule(measures, found)[0]) if report else None,
        "about": {**subject.about, "rows": own.rows, "asked": own.selector},
    }
    _keep(said, options, measures, returns)
    return choice


def _check(options: Options, own: TuneOptions) -> None:
    from cdsa_lightning.tuning import SELECTORS

    if own.selector not in SELECTORS:
        raise unknown_name("selector", own.selector, SELECTORS)
    if own.returns and own.with_env:
        raise InputError("--with_env measures the returns that --returns names: give one of the two.")
    if options.episodes is not None and not own.with_env:
        raise InputError("--episodes are run in the environment: add --with_env.")


def _measured(options: Options, subject: Corrected, found: dict[str, Coefficients]) -> Report:
    """Episodes of the baseline and of every candidate."""
    from cdsa_lightning.core.corrector import CorrectedPolicy
    from cdsa_lightning.evaluation import Evaluator

    baseline, corrected = subject.baseline, subject.policy
    episodes = _EPISODES if options.episodes is None else options.episodes
    arms: dict[str, Policy] = {baseline: corrected.policy}
    for name, coefficients in found.items():
        if not coefficients.changes_nothing:
            arms[_arm(baseline, name)] = CorrectedPolicy(corrected.policy, corrected.corrector, coefficients)
    return Evaluator(subject.task, episodes, options.seed, env_kwargs=options.env_kwargs).run(arms)


def _arm(baseline: str, name: str) -> str:
    return baseline if name == "none" else f"cdsa({baseline}) {name}"


def _same_task(subject: Corrected) -> None:
    """The policy's returns can be compared with those of the data."""
    fitted = subject.policy.corrector.info.get("task")
    if fitted != subject.task.name:
        raise InputError(
            f"The data are those of task {fitted!r}, whose returns say nothing about {subject.task.name!r}: choose "
            "with --selector data."
        )


def _compared(
    report: Report, baseline: str, found: dict[str, Coefficients], chosen: str, by_data: str
) -> dict[str, Any]:
    """The mean return of every candidate, and what the choice and the data rule leave to the best of them."""
    means = {name: report.statistics[_arm(baseline, name)]["return"] for name in found}
    best = max(means, key=lambda name: means[name])
    return {
        "episodes_per_seed": report.arms[baseline].returns.shape[1],
        "mean_return": means,
        "best": best,
        "regret": means[best] - means[chosen],
        "data_rule": by_data,
        "data_rule_regret": means[best] - means[by_data],
        "differences": [{"arm": d.arm, "mean_return": vars(d.mean), "verdict": d.verdict} for d in report.differences],
    }


def _keep(said: dict[str, Any], options: Options, measures: Measures, returns: Returns | None) -> None:
    """coefficients.json, the picture, and the terminal."""
    from rich.console import Console

    from cdsa_lightning.commands.output import table
    from cdsa_lightning.files import write_json
    from cdsa_lightning.plots.tuning import tuning_figure
    from cdsa_lightning.records import save_figures
    from cdsa_lightning.runs import new_run

    name, task, measured = said["name"], said["task"], said["environment"]
    directory = Path(options.output) if options.output else new_run(task, "tune", options.runs)
    paths = [write_json(said, directory / "coefficients.json")]
    numbers = measured["mean_return"] if measured else {key: e["r"] for key, e in said["candidates"].items()}
    limit = ("mean return of the data", returns.data_mean) if measured and returns else None
    title, label = f"{said['baseline']} on {task}", "mean return" if measured else "r of the corrected actions"
    paths += save_figures({"tune": tuning_figure(measures, numbers, name, label, limit, title)}, directory)
    if options.quiet:
        return
    columns = ["", "r", "f99", "mean drift", "drift below 0", *(["mean return"] if measured else [])]
    shown = table("Candidates, in states of the data", *columns)
    for key, effect in said["candidates"].items():
        drift = effect["drift"]
        drifts = (f"{drift['mean']:+.3f}", f"{drift['negative_share']:.1%}") if drift["corrections"] else ("", "")
        cells = (f"{key} *" if key == name else key, f"{effect['r']:.3f}", f"{effect['f99']:.1%}", *drifts)
        shown.add_row(*cells, *([f"{numbers[key]:.1f}"] if measured else []))
    Console().print(shown)
    lines = [f"Chosen: {name}. {said['reason']}"]
    if measured:
        lines.append(
            f"Best in {measured['episodes_per_seed']} episodes per seed: {measured['best']}; the choice is "
            f"{measured['regret']:.1f} below it, the data rule's ({measured['data_rule']}) "
            f"{measured['data_rule_regret']:.1f}."
        )
    print("\n".join([*lines, *map(str, paths)]))

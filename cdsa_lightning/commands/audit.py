"""`cdsa audit`: how far outside the data a policy acts, in states of the data and along its own episodes.

The policy, the corrector and its data are found as `cdsa evaluate` finds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.commands.options import ROWS, Options, add_rows, build, spell_out

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cdsa_lightning.audit import Audit, Walk

__all__ = ["audit", "main"]

_SKIPPED = {"ablation", "wandb"}
_MEANING = {
    "r": "predicted noise of its actions / of the data's",
    "rho": "systematic share of it; a deterministic policy has 1",
    "f90": "its actions beyond the data's 90 % quantile",
    "f99": "its actions beyond the data's 99 % quantile",
}


def main(argv: list[str]) -> None:
    """Parse `argv` and audit."""
    from jsonargparse import ArgumentParser

    about = "Tell how far outside the data a policy acts. --episodes 0 does without the environment."
    parser = ArgumentParser(prog="cdsa audit", description=about, **STRICT)
    parser.add_class_arguments(Options, as_group=False, skip=_SKIPPED)
    add_rows(parser)
    given = vars(parse(parser, spell_out(argv)))
    audit(build(Options, given), given["rows"])


def audit(options: Options, rows: int = ROWS) -> Audit:
    """Run the audit that `options` describe, print it, and keep it in a run directory.

    Raises:
        InputError: something named does not exist or does not fit, or something not named was not found.
    """
    from cdsa_lightning.audit import Reference
    from cdsa_lightning.audit import audit as measure
    from cdsa_lightning.commands.corrected import find_corrected
    from cdsa_lightning.evaluation import Evaluator

    subject = find_corrected(options)
    task, corrected = subject.task, subject.policy
    reference = Reference(corrected.corrector, subject.data, corrected.coefficients, rows, options.seed)
    arms = None
    if options.episodes != 0:
        episodes = task.episodes if options.episodes is None else options.episodes
        arms = Evaluator(task, episodes, options.seed, episodes, options.env_kwargs).run(subject.arms).arms
    found = measure(corrected.policy, reference, corrected.coefficients, arms, options.seed)
    _keep(found, subject.baseline, task.name, options, {**subject.about, "rows": rows})
    return found


def _keep(found: Audit, baseline: str, task: str, options: Options, about: dict[str, Any]) -> None:
    """audit.json, the picture, and the terminal."""
    from rich.console import Console

    from cdsa_lightning.files import write_json
    from cdsa_lightning.plots.audit import audit_figure
    from cdsa_lightning.records import save_figures
    from cdsa_lightning.runs import new_run

    directory = Path(options.output) if options.output else new_run(task, "audit", options.runs)
    sentence = f"{task}: {found.sentence(baseline)}"
    said = {"task": task, "baseline": baseline, **found.to_json(), "sentence": sentence, "about": about}
    path = write_json(said, directory / "audit.json")
    paths = [path, *save_figures({"audit": audit_figure(found, baseline, f"Audit of {baseline}, {task}")}, directory)]
    if not options.quiet:
        console = Console()
        console.print(*_tables(found), sep="")
        print("\n".join([sentence, *map(str, paths)]))


def _worst(title: str, walk: Walk) -> RenderableType:
    from cdsa_lightning.commands.output import table

    steps = table(title, "seed", "episode", "step", "noise", "p-value", "observation")
    for step in walk.worst:
        obs = " ".join(f"{value:.3g}" for value in step.obs)
        steps.add_row(
            str(step.seed), str(step.episode), str(step.step), f"{step.noise:.2f}", f"{step.p_value:.2g}", obs
        )
    return steps


def _tables(found: Audit) -> list[RenderableType]:
    """The measures, the episodes with their worst steps, the drift of the corrections."""
    from cdsa_lightning.commands.output import table

    measures, values = (
        table(
            f"In states of the data, sigma {found.measures.sigma:g} (quantiles are in-sample)",
            "",
            "value",
            "what it is",
        ),
        [],
    )
    for name, meaning in _MEANING.items():
        measures.add_row(name, f"{getattr(found.measures, name):.3f}", meaning)
    values.append(measures)
    if found.walks:
        walks = table("Along episodes", "", "mean return", "beyond 90 %", "beyond 99 %")
        for name, walk in found.walks.items():
            walks.add_row(name, f"{walk.mean_return:.1f}", f"{walk.outside_90:.1%}", f"{walk.outside_99:.1%}")
        name, walk = next(iter(found.walks.items()))
        values += [walks, _worst(f"The most unusual steps of {name}", walk)]
    drifts = table("Density drift of the corrections (log density, after minus before)", "", "mean", "below 0", "n")
    for where, drift in found.drift.items():
        said = drift.to_json()
        if said["corrections"]:
            row = (f"{said['mean']:+.3f}", f"{said['negative_share']:.1%}", str(said["corrections"]))
            drifts.add_row(where, *row)
        else:
            drifts.add_row(where, "nothing moved", "", "0")
    return [*values, drifts]

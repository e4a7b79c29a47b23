"""What `cdsa evaluate` evaluates: what is named is taken, what is not is looked up under runs/; each choice is told.

The newest checkpoint of the baseline says the task, the newest corrector of that task corrects it, and the coefficients
are those recommended for the two. Where there is nothing to take, the error names the command that makes it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.options import SINGLE, Options
from cdsa_lightning.errors import InputError, unknown_name

if TYPE_CHECKING:
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.core.corrector import Corrector
    from cdsa_lightning.core.policy import Policy
    from cdsa_lightning.tasks import Task

__all__ = ["Subject", "find_subject", "make_arms"]


@dataclass
class Subject:
    """What is evaluated, and in `notes` how each part was found."""

    task: Task
    policy: Policy
    checkpoint: Path | None
    notes: list[str] = field(default_factory=list)


def find_subject(options: Options) -> Subject:
    """The task and the baseline, named or newest."""
    from cdsa_lightning.presets import get_preset
    from cdsa_lightning.registry import load_policy, names
    from cdsa_lightning.tasks import get_task

    baseline = options.baseline
    if options.preset:
        get_preset(options.preset)
    if baseline not in names():
        raise unknown_name("baseline", baseline, names(), "Install the package that provides it.")
    name, checkpoint = _task_and_checkpoint(options)
    task = get_task(name)
    policy = load_policy(
        baseline, checkpoint, task
    )  # a loader that needs a checkpoint and gets none says what makes it
    found = f" from {checkpoint}{'' if options.checkpoint else ' (the newest)'}" if checkpoint else ""
    return Subject(task, policy, checkpoint, [f"task          {task.name}", f"baseline      {baseline}{found}"])


def _task_and_checkpoint(options: Options) -> tuple[str, Path | None]:
    """The first that is known: --task, the task of --corrector, of the checkpoint, of the newest corrector."""
    from cdsa_lightning.arms import fit_command
    from cdsa_lightning.core.artifact import read_header
    from cdsa_lightning.runs import newest_checkpoint, newest_corrector

    baseline, runs = options.baseline, options.runs
    corrector = None if options.corrector == "none" else options.corrector
    name = options.task or (read_header(corrector).get("task") if corrector else None)
    checkpoint = Path(options.checkpoint) if options.checkpoint else newest_checkpoint(baseline, name, runs)
    if not name and checkpoint:
        name = _task_of(checkpoint)
    if not name:
        newest = newest_corrector(None, options.preset, runs)
        name = read_header(newest).get("task") if newest else None
    if not name:
        raise InputError(
            f"Nothing says which task to evaluate {baseline!r} on: there is neither a checkpoint of it nor a corrector "
            f"under {runs}/. Name one with --task, or make them: a trained baseline with 'cdsa fit --config "
            f"configs/baselines/{baseline}.yaml --data.task <task>', a corrector with {fit_command('<task>')}."
        )
    return str(name), checkpoint


def make_arms(options: Options, subject: Subject) -> tuple[dict[str, Policy], dict[str, Any]]:
    """The policies by name, and what the report says about them."""
    from cdsa_lightning import arms
    from cdsa_lightning.comparison import corrections

    name, noise = options.baseline, options.action_noise
    about: dict[str, Any] = {"options": dataclasses.asdict(options), "checkpoint": _text(subject.checkpoint)}
    if options.corrector == "none":
        return arms.make_arms(subject.policy, name, None, None, action_noise=noise), about
    path, corrector = _corrector(options, subject)
    coefficients = _coefficients(options, subject, corrector)
    if options.ablation and len(corrections(coefficients)) == 1:
        subject.notes.append("              Of a1 and a2 one is off already: --ablation has nothing to leave out.")
    about |= {"corrector": _text(path), "coefficients": coefficients.to_dict(), "corrector_header": corrector.info}
    about["ensemble"] = corrector.networks.ensemble
    return arms.make_arms(subject.policy, name, corrector, coefficients, options.ablation, noise), about


def _corrector(options: Options, subject: Subject) -> tuple[Path, Corrector]:
    """The corrector, named or newest, seen to fit the task."""
    from cdsa_lightning.arms import check_corrector, fit_command, select_seed
    from cdsa_lightning.core.artifact import load_corrector
    from cdsa_lightning.runs import newest_corrector

    own = subject.task.corrected_by
    path = Path(options.corrector) if options.corrector else newest_corrector(own, options.preset, options.runs)
    if path is None:
        preset = f" with preset {options.preset!r}" if options.preset else ""
        raise InputError(
            f"There is no corrector of task {own!r}{preset} under {options.runs}/. Make one: "
            f"{fit_command(own, options.preset)}, or name one with --corrector."
        )
    whole: Corrector = load_corrector(path)
    check_corrector(whole, subject.task, str(path))
    corrector, held = select_seed(whole, options.corrector_seed, options.ensemble)
    found = "" if options.corrector else "the newest; "
    steps = corrector.info.get("steps")  # a trial of one step is a run like any other, and may be the newest
    trained = "" if steps is None else f", {steps} step{'' if steps == 1 else 's'}"
    about = f"{found}preset {corrector.info.get('preset')}, {held}{trained}"
    subject.notes.append(f"corrector     {path} ({about})")
    return path, corrector


def _coefficients(options: Options, subject: Subject, corrector: Corrector) -> Coefficients:
    """Those of the file, else those recommended, else the corrector's own; single values overridden."""
    from cdsa_lightning.arms import find_coefficients

    given = {key: getattr(options, key) for key in SINGLE}
    task, named = subject.task, options.coefficients
    coefficients, origin = find_coefficients(corrector, task, options.baseline, options.preset, named, given)
    values = ", ".join(f"{key} {value}" for key, value in coefficients.to_dict().items() if value not in (None, []))
    subject.notes.append(f"coefficients  {values} ({origin})")
    if coefficients.changes_nothing:
        subject.notes.append("              With these the correction changes nothing: name others with --k1 and --k2.")
    return coefficients


def _task_of(checkpoint: Path) -> str | None:
    """The task of a checkpoint that lies where runs are kept: <task>/<baseline>/<run id>/last.ckpt."""
    from cdsa_lightning.tasks import task_names

    folders = checkpoint.absolute().parents
    return folders[2].name if len(folders) > 2 and folders[2].name in task_names() else None


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)

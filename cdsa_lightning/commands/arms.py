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

_WORLDS = ("antmaze", "halfcheetah", "hopper", "walker2d")


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
            f"configs/baselines/{baseline}.yaml --data.task <task>', a corrector with {_fit_corrector('<task>')}."
        )
    return str(name), checkpoint


def make_arms(options: Options, subject: Subject) -> tuple[dict[str, Policy], dict[str, Any]]:
    """The policies by name, and what the report says about them."""
    from cdsa_lightning.comparison import arm_name, corrections
    from cdsa_lightning.core.corrector import CorrectedPolicy
    from cdsa_lightning.rollout import NoisyPolicy

    policy, name = subject.policy, options.baseline
    if options.ensemble and options.corrector_seed is not None:
        raise InputError("--ensemble takes the mean of the seeds, --corrector_seed one of them: give one of the two.")
    if options.action_noise:
        policy, name = NoisyPolicy(policy, options.action_noise), f"{name}+noise({options.action_noise:g})"
    arms: dict[str, Policy] = {name: policy}
    about: dict[str, Any] = {"options": dataclasses.asdict(options), "checkpoint": _text(subject.checkpoint)}
    if options.corrector == "none":
        return arms, about
    path, corrector = _corrector(options, subject)
    coefficients = _coefficients(options, subject, corrector)
    parts = corrections(coefficients)
    if options.ablation and len(parts) == 1:
        subject.notes.append("              Of a1 and a2 one is off already: --ablation has nothing to leave out.")
    for arm in parts if options.ablation else ["cdsa"]:
        arms[arm_name(arm, name)] = CorrectedPolicy(policy, corrector, parts[arm])
    about |= {"corrector": _text(path), "coefficients": coefficients.to_dict(), "corrector_header": corrector.info}
    about["ensemble"] = corrector.networks.ensemble
    return arms, about


def _corrector(options: Options, subject: Subject) -> tuple[Path, Corrector]:
    """The corrector, named or newest, seen to fit the task."""
    from cdsa_lightning.core.artifact import load_corrector
    from cdsa_lightning.runs import newest_corrector

    task = subject.task
    own = task.corrected_by
    path = Path(options.corrector) if options.corrector else newest_corrector(own, options.preset, options.runs)
    if path is None:
        preset = f" with preset {options.preset!r}" if options.preset else ""
        raise InputError(
            f"There is no corrector of task {own!r}{preset} under {options.runs}/. Make one: "
            f"{_fit_corrector(own, options.preset)}, or name one with --corrector."
        )
    corrector: Corrector = load_corrector(path)
    trained = corrector.info.get("task")
    if trained not in (task.name, own):
        served = "" if own == task.name else f", which is corrected by correctors of {own!r}"
        raise InputError(
            f"{path} corrects task {trained!r}, but the evaluation is on task {task.name!r}{served}: "
            f"name another with --corrector, or --task {trained}."
        )
    again = _fit_corrector(own, corrector.info.get("preset"))
    if (corrector.obs_dim, corrector.action_dim) != (task.obs_dim, task.action_dim):
        raise InputError(
            f"{path} takes {corrector.obs_dim} observation and {corrector.action_dim} action entries, "
            f"{task.name!r} has {task.obs_dim} and {task.action_dim}. Fit it again: {again}."
        )
    seen, wanted = corrector.networks.state_index, None if task.obs_to_state is None else list(task.obs_to_state)
    if seen != wanted:
        raise InputError(
            f"{path} looks at the observation entries {_entries(seen)}, {task.name!r} is corrected by "
            f"{_entries(wanted)}. Fit it again: {again}."
        )
    found = "" if options.corrector else "the newest; "
    held = f"{corrector.num_seeds} seeds"
    if options.corrector_seed is not None:
        corrector, held = corrector.select(options.corrector_seed), f"seed {options.corrector_seed} of {held}"
    elif options.ensemble:
        corrector = corrector.ensemble()
    if corrector.networks.ensemble:  # its file may hold one already
        held = f"the mean of {corrector.networks.members} seeds"
    steps = corrector.info.get("steps")  # a trial of one step is a run like any other, and may be the newest
    trained = "" if steps is None else f", {steps} step{'' if steps == 1 else 's'}"
    about = f"{found}preset {corrector.info.get('preset')}, {held}{trained}"
    subject.notes.append(f"corrector     {path} ({about})")
    return path, corrector


def _coefficients(options: Options, subject: Subject, corrector: Corrector) -> Coefficients:
    """Those of the file, else those recommended, else the corrector's own; single values overridden."""
    coefficients, origin = (
        _named(options.coefficients) if options.coefficients else _recommended(options, subject, corrector)
    )
    given = {key: getattr(options, key) for key in SINGLE if getattr(options, key) is not None}
    coefficients = dataclasses.replace(coefficients, **given)
    if options.k2 and coefficients.a2 == "off":
        raise InputError(f"--k2 {options.k2:g} does nothing while a2 is off: add --a2 paper or --a2 residual.")
    changed = f"; {', '.join(given)} as given" if given else ""
    values = ", ".join(f"{key} {value}" for key, value in coefficients.to_dict().items() if value not in (None, []))
    subject.notes.append(f"coefficients  {values} ({origin}{changed})")
    if coefficients.changes_nothing:
        subject.notes.append("              With these the correction changes nothing: name others with --k1 and --k2.")
    return coefficients


def _named(path: str) -> tuple[Coefficients, str]:
    """Those of a file, and how they are told."""
    from cdsa_lightning.tuning import read_choice

    choice = read_choice(path)
    return choice.coefficients, f"from {path}{': ' if choice.origin else ''}{choice.origin}"


def _recommended(options: Options, subject: Subject, corrector: Corrector) -> tuple[Coefficients, str]:
    """Those recommended for the task and the baseline, else the corrector's own, and how they are told."""
    from cdsa_lightning.presets import coefficients_for, get_preset

    preset = str(options.preset or corrector.info.get("preset"))
    get_preset(preset)  # an unknown preset is a mistake, a missing row is not
    try:
        coefficients = coefficients_for(subject.task.name, options.baseline, preset)
        origin = f"recommended for {options.baseline} on {subject.task.name} with preset {preset}"
    except InputError:
        coefficients = corrector.coefficients
        origin = f"the corrector's own: none are recommended for {options.baseline} with preset {preset}"
    return coefficients, origin


def _task_of(checkpoint: Path) -> str | None:
    """The task of a checkpoint that lies where runs are kept: <task>/<baseline>/<run id>/last.ckpt."""
    from cdsa_lightning.tasks import task_names

    folders = checkpoint.absolute().parents
    return folders[2].name if len(folders) > 2 and folders[2].name in task_names() else None


def _fit_corrector(task: str, preset: str | None = None) -> str:
    """The command that makes a corrector: one configuration serves all tasks of a robot, one the paper's preset."""
    world = task.partition("-")[0]
    config = "paper" if preset == "paper" else world if world in _WORLDS else task.replace("-", "_")
    return f"'cdsa fit --config configs/{config}.yaml --data.task {task}'"


def _entries(index: list[int] | None) -> str:
    return "all" if index is None else ", ".join(map(str, index))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)

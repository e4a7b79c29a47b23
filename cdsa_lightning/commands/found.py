"""What `cdsa plot` draws: what is named is taken, what is not is looked up under runs/; each choice is told.

The newest evaluation of the task says which corrector it used, and the corrector says which data it was fitted on.
Where there is nothing to take, the error names the command that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.core.corrector import Corrector
    from cdsa_lightning.evaluation import Report
    from cdsa_lightning.sources import Transitions
    from cdsa_lightning.tasks import Task

__all__ = ["Evaluation", "corrector_in", "data_of", "evaluation_in", "fitted_on", "newest_of", "subject_of_field"]


@dataclass
class Evaluation:
    """One kept evaluation, and in `notes` how it was found."""

    directory: Path
    report: Report
    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def coefficients(self) -> Coefficients | None:
        """Those that it corrected with; None where it corrected nothing."""
        from cdsa_lightning.core.coefficients import Coefficients

        kept = self.about.get("coefficients")
        return Coefficients.from_dict(kept) if isinstance(kept, dict) else None


def evaluation_in(directory: str | Path, task: str | None = None, how: str = "") -> Evaluation:
    """The evaluation that `cdsa evaluate` kept in `directory`.

    Args:
        directory: Holds report.json.
        task: What it must be an evaluation of; None for any.
        how: Told in brackets behind the directory.

    Raises:
        InputError: there is none, it is damaged, or it is one of another task.
    """
    from cdsa_lightning.records import load, load_about

    report = load(directory)
    if task is not None and report.task.name != task:
        raise InputError(
            f"{directory} evaluates task {report.task.name!r}, not {task!r}: name another with --report, "
            f"or --task {report.task.name}."
        )
    told = f"evaluation    {directory}{f' ({how})' if how else ''}"
    return Evaluation(Path(directory), report, load_about(directory), [told])


def newest_of(task: str | None, baseline: str | None, runs: str | Path, corrected: bool = False) -> Evaluation:
    """The newest evaluation under `runs`.

    Args:
        task: Of this task; None for any.
        baseline: Of this baseline; None for any.
        runs: Where runs are kept.
        corrected: Only one that also ran the corrected baseline.

    Raises:
        InputError: there is none; the text names the command that makes it.
    """
    from cdsa_lightning.runs import newest_evaluation
    from cdsa_lightning.tasks import get_task

    if task is not None:
        get_task(task)  # an unknown one is a mistake whatever was evaluated
    directory = newest_evaluation(task, baseline, runs, corrected)
    if directory is None:
        of = f" of {baseline!r}" if baseline else ""
        on = f" on task {task!r}" if task else ""
        command = f"cdsa evaluate --baseline {baseline or 'NAME'}{f' --task {task}' if task else ''}"
        raise InputError(
            f"There is no {'corrected ' if corrected else ''}evaluation{of}{on} under {runs}/. Make one: {command}, "
            "or name its directory with --report."
        )
    return evaluation_in(directory, None, f"the newest{f' of {baseline}' if baseline else ''}")


def corrector_in(evaluation: Evaluation, path: str | Path | None = None) -> Corrector:
    """The corrector in `path`, by default the one that the evaluation recorded, as the evaluation used it.

    Raises:
        InputError: the evaluation corrected nothing, or the file is missing or damaged.
    """
    from cdsa_lightning.core.artifact import load_corrector

    recorded = evaluation.about.get("corrector")
    if path is None and not recorded:
        raise InputError(
            f"The evaluation in {evaluation.directory} corrected nothing: name a corrector.safetensors with "
            "--corrector, or another evaluation with --report."
        )
    if path is None and not Path(str(recorded)).exists():
        raise InputError(
            f"The corrector that {evaluation.directory} records, {recorded}, is not here: name it with --corrector."
        )
    corrector: Corrector = load_corrector(str(path or recorded))
    evaluation.notes.append(f"corrector     {path or recorded}{'' if path else ' (recorded there)'}")
    options = evaluation.about.get("options")
    row = options.get("corrector_seed") if isinstance(options, dict) and path is None else None
    if row is not None:
        return corrector.select(int(row))
    mean = path is None and evaluation.about.get("ensemble") and not corrector.networks.ensemble
    return corrector.ensemble() if mean else corrector


def subject_of_field(
    report: list[str] | None, task: str | None, corrector: str | None, runs: str | Path
) -> tuple[Corrector, Task, Path, list[str]]:
    """Whose field is drawn, on which task, where the picture is kept, and how these were found.

    The first that is known: the named corrector, that of the named evaluation, of the newest one, the newest at all.

    Raises:
        InputError: nothing was found, or it does not fit the task.
    """
    from cdsa_lightning.core.artifact import load_corrector
    from cdsa_lightning.runs import newest_corrector, newest_evaluation
    from cdsa_lightning.tasks import get_task

    directory = Path(report[0]) if report else None if corrector else newest_evaluation(task, None, runs, True)
    if directory is not None:
        evaluation = evaluation_in(directory, task, "" if report else "the newest")
        found, name = corrector_in(evaluation, corrector), evaluation.report.task.name
        folder, notes = evaluation.directory, evaluation.notes
    else:
        path = (
            Path(corrector)
            if corrector
            else newest_corrector(get_task(task).corrected_by if task else None, None, runs)
        )
        if path is None:
            of = f" of task {task!r}" if task else ""
            raise InputError(
                f"There is neither an evaluation nor a corrector{of} under {runs}/. Make a corrector: "
                "'cdsa fit --config configs/<task>.yaml', or name one with --corrector."
            )
        found, folder = load_corrector(path), path.parent
        notes = [f"corrector     {path}{'' if corrector else ' (the newest)'}"]
        name = task or str(found.info.get("task"))
    subject = get_task(name)
    if found.obs_dim != subject.obs_dim:
        raise InputError(
            f"The corrector takes {found.obs_dim} observation entries, task {name!r} has {subject.obs_dim}: "
            "name another with --corrector or --task."
        )
    return found, subject, folder, notes


def data_of(corrector: Corrector) -> Transitions | None:
    """What the corrector was fitted on; None where it is not on this machine."""
    found = _source(corrector)
    if found is None:
        return None
    from cdsa_lightning.tasks import get_task

    return get_task(found[0]).transitions(found[1])


def fitted_on(corrector: Corrector) -> Transitions:
    """What the corrector was fitted on.

    Raises:
        InputError: it is not on this machine.
    """
    data = data_of(corrector)
    if data is None:
        info = corrector.info
        raise InputError(
            f"The data that the corrector was fitted on, {info.get('source', 'unrecorded')}, are not on this machine: "
            f"'cdsa datasets' tells where the data of {info.get('task')!r} come from."
        )
    return data


def _source(corrector: Corrector) -> tuple[str, str] | None:
    """The corrector's task and where its data are: the recorded source, else the task's first; None for neither."""
    from cdsa_lightning.sources import locate
    from cdsa_lightning.tasks import get_task

    name, recorded = corrector.info.get("task"), corrector.info.get("source")
    try:
        if not name:
            return None
        task = get_task(str(name))
        if isinstance(recorded, str) and locate(recorded) is not None:
            return task.name, recorded
    except InputError:  # fitted where other tasks or schemes are known
        return None
    local = task.local_source()
    return (task.name, local) if local else None

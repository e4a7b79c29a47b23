"""The ways to read one checkpoint, for `cdsa inspect`: by a baseline, as a corrector, or to resume a training."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cdsa_lightning.checkpoints import inspect_run
from cdsa_lightning.commands.looks import safetensors_header
from cdsa_lightning.core.artifact import POLICY, load_corrector, read_header
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.registry import Findings, load_policy
from cdsa_lightning.runs import CHECKPOINT, CORRECTOR
from cdsa_lightning.tasks import Task, get_task, task_names

__all__ = ["Reading", "fitting", "likely", "misfit", "of_run", "readings"]


@dataclass(frozen=True)
class Reading:
    """One way to read the file.

    Attributes:
        inspection: What it is.
        reader: What to write for it to be read, for instance ``--baseline sb3``.
        command: What to do next, in words of a shell.
        baseline: The baseline that restores it; empty for what belongs to correctors.
    """

    inspection: Inspection
    reader: str
    command: list[str]
    baseline: str = ""


def of_run(path: Path) -> Path:
    """What the folder of a run is asked for: its corrector, else its checkpoint. Any other path is itself."""
    return next((path / name for name in (CORRECTOR, CHECKPOINT) if (path / name).is_file()), path)


def readings(path: Path, findings: Findings) -> list[Reading]:
    """Every way to read `path`; `findings` is what the baselines say.

    Raises:
        InputError: it is a corrector, but a damaged one.
    """
    own = [reading for reading in (_corrector(path), _corrector_run(path)) if reading]
    evaluate = ["cdsa", "evaluate", "--baseline"]
    return own + [
        Reading(found, f"--baseline {name}", [*evaluate, name, "--checkpoint", str(path)], name)
        for name, found in findings.claims.items()
    ]


def _corrector(path: Path) -> Reading | None:
    marks = (safetensors_header(path) or {}).get("__metadata__")
    if not isinstance(marks, dict) or "cdsa" not in marks:
        return None
    corrector = load_corrector(path)
    info, settings = corrector.info, corrector.networks.settings
    raw = "none: raw observations"
    inspection = Inspection(
        format="corrector of 'cdsa fit'",
        algorithm=f"CDSA, preset {info.get('preset')}",
        obs_dim=corrector.obs_dim,
        action_dim=corrector.action_dim,
        statistics=f"mean and std of {corrector.obs_dim} entries, inside the file" if settings.standardize else raw,
        num_seeds=corrector.networks.members,
        task=str(info.get("task")),
        details={
            "seeds": str(info.get("seeds", "")).strip("[]"),
            **({"ensemble": "the mean of its seeds, as one corrector"} if corrector.networks.ensemble else {}),
            "trained": f"{info.get('steps', 'an unrecorded number of')} steps",
            "data": str(info.get("source", "not recorded")),
            "action sigmas": ", ".join(f"{sigma:g}" for sigma in settings.action_sigmas),
            **({"policy": "inside, for cdsa_lightning.runtime.NumpyPolicy"} if read_header(path).get(POLICY) else {}),
        },
    )
    return Reading(inspection, "--corrector", ["cdsa", "evaluate", "--baseline", "NAME", "--corrector", str(path)])


def _corrector_run(path: Path) -> Reading | None:
    """What the training of a corrector resumes from."""
    found = inspect_run(path, "cdsa")
    if found is None:
        return None
    beside = path.with_name(CORRECTOR)
    if beside.is_file():
        note = f"Its training has ended: what corrects is {CORRECTOR} beside it."
        command = ["cdsa", "evaluate", "--baseline", "NAME", "--corrector", str(beside)]
    else:
        note = f"Its training has not ended: there is no {CORRECTOR} beside it yet."
        command = ["cdsa", "fit", "--config", str(path.with_name("config.yaml")), "--ckpt_path", str(path)]
    found = dataclasses.replace(found, algorithm="CDSA, in training", statistics="inside the file", notes=(note,))
    return Reading(found, "cdsa fit --ckpt_path, to go on", command)


def misfit(path: Path, reading: Reading, task: Task) -> str:
    """Why what is in `path` cannot act on, or correct, the task; empty where it can."""
    found, dims = reading.inspection, _dims(task)
    if reading.baseline:
        try:
            load_policy(reading.baseline, path, task)
        except InputError as error:
            return str(error)
        return ""
    if found.task not in (task.name, task.corrected_by):
        return f"{path} belongs to task {found.task!r}, not to {task.name!r}."
    if (found.obs_dim, found.action_dim) != dims:
        return (
            f"{path} takes {found.obs_dim} observation and {found.action_dim} action entries, "
            f"task {task.name!r} has {dims[0]} and {dims[1]}."
        )
    return ""


def fitting(found: Inspection) -> list[str]:
    """Tasks of the table whose dimensions agree with what the file says; its own alone where it names one."""
    if found.task:
        return [found.task]
    wanted = (found.obs_dim, found.action_dim)
    if wanted == (None, None):
        return []
    dims = {name: _dims(get_task(name)) for name in task_names()}
    return [name for name, has in dims.items() if all(w in (None, h) for w, h in zip(wanted, has, strict=True))]


def likely(path: Path, tasks: list[str]) -> str:
    """The task of which the file's name speaks, else the first; empty where there is none."""
    spelled = path.name.lower().replace("_", "-")
    return max(tasks, key=lambda name: len(name) if name in spelled else 0, default="")


def _dims(task: Task) -> tuple[int, int]:
    with _without_remarks():
        return task.obs_dim, task.action_dim


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Without what libraries say about environments that are made only to be measured."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

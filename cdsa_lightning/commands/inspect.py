"""`cdsa inspect`: what a checkpoint is, which baseline restores it, and whether it fits a task.

Every installed baseline is asked, and correctors and checkpoints of their training are known here. Files are read as
data; nothing in them is executed.
"""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from cdsa_lightning.commands.readings import Reading
    from cdsa_lightning.inspection import Inspection
    from cdsa_lightning.registry import Findings
    from cdsa_lightning.tasks import Task

__all__ = ["main"]

_USAGE = "cdsa inspect PATH [--task TASK]"
_NAMES, _WIDTH = 14, 120  # columns of the names in front of the lines, and of the lines


def main(argv: list[str]) -> None:
    """Parse `argv` and tell what the file is.

    Raises:
        InputError: nobody knows the file, it is damaged, or it does not fit the task that was named.
    """
    from jsonargparse import ArgumentParser

    about = "What a checkpoint is, which baseline reads it, and which task it fits."
    parser = ArgumentParser(prog="cdsa inspect", usage=_USAGE, description=about, **STRICT)
    parser.add_argument("path", metavar="PATH", nargs="?", help="A checkpoint, a corrector, or the folder of a run.")
    parser.add_argument("--task", metavar="TASK", help="Load it for this task, to see whether it fits.")
    options = parse(parser, argv)
    if not options.path:
        raise InputError(f"PATH is missing. Write {_USAGE}.")
    _inspect(Path(options.path), options.task)


def _inspect(path: Path, name: str | None) -> None:
    from cdsa_lightning.commands.readings import of_run, readings
    from cdsa_lightning.registry import inspect_checkpoint
    from cdsa_lightning.tasks import get_task

    task = get_task(name) if name else None  # first: an unknown one is a mistake whatever the file is
    path = of_run(path)
    findings = inspect_checkpoint(path)
    found = readings(path, findings)
    if not found:
        raise _unknown(path, findings)
    size = f" ({path.stat().st_size / 1e6:.1f} MB)" if path.is_file() else ""
    print(f"{'file':<{_NAMES}}{path}{size}")
    if len(found) > 1:
        print(f"\n{len(found)} readers know it; the first:")
    misfits = []
    for number, reading in enumerate(found):
        if number:
            print("\nor:")
        misfits.append(_tell(path, reading, task))
    for reader, refusal in findings.refusals.items():
        _line("note", f"{reader} knows the kind, but: {refusal}")
    if all(misfits):
        raise InputError("\n".join(misfits))


def _unknown(path: Path, findings: Findings) -> InputError:
    """Why nobody reads `path`: what those say who know its kind, else what it looks like and what can be read."""
    from cdsa_lightning.commands.looks import looks

    if findings.refusals:
        return InputError("\n".join(str(refusal) for refusal in findings.refusals.values()))
    lines = [f"No installed baseline reads {path}: it looks like {looks(path)}. What can be read:"]
    kinds = {**findings.readers, "(corrector)": "A corrector.safetensors of `cdsa fit`, and the checkpoint beside it."}
    lines += [f"  {reader:<{_NAMES}} {text}".rstrip() for reader, text in kinds.items()]
    lines += [f"Not asked: {error}" for error in findings.unable]
    return InputError("\n".join(lines))


def _tell(path: Path, reading: Reading, task: Task | None) -> str:
    """Print one reading; why it does not fit `task`, or "" where it does or none is named."""
    from cdsa_lightning.commands.readings import fitting, likely, misfit

    found, details = reading.inspection, dict(reading.inspection.details)
    seeds = details.pop("seeds", "")
    entries = ["an unknown number of" if entry is None else entry for entry in (found.obs_dim, found.action_dim)]
    lines = {
        "format": found.format,
        "algorithm": found.algorithm,
        "read by": reading.reader,
        "dimensions": f"{entries[0]} observation and {entries[1]} action entries",
        "statistics": found.statistics,
        "seeds": f"{found.num_seeds}{f' ({seeds})' if seeds else ''}",
        **({"task": found.task} if found.task else {}),
        **details,
    }
    for name, text in lines.items():
        _line(name, text)
    for note in found.notes:
        _line("note", note)
    if task:
        wrong, name = misfit(path, reading, task), task.name
        _line("fits", f"{name}: {'no' if wrong else 'yes'}")
    else:
        fits = fitting(found)
        wrong, name = "", likely(path, fits) or "TASK"
        _line("fits", _listed(found, fits))
    if found.acts and not wrong:
        command = [*reading.command, "--task", name] if reading.command[1] == "evaluate" else reading.command
        print(f"{'next':<{_NAMES}}{shlex.join(command)}")
    return wrong


def _listed(found: Inspection, fits: list[str]) -> str:
    if found.task:
        return f"{found.task}, which it was trained on"
    if found.obs_dim is None and found.action_dim is None:
        return "not told by the file: name a task with --task, and it is tried"
    return f"by its dimensions {', '.join(fits) or 'no task of the table; others are named gym:<EnvId>'}"


def _line(name: str, text: str) -> None:
    wrapper = textwrap.TextWrapper(
        _WIDTH,
        initial_indent=f"{name:<{_NAMES - 1}} ",
        subsequent_indent=" " * _NAMES,
        break_long_words=False,  # names and paths can be copied whole
        break_on_hyphens=False,
    )
    print(wrapper.fill(text))

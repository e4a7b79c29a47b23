"""`cdsa export`: a corrector, alone or fused with a policy, as one file that runs without this package's classes.

What is not named is found as `cdsa evaluate` finds it. Each file is read back and compared with PyTorch before it
appears; `--benchmark` then times each beside PyTorch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.commands.options import SINGLE, Options, build, spell_out
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from cdsa_lightning.core.policy import Policy
    from cdsa_lightning.export import Exported, Subject
    from cdsa_lightning.export.latency import Latency

__all__ = ["ExportOptions", "export", "main"]

_SHARED = ("task", "checkpoint", "corrector", "preset", "coefficients", *SINGLE, "runs", "threads", "quiet")


@dataclass(frozen=True)
class ExportOptions:
    """What becomes of the file.

    Args:
        format: safetensors, onnx, torchscript or pt2; several with commas, or all.
        baseline: Fuse the corrector with this baseline; without one it is written alone.
        seed: Which training seed of the corrector, counted from 0, or mean for the mean over all.
        policy_seed: Which training seed of the baseline; by default that of the corrector.
        output: A file with the format's ending, or a folder; by default runs/TASK/export/DATE-TIME.
    """

    format: str
    baseline: str | None = None
    seed: int | str = 0
    policy_seed: int | None = None
    output: str | None = None


def main(argv: list[str]) -> None:
    """Parse `argv` and export."""
    from jsonargparse import ArgumentParser

    about = "Write a corrector, alone or fused with a baseline, as one file."
    parser = ArgumentParser(prog="cdsa export", description=about, **STRICT)
    parser.add_class_arguments(ExportOptions, as_group=False)
    skip = {field.name for field in dataclasses.fields(Options)} - set(_SHARED)
    parser.add_class_arguments(Options, as_group=False, skip=skip)
    parser.add_argument("--benchmark", action="store_true", help="Time each file beside PyTorch, at batch 1, 32, 1024.")
    given = vars(parse(parser, spell_out(argv)))
    options = Options(**{"baseline": given["baseline"] or "", **{name: given[name] for name in _SHARED}})
    export(options, build(ExportOptions, given), given["benchmark"])


def export(options: Options, how: ExportOptions, benchmark: bool = False) -> list[Path]:
    """Write what `options` and `how` describe, and say what was found.

    Returns:
        The files, and the figures of the benchmark where one was asked for.

    Raises:
        InputError: something named does not exist or does not fit, a policy that cannot become a graph, a missing
            package, or a file whose answers are not PyTorch's.
    """
    import torch

    from cdsa_lightning.export import FORMATS, export

    formats = _formats(how)
    torch.set_num_threads(options.threads)
    subject, notes = _find(options, how)
    if not options.quiet:
        print("\n".join(notes), flush=True)
    stem = "corrector" if subject.policy is None else "policy"
    folder, name = _place(options, how, formats, str(subject.about["corrector"].get("task")))
    made = []
    for chosen in formats:
        path = folder / (name or f"{stem}{FORMATS[chosen].suffix}")
        made.append(export(subject, chosen, path))
        if not options.quiet:
            print(_line(made[-1]), flush=True)
    written = [file.path for file in made]
    return [*written, _benchmark(subject, made, folder, options.quiet)] if benchmark else written


def _formats(how: ExportOptions) -> list[str]:
    from cdsa_lightning.errors import unknown_name
    from cdsa_lightning.export import FORMATS

    if how.format == "all":
        return list(FORMATS)
    names = [name.strip() for name in how.format.split(",")]
    for name in names:
        if name not in FORMATS:
            raise unknown_name("format", name, [*FORMATS, "all"])
    return list(dict.fromkeys(names))


def _place(options: Options, how: ExportOptions, formats: list[str], task: str) -> tuple[Path, str]:
    """The folder, and the file's name where it was given."""
    from cdsa_lightning.export import FORMATS
    from cdsa_lightning.runs import new_run

    if how.output is None:
        return new_run(task, "export", options.runs), ""
    path, endings = Path(how.output), {kind.suffix for kind in FORMATS.values()}
    if path.suffix not in endings:
        return path, ""
    if len(formats) > 1 or path.suffix != FORMATS[formats[0]].suffix:
        wanted = ", ".join(f"{name} {FORMATS[name].suffix}" for name in formats)
        raise InputError(f"--output {how.output} does not fit --format {how.format} ({wanted}); a folder fits any.")
    return path.parent, path.name


def _find(options: Options, how: ExportOptions) -> tuple[Subject, list[str]]:
    from cdsa_lightning.export import subject

    if options.corrector == "none":
        raise InputError("There is nothing to export without a corrector: leave --corrector out, or name a file.")
    if not how.baseline:
        return _alone(options, how)
    from cdsa_lightning.commands.arms import find_subject, make_arms
    from cdsa_lightning.core.corrector import CorrectedPolicy
    from cdsa_lightning.export.single import exportable

    found = find_subject(options)
    seeds, row = found.policy.num_seeds, _policy_seed(how, found.policy)
    found.policy = exportable(found.policy, how.baseline, row, found.task.obs_dim)
    arms, about = make_arms(options, found)
    policy = next(arm for arm in arms.values() if isinstance(arm, CorrectedPolicy))
    made = subject(policy.corrector, policy.coefficients, how.seed, found.policy, 0, how.baseline)
    made.about["policy"] |= {"seed": row, "seeds_of_file": seeds, "checkpoint": about["checkpoint"]}
    held = f", seed {row} of {seeds}" if seeds > 1 else ""
    return made, [*found.notes, f"fused         {how.baseline}{held}, and the corrector, seed {how.seed}"]


def _policy_seed(how: ExportOptions, policy: Policy) -> int:
    """The corrector's, where none is named and there are several to choose from."""
    if how.policy_seed is not None:
        return how.policy_seed
    return how.seed if isinstance(how.seed, int) and policy.num_seeds > 1 else 0


def _alone(options: Options, how: ExportOptions) -> tuple[Subject, list[str]]:
    """The corrector, named or newest, with its own coefficients unless others are given."""
    from cdsa_lightning.core.artifact import load_corrector
    from cdsa_lightning.export import subject
    from cdsa_lightning.runs import newest_corrector
    from cdsa_lightning.tuning import read_choice

    named = options.corrector
    path = Path(named) if named else newest_corrector(options.task, options.preset, options.runs)
    if path is None:
        of = f" of task {options.task!r}" if options.task else ""
        raise InputError(
            f"There is no corrector{of} under {options.runs}/. Make one: 'cdsa fit --config configs/<task>.yaml', or "
            "name one with --corrector."
        )
    if options.checkpoint or how.policy_seed is not None:
        raise InputError("--checkpoint and --policy_seed belong to a policy: name it with --baseline.")
    corrector = load_corrector(path)
    if options.task and corrector.info.get("task") != options.task:
        raise InputError(f"{path} corrects task {corrector.info.get('task')!r}, not {options.task!r}.")
    given = {key: getattr(options, key) for key in SINGLE if getattr(options, key) is not None}
    base = read_choice(options.coefficients).coefficients if options.coefficients else corrector.coefficients
    coefficients = dataclasses.replace(base, **given)
    values = ", ".join(f"{key} {value}" for key, value in coefficients.to_dict().items() if value not in (None, []))
    notes = [f"corrector     {path}{'' if named else ' (the newest)'}, seed {how.seed}", f"coefficients  {values}"]
    if coefficients.changes_nothing:
        notes.append("              With these the correction changes nothing: name others with --k1 and --k2.")
    return subject(corrector, coefficients, how.seed), notes


def _line(made: Exported) -> str:
    p, size = made.parity, made.path.stat().st_size / 1e3
    return (
        f"{made.path}: {size:.0f} kB; over {p.observations} observations within {p.max_error:.1e} of PyTorch, "
        f"{p.max_error_64:.1e} of 64 bits (PyTorch itself {p.eager_error_64:.1e}; {p.tolerance:.1e} is let pass)"
    )


def _benchmark(subject: Subject, made: list[Exported], folder: Path, quiet: bool) -> Path:
    from cdsa_lightning.export.latency import measure
    from cdsa_lightning.files import write_json

    found = measure(subject, made)
    rows = [{"name": one.name, "microseconds": {str(k): v for k, v in one.microseconds.items()}} for one in found]
    if not quiet:
        _show(found)
    about: dict[str, Any] = {"about": subject.about, "latency": rows}
    return write_json(about, folder / "benchmark.json")


def _show(found: list[Latency]) -> None:
    from rich.console import Console

    from cdsa_lightning.commands.output import table

    first, sizes = found[0], list(found[0].microseconds)
    shown = table(
        "CPU time of one call (median), and how many times faster than the first line",
        "",
        *(f"batch {n}" for n in sizes),
    )
    for one in found:
        cells = [f"{one.microseconds[n]:.0f} us  {first.microseconds[n] / one.microseconds[n]:.1f}x" for n in sizes]
        shown.add_row(one.name, *cells)
    Console().print(shown)

"""`cdsa evaluate`: a baseline against its corrected self.

What is not named is looked up under runs/: the newest checkpoint of the baseline says the task, the newest corrector of
that task corrects it, and the coefficients are those recommended for the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.commands.options import Options

if TYPE_CHECKING:
    from cdsa_lightning.evaluation import Report

__all__ = ["evaluate", "main"]

_FLAGS = ("--ablation", "--quiet")
_TRACES = 8  # episodes drawn in figure3.png
_POINTMASS = "cdsa/RiskyPointMass-v0"


def main(argv: list[str]) -> None:
    """Parse `argv` and evaluate."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="cdsa evaluate", description="Evaluate a baseline against its corrected self.", **STRICT
    )
    parser.add_class_arguments(Options, as_group=False)
    evaluate(Options(**vars(parse(parser, _spell_out(argv)))))


def _spell_out(argv: list[str]) -> list[str]:
    """A bare ``--quiet`` as ``--quiet=true``, and ``--no-wandb`` as ``--wandb=off``."""
    spelled = []
    for word, following in zip(argv, [*argv, "--"][1:], strict=True):
        bare = word in _FLAGS and following.startswith("-")
        spelled.append(f"{word}=true" if bare else "--wandb=off" if word in ("--no-wandb", "--no_wandb") else word)
    return spelled


def evaluate(options: Options) -> Report:
    """Run the evaluation that `options` describe, print it, and keep it in a run directory.

    Raises:
        InputError: something named does not exist or does not fit, or something not named was not found.
    """
    import torch

    from cdsa_lightning.commands.arms import find_subject, make_arms
    from cdsa_lightning.evaluation import Evaluator
    from cdsa_lightning.tracking import wandb_mode

    mode = wandb_mode(options.wandb)  # before the work, so that a misspelt one costs nothing
    torch.set_num_threads(options.threads)
    subject = find_subject(options)
    arms, about = make_arms(options, subject)
    if not options.quiet:
        _say(*subject.notes)
    record = _TRACES if subject.task.env_id == _POINTMASS else 0
    evaluator = Evaluator(subject.task, options.episodes, options.seed, record, options.env_kwargs)
    report = evaluator.run(arms)
    _keep(report, options, about, mode)
    return report


def _keep(report: Report, options: Options, about: dict[str, Any], mode: str) -> None:
    """Files, W&B, and the terminal."""
    from cdsa_lightning.plots import pointmass_figure
    from cdsa_lightning.report import log_to_wandb, save, table, write_figure
    from cdsa_lightning.runs import new_run

    directory = Path(options.output) if options.output else new_run(report.task.name, "evaluate", options.runs)
    paths = save(report, directory, about)
    if report.task.env_id == _POINTMASS:
        # Five training seeds would draw five times nearly the same.
        traces = [[trace for trace in arm.traces if trace.seed == 0] for arm in report.arms.values()]
        names = list(report.arms)
        corrected = (traces[1], names[1]) if len(traces) > 1 else ([], "")
        figure = pointmass_figure(traces[0], corrected[0], names=(names[0], corrected[1]))
        paths.append(write_figure(figure, directory / "figure3.png"))
    logged = log_to_wandb(report, directory, about, paths, mode)
    if not options.quiet:
        _say(table(report), report.sentence(), *(str(path) for path in paths), *logged)


def _say(*things: Any) -> None:
    """Print to the terminal; plain text is neither wrapped nor coloured, so that paths can be copied."""
    from rich.console import Console

    console = Console()
    for thing in things:
        plain = isinstance(thing, str)
        console.print(thing, soft_wrap=plain, markup=not plain, highlight=not plain)

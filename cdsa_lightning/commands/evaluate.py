"""`cdsa evaluate`: a baseline against its corrected self.

What is not named is looked up under runs/: the newest checkpoint of the baseline says the task, the newest corrector of
that task corrects it, and the coefficients are those recommended for the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.commands.options import Options, spell_out

if TYPE_CHECKING:
    from cdsa_lightning.core.policy import Policy
    from cdsa_lightning.evaluation import Report

__all__ = ["evaluate", "main"]


def main(argv: list[str]) -> None:
    """Parse `argv` and evaluate."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="cdsa evaluate", description="Evaluate a baseline against its corrected self.", **STRICT
    )
    parser.add_class_arguments(Options, as_group=False)
    evaluate(Options(**vars(parse(parser, spell_out(argv)))))


def evaluate(options: Options) -> Report:
    """Run the evaluation that `options` describe, print it, and keep it in a run directory.

    Raises:
        InputError: something named does not exist or does not fit, or something not named was not found.
    """
    import torch

    from cdsa_lightning.commands.arms import find_subject, make_arms
    from cdsa_lightning.evaluation import Evaluator, traced
    from cdsa_lightning.tracking import wandb_mode

    mode = wandb_mode(options.wandb)  # before the work, so that a misspelt one costs nothing
    torch.set_num_threads(options.threads)
    subject = find_subject(options)
    arms, about = make_arms(options, subject)
    if not options.quiet:
        _say(*subject.notes)
    evaluator = Evaluator(subject.task, options.episodes, options.seed, traced(subject.task), options.env_kwargs)
    report = evaluator.run(arms)
    _keep(report, arms, options, about, mode)
    return report


def _keep(report: Report, arms: dict[str, Policy], options: Options, about: dict[str, Any], mode: str) -> None:
    """Files, W&B, and the terminal."""
    from cdsa_lightning.commands.found import data_of
    from cdsa_lightning.core.corrector import CorrectedPolicy
    from cdsa_lightning.plots import figures
    from cdsa_lightning.records import save, save_figures
    from cdsa_lightning.report import log_to_wandb, table
    from cdsa_lightning.runs import new_run

    directory = Path(options.output) if options.output else new_run(report.task.name, "evaluate", options.runs)
    paths = save(report, directory, about)
    corrected = next((policy for policy in arms.values() if isinstance(policy, CorrectedPolicy)), None)
    corrector, coefficients = (corrected.corrector, corrected.coefficients) if corrected else (None, None)
    data = data_of(corrector) if corrector is not None and report.task.map is not None else None
    paths += save_figures(figures(report, corrector, coefficients, data), directory)
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

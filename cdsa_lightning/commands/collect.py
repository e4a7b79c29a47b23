"""`cdsa collect`: a Minari data set from a policy, from a recipe, or from two data sets."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from cdsa_lightning.shards import Collected, Output
    from cdsa_lightning.tasks import Task

__all__ = ["CollectOptions", "collect", "main"]

_PLAIN_SECONDS = 10.0


@dataclass(frozen=True)
class CollectOptions:
    """What to collect.

    Attributes:
        task: A task of `cdsa datasets`, or gym:<EnvId>.
        baseline: The policy that acts: an installed baseline, or random. Without one the task's recipe is followed.
        checkpoint: The baseline's file; on AntMaze without a baseline, of the ant that is led through the maze.
        noise: Standard deviation of Gaussian noise on the actions, in action units.
        steps: Transitions to collect.
        seed: Of the environments, the policy and the noise.
        lanes: Environments side by side; chosen where not given.
        dataset: Id of the result, namespace/name-vN; by default cdsa/<task>-v0.
        format: File format of the data set.
        overwrite: Replace a data set of that id, once the new one is complete.
        combine: Join these data sets instead of collecting.
    """

    task: str
    baseline: str | None = None
    checkpoint: Path | None = None
    noise: float = 0.0
    steps: int = 1_000_000
    seed: int = 0
    lanes: int | None = None
    dataset: str | None = None
    format: Literal["hdf5", "arrow"] = "hdf5"
    overwrite: bool = False
    combine: list[str] | None = None


def main(argv: list[str]) -> None:
    """Parse `argv` and collect."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="cdsa collect", description="Write a data set by rolling out a policy.", **STRICT)
    parser.add_class_arguments(CollectOptions, as_group=False, skip={"combine", "overwrite"})
    parser.add_argument("--overwrite", action="store_true", help="Replace a data set of that id, at the very end.")
    parser.add_argument("--combine", nargs="+", metavar="ID", help="Join these data sets instead of collecting.")
    collect(CollectOptions(**vars(parse(parser, argv))), command=shlex.join(["cdsa", "collect", *argv]))


def collect(options: CollectOptions, command: str = "") -> Collected:
    """Collect what `options` describe and say what came of it.

    Raises:
        InputError: something named does not exist or does not fit.
        KeyboardInterrupt: Ctrl-C; its text says what is kept.
    """
    from cdsa_lightning.shards import Output, kept
    from cdsa_lightning.tasks import get_task

    task = get_task(options.task)
    dataset_id = options.dataset or _default_id(task)
    _check(options, task)
    total = options.steps if options.baseline else None
    with _progress(dataset_id, total) as advance:
        output = Output(dataset_id, options.format, options.overwrite, command, advance)
        try:
            collected = _collect(options, task, output)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"interrupted. {kept(dataset_id)}") from error
    _report(collected, task)
    return collected


def _default_id(task: Task) -> str:
    name = task.name.removeprefix("gym:")
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name).lower()
    return f"cdsa/{plain}-v0"


def _check(options: CollectOptions, task: Task) -> None:
    from cdsa_lightning.recipes import RECIPES, WALKED

    if options.combine and options.baseline:
        raise InputError("--combine joins data sets and --baseline collects one: give one of the two.")
    if options.combine or options.baseline or task.name in RECIPES:
        return
    if task.env_id in WALKED and options.checkpoint:
        return
    known = f"The recipe of its data: {task.collect}" if task.collect else "For instance: --baseline random."
    raise InputError(
        f"Say which policy collects data for {task.name!r} (--baseline), or which sets to --combine. {known}"
    )


def _collect(options: CollectOptions, task: Task, output: Output) -> Collected:
    from cdsa_lightning.collection import collect as collect_steps
    from cdsa_lightning.collection import combine
    from cdsa_lightning.recipes import RECIPES, walk_maze

    if options.combine:
        return combine(task, options.combine, output)
    if options.baseline is None and task.name in RECIPES:
        return RECIPES[task.name](task, output, options.seed)
    import torch

    from cdsa_lightning.registry import load_policy

    # Small batches: a second thread costs more than it brings.
    torch.set_num_threads(1)
    policy = load_policy(options.baseline or "mlp", options.checkpoint, task)
    if options.baseline is None:
        return walk_maze(task, output, policy, options.steps, options.seed, options.noise, options.checkpoint)
    return collect_steps(
        policy,
        task,
        output,
        options.steps,
        options.seed,
        behaviour=options.baseline if options.checkpoint is None else f"{options.baseline} {options.checkpoint.name}",
        noise=options.noise,
        checkpoint=options.checkpoint,
        lanes=options.lanes,
    )


@contextmanager
def _progress(dataset_id: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar with steps per second on a terminal, a line every ten seconds elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress(dataset_id, total)
        return

    class Speed(ProgressColumn):
        def render(self, task: object) -> Text:
            speed = getattr(task, "speed", None)
            return Text("" if speed is None else f"{speed:,.0f} steps/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        line = bar.add_task(dataset_id, total=total)
        yield lambda steps: bar.advance(line, steps)


class _PlainProgress:
    """Progress for logs: a line every ten seconds."""

    def __init__(self, dataset_id: str, total: int | None) -> None:
        self.name, self.total = dataset_id, total
        self.steps, self.begun = 0, time.monotonic()
        self.due = self.begun + _PLAIN_SECONDS

    def __call__(self, steps: int) -> None:
        self.steps += steps
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + _PLAIN_SECONDS
        of = f" of {self.total:,}" if self.total else ""
        speed = self.steps / (now - self.begun)
        print(f"{self.name}: {self.steps:,}{of} steps, {speed:,.0f} steps/s", file=sys.stderr, flush=True)


def _report(collected: Collected, task: Task) -> None:
    score = ""
    if task.score_min is not None:
        score = f", normalised score {float(task.normalized_score(collected.mean_return)):.1f}"
    print(f"{collected.dataset_id}: {collected.episodes:,} episodes, {collected.steps:,} transitions")
    print(f"mean return {collected.mean_return:.1f}{score}")
    print(f"in {collected.path}")

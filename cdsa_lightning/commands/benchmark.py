"""`cdsa benchmark`: a grid of tasks, baselines, corrections and seeds, each part made once; then tables and pictures.

A second run makes what is missing alone. What fails is reported at the end and stops nothing else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdsa_lightning.grid.nodes import Node
    from cdsa_lightning.grid.schedule import State

__all__ = ["BenchmarkOptions", "benchmark", "main"]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Run a grid of tasks, baselines, corrections and seeds, and compare it with the paper's Table 1.

    Args:
        config: The grid, for instance configs/risky.yaml.
        output: Where everything is kept; a second run makes what is missing there.
        workers: Processes, with one thread each.
        dry_run: Show the plan with an estimate of time, and make nothing.
    """

    config: str
    output: str = "runs/benchmark"
    workers: int = 2
    dry_run: bool = False


def main(argv: list[str]) -> int:
    """Parse `argv` and run the grid."""
    from jsonargparse import ArgumentParser

    about = "Run a grid of tasks, baselines, corrections and seeds, and compare it with the paper's Table 1."
    parser = ArgumentParser(prog="cdsa benchmark", description=about, **STRICT)
    parser.add_class_arguments(BenchmarkOptions, as_group=False)
    words = zip(argv, [*argv, "--"][1:], strict=True)
    spelled = [f"{w}=true" if w == "--dry_run" and following.startswith("-") else w for w, following in words]
    return benchmark(BenchmarkOptions(**vars(parse(parser, spelled))))


def benchmark(options: BenchmarkOptions) -> int:
    """Make what is missing of the grid that `options` name, and render it.

    Returns:
        0 where every cell is done, 1 where some failed or are blocked.

    Raises:
        InputError: a malformed grid, or an output that cannot be used.
    """
    from cdsa_lightning.commands.work import do
    from cdsa_lightning.grid.facts import Facts
    from cdsa_lightning.grid.local import LocalExecutor
    from cdsa_lightning.grid.nodes import expand
    from cdsa_lightning.grid.schedule import alone, make
    from cdsa_lightning.grid.settings import read_grid

    if options.workers < 1:
        raise InputError(f"--workers must be at least 1, got {options.workers}.")
    grid, root = read_grid(options.config), Path(options.output).absolute()
    facts = Facts(grid.sources, root / "fingerprints.json")
    if options.dry_run:
        _show_plan(expand(grid, facts), root, options.workers)
        return 0
    with alone(root):
        nodes = expand(grid, facts)
        facts.keep()
        _show_plan(nodes, root, options.workers)
        with LocalExecutor(options.workers) as executor:
            final = make(nodes, root, do, executor, _say)
        return _conclude(nodes, root, final)


def _say(node: Node, state: State) -> None:
    print(f"{state.what:<8} {node.path}{f': {state.why}' if state.why else ''}", flush=True)


def _show_plan(nodes: Sequence[Node], root: Path, workers: int) -> None:
    """The states of all nodes, and how long the rest will take."""
    from cdsa_lightning.grid.schedule import estimate, states

    found, guesses = states(nodes, root), estimate(nodes, root)
    left = [node for node in nodes if found[node.path].what == "to do"]
    for node in nodes:
        guess = guesses[node.path]
        time = "" if node not in left else "  (time unknown)" if guess is None else f"  (about {_duration(guess)})"
        print(f"{node.path}  {found[node.path]}{time}")
    known = [guess for node in left if (guess := guesses[node.path]) is not None]
    counts = ", ".join(
        f"{sum(state.what == what for state in found.values())} {what}" for what in ("done", "to do", "blocked")
    )
    parts = [f"about {_duration(sum(known) / workers)} on {workers} workers"] if known else []
    parts += [f"{len(left) - len(known)} of unknown time"] if len(known) < len(left) else []
    print(f"{len(nodes)} nodes: {counts}.{' To do: ' + ', '.join(parts) + '.' if parts else ''}")


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _conclude(nodes: Sequence[Node], root: Path, final: dict[str, State]) -> int:
    """Tables and pictures of what is done; what is not, and why."""
    from rich.console import Console

    from cdsa_lightning import records
    from cdsa_lightning.grid.nodes import DONE
    from cdsa_lightning.grid.schedule import State
    from cdsa_lightning.grid.scores import read_scores
    from cdsa_lightning.grid.tables import render, terminal

    cells = [node for node in nodes if node.kind == "cell"]
    scores, reports, final = [], [], dict(final)
    for node in cells:
        if final[node.path].what == "done":
            try:
                found, report = read_scores([root / node.path]), records.load(root / node.path)
            except InputError as error:  # it is made again by the next run, and hides no other
                (root / node.path / DONE).unlink(missing_ok=True)
                final[node.path] = State("damaged", f"{error} The next run makes it again.")
            else:
                scores += found
                reports.append(report)
    if scores:
        Console().print(terminal(scores))
        print(*(report.sentence() for report in reports), *render(scores, reports, root), sep="\n")
    rest = {path: state for path, state in final.items() if state.what != "done"}
    for place, state in rest.items():
        where = f" (see {root / place / 'error.txt'} and log.txt beside it)" if state.what == "failed" else ""
        print(f"{place}  {state}{where}", file=sys.stderr)
    print(f"{len(reports)} of {len(cells)} cells are done.")
    return 1 if rest else 0

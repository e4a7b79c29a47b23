"""The work of `cdsa benchmark`: plan, make, and conclude with tables, pictures and what is not done.

Parts are made by processes of this machine, or by the machines of a Ray cluster, which meet in a storage
(docs/scaling.md). Where that is a URL, this program works in a copy of what it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from cdsa_lightning import records
from cdsa_lightning.commands.benchmark import BenchmarkOptions
from cdsa_lightning.commands.work import FINGERPRINTS, do, do_far
from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.facts import Facts
from cdsa_lightning.grid.local import Executor, LocalExecutor
from cdsa_lightning.grid.nodes import DONE, Node, expand
from cdsa_lightning.grid.ray import RayExecutor
from cdsa_lightning.grid.schedule import ERROR, State, alone, estimate, make, states
from cdsa_lightning.grid.scores import aggregates, read_scores
from cdsa_lightning.grid.settings import read_grid
from cdsa_lightning.grid.storage import Mirror, Storage
from cdsa_lightning.grid.tables import render, terminal

__all__ = ["benchmark"]


def benchmark(options: BenchmarkOptions) -> int:
    """Make what is missing of the grid that `options` name, and render it.

    Returns:
        0 where every cell is done, 1 where some failed or are blocked.

    Raises:
        InputError: a malformed grid, an output that cannot be used, no Ray, or no cluster.
    """
    grid = read_grid(options.config)
    with _kept(options.output) as (root, mirror):
        facts = Facts({task: _absolute(source) for task, source in grid.sources.items()}, root / FINGERPRINTS)
        if options.dry_run:
            _show_plan(expand(grid, facts), root, options.workers or (1 if options.executor == "ray" else 2))
            return 0
        with nullcontext() if mirror else alone(root):
            with _executor(options, root) as (executor, work, workers):
                nodes = expand(grid, facts)
                facts.keep()
                _show_plan(nodes, root, workers)
                final = make(nodes, root, work, executor, _say)
            if mirror:
                for node in nodes:
                    if node.kind == "cell" and final[node.path].what == "done":
                        mirror.take(mirror.storage.names(node.path))
            return _conclude(nodes, root, final, options.output if mirror else str(root))


def _absolute(source: str) -> str:
    """`source`; a file by the path that it has from any folder, since workers need not run in this one."""
    scheme, _, name = source.partition(":")
    return f"npz:{Path(name).expanduser().absolute()}" if scheme == "npz" else source


@contextmanager
def _kept(output: str) -> Iterator[tuple[Path, Mirror | None]]:
    """The output folder; where it is a URL, what the plan needs of it on this machine, and its mirror."""
    if "://" not in output:
        yield Path(output).absolute(), None
        return
    with TemporaryDirectory(prefix="cdsa-") as folder:
        mirror = Mirror(Storage(output), Path(folder).resolve())
        wanted = (DONE, ERROR, FINGERPRINTS)
        mirror.take(name for name in mirror.storage.names() if name.rpartition("/")[2] in wanted)
        try:
            yield mirror.root, mirror
        finally:
            mirror.send()


@contextmanager
def _executor(options: BenchmarkOptions, root: Path) -> Iterator[tuple[Executor, Callable[[Node], object], int]]:
    """Who makes nodes, how, and how many at a time."""
    if options.executor == "local":
        workers = options.workers or 2
        with LocalExecutor(workers) as local:
            yield local, partial(do, root=root), workers
        return
    share = options.gpus_per_training
    url = options.output if "://" in options.output else str(root)
    with RayExecutor(options.address, lambda node: {"num_gpus": 0 if node.kind == "cell" else share}) as cluster:
        print(f"Ray: {cluster.machines} machines with {cluster.cpus} CPUs and {cluster.gpus:g} GPUs.", flush=True)
        if share and not cluster.gpus:
            print("cdsa: no machine has a GPU now; trainings wait until one joins the cluster.", file=sys.stderr)
        yield cluster, partial(do_far, url=url, mark=Storage(url).mark()), max(1, cluster.cpus)


def _say(node: Node, state: State) -> None:
    print(f"{state.what:<8} {node.path}{f': {state.why}' if state.why else ''}", flush=True)


def _show_plan(nodes: Sequence[Node], root: Path, workers: int) -> None:
    """The states of all nodes, and how long the rest will take."""
    found = states(nodes, root)
    guesses = estimate([node for node in nodes if found[node.path].what == "to do"], root)
    for node in nodes:
        time = f"  ({_about(guesses[node.path])})" if node.path in guesses else ""
        print(f"{node.path}  {found[node.path]}{time}")
    known = [guess for guess in guesses.values() if guess is not None]
    counts = ", ".join(
        f"{sum(state.what == what for state in found.values())} {what}" for what in ("done", "to do", "blocked")
    )
    parts = [f"{_about(sum(known) / workers)} on {workers} workers"] if known else []
    parts += [f"{len(guesses) - len(known)} of unknown time"] if len(known) < len(guesses) else []
    print(f"{len(nodes)} nodes: {counts}.{' To do: ' + ', '.join(parts) + '.' if parts else ''}", flush=True)


def _about(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"


def _conclude(nodes: Sequence[Node], root: Path, final: dict[str, State], where: str) -> int:
    """Tables and pictures of what is done; what is not, and why. `where` is what people call `root`."""
    cells = [node for node in nodes if node.kind == "cell"]
    scores, reports, final = [], [], dict(final)
    for node in cells:
        if final[node.path].what == "done":
            try:
                found, report = read_scores([root / node.path]), records.load(root / node.path)
            except InputError as error:  # it is made again by the next run, and hides no other
                (root / node.path / DONE).unlink(missing_ok=True)
                text = f"{error} The next run makes it again.".replace(str(root), where)
                final[node.path] = State("damaged", text)
            else:
                scores += found
                reports.append(report)
    if scores:
        overall = aggregates(scores)
        Console().print(terminal(scores, overall))
        files = (f"{where}/{path.relative_to(root)}" for path in render(scores, overall, root))
        print(*(report.sentence() for report in reports), *files, sep="\n")
    rest = {path: state for path, state in final.items() if state.what != "done"}
    for place, state in rest.items():
        see = f" (see {where}/{place}/error.txt and log.txt beside it)" if state.what == "failed" else ""
        print(f"{place}  {state}{see}", file=sys.stderr)
    print(f"{len(reports)} of {len(cells)} cells are done.")
    return 1 if rest else 0

"""`cdsa table`: Table 1 out of the records of any number of grids, beside the paper; nothing is trained or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError

__all__ = ["TableOptions", "main", "table"]

_USAGE = "cdsa table GRID ... [--output DIR]"
_ABOUT = "Make Table 1 and its aggregates out of the records of grids; the seeds of a cell may lie in several."


@dataclass(frozen=True)
class TableOptions:
    """Whose records, and where the tables go."""

    grids: list[str]
    output: str = "runs/table"


def main(argv: list[str]) -> None:
    """Parse `argv` and make the tables."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="cdsa table", usage=_USAGE, description=_ABOUT, **STRICT)
    grids = "The --output of a 'cdsa benchmark' or of this command."
    parser.add_argument("grids", metavar="GRID", nargs="*", help=grids)
    parser.add_argument("--output", metavar="DIR", default=TableOptions.output, help="Where all is kept.")
    options = vars(parse(parser, argv))
    if not options["grids"]:
        raise InputError(f"GRID is missing. {grids} Write {_USAGE}.")
    table(TableOptions(**options))


def table(options: TableOptions) -> list[Path]:
    """Print Table 1 and the aggregates, write them with all rows as one record, and print where.

    Returns:
        The files.

    Raises:
        InputError: nothing finished, a damaged record, parts that do not fit, or an output that cannot be written.
    """
    from rich.console import Console

    from cdsa_lightning.grid.gathered import gather, keep
    from cdsa_lightning.grid.scores import aggregates, scores_of
    from cdsa_lightning.grid.tables import render, terminal

    record, root = gather(Path(grid) for grid in options.grids), Path(options.output)
    scores = scores_of(record)
    overall = aggregates(scores)
    paths = [keep(record, root), *render(scores, overall, root)]
    Console().print(terminal(scores, overall))
    print(*paths, sep="\n")
    return paths

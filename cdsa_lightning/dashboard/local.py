"""Everything that a runs folder and a grid hold: what can be read, and what cannot, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cdsa_lightning.dashboard.evaluations import Evaluation, read_evaluation
from cdsa_lightning.dashboard.fits import Fit, read_fit
from cdsa_lightning.errors import InputError

__all__ = ["Local", "newest", "read_local"]

T = TypeVar("T", Evaluation, Fit)


@dataclass(frozen=True)
class Local:
    """What was found.

    Args:
        evaluations: Those of `cdsa evaluate`, oldest first.
        fits: Those of `cdsa fit`, oldest first.
        cells: A grid's evaluations; unlike the above they are never logged to W&B.
        trainings: A grid's fits.
        problems: What could not be read, a sentence each.
    """

    evaluations: list[Evaluation]
    fits: list[Fit]
    cells: list[Evaluation]
    trainings: list[Fit]
    problems: list[str]


def read_local(runs: Path, grid: Path | None = None) -> Local:
    """The evaluations and fits under `runs`, and those of the grid that `cdsa benchmark` keeps in `grid`.

    Raises:
        InputError: there is nothing, or nothing that can be read.
    """
    problems: list[str] = []
    evaluations = _read(runs.glob("*/evaluate/*/report.json"), read_evaluation, problems)
    fits = _read(runs.glob("*/*/*/metrics.csv"), read_fit, problems)
    cells: list[Evaluation] = []
    trainings: list[Fit] = []
    if grid is not None:
        # Without done.json a cell is not finished.
        cells = _read(grid.glob("cell/*/*/done.json"), read_evaluation, problems)
        both = (path for kind in ("train", "fit") for path in grid.glob(f"{kind}/*/*/*/*/*/metrics.csv"))
        trainings = _read(both, read_fit, problems)
    if not (evaluations or fits or cells or trainings):
        where = f"{runs}/" if grid is None else f"{runs}/ and {grid}/"
        damaged = "".join(f"\n  {problem}" for problem in problems)
        raise InputError(
            f"There is nothing to show in {where}: 'cdsa fit' and 'cdsa evaluate' leave runs there, and "
            f"'cdsa benchmark --output DIR' makes a grid for --grid DIR.{damaged}"
        )
    return Local(evaluations, fits, cells, trainings, problems)


def newest(items: Iterable[T], key: Callable[[T], tuple[str, ...]]) -> set[str]:
    """The `run` of the last of `items`, oldest first, for each key."""
    return set({key(item): item.run for item in items}.values())


def _read(paths: Iterable[Path], read: Callable[[Path], T], problems: list[str]) -> list[T]:
    found = []
    for path in sorted(paths):
        try:
            found.append(read(path.parent))
        except InputError as error:
            problems.append(str(error))
    return sorted(found, key=lambda item: (item.time, item.run))

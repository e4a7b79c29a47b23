"""`cdsa dashboard`: one HTML page of everything under runs/, and the same panels as a workspace and a report in W&B."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError
from cdsa_lightning.tracking import PROJECT

__all__ = ["DashboardOptions", "dashboard", "main"]

_ABOUT = "Show what fits, evaluations and a grid left, as one HTML page, and as a workspace and a report in W&B."


@dataclass(frozen=True)
class DashboardOptions:
    """Show what fits, evaluations and a grid left, as one HTML page, and as a workspace and a report in W&B.

    Args:
        runs: Where runs are looked up.
        grid: Output of a `cdsa benchmark`; by default benchmark/ under --runs, where there is one.
        output: Where page.html and specification.json are kept; by default dashboard/ under --runs.
        project: The W&B project.
        entity: Account or team of the project; by default that of the key.
        name: Of the workspace and of the report in W&B; a second call updates those of this name.
        wandb: W&B mode: auto (publish with a key), online, offline or off (both: write the files alone).
    """

    runs: str = "runs"
    grid: str | None = None
    output: str | None = None
    project: str = PROJECT
    entity: str | None = None
    name: str = "CDSA dashboard"
    wandb: str = "auto"


def main(argv: list[str]) -> None:
    """Parse `argv` and build the dashboard."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="cdsa dashboard", description=_ABOUT, **STRICT)
    parser.add_class_arguments(DashboardOptions, as_group=False)
    dashboard(DashboardOptions(**vars(parse(parser, argv))))


def dashboard(options: DashboardOptions) -> list[Path]:
    """Write page.html and specification.json, publish where W&B is online, and print where everything is.

    Returns:
        The two files.

    Raises:
        InputError: nothing to show, an output that cannot be written, or W&B refuses; the files are then written.
    """
    from cdsa_lightning.dashboard.local import read_local
    from cdsa_lightning.dashboard.page import page, page_data
    from cdsa_lightning.dashboard.publish import publish
    from cdsa_lightning.dashboard.specification import specify, write_specification
    from cdsa_lightning.files import whole_file
    from cdsa_lightning.tracking import wandb_mode

    mode, runs = wandb_mode(options.wandb), Path(options.runs)
    local = read_local(runs, _grid(options, runs))
    for problem in local.problems:
        print(f"Left out: {problem}", file=sys.stderr)
    folder = Path(options.output) if options.output else runs / "dashboard"
    specification = specify(local, options.project, options.name)
    paths = [folder / "page.html", write_specification(specification, folder / "specification.json")]
    with whole_file(paths[0], remedy="Choose another --output.") as place:
        place.write_text(page(page_data(local, options.name)), encoding="utf-8")
    evaluations, fits = len(local.evaluations) + len(local.cells), len(local.fits) + len(local.trainings)
    print(f"{evaluations} evaluations and {fits} fits.", *paths, sep="\n")
    if mode == "online":
        print(*(f"W&B: {address}" for address in publish(specification, options.entity)), sep="\n")
    elif mode == "offline":
        print("W&B: not published; 'wandb login', then this command again, does.")
    return paths


def _grid(options: DashboardOptions, runs: Path) -> Path | None:
    if options.grid is None:
        return runs / "benchmark" if (runs / "benchmark").is_dir() else None
    if not Path(options.grid).is_dir():
        raise InputError(f"There is no grid {options.grid}: it is the --output of a 'cdsa benchmark'.")
    return Path(options.grid)

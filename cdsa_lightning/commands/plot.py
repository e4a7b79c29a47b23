"""`cdsa plot`: pictures of an evaluation, of a corrector's field, and the paper's composed figures, as PNG and SVG.

What is not named is looked up under runs/ (see `found`); each choice is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cdsa_lightning.commands.found import Evaluation

__all__ = ["PlotOptions", "main", "plot"]

_USAGE = "cdsa plot KIND [--report DIR ...] [--task TASK] [--corrector FILE] [--dims X Y] [--output PATH] [--runs DIR]"
_POINTMASS = "risky-pointmass"
_FIGURE3 = ("shortest_path", "cql")
_FIGURE5 = ("risky-transportation", "risky-transportation-goods", "risky-transportation-airport")
_ABOUT = {
    "field": "the state score over the density of the data",
    "trajectories": "paths on the map, base and corrected",
    "var": "every percentile of the returns",
    "ablation": "without a1, without a2, and whole",
    "ood": "the predicted noise along an episode",
    "figure3": "the paper's Figure 3, Risky PointMass",
    "figure5": "the paper's Figure 5, Risky transportation",
}


@dataclass(frozen=True)
class PlotOptions:
    """What to draw; see `main` for what each is."""

    kind: str
    report: list[str] | None = None
    task: str | None = None
    corrector: str | None = None
    dims: list[str] | None = None
    output: str | None = None
    runs: str = "runs"


@dataclass(frozen=True)
class _Drawn:
    """A picture, where it is kept unless a place is named, and how its parts were found."""

    figure: Figure
    place: Path
    notes: list[str]


def main(argv: list[str]) -> None:
    """Parse `argv` and draw."""
    from jsonargparse import ArgumentParser

    about = "Draw a picture, as PNG and SVG. Kinds: " + "; ".join(f"{kind}, {text}" for kind, text in _ABOUT.items())
    parser = ArgumentParser(prog="cdsa plot", usage=_USAGE, description=f"{about}.", **STRICT)
    parser.add_argument("kind", metavar="KIND", nargs="?", help=", ".join(_ABOUT))
    parser.add_argument("--report", metavar="DIR", nargs="+", help="What 'cdsa evaluate' wrote; by default the newest.")
    parser.add_argument("--task", metavar="TASK", help="Take the newest evaluation of this task.")
    parser.add_argument("--corrector", metavar="FILE", help="By default the one that the evaluation used.")
    parser.add_argument("--dims", metavar=("X", "Y"), nargs=2, help="Of field: two entries, by name or by number.")
    parser.add_argument("--output", metavar="PATH", help="By default beside the evaluation, under the kind's name.")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="Where runs are looked up.")
    options = vars(parse(parser, argv))
    if not options["kind"]:
        raise InputError(f"KIND is missing: {', '.join(_ABOUT)}. Write {_USAGE}.")
    plot(PlotOptions(**options))


def plot(options: PlotOptions) -> list[Path]:
    """Draw what `options` describe, print how its parts were found and where the pictures are.

    Returns:
        The PNG and the SVG.

    Raises:
        InputError: something named does not exist or does not fit, or something not named was not found.
    """
    from cdsa_lightning.records import save_figures
    from cdsa_lightning.tasks import get_task

    _check(options)
    if options.task:
        get_task(options.task)
    drawn = _KINDS[options.kind](options)
    place = _place(options.output, drawn.place)
    paths = save_figures({place.name: drawn.figure}, place.parent)
    print("\n".join([*drawn.notes, *(str(path) for path in paths)]))
    return paths


def _check(options: PlotOptions) -> None:
    """See that the options belong to the kind."""
    kind = options.kind
    if kind not in _KINDS:
        raise unknown_name("kind of picture", kind, _KINDS)
    many = {"figure3": len(_FIGURE3), "figure5": len(_FIGURE5)}.get(kind, 1)
    if options.report is not None and len(options.report) != many:
        raise InputError(f"cdsa plot {kind} draws {many} evaluation{'s'[: many > 1]}, got {len(options.report)}.")
    for name, kinds in (("dims", ("field",)), ("corrector", ("field", "ood", "figure5"))):
        if getattr(options, name) is not None and kind not in kinds:
            raise InputError(f"--{name} belongs to {', '.join(kinds)}; cdsa plot {kind} does without.")
    if options.task and many > 1:
        raise InputError(f"cdsa plot {kind} knows its tasks: leave --task out.")


def _place(output: str | None, default: Path) -> Path:
    """Where the picture goes, without a suffix."""
    if output is None:
        return default
    path = Path(output)
    if path.is_dir():
        return path / default.name
    if path.suffix not in ("", ".png", ".svg"):
        raise InputError(f"Pictures are written as PNG and SVG, not as {path.suffix}: --output {path.with_suffix('')}.")
    return path.with_suffix("")


def _one(options: PlotOptions) -> Evaluation:
    from cdsa_lightning.commands.found import evaluation_in, newest_of

    if options.report:
        return evaluation_in(options.report[0], options.task)
    return newest_of(options.task, None, options.runs)


def _of_report(name: str, options: PlotOptions) -> _Drawn:
    """What needs the report alone."""
    from cdsa_lightning import plots

    draw = {"var_curve": plots.var_curve, "ablation": plots.ablation, "trajectories": plots.trajectories_of}[name]
    found = _one(options)
    return _Drawn(draw(found.report), found.directory / name, found.notes)


def _ood(options: PlotOptions) -> _Drawn:
    from cdsa_lightning.commands.found import corrector_in
    from cdsa_lightning.plots import ood_of

    found = _one(options)
    figure = ood_of(found.report, corrector_in(found, options.corrector), found.coefficients)
    return _Drawn(figure, found.directory / "ood", found.notes)


def _field(options: PlotOptions) -> _Drawn:
    from cdsa_lightning.commands.found import fitted_on, subject_of_field
    from cdsa_lightning.envs.names import observation_index, observation_names
    from cdsa_lightning.plots import field

    corrector, task, folder, notes = subject_of_field(options.report, options.task, options.corrector, options.runs)
    names = observation_names(task.env_id, corrector.obs_dim)
    x, y = (observation_index(names, dim) for dim in options.dims or ("0", "1"))
    data = fitted_on(corrector)
    notes.append(f"data          {data.source}")
    figure = field(corrector, data, (x, y), names, task.map, title=f"State scores, {task.name}")
    return _Drawn(figure, folder / "field", notes)


def _figure3(options: PlotOptions) -> _Drawn:
    from cdsa_lightning.commands.found import evaluation_in, newest_of
    from cdsa_lightning.plots import figure3

    if options.report:
        found = [evaluation_in(directory) for directory in options.report]
    else:
        found = [newest_of(_POINTMASS, baseline, options.runs, corrected=True) for baseline in _FIGURE3]
    figure = figure3([one.report for one in found])
    return _Drawn(figure, Path(options.runs) / "figure3", [note for one in found for note in one.notes])


def _figure5(options: PlotOptions) -> _Drawn:
    from cdsa_lightning.commands.found import corrector_in, evaluation_in, fitted_on, newest_of
    from cdsa_lightning.plots import figure5

    if options.report:
        found = [evaluation_in(place, task) for place, task in zip(options.report, _FIGURE5, strict=True)]
    else:
        found = [newest_of(task, None, options.runs, corrected=True) for task in _FIGURE5]
    corrector = corrector_in(found[0], options.corrector)
    figure = figure5([one.report for one in found], corrector, fitted_on(corrector))
    return _Drawn(figure, Path(options.runs) / "figure5", [note for one in found for note in one.notes])


_KINDS: dict[str, Callable[[PlotOptions], _Drawn]] = {
    "field": _field,
    "trajectories": lambda options: _of_report("trajectories", options),
    "var": lambda options: _of_report("var_curve", options),
    "ablation": lambda options: _of_report("ablation", options),
    "ood": _ood,
    "figure3": _figure3,
    "figure5": _figure5,
}

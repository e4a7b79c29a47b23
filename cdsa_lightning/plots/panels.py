"""The paper's composed pictures: Figure 3 (Risky PointMass) and Figure 5 (Risky transportation)."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.evaluation import Report
from cdsa_lightning.plots.arms import needed_map, paths_of
from cdsa_lightning.plots.field import DENSITY_LABEL, STRENGTH_LABEL, draw_density, draw_field
from cdsa_lightning.plots.style import legend_below, scale, unique
from cdsa_lightning.plots.trajectories import DARKENS, draw_map, draw_trajectories
from cdsa_lightning.sources import Transitions

__all__ = ["figure3", "figure5"]


def figure3(reports: Sequence[Report]) -> Figure:
    """(a) the map, then a panel a report: the paths of its baseline and of CDSA, with arrows.

    Args:
        reports: Of one world with a map; the paper has shortest_path and CQL.

    Raises:
        InputError: a world without a map, or a report without traces.
    """
    figure = Figure(figsize=(3.9 * (1 + len(reports)), 3.9), layout="constrained")
    axes = figure.subplots(1, 1 + len(reports))
    _map_panel(axes[0], reports[0])
    handles: list[Artist] = []
    for letter, panel, report in zip("bcdefgh", axes[1:], reports, strict=False):
        found, baseline = _paths_panel(panel, report)
        handles += found
        panel.set_title(f"({letter}) {baseline} and CDSA", fontsize=11)
    legend_below(figure, unique(handles), DARKENS)
    return figure


def figure5(reports: Sequence[Report], corrector: Corrector, data: Transitions) -> Figure:
    """(a) the map, (b) the states in the data, (c) the learned score field, (d) to (f) a panel a task.

    Args:
        reports: Of the three tasks, path finding first.
        corrector: The one that serves them all.
        data: What it was fitted on.

    Raises:
        InputError: as `figure3`, and data that do not fit the corrector.
    """
    figure = Figure(figsize=(11.6, 8.5), layout="constrained")
    axes = figure.subplots(2, 3)
    _map_panel(axes[0, 0], reports[0])
    world = needed_map(reports[0])
    for panel in axes[0, 1:]:
        density = draw_density(panel, data, (0, 1), ("x", "y", *[""] * (data.obs.shape[1] - 2)), world)
        draw_map(panel, world, filled=False)
    arrows = draw_field(axes[0, 2], corrector, data, (0, 1), None, world, 20)
    axes[0, 1].set_title("(b) states in the data", fontsize=11)
    axes[0, 2].set_title("(c) learned field of state scores", fontsize=11)
    scale(axes[0, 1], density, DENSITY_LABEL, below=True)
    scale(axes[0, 2], arrows, STRENGTH_LABEL, below=True)
    handles: list[Artist] = []
    for letter, panel, report in zip("def", axes[1], reports, strict=True):
        found, baseline = _paths_panel(panel, report)
        handles += found
        panel.set_title(f"({letter}) {report.task.name}, {baseline}", fontsize=11)
    legend_below(figure, unique(handles), DARKENS)
    return figure


def _map_panel(axes: Axes, report: Report) -> None:
    axes.set_title("(a) map", fontsize=11)
    draw_map(axes, needed_map(report))


def _paths_panel(axes: Axes, report: Report) -> tuple[list[Artist], str]:
    """The paths of a report's baseline and its corrected self; what a legend explains, and the baseline's name."""
    names, baseline, corrected = paths_of(report)
    shown = ("baseline", "with CDSA")
    return draw_trajectories(axes, needed_map(report), baseline, corrected, names=shown), names[0]

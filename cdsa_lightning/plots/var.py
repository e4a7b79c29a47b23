r"""VaR curves (Figures 4 and 6 of the paper): every percentile of the sorted episode returns, with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdsa_lightning.evaluation import Report
from cdsa_lightning.metrics.bootstrap import resamples
from cdsa_lightning.plots.style import COLOURS, DASHES, bare, legend_below
from cdsa_lightning.tasks import Task

__all__ = ["var_curve", "var_curve_of"]

_PERCENT = np.arange(0, 101)


def var_curve(report: Report, level: float = 0.95, count: int = 1000) -> Figure:
    """Every percentile of the sorted episode returns, one curve an arm, with a bootstrap band around it.

    Args:
        report: Whose arms are drawn; normalised scores where the task has a range, returns elsewhere.
        level: Of the pointwise band.
        count: Hierarchical bootstrap resamples (training seeds, then episodes).
    """
    return var_curve_of(report.scores, report.task, level, count)


def var_curve_of(scores: Mapping[str, np.ndarray], task: Task, level: float = 0.95, count: int = 1000) -> Figure:
    """`var_curve` of the `scores` [E, n] of each arm on `task`: E training seeds, n episodes."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    handles = _draw(axes, scores, level, count)
    axes.set_ylabel("return" if task.score_max is None else "normalised score")
    axes.set_title(f"VaR curve, {task.name}", fontsize=11)
    legend_below(figure, handles)
    return figure


def _draw(axes: Axes, scores: Mapping[str, np.ndarray], level: float, count: int) -> list[Artist]:
    """The curves in `axes`; what a legend explains."""
    handles: list[Artist] = []
    for index, (name, episodes) in enumerate(scores.items()):
        values = torch.as_tensor(episodes, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        draws = [np.percentile(rows.numpy(), _PERCENT, axis=1) for rows in resamples(values, count, generator)]
        tail = 100 * (1 - level) / 2
        low, high = np.percentile(np.concatenate(draws, axis=1), [tail, 100 - tail], axis=1)
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        curve = np.percentile(values, _PERCENT)
        handles += axes.plot(_PERCENT, curve, label=name, linewidth=1.8, color=colour, linestyle=dash)
        axes.fill_between(_PERCENT, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("percentile of episodes, worst first")
    axes.set_xlim(0, 100)
    bare(axes)
    return handles

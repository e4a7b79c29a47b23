r"""VaR curves (Figures 4 and 6 of the paper): every percentile of the sorted episode returns, with its uncertainty."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdsa_lightning.evaluation import Report
from cdsa_lightning.metrics.bootstrap import resamples
from cdsa_lightning.plots.style import COLOURS, DASHES, bare, legend_below

__all__ = ["draw_var_curve", "var_curve"]

_PERCENT = np.arange(0, 101)


def var_curve(report: Report, level: float = 0.95, count: int = 1000) -> Figure:
    """Every percentile of the sorted episode returns, one curve an arm, with a bootstrap band around it.

    Args:
        report: Whose arms are drawn; normalised scores where the task has a range, returns elsewhere.
        level: Of the pointwise band.
        count: Hierarchical bootstrap resamples (training seeds, then episodes).
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    handles = draw_var_curve(axes, report, level, count)
    axes.set_title(f"VaR curve, {report.task.name}", fontsize=11)
    legend_below(figure, handles)
    return figure


def draw_var_curve(axes: Axes, report: Report, level: float = 0.95, count: int = 1000) -> list[Artist]:
    """The curves of `var_curve` in `axes`; what a legend explains."""
    handles: list[Artist] = []
    for index, (name, episodes) in enumerate(report.arms.items()):
        values = torch.as_tensor(np.asarray(report.task.normalized_score(episodes.returns)), dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        draws = [np.percentile(rows.numpy(), _PERCENT, axis=1) for rows in resamples(values, count, generator)]
        tail = 100 * (1 - level) / 2
        low, high = np.percentile(np.concatenate(draws, axis=1), [tail, 100 - tail], axis=1)
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        curve = np.percentile(values, _PERCENT)
        handles += axes.plot(_PERCENT, curve, label=name, linewidth=1.8, color=colour, linestyle=dash)
        axes.fill_between(_PERCENT, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("percentile of episodes, worst first")
    axes.set_ylabel("return" if report.task.score_max is None else "normalised score")
    axes.set_xlim(0, 100)
    bare(axes)
    return handles

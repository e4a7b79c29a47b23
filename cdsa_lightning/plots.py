"""Pictures of an evaluation: VaR curves (Figures 4 and 6 of the paper) and the risky point mass (Figure 3).

Every function returns a `matplotlib.figure.Figure` that no global state knows: nothing to close, no display needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from cdsa_lightning.envs.risky_pointmass import CENTRE, GOAL, RADIUS
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.metrics.bootstrap import resamples
from cdsa_lightning.rollout import Trace

__all__ = ["pointmass_figure", "var_curve"]

# Okabe and Ito's colours, told apart by every kind of colour vision; dashes keep them apart in grey print.
_COLOURS = ("#009E73", "#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_PERCENT = np.arange(0, 101)
_MAROON, _BLACK, _GREEN, _BLUE = "#800000", "#000000", "#2CA02C", "#1F77D0"


def var_curve(report: Report, level: float = 0.95, count: int = 1000) -> Figure:
    """Every percentile of the sorted episode returns, one curve an arm, with a bootstrap band around it.

    Args:
        report: Whose arms are drawn; normalised scores where the task has a range, returns elsewhere.
        level: Of the pointwise band.
        count: Hierarchical bootstrap resamples (training seeds, then episodes).
    """
    longest = max(len(name) for name in report.arms)
    columns = max(1, min(3, len(report.arms), 72 // (longest + 8)))  # as many as the width holds
    figure = Figure(figsize=(6.4, 3.8 + 0.2 * -(-len(report.arms) // columns)), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, episodes) in enumerate(report.arms.items()):
        values = torch.as_tensor(np.asarray(report.task.normalized_score(episodes.returns)), dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        draws = [np.percentile(rows.numpy(), _PERCENT, axis=1) for rows in resamples(values, count, generator)]
        tail = 100 * (1 - level) / 2
        low, high = np.percentile(np.concatenate(draws, axis=1), [tail, 100 - tail], axis=1)
        colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
        axes.plot(_PERCENT, np.percentile(values, _PERCENT), label=name, linewidth=1.8, color=colour, linestyle=dash)
        axes.fill_between(_PERCENT, low, high, color=colour, alpha=0.18, linewidth=0)
    scored = report.task.score_max is not None
    axes.set_xlabel("percentile of episodes, worst first")
    axes.set_ylabel("normalised score" if scored else "return")
    axes.set_title(f"VaR curve, {report.task.name}", fontsize=11)
    axes.set_xlim(0, 100)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, handlelength=3)
    return figure


def pointmass_figure(
    baseline: Sequence[Trace],
    corrected: Sequence[Trace],
    *,
    names: tuple[str, str] = ("baseline", "cdsa(baseline)"),
    arrows: int = 7,
) -> Figure:
    """Figure 3: the risky disc, the trajectories of both arms, and what the correction adds to the baseline's action.

    Arrows have the true length of the displacement they stand for.

    Args:
        baseline: Traces of the uncorrected policy; observations start with (x, y).
        corrected: Traces of the corrected policy; the arrows stand along these.
        names: How the legend calls the two arms; an empty second name where there is no corrected arm.
        arrows: Pairs of arrows along each corrected trajectory, at most.

    Raises:
        InputError: there is no trace to draw.
    """
    if not baseline and not corrected:
        raise InputError("There is no trace to draw: record at least one episode per seed.")
    handles = _pointmass_legend(names)
    beside = 0.7 + 0.09 * max(len(str(handle.get_label())) for handle in handles)  # inches that the legend needs
    figure = Figure(figsize=(5.2 + beside, 5.0), layout="constrained")
    axes = figure.add_subplot(aspect="equal", xlim=(0, 1), ylim=(0, 1), xlabel="x", ylabel="y")
    axes.add_patch(
        Circle((CENTRE[0], CENTRE[1]), RADIUS, facecolor="#F4A6A0", edgecolor="#C0392B", linewidth=1, zorder=1)
    )
    for traces, colour, order in ((baseline, _MAROON, 3), (corrected, _BLACK, 4)):
        for trace in traces:
            axes.plot(trace.obs[:, 0], trace.obs[:, 1], color=colour, linewidth=1.3, zorder=order)
    starts = np.array([trace.obs[0, :2] for trace in (*baseline, *corrected)])
    axes.scatter(starts[:, 0], starts[:, 1], s=28, color="#1F4E9E", zorder=6)
    axes.scatter(GOAL[0], GOAL[1], s=90, color="#7E3FA0", zorder=9)
    _arrows(axes, corrected, arrows)
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, borderaxespad=0)
    return figure


def _arrows(axes: Axes, traces: Sequence[Trace], most: int) -> None:
    """Green: what the baseline wanted; blue: what the correction added. Both from the same points."""
    points, wanted, added = [], [], []
    for trace in traces:
        steps = len(trace.action)
        chosen = np.unique(np.linspace(0, steps - 1, min(steps, most)).astype(int))
        points.append(trace.obs[chosen, :2])
        wanted.append(trace.base_action[chosen, :2])
        added.append(trace.action[chosen, :2] - trace.base_action[chosen, :2])
    if not points:
        return
    at = np.concatenate(points).T
    for vectors, colour, order in ((wanted, _GREEN, 7), (added, _BLUE, 8)):
        along = np.concatenate(vectors).T
        axes.quiver(
            *at, *along, angles="xy", scale_units="xy", scale=1, color=colour, zorder=order, width=0.0036, headwidth=4
        )


def _pointmass_legend(names: tuple[str, str]) -> list[Line2D]:
    def dot(colour: str, size: float, label: str, edge: str = "none") -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker="o", color=colour, markeredgecolor=edge, markersize=size, label=label
        )

    def arrow(colour: str, label: str) -> Line2D:
        return Line2D([], [], linestyle="none", marker=r"$\rightarrow$", color=colour, markersize=16, label=label)

    corrected = [
        Line2D([], [], color=_BLACK, linewidth=1.6, label=names[1]),
        arrow(_GREEN, "baseline's action"),
        arrow(_BLUE, "added by the correction"),
    ]
    return [
        Line2D([], [], color=_MAROON, linewidth=1.6, label=names[0]),
        *(corrected if names[1] else []),
        dot("#F4A6A0", 13, "risky region", "#C0392B"),
        dot("#7E3FA0", 9, "goal"),
        dot("#1F4E9E", 5, "start"),
    ]

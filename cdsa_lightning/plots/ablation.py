"""What each part of the correction contributes (Figure 7 of the paper): means with intervals, and the share of risk."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.metrics.bootstrap import bootstrap_interval
from cdsa_lightning.plots.style import BLACK, BLUE, GREEN, VERMILLION, bare, legend_below
from cdsa_lightning.tasks import Task

__all__ = ["ablated", "ablation", "ablation_of"]

_LOOKS = {"alone": (VERMILLION, "s"), "without a1": (BLUE, "v"), "without a2": (GREEN, "^"), "cdsa": (BLACK, "o")}


def ablated(names: Collection[str]) -> dict[str, str]:
    """The arms of an ablation by what they are: alone, without a1, without a2, cdsa; {} where nothing was left out."""
    for name in names:
        corrected = f"cdsa({name})"
        found = {"alone": name, **{key: f"{corrected} {key}" for key in ("without a1", "without a2")}}
        found["cdsa"] = corrected
        found = {key: arm for key, arm in found.items() if arm in names}
        if {"without a1", "without a2"} & set(found):
            return found
    return {}


def ablation(report: Report) -> Figure:
    """The baseline, CDSA without a1, without a2, and whole: mean with its 95 % interval.

    The intervals are those of the hierarchical bootstrap. Where the world has risk regions, a second panel shows the
    share of episodes that entered one.

    Args:
        report: Of an evaluation with --ablation.

    Raises:
        InputError: no arm leaves out a part of the correction.
    """
    if not ablated(report.arms):
        baseline, task = next(iter(report.arms)), report.task.name
        raise InputError(
            f"This evaluation of {baseline!r} on {task!r} left out no part of the correction. Make one that does: "
            f"cdsa evaluate --baseline {baseline.partition('+')[0]} --task {task} --ablation"
        )
    steps = {name: arm.info["in_risk_region"] for name, arm in report.arms.items() if "in_risk_region" in arm.info}
    return ablation_of(report.scores, report.task, steps)


def ablation_of(scores: Mapping[str, np.ndarray], task: Task, steps: Mapping[str, np.ndarray]) -> Figure:
    """`ablation` of the `scores` [E, n] of arms that `ablated` knows: E training seeds, n episodes on `task`.

    Args:
        scores: By arm.
        task: Which.
        steps: Of each arm those inside a risk region, [E, n]; {} where the world has none.
    """
    arms = ablated(scores)
    risky = all(arm in steps for arm in arms.values())
    figure = Figure(figsize=(8.4 if risky else 5.4, 1.1 + 0.42 * len(arms)), layout="constrained")
    panels = figure.subplots(1, 1 + risky, sharey=True, squeeze=False)[0]
    handles = _draw_means(panels[0], arms, scores)
    panels[0].set_xlabel("mean return" if task.score_max is None else "mean normalised score")
    if risky:
        _draw_means(panels[1], arms, {arm: (np.asarray(steps[arm]) > 0).astype(float) for arm in arms.values()}, 0, 1)
        panels[1].set_xlabel("episodes that entered a risk region")
        panels[1].xaxis.set_major_formatter(PercentFormatter(1.0))
        panels[1].set_xlim(left=min(0.0, panels[1].get_xlim()[0]))
    figure.suptitle(f"Ablation, {task.name}", fontsize=11)
    legend_below(figure, handles)
    return figure


def _draw_means(
    axes: Axes,
    arms: Mapping[str, str],
    values: Mapping[str, np.ndarray],
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> list[Artist]:
    """Of each arm the mean of its `values` [E, n] in a row; it lies within the bounds. What a legend explains."""
    for row, (part, arm) in enumerate(arms.items()):
        colour, marker = _LOOKS[part]
        interval = bootstrap_interval(torch.as_tensor(values[arm], dtype=torch.float64))
        low, high = max(lowest, interval.low), min(highest, interval.high)
        reach = np.array([[interval.estimate - low], [high - interval.estimate]])
        error = None if math.isinf(interval.low) else np.maximum(reach, 0)  # rounding may leave -1e-17
        axes.errorbar(
            interval.estimate, row, xerr=error, color=colour, marker=marker, markersize=7, capsize=4, elinewidth=1.8
        )
    axes.set_yticks(range(len(arms)), [arms["alone"] if part == "alone" else part for part in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    bare(axes, "x")
    return [Line2D([], [], color="0.3", marker="o", markersize=6, label="mean and 95 % interval (seeds and episodes)")]

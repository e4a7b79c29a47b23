"""What each part of the correction contributes (Figure 7 of the paper): means with intervals, and the share of risk."""

from __future__ import annotations

import math

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
from cdsa_lightning.rollout import Episodes

__all__ = ["ablated", "ablation", "draw_means"]

_LOOKS = {"alone": (VERMILLION, "s"), "without a1": (BLUE, "v"), "without a2": (GREEN, "^"), "cdsa": (BLACK, "o")}


def ablated(report: Report) -> dict[str, str]:
    """The arms of an ablation by what they are: alone, without a1, without a2, cdsa; {} where nothing was left out."""
    for name in report.arms:
        corrected = f"cdsa({name})"
        found = {"alone": name, **{key: f"{corrected} {key}" for key in ("without a1", "without a2")}}
        found["cdsa"] = corrected
        found = {key: arm for key, arm in found.items() if arm in report.arms}
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
    arms = ablated(report)
    if not arms:
        baseline, task = next(iter(report.arms)), report.task.name
        raise InputError(
            f"This evaluation of {baseline!r} on {task!r} left out no part of the correction. Make one that does: "
            f"cdsa evaluate --baseline {baseline.partition('+')[0]} --task {task} --ablation"
        )
    risky = all("in_risk_region" in report.arms[arm].info for arm in arms.values())
    figure = Figure(figsize=(8.4 if risky else 5.4, 1.1 + 0.42 * len(arms)), layout="constrained")
    panels = figure.subplots(1, 1 + risky, sharey=True, squeeze=False)[0]
    handles = draw_means(panels[0], report, arms)
    if risky:
        draw_means(panels[1], report, arms, risk=True)
    figure.suptitle(f"Ablation, {report.task.name}", fontsize=11)
    legend_below(figure, handles)
    return figure


def draw_means(axes: Axes, report: Report, arms: dict[str, str], risk: bool = False) -> list[Artist]:
    """One row an arm in `axes`, the baseline on top; what a legend explains.

    Args:
        axes: Where to draw.
        report: Holds the arms.
        arms: As `ablated` names them.
        risk: Draw the share of episodes that entered a risk region instead of the mean return or score.
    """
    for row, (part, arm) in enumerate(arms.items()):
        colour, marker = _LOOKS[part]
        interval = bootstrap_interval(torch.as_tensor(_values(report, report.arms[arm], risk)))
        low, high = (max(0.0, interval.low), min(1.0, interval.high)) if risk else (interval.low, interval.high)
        reach = np.array([[interval.estimate - low], [high - interval.estimate]])
        error = None if math.isinf(interval.low) else np.maximum(reach, 0)  # rounding may leave -1e-17
        axes.errorbar(
            interval.estimate, row, xerr=error, color=colour, marker=marker, markersize=7, capsize=4, elinewidth=1.8
        )
    axes.set_yticks(range(len(arms)), [arms["alone"] if part == "alone" else part for part in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    if risk:
        axes.set_xlabel("episodes that entered a risk region")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    else:
        axes.set_xlabel("mean return" if report.task.score_max is None else "mean normalised score")
    bare(axes, "x")
    return [Line2D([], [], color="0.3", marker="o", markersize=6, label="mean and 95 % interval (seeds and episodes)")]


def _values(report: Report, episodes: Episodes, risk: bool) -> np.ndarray:
    if risk:
        return (np.asarray(episodes.info["in_risk_region"]) > 0).astype(float)
    return np.asarray(report.task.normalized_score(episodes.returns), dtype=float)

"""A choice of coefficients: measures against the data rule's thresholds, and the candidates beside each other."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdsa_lightning.audit import INSIDE_R, MILD_F99, NOISY_RHO, NOISY_SHARE, Measures
from cdsa_lightning.plots.style import BLACK, BLUE, VERMILLION, bare

__all__ = ["tuning_figure"]


def tuning_figure(
    measures: Measures,
    candidates: Mapping[str, float],
    chosen: str,
    label: str,
    limit: tuple[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Measures relative to their thresholds (left) and a number for every candidate (right), the chosen one marked.

    Args:
        measures: Of the uncorrected policy.
        candidates: A number for each, in order.
        chosen: One of them.
        label: What the numbers are.
        limit: What they are compared with: its name and value.
        title: Above the panels.
    """
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_measures(left, measures)
    names = list(candidates)[::-1]
    for row, name in enumerate(names):
        colour, marker = (VERMILLION, "D") if name == chosen else (BLACK, "o")
        right.plot(candidates[name], row, marker=marker, color=colour, markersize=7, linestyle="")
    right.set_yticks(range(len(names)), [f"{name} (chosen)" if name == chosen else name for name in names])
    right.set_ylim(-0.6, len(names) - 0.4)
    right.margins(x=0.12)
    right.set_xlabel(label)
    if limit is not None:
        right.axvline(limit[1], color="0.5", linestyle="--", linewidth=1.0)
        right.set_title(f"dashed: {limit[0]}, {limit[1]:.4g}", fontsize=9)
    bare(right, "x")
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_measures(axes: Axes, measures: Measures) -> None:
    """Each measure over its threshold, on one axis: 1 is the threshold."""
    rows = (
        ("f99", measures.f99, MILD_F99),
        ("noise", measures.noise, NOISY_SHARE),
        ("rho", measures.rho, NOISY_RHO),
        ("r", measures.r, INSIDE_R),
    )
    for row, (_, value, threshold) in enumerate(rows):
        axes.plot((0, value / threshold), (row, row), color=BLUE, linewidth=5, solid_capstyle="butt")
    axes.axvline(1, color="0.5", linestyle="--", linewidth=1.0)
    axes.set_yticks(range(len(rows)), [f"{name} = {value:.2f}" for name, value, _ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 1.08 * max(1.5, *(value / threshold for _, value, threshold in rows)))
    limits = ", ".join(f"{name} {threshold:g}" for name, _, threshold in reversed(rows))
    axes.set_title(f"thresholds: {limits}", fontsize=9)
    axes.set_xlabel("measure / threshold")
    bare(axes, "x")

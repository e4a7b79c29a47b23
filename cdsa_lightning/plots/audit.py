"""An audit: predicted noise of a policy's actions beside the data's, and how unusual the steps of its episodes are."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdsa_lightning.audit import Audit
from cdsa_lightning.plots.style import COLOURS, DASHES, bare, legend_below, unique

__all__ = ["audit_figure"]

_GRID = np.linspace(0, 1, 201)
_SMALLEST = 1e-4


def audit_figure(found: Audit, baseline: str, title: str = "") -> Figure:
    """Cumulative shares: of the predicted noise in states of the data, and of the p-values along recorded episodes.

    Args:
        found: What `cdsa_lightning.audit.audit` gave.
        baseline: How the legend calls the policy.
        title: Above the panels.
    """
    figure = Figure(figsize=(8.4 if found.walks else 5.2, 3.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, 1 + bool(found.walks)))
    handles = _draw_noise(panels[0], found, baseline)
    if found.walks:
        handles += _draw_p_values(panels[1], found)
    figure.suptitle(title, fontsize=11)
    legend_below(figure, unique(handles))
    return figure


def _draw_noise(axes: Axes, found: Audit, baseline: str) -> list[Artist]:
    handles: list[Artist] = []
    curves = (("the data", found.reference, "0.55", "-"), (baseline, found.noise, COLOURS[0], DASHES[0]))
    for label, lengths, colour, dash in curves:
        share = np.quantile(lengths, _GRID)
        handles += axes.plot(share, _GRID, label=label, color=colour, linestyle=dash, linewidth=1.8)
    for quantile in (0.9, 0.99):
        axes.axvline(float(np.quantile(found.reference, quantile)), color="0.8", linestyle=":", linewidth=1.0)
    axes.set_xlabel(f"predicted noise in states of the data, $\\sigma$ = {found.measures.sigma:g}")
    axes.set_ylabel("share of the actions below")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    bare(axes)
    return handles


def _draw_p_values(axes: Axes, found: Audit) -> list[Artist]:
    """The ranks of data are uniform, their curve is the identity; above it there are too many unusual steps."""
    uniform = np.geomspace(_SMALLEST, 1, 201)
    handles: list[Artist] = []
    handles += axes.plot(uniform, uniform, label="the data", color="0.55", linestyle="-", linewidth=1.8)
    for index, (name, walk) in enumerate(found.walks.items()):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        ranks = np.clip(np.quantile(np.concatenate(walk.p_values), _GRID), _SMALLEST, 1)
        handles += axes.plot(ranks, _GRID, label=name, color=colour, linestyle=dash, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_xlabel("p-value of a step of an episode")
    axes.set_ylabel("share of the steps below")
    axes.set_xlim(_SMALLEST, 1)
    axes.set_ylim(0, 1)
    bare(axes)
    return handles

r"""Performance profiles: the share of runs that score above each threshold (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.aggregate import stratified_profile
from cdsa_lightning.plots.style import COLOURS, DASHES, bare, legend_below

__all__ = ["profile"]

_POINTS = 201


def profile(tables: Mapping[str, np.ndarray]) -> Figure:
    """One falling curve an arm with its 95 % band; the arm whose curve lies above is better at every threshold.

    Args:
        tables: Name of an arm -> normalised scores [tasks, seeds].

    Raises:
        InputError: no arm, or scores that are no table.
    """
    if not tables:
        raise InputError("A performance profile needs the scores of at least one arm.")
    values = np.concatenate([np.asarray(table, dtype=float).reshape(-1) for table in tables.values()])
    taus = np.linspace(min(0.0, values.min()), max(100.0, values.max()), _POINTS)
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    handles: list[Artist] = []
    for index, (name, table) in enumerate(tables.items()):
        share, low, high = stratified_profile(table, taus)
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        handles += axes.plot(taus, share, label=name, linewidth=1.8, color=colour, linestyle=dash)
        axes.fill_between(taus, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlabel("normalised score tau")
    axes.set_ylabel("share of runs above tau")
    axes.set_xlim(taus[0], taus[-1])
    axes.set_ylim(-0.02, 1.02)
    axes.set_title("Performance profile", fontsize=11)
    bare(axes)
    legend_below(figure, handles)
    return figure

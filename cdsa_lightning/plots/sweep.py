"""Two shares against each other while one setting grows: a curve per task, the setting as the colour of its points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from cdsa_lightning.errors import InputError
from cdsa_lightning.plots.style import DASHES, MARKERS, STRENGTH, bare, legend_below

__all__ = ["sweep_curve"]

_MARGIN = 0.04


def sweep_curve(curves: Mapping[str, npt.ArrayLike], x_label: str, y_label: str, *, parameter: str) -> Figure:
    """One curve for each entry of `curves`.

    Args:
        curves: [n, 3] each: the setting, the share along x, the share along y; shares between 0 and 1.
        x_label, y_label: What the shares are.
        parameter: What is set.

    Raises:
        InputError: there is no curve, or one of another shape.
    """
    tables = {name: np.asarray(points, dtype=float) for name, points in curves.items()}
    if not tables or any(table.ndim != 2 or table.shape[1] != 3 or not len(table) for table in tables.values()):
        found = ", ".join(f"{name}: {table.shape}" for name, table in tables.items()) or "none"
        raise InputError(f"A sweep is drawn from curves of shape (points, 3), got {found}.")
    values = np.concatenate([table[:, 0] for table in tables.values()])
    norm = Normalize(float(values.min()), float(values.max()))
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    handles = []
    for index, (name, table) in enumerate(tables.items()):
        dash, marker = DASHES[index % len(DASHES)], MARKERS[index % len(MARKERS)]
        axes.plot(table[:, 1], table[:, 2], color="0.45", linestyle=dash, linewidth=1.2, zorder=2)
        axes.scatter(
            table[:, 1],
            table[:, 2],
            c=table[:, 0],
            cmap=STRENGTH,
            norm=norm,
            marker=marker,
            s=42,
            zorder=3,
            clip_on=False,
        )
        handles.append(Line2D([], [], color="0.45", linestyle=dash, marker=marker, label=name))
    axes.set(xlim=(-_MARGIN, 1 + _MARGIN), ylim=(-_MARGIN, 1 + _MARGIN), xlabel=x_label, ylabel=y_label)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bare(axes)
    figure.colorbar(ScalarMappable(norm, STRENGTH), ax=axes, label=parameter)
    legend_below(figure, handles)
    return figure

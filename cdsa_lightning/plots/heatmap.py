"""A table of numbers as a picture: cells shaded and annotated, in colours that become evenly spaced greys in print."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cdsa_lightning.errors import InputError

__all__ = ["draw_heatmap", "heatmap"]

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_MISSING = "#FFFFFF"


def heatmap(
    values: npt.ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    row_title: str = "",
    column_title: str = "",
    label: str = "",
    format: str = "{:.2f}",
) -> Figure:
    """A sweep over two settings, one cell each.

    Args:
        values: [rows, columns]; NaN where there is none.
        rows, columns: What the cells of a row, of a column, have in common.
        title: Above the table.
        row_title, column_title: What is swept along the axes.
        label: Of the colour bar: what the numbers are.
        format: Of the numbers in the cells.

    Raises:
        InputError: labels that do not fit the values.
    """
    table = np.asarray(values, dtype=float)
    height, width = 0.42 * len(rows) + 1.2, 0.72 * len(columns) + 1.8 + 0.08 * max(map(len, rows), default=0)
    figure = Figure(figsize=(max(width, 3.6), max(height, 2.2)), layout="constrained")
    axes = figure.add_subplot()
    image = draw_heatmap(axes, table, rows, columns, format)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(column_title)
    axes.set_ylabel(row_title)
    figure.colorbar(image, ax=axes, label=label)
    return figure


def draw_heatmap(
    axes: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], format: str = "{:.2f}"
) -> AxesImage:
    """The cells of `heatmap` in `axes`; what a colour bar explains."""
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise InputError(
            f"A heat map of {len(rows)} rows and {len(columns)} columns needs a value each, got {values.shape}."
        )
    colours = matplotlib.colormaps["cividis"].with_extremes(bad=_MISSING)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for (row, column), value in np.ndenumerate(values):
        known = np.isfinite(value)
        shade = image.cmap(image.norm(value))[:3] if known else (1.0, 1.0, 1.0)
        light = _LUMINANCE @ np.asarray(shade) > 0.45
        text = format.format(value) if known else "none"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color="black" if light else "white")
    return image

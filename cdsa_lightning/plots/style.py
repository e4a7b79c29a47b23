"""What the pictures share: colours that every kind of colour vision tells apart, dashes for grey print, legends below.

The colours are Okabe and Ito's. Nothing here is global: a figure carries its own settings, needs no display, and there
is nothing to close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

__all__ = [
    "BLACK",
    "BLUE",
    "COLOURS",
    "DASHES",
    "DENSITY",
    "GREEN",
    "MARKERS",
    "PURPLE",
    "SKY",
    "STRENGTH",
    "VERMILLION",
    "YELLOW",
    "bare",
    "legend_below",
    "scale",
    "settle",
    "unique",
]

BLACK, YELLOW, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
COLOURS = (VERMILLION, BLACK, BLUE, GREEN, PURPLE, YELLOW, SKY)
DASHES: tuple[Any, ...] = ((0, (5, 1.5)), "-", (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = "soD^vPX"

# Light enough at its dark end that every colour of STRENGTH stands out from it, in grey print too.
DENSITY = LinearSegmentedColormap.from_list("density", ["#EFEFEF", "#ABABAB"])
# The lightness of each falls evenly, so that in grey print darker still is stronger.
STRENGTH = LinearSegmentedColormap.from_list("strength", ["#CC5C35", "#A62B6B", "#5B0FA0", "#0D0887"])

_ROW, _SHARE = 0.21, 0.97  # inches of a legend's row, share of the width that a legend may take


def bare(axes: Axes, grid: str = "both") -> None:
    """Without the upper and right edge, with a light grid along `grid` (both, x or y)."""
    axes.grid(True, axis=grid, color="0.9", linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def scale(axes: Axes, shown: ScalarMappable, label: str, number: int = 0, below: bool = False) -> None:
    """A colour bar as long as `axes`, beside or below it.

    Args:
        axes: Where `shown` is.
        shown: An image, or arrows whose largest values may lie beyond the last colour.
        label: What its colours are.
        number: How many colour bars stand nearer.
        below: Under the axes instead of beside.
    """
    away = 1.04 + 0.2 * number
    place = axes.inset_axes((0.0, -0.23 - 0.22 * number, 1.0, 0.045) if below else (away, 0.0, 0.045, 1.0))
    how: dict[str, Any] = {"orientation": "horizontal"} if below else {}
    how["extend"] = "max" if isinstance(shown, Quiver) else "neither"
    bar = axes.figure.colorbar(shown, cax=place, label=label, **how)
    ends = shown.get_clim()
    if isinstance(shown.norm, LogNorm) and ends[1] < 10 * ends[0]:
        bar.set_ticks(ends, labels=[f"{end:g}" for end in ends])  # within a decade Matplotlib's own may lie over others
        bar.minorticks_off()


def unique(handles: Sequence[Artist]) -> list[Artist]:
    """The first handle of each label, in order: panels share what they have in common."""
    found: dict[str, Artist] = {}
    for handle in handles:
        found.setdefault(str(handle.get_label()), handle)
    return list(found.values())


def legend_below(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """One legend under all axes, in as many columns as the width holds; the figure grows by its rows.

    It comes last: then the layout is settled.

    Args:
        figure: With constrained layout.
        handles: What is explained, each under its label.
        title: One line above it.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=9,
            handlelength=3,
            title=title,
            title_fontsize=9,
        )
        if columns == 1 or legend.get_window_extent(renderer).width <= _SHARE * figure.bbox.width:
            break
        legend.remove()
    rows = -(-len(handles) // columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + _ROW * rows)
    settle(figure)


def settle(figure: Figure) -> None:
    """Lay out what is complete: where axes have a fixed aspect or a scale beside them, one pass follows the other."""
    for _ in range(3):
        figure.draw_without_rendering()

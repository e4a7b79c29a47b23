r"""Where an agent walks (Figures 3 and 5 of the paper): the map, its paths, and what the correction adds on the way.

A path darkens with time. Along corrected paths two arrows start from one point: the displacement that the baseline
asked for, and what the correction added to it. A step longer than its action explains is a flight, drawn thin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Polygon

from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.errors import InputError
from cdsa_lightning.plots.style import BLACK, BLUE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, legend_below, unique
from cdsa_lightning.rollout import Trace

__all__ = ["DARKENS", "draw_map", "draw_trajectories", "trajectories"]

DARKENS = "paths darken with time"

_SHADES = 24  # of a path: more cannot be told apart
_LIGHTEST = 0.22  # how much of its colour a path begins with
_FILLS = (("#F6D2C4", "#C98A72", "////"), ("#CFE5F6", "#86B4D8", "...."), ("#ECECEC", "#B5B5B5", "xxxx"))
_PLACES = (("goal", "*", PURPLE), ("goods", "s", YELLOW), ("airport", "^", SKY), ("landing", "v", SKY))
_SPACING = 0.06  # between arrows, in widths of the map
_ARROW = 0.09  # the longest displacement is drawn at least so long, in widths of the map


@dataclass(frozen=True)
class _Look:
    """How one kind of path is drawn."""

    colour: str
    dash: Any
    width: float
    order: float


_BASE = _Look(VERMILLION, (0, (3.2, 1.3)), 1.5, 3)
_CORRECTED = _Look(BLACK, "-", 1.5, 4)


def trajectories(
    world: WorldMap,
    baseline: Sequence[Trace],
    corrected: Sequence[Trace] = (),
    *,
    names: tuple[str, str] = ("baseline", "cdsa(baseline)"),
    title: str = "",
    arrows: int = 5,
) -> Figure:
    """The map with the paths of a policy and of its corrected self.

    Args:
        world: The map; a path is the first two entries of the observations.
        baseline: Traces of the uncorrected policy.
        corrected: Traces of the corrected policy; the arrows stand along these.
        names: How the legend calls the two.
        title: Above the map.
        arrows: Pairs of arrows along each corrected path, at most.

    Raises:
        InputError: there is no trace to draw.
    """
    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axes = figure.add_subplot()
    handles = draw_trajectories(axes, world, baseline, corrected, names=names, arrows=arrows)
    axes.set_title(title, fontsize=11)
    legend_below(figure, handles, DARKENS)
    return figure


def draw_trajectories(
    axes: Axes,
    world: WorldMap,
    baseline: Sequence[Trace],
    corrected: Sequence[Trace] = (),
    *,
    names: tuple[str, str] = ("baseline", "cdsa(baseline)"),
    arrows: int = 5,
) -> list[Artist]:
    """What `trajectories` shows, in `axes`; what a legend explains.

    Raises:
        InputError: there is no trace to draw.
    """
    if not baseline and not corrected:
        raise InputError("There is no trace to draw: record at least one episode per seed.")
    there = draw_map(axes, world)
    handles: list[Artist] = []
    flights: list[np.ndarray] = []
    for traces, look, name in ((baseline, _BASE, names[0]), (corrected, _CORRECTED, names[1])):
        for trace in traces:
            flights += _draw_path(axes, trace, world, look)
        if traces:
            handles.append(Line2D([], [], color=look.colour, linestyle=look.dash, linewidth=1.8, label=name))
    if flights:
        axes.add_collection(LineCollection(flights, colors="0.6", linewidths=0.7, zorder=2.5))
        handles.append(Line2D([], [], color="0.6", linewidth=0.9, label="flight"))
    if corrected and arrows:
        handles += _draw_arrows(axes, corrected, world, arrows)
    starts = np.array([trace.obs[0, :2] for trace in (*baseline, *corrected)])
    dot: dict[str, Any] = {"s": 22, "color": "white", "edgecolor": BLACK, "linewidth": 1.0, "label": "start"}
    return unique([*handles, axes.scatter(*starts.T, zorder=6, **dot), *there])


def draw_map(axes: Axes, world: WorldMap, filled: bool = True) -> list[Artist]:
    """Regions and places of `world` in `axes`, which take its limits; what a legend explains.

    Args:
        axes: Where to draw.
        world: The map.
        filled: Whether regions are filled and hatched; else only their edges are drawn, over what is there.
    """
    handles: list[Artist] = []
    for index, region in enumerate(world.regions):
        fill, edge, hatch = _FILLS[index % len(_FILLS)]
        name = region.name if "risk" in region.name else f"{region.name} (risky)"
        look: dict[str, Any] = {"facecolor": fill, "edgecolor": edge, "hatch": hatch, "linewidth": 1.0}
        if not filled:
            dash = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))[index % len(_FILLS)]
            look = {"facecolor": "none", "edgecolor": BLACK, "linewidth": 1.3, "linestyle": dash}
        axes.add_patch(Polygon(region.outline(), zorder=1 if filled else 4, **look))
        handles.append(Patch(label=name, **look))
    for place in world.places:
        marker, colour = next(((m, c) for name, m, c in _PLACES if name == place.name), ("D", "0.6"))
        axes.add_patch(Circle(place.centre, place.radius, facecolor=colour, alpha=0.35, zorder=2, linewidth=0))
        look = {"s": 130 if marker == "*" else 60, "marker": marker, "color": colour, "edgecolor": BLACK}
        handles.append(axes.scatter(*place.centre, zorder=8, linewidth=0.8, label=place.name, **look))
    axes.set(aspect="equal", xlabel="x", ylabel="y")
    axes.set_xlim(world.low[0], world.high[0])
    axes.set_ylim(world.low[1], world.high[1])
    return handles


def _draw_path(axes: Axes, trace: Trace, world: WorldMap, look: _Look) -> list[np.ndarray]:
    """One path in pieces of darkening colour; the flights that interrupt it, [2, 2] each."""
    path = np.asarray(trace.obs[:, :2], dtype=float)
    steps = len(path) - 1
    length = np.linalg.norm(np.diff(path, axis=0), axis=1)
    asked = world.step * np.linalg.norm(trace.action[:, :2], axis=1)
    flown = length > 1.5 * asked + 0.02 * (world.high[0] - world.low[0])
    cuts = np.unique(np.concatenate(([0, steps], np.linspace(0, steps, _SHADES + 1).astype(int))))
    cuts = np.unique(np.concatenate((cuts, np.flatnonzero(flown), np.flatnonzero(flown) + 1)))
    walked = [(first, last) for first, last in zip(cuts[:-1], cuts[1:], strict=True) if not flown[first]]
    share = np.array([_LIGHTEST + (1 - _LIGHTEST) * (last / steps) for _, last in walked])
    colours = np.clip(1 - share[:, None] * (1 - np.array(to_rgb(look.colour))), 0, 1)
    pieces = [path[first : last + 1] for first, last in walked]
    axes.add_collection(
        LineCollection(
            pieces, colors=colours, linewidths=look.width, linestyles=[look.dash], zorder=look.order, capstyle="butt"
        )
    )
    return [path[step : step + 2] for step in np.flatnonzero(flown)]


def _draw_arrows(axes: Axes, traces: Sequence[Trace], world: WorldMap, most: int) -> list[Artist]:
    """What the baseline wanted, and what the correction added; both from the same points."""
    width = world.high[0] - world.low[0]
    chosen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for trace in traces:
        steps = len(trace.action)
        for step in np.unique(np.linspace(0, steps - 1, min(steps, most)).astype(int)):
            at = trace.obs[step, :2]
            if all(np.linalg.norm(at - other) >= _SPACING * width for other, _, _ in chosen):
                wanted = trace.base_action[step, :2]
                chosen.append((at, wanted, trace.action[step, :2] - wanted))
    points, wanted, added = (
        np.array(column) * factor
        for column, factor in zip(zip(*chosen, strict=True), (1.0, world.step, world.step), strict=True)
    )
    longest = np.linalg.norm(wanted, axis=1).max()
    times = max(1, round(_ARROW * width / longest)) if longest > 0 else 1
    handles: list[Artist] = []
    looks: tuple[tuple[np.ndarray, str, str, dict[str, Any]], ...] = (
        (
            wanted,
            GREEN,
            "baseline's action",
            {"width": 0.004, "headwidth": 4.5, "headlength": 5, "headaxislength": 4.5},
        ),
        (
            added,
            BLUE,
            "added by the correction",
            {"width": 0.007, "headwidth": 3.0, "headlength": 2.8, "headaxislength": 2.6},
        ),
    )
    for order, (vectors, colour, label, look) in enumerate(looks, 6):
        axes.quiver(
            *points.T, *(times * vectors).T, angles="xy", scale_units="xy", scale=1, color=colour, zorder=order, **look
        )
        size: dict[str, Any] = {"markersize": 15, "markeredgewidth": 0.3 + 0.8 * (order - 6)}
        text = label if times == 1 else f"{label}, {times} x"
        handles.append(Line2D([], [], linestyle="none", marker=r"$\rightarrow$", color=colour, label=text, **size))
    return handles

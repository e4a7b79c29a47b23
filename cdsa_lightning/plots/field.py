r"""The state-score field over two entries of the observation, above the density of the data (Figure 5 b and c).

    score(x, y) = [ d log p / dx, d log p / dy ] = -eps_h(s) / (state_sigma * std),     s = (x, y, rest)

in the data's units, where `rest` are the data's medians. A corrector that sees x and y alone needs none: its field is
exact. h(s, a) is asked at the data's mean action. Several training seeds are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.quiver import Quiver

from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.errors import InputError
from cdsa_lightning.plots.style import DENSITY, STRENGTH, legend_below, scale, settle
from cdsa_lightning.plots.trajectories import draw_map
from cdsa_lightning.sources import Transitions

__all__ = ["DENSITY_LABEL", "STRENGTH_LABEL", "draw_density", "draw_field", "field", "state_score"]

DENSITY_LABEL = "states in the data, per cell"
STRENGTH_LABEL = "length of the score, per std of the data"

_CELLS = 80  # of the histogram, along each axis
_TAIL = 0.1  # percent of the data that may lie outside the picture on each side, where there is no map


def field(
    corrector: Corrector,
    data: Transitions,
    dims: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    world: WorldMap | None = None,
    arrows: int = 24,
    title: str = "",
) -> Figure:
    """Where the state score pulls, over where the data are.

    Args:
        corrector: Whose h is drawn.
        data: What it was fitted on.
        dims: Two different entries of the observation, along x and along y.
        names: Of all entries of the observation; obs_0, obs_1, ... by default.
        world: Its limits and the edges of its regions are drawn where the two entries are x and y, the first two.
        arrows: Along each axis.
        title: Above the field.

    Raises:
        InputError: entries that are equal or do not exist, or that the corrector does not see; data of another width.
    """
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.add_subplot()
    world = world if dims == (0, 1) else None
    density = draw_density(axes, data, dims, names, world)
    arrows_drawn = draw_field(axes, corrector, data, dims, names, world, arrows)
    axes.set_title(title, fontsize=11)
    scale(axes, arrows_drawn, STRENGTH_LABEL)
    scale(axes, density, DENSITY_LABEL, number=1)
    if world is not None:
        legend_below(figure, draw_map(axes, world, filled=False))
    settle(figure)
    return figure


def draw_density(
    axes: Axes,
    data: Transitions,
    dims: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    world: WorldMap | None = None,
) -> AxesImage:
    """How many states of the data lie where, logarithmic, in `axes`; what a colour bar explains."""
    _check(data.obs.shape[1], dims)
    low, high = _limits(data, dims, world)
    x, y = (data.obs[:, dim] for dim in dims)
    counts, _, _ = np.histogram2d(x, y, _CELLS, [[low[0], high[0]], [low[1], high[1]]])
    norm = LogNorm(1, max(2.0, float(counts.max())))
    image = axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        extent=(low[0], high[0], low[1], high[1]),
        origin="lower",
        cmap=DENSITY,
        norm=norm,
        aspect="equal" if world is not None else "auto",
        interpolation="nearest",
    )
    labels = names or [f"obs_{entry}" for entry in range(data.obs.shape[1])]
    axes.set(xlabel=labels[dims[0]], ylabel=labels[dims[1]])
    return image


def draw_field(
    axes: Axes,
    corrector: Corrector,
    data: Transitions,
    dims: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    world: WorldMap | None = None,
    arrows: int = 24,
) -> Quiver:
    """Arrows of equal length along the score as it appears in `axes`, coloured by its length; for a colour bar."""
    _check(data.obs.shape[1], dims)
    low, high = _limits(data, dims, world)
    span = high - low
    ticks = [low[axis] + span[axis] * (np.arange(arrows) + 0.5) / arrows for axis in (0, 1)]
    x, y = (grid.ravel() for grid in np.meshgrid(*ticks))
    obs = np.tile(np.median(data.obs, axis=0), (len(x), 1))
    obs[:, dims[0]], obs[:, dims[1]] = x, y
    action = np.tile(data.action.mean(axis=0), (len(x), 1))
    score = _entries(corrector, state_score(corrector, obs, action), dims, names)
    seen = score * span  # the gradient over what the eye measures in: widths and heights of the axes
    seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-12)
    strength = np.linalg.norm(score * data.obs[:, list(dims)].std(axis=0), axis=1)
    return axes.quiver(
        x,
        y,
        *seen.T,
        strength,
        angles="uv",
        scale=arrows * 1.2,
        scale_units="width",
        width=0.0034,
        headwidth=4.2,
        headlength=4.5,
        pivot="mid",
        cmap=STRENGTH,
        norm=Normalize(0, max(float(np.percentile(strength, 95)), 1e-12)),
        zorder=3,
    )


@torch.no_grad()
def state_score(corrector: Corrector, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """d log p / ds at observations, in the data's units, averaged over the training seeds.

    Args:
        corrector: Whose h is asked.
        obs: [N, S].
        action: [N, A]; without influence where h sees the state alone.

    Returns:
        [N, D], one column for each entry of the observation that the networks see.

    Raises:
        InputError: rows of another width than the corrector's.
    """
    nets = corrector.networks
    if (obs.shape[1], action.shape[1]) != (corrector.obs_dim, corrector.action_dim):
        raise InputError(
            f"The corrector takes {corrector.obs_dim} observation and {corrector.action_dim} action entries, the data "
            f"have {obs.shape[1]} and {action.shape[1]}: they belong to another task."
        )
    rows = (torch.as_tensor(part, dtype=torch.float32) for part in (obs, action))
    s, u = nets.standardize(*(part.expand(corrector.num_seeds, *part.shape) for part in rows))
    score = -nets.state_noise(s, u) / (nets.settings.state_sigma * nets.obs_std)
    return score.mean(0).double().numpy()


def _entries(corrector: Corrector, score: np.ndarray, dims: tuple[int, int], names: Sequence[str] | None) -> np.ndarray:
    """The two columns of `score` that belong to `dims`, [N, 2]."""
    seen = corrector.networks.state_index
    seen = list(range(corrector.obs_dim)) if seen is None else seen
    for dim in dims:
        if dim not in seen:
            called = names or [f"entry {entry}" for entry in range(corrector.obs_dim)]
            raise InputError(
                f"The corrector does not see {called[dim]} of the observation: it sees "
                f"{', '.join(called[entry] for entry in seen)}."
            )
    return score[:, [seen.index(dim) for dim in dims]]


def _check(obs_dim: int, dims: tuple[int, int]) -> None:
    if len(set(dims)) != 2 or not all(0 <= dim < obs_dim for dim in dims):
        raise InputError(f"A field needs two different entries of an observation of {obs_dim}, got {list(dims)}.")


def _limits(data: Transitions, dims: tuple[int, int], world: WorldMap | None) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of the picture, [2] each: the map's, else what holds nearly all of the data."""
    if world is not None:
        return np.asarray(world.low, dtype=float), np.asarray(world.high, dtype=float)
    low, high = np.percentile(data.obs[:, list(dims)].astype(float), [_TAIL, 100 - _TAIL], axis=0)
    flat = high - low < 1e-9  # an entry that never varies still needs a width
    return np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)

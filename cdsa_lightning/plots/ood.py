r"""How far an episode strays from the data: the noise that the score networks predict, step by step.

    |eps_g(s, a)| = sigma |g(s, a)|,      |eps_h(s, a)| = sigma |h(s, a)|

is small where the data are dense and grows outside. The quantiles of |eps_g| over the data say what is usual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import QUANTILES, Corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.plots.style import BLACK, BLUE, VERMILLION, bare, legend_below
from cdsa_lightning.rollout import Trace

__all__ = ["draw_noise", "noise_lengths", "ood"]

_LEVELS = ((50, ":"), (90, "--"), (99, "-"))  # percent of the data's actions


def ood(
    corrector: Corrector,
    baseline: Trace | None,
    corrected: Trace,
    *,
    names: tuple[str, str] = ("baseline", "cdsa(baseline)"),
    coefficients: Coefficients | None = None,
    title: str = "",
) -> Figure:
    """The predicted noise of actions (above) and of states (below) along an episode.

    Args:
        corrector: Whose networks are asked; the row of the trace's training seed where it holds several.
        baseline: An episode of the uncorrected policy; None leaves it out.
        corrected: The corrected episode; what the baseline wanted on its way is drawn as well.
        names: How the legend calls the two.
        coefficients: Name the first sigma; the corrector's own by default.
        title: Above the panels.

    Raises:
        InputError: traces of another task.
    """
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    level = corrector.schedule(coefficients or corrector.coefficients)[0]
    handles = draw_noise(panels[0], corrector, baseline, corrected, level, names=names)
    draw_noise(panels[1], corrector, baseline, corrected, None, names=names)
    panels[1].set_xlabel("step of the episode")
    figure.suptitle(title, fontsize=11)
    legend_below(figure, handles)
    return figure


def draw_noise(
    axes: Axes,
    corrector: Corrector,
    baseline: Trace | None,
    corrected: Trace,
    level: int | None,
    *,
    names: tuple[str, str] = ("baseline", "cdsa(baseline)"),
) -> list[Artist]:
    """The noise of actions at one level of sigma in `axes`, or of states where `level` is None; for a legend."""
    alone: dict[str, Any] = {"color": VERMILLION, "linestyle": (0, (5, 1.5)), "linewidth": 1.4}
    wanted: dict[str, Any] = {"color": BLUE, "linestyle": (0, (1.2, 1.0)), "linewidth": 1.6}
    done: dict[str, Any] = {"color": BLACK, "linestyle": "-", "linewidth": 1.4}
    curves = [(corrected, corrected.action, done, f"{names[1]}: what it did")]
    if level is not None or corrector.networks.settings.state_score_input == "state_action":  # else they are one
        curves.insert(0, (corrected, corrected.base_action, wanted, f"{names[1]}: what {names[0]} wanted"))
    if baseline is not None:
        curves.insert(0, (baseline, baseline.action, alone, f"{names[0]}, an episode of its own"))
    handles: list[Artist] = []
    for trace, action, look, label in curves:
        lengths = noise_lengths(corrector, trace.obs[:-1], action, level, trace.seed)
        handles += axes.plot(np.arange(len(lengths)), lengths, label=label, **look)
    if level is not None and bool(corrector.noise_quantiles.any()):
        table = corrector.noise_quantiles[level, _row(corrector, corrected.seed)]
        for percent, dash in _LEVELS:
            height = float(table[percent * (QUANTILES - 1) // 100])
            label = f"{percent} % of the data's actions lie below"
            handles.append(axes.axhline(height, color="0.55", linestyle=dash, linewidth=1.0, label=label, zorder=1))
    sigma = corrector.networks.settings.action_sigmas[level] if level is not None else None
    state = corrector.networks.settings.state_sigma
    axes.set_ylabel(
        f"predicted noise\nof the action, $\\sigma$ = {sigma:g}"
        if sigma
        else f"predicted noise\nof the state, $\\sigma$ = {state:g}"
    )
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    bare(axes, "y")
    return handles


@torch.no_grad()
def noise_lengths(
    corrector: Corrector, obs: np.ndarray, action: np.ndarray, level: int | None, seed: int = 0
) -> np.ndarray:
    """The Euclidean length of the predicted noise, [N].

    Args:
        corrector: Whose networks are asked.
        obs: [N, S].
        action: [N, A].
        level: Of the action sigmas; None for the noise of the state.
        seed: Row of the corrector; its only one where it holds no more.

    Raises:
        InputError: rows of another width than the corrector's.
    """
    if (obs.shape[1], action.shape[1]) != (corrector.obs_dim, corrector.action_dim):
        raise InputError(
            f"The corrector takes {corrector.obs_dim} observation and {corrector.action_dim} action entries, the "
            f"episode has {obs.shape[1]} and {action.shape[1]}: they belong to different tasks."
        )
    nets = corrector.networks
    rows = (torch.as_tensor(part, dtype=torch.float32) for part in (obs, action))
    s, u = nets.standardize(*(part.expand(corrector.num_seeds, *part.shape) for part in rows))
    noise = nets.state_noise(s, u) if level is None else nets.action_noise(s, u, level)
    return noise[_row(corrector, seed)].norm(dim=-1).double().numpy()


def _row(corrector: Corrector, seed: int) -> int:
    return seed if seed < corrector.num_seeds else 0

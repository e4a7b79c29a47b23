r"""From a corrector's tensors to the matrices of `folded`, computed in float64.

h's answer is turned into a step of the standardised state, -sigma eps (or that / (sigma std)^2 in raw units);
g's into an action, -sigma std eps (or -eps / (sigma std)); eps is the answer, or -sigma times it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime.folded import Affine, Dynamics, Folded, Level, Tail

__all__ = ["INVERSE_SLOPE", "SCORE_SLOPE", "Source", "fold", "visited"]

SCORE_SLOPE, INVERSE_SLOPE = 0.1, 0.2  # of the LeakyReLUs, Table 3; core.nets builds with the same
_Layers = list[Affine]


@dataclass(frozen=True)
class Source:
    """A corrector's tensors by name, and what its header says about them.

    Args:
        tensors: As `Corrector.state_dict` names them.
        settings: Of the networks, as `NetworkSettings.to_dict` gives them.
        state_index: Observation entries that the networks see; None for all.
        ensemble: Whether the file itself is a mean over its seeds.
    """

    tensors: Mapping[str, np.ndarray]
    settings: Mapping[str, Any]
    state_index: Sequence[int] | None
    ensemble: bool

    @property
    def members(self) -> int:
        """Training seeds inside."""
        return len(self.tensors["networks.inverse_dynamics.layers.0.bias"])

    def rows(self, seed: int | str) -> list[int]:
        """Which members answer for `seed`, a number from 0 or ``mean``.

        Raises:
            InputError: there is no such seed, or the file is an ensemble.
        """
        if seed == "mean" or (self.ensemble and seed == 0):
            return list(range(self.members))
        if isinstance(seed, str):
            raise InputError(f"seed must be a number or 'mean', got {seed!r}.")
        if self.ensemble:
            raise InputError(f"This corrector is the mean of {self.members} seeds, of which none can be taken out.")
        if not 0 <= seed < self.members:
            raise InputError(f"There is no seed {seed}; the corrector holds {self.members}, counted from 0.")
        return [seed]

    def layers(self, net: str, rows: Sequence[int]) -> _Layers:
        """The affine maps of some copies of a network; one copy comes without the leading axis."""
        found: _Layers = []
        while (name := f"networks.{net}.layers.{len(found)}") + ".weight" in self.tensors:
            weight, bias = (
                self.tensors[f"{name}.{part}"][list(rows)].astype(np.float64) for part in ("weight", "bias")
            )
            found.append(Affine(weight[0], bias[0, 0]) if len(rows) == 1 else Affine(weight, bias))
        return found

    def vector(self, name: str) -> np.ndarray:
        """A tensor of the networks' statistics, in float64."""
        return self.tensors[f"networks.{name}"].astype(np.float64)


def visited(source: Source, c: Coefficients) -> list[int]:
    """Levels visited, in order.

    Raises:
        InputError: a sigma that no network was trained for.
    """
    trained = list(source.settings["action_sigmas"])
    for sigma in c.schedule:
        if sigma not in trained:
            raise InputError(f"No action score was trained at sigma {sigma}; trained: {trained}.")
    return [trained.index(sigma) for sigma in c.schedule or sorted(trained, reverse=True)] * c.num_steps


def fold(source: Source, c: Coefficients, seed: int | str = 0) -> Folded:
    """The matrices of one training seed, or of the mean over all, with coefficients `c`; float64.

    Raises:
        InputError: no such seed or sigma, or a gate where the data's noise was not measured.
    """
    rows, visits = source.rows(seed), visited(source, c)
    standardize, order = source.settings["standardize"], sorted(set(visits))
    threshold = None if c.gate is None else _threshold(source, c.gate, visits[0], rows, seed)
    obs_std = source.vector("obs_std") if standardize else np.ones(len(source.vector("obs_std")))
    firsts: _Layers = []
    levels: list[Level] = []
    dynamics = None
    if not c.changes_nothing:
        if c.k1 or c.gate is not None:
            for level in order:
                firsts, levels = _add_level(source, c, level, rows, (obs_std, firsts, levels))
        if c.k2 and c.a2 != "off":
            state, inverse, dynamics = _dynamics(source, c, rows, obs_std, len(firsts))
            firsts = [*firsts, state, inverse]
    joint = Affine(*(np.concatenate(arrays, -1) for arrays in zip(*firsts, strict=True))) if firsts else None
    return Folded(
        index=None if source.state_index is None else np.asarray(source.state_index),
        obs_mean=source.vector("obs_mean") if standardize else None,
        action_mean=source.vector("action_mean") if standardize else None,
        first=joint,
        widths=[first.bias.shape[-1] for first in firsts],
        levels=levels,
        visits=[order.index(level) for level in visits],
        dynamics=dynamics,
        threshold=threshold,
        low=source.tensors["low"].astype(np.float64),
        high=source.tensors["high"].astype(np.float64),
        every_step=c.clip == "every_step",
        max_shift=c.max_shift,
        members=len(rows),
    )


def _action_std(source: Source) -> np.ndarray:
    std = source.vector("action_std")
    return std if source.settings["standardize"] else np.ones_like(std)


def _scaled(layers: _Layers, factor: Any, shift: Any = 0.0) -> _Layers:
    """The network whose answer is factor * answer + shift."""
    return [*layers[:-1], Affine(layers[-1].weight * factor, layers[-1].bias * factor + shift)]


def _add_level(
    source: Source, c: Coefficients, level: int, rows: list[int], so_far: tuple[np.ndarray, _Layers, list[Level]]
) -> tuple[_Layers, list[Level]]:
    obs_std, firsts, levels = so_far
    sigma, std = source.settings["action_sigmas"][level], _action_std(source)
    layers = source.layers("action_score", [level * source.members + row for row in rows])
    if source.settings["predict"] != "noise":
        layers = _scaled(layers, -sigma)
    scale = c.k1 * (-1 / (sigma * std) if c.units == "raw" else -sigma * std)
    if c.gate is None:
        layers = _scaled(layers, scale)
    state, action = _divided(layers[0], obs_std, std)
    made = Level(len(firsts), action, Tail(layers[1:], SCORE_SLOPE), None if c.gate is None else scale)
    return [*firsts, state], [*levels, made]


def _divided(first: Affine, *stds: np.ndarray) -> tuple[Affine, np.ndarray]:
    """A first layer over (s, u): what multiplies s, with the bias, and what multiplies u; deviations divided out."""
    split = len(stds[0])
    state, action = first.weight[..., :split, :], first.weight[..., split:, :]
    return Affine(state / stds[0][:, None], first.bias), action / stds[1][:, None]


def _dynamics(
    source: Source, c: Coefficients, rows: list[int], obs_std: np.ndarray, parts: int
) -> tuple[Affine, Affine, Dynamics]:
    settings, std = source.settings, _action_std(source)
    sigma = settings["state_sigma"]
    h, inverse = source.layers("state_score", rows), source.layers("inverse_dynamics", rows)
    to_step = -sigma * c.state_step * (1.0 if settings["predict"] == "noise" else -sigma) * np.ones_like(obs_std)
    if c.units == "raw":  # of what the networks see; standardised values have one more std in their units
        to_step = to_step / (sigma * source.vector("obs_std")) ** 2
    h = _scaled(h, to_step)
    mean = source.vector("action_mean") if settings["standardize"] else 0.0
    inverse = _scaled(inverse, c.k2 * std, c.k2 * mean)
    if settings["state_score_input"] == "state":
        state, action = Affine(h[0].weight / obs_std[:, None], h[0].bias), None
    else:
        state, action = _divided(h[0], obs_std, std)
    here, step = np.split(inverse[0].weight, 2, axis=-2)
    made = Dynamics(
        *(parts, action, Tail(h[1:], SCORE_SLOPE)),
        *(parts + 1, step, Tail(inverse[1:], INVERSE_SLOPE)),
        c.a2 == "residual",
    )
    return state, Affine((here + step) / obs_std[:, None], inverse[0].bias), made


def _threshold(source: Source, gate: float, level: int, rows: list[int], seed: int | str) -> float:
    """The quantile `gate` of the length of the data's noise, between the two kept ones that enclose it."""
    mean = seed == "mean" and not source.ensemble and source.members > 1
    kept = source.tensors.get("mean_noise_quantiles" if mean else "noise_quantiles", np.zeros((level + 1, 1, 2)))
    table = kept[level]
    line = table[0 if len(rows) > 1 or len(table) == 1 else rows[0]].astype(np.float64)
    if not line.any():
        raise InputError("gate needs the data's noise, which this corrector's file lacks: fit the corrector again.")
    return float(np.interp(gate, np.linspace(0, 1, len(line)), line))

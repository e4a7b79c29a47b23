r"""Where a search looks for coefficients, in units of sigma^2 and clipped after every step.

k1, k2       0, .05, ..., 2: 1 is one denoising step, or the whole action of the inverse dynamics
schedule     subsets of the trained sigmas, largest first
num_steps    1, ..., 10 passes over the schedule
a2           off, paper, residual, with state_step .25, .5, ..., 2
gate         none, or a quantile of the data's noise where that was measured
max_shift    none, or a share of |high - low| / 2, the half diagonal of the action bounds, where these are finite
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Space"]

_GATES = (0.5, 0.75, 0.9, 0.95)
_SHARES = (0.25, 0.5, 1.0)
_STEPPED = ("k1", "k2", "state_step")
_MANY = 4  # sigmas of which all subsets are offered; of more, runs of neighbours


@dataclass(frozen=True)
class Space:
    """The choices that a corrector offers.

    Args:
        schedules: Sigmas, largest first, all trained ones the first entry.
        gates: None, and quantiles.
        shifts: None, and lengths in action units.
    """

    schedules: tuple[tuple[float, ...], ...]
    gates: tuple[float | None, ...]
    shifts: tuple[float | None, ...]

    @classmethod
    def of(cls, corrector: Corrector) -> Space:
        """What `corrector` was trained and measured for."""
        sigmas = sorted(corrector.networks.settings.action_sigmas, reverse=True)
        counts = range(len(sigmas), 0, -1)
        if len(sigmas) <= _MANY:
            schedules = tuple(chosen for count in counts for chosen in combinations(sigmas, count))
        else:
            starts = ((start, count) for count in counts for start in range(len(sigmas) - count + 1))
            schedules = tuple(tuple(sigmas[start : start + count]) for start, count in starts)
        half = float((corrector.high - corrector.low).double().norm()) / 2
        shifts = tuple(round(share * half, 6) for share in _SHARES) if math.isfinite(half) else ()
        gates = _GATES if bool(corrector.noise_quantiles.any()) else ()
        return cls(schedules, (None, *gates), (None, *shifts))

    def distributions(self) -> dict[str, BaseDistribution]:
        """The same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        return {
            "k1": FloatDistribution(0, 2, step=0.05),
            "k2": FloatDistribution(0, 2, step=0.05),
            "schedule": CategoricalDistribution([_text(schedule) for schedule in self.schedules]),
            "num_steps": IntDistribution(1, 10),
            "a2": CategoricalDistribution(["off", "paper", "residual"]),
            "state_step": FloatDistribution(0.25, 2, step=0.25),
            "gate": CategoricalDistribution(self.gates),
            "max_shift": CategoricalDistribution(self.shifts),
        }

    def coefficients(self, parameters: Mapping[str, Any]) -> Coefficients:
        """What a trial's parameters stand for, so written that what acts alike is equal."""
        schedule = next(s for s in self.schedules if _text(s) == parameters["schedule"])
        values = {key: round(value, 2) if key in _STEPPED else value for key, value in parameters.items()}
        values["schedule"] = schedule
        return self._plain(Coefficients(**values, units="sigma2", clip="every_step"))

    def parameters(self, coefficients: Coefficients) -> dict[str, Any]:
        """The parameters that stand for `coefficients`; empty where they lie outside."""
        c = coefficients
        schedule = _text(tuple(c.schedule) or self.schedules[0])
        off = c.k2 == 0 or c.a2 == "off"
        guess: dict[str, Any] = {
            "k1": float(c.k1),
            "k2": 0.0 if off else float(c.k2),
            "schedule": schedule,
            "num_steps": c.num_steps,
            "a2": "off" if off else c.a2,
            "state_step": 1.0 if off else float(c.state_step),
            "gate": c.gate,
            "max_shift": c.max_shift,
        }
        if not all(_holds(distribution, guess[key]) for key, distribution in self.distributions().items()):
            return {}
        return guess if self.coefficients(guess) == self._plain(c) else {}

    def _plain(self, c: Coefficients) -> Coefficients:
        if c.changes_nothing:
            return Coefficients.none()
        c = replace(c, schedule=c.schedule or self.schedules[0])
        return replace(c, k2=0.0, a2="off", state_step=1.0) if c.k2 == 0 or c.a2 == "off" else c

    def to_json(self) -> dict[str, str]:
        """The choices as text, to tell one space from another."""
        return {key: str(distribution) for key, distribution in self.distributions().items()}


def _text(schedule: tuple[float, ...]) -> str:
    return " ".join(str(sigma) for sigma in schedule)


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value is one that the search could draw."""
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return value in choices
    low, high, step = (getattr(distribution, name) for name in ("low", "high", "step"))
    steps = (value - low) / step
    return low <= value <= high and abs(steps - round(steps)) < 1e-9

r"""How strongly, how often and in which units an action is corrected: one frozen value.

The natural unit of a score is sigma^2: ``k1 = 1`` in units of sigma^2 is one denoising step, x + sigma^2 score(x), the
mean of the clean action given the noisy one (Tweedie). So coefficients always travel with their sigmas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["Coefficients"]

_CHOICES = {"units": ("raw", "sigma2"), "a2": ("paper", "residual", "off"), "clip": ("final", "every_step")}
_MOST = 1000
"""Steps, and sigmas of a schedule: a file from elsewhere must not ask for a correction without end."""


@dataclass(frozen=True)
class Coefficients:
    """The settings of Eq. 10 and of its repetition (section 4.2).

    Args:
        k1: Weight of the action score ("K1").
        k2: Weight of the inverse-dynamics action ("K2").
        schedule: Action sigmas visited in turn; empty for every trained sigma once, largest first.
        num_steps: Passes over the schedule, at most a thousand.
        units: ``raw``: k1 and state_step multiply scores in the data's units. ``sigma2``: they count denoising steps.
        state_step: How far along the state score the target of the inverse dynamics lies.
        a2: ``paper``: I(s, s + step h). ``residual``: minus I(s, s), so that no step asks for no action. ``off``: 0.
        clip: Clip to the action bounds once at the end, or after every step.
        gate: Correct only where the predicted noise at the first sigma exceeds this quantile of the data's, in (0, 1).
        max_shift: Largest Euclidean length of the whole correction, in action units; None for no limit.

    Raises:
        InputError: a value outside what is described above.
    """

    k1: float = 0.0
    k2: float = 0.0
    schedule: Sequence[float] = ()
    num_steps: int = 1
    units: str = "raw"
    state_step: float = 1.0
    a2: str = "paper"
    clip: str = "final"
    gate: float | None = None
    max_shift: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", tuple(float(sigma) for sigma in self.schedule))
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(f"value of {name}", str(getattr(self, name)), known)
        for name in ("k1", "k2", "state_step"):
            value = getattr(self, name)
            if not (value == value and abs(value) != float("inf")):
                raise InputError(f"{name} must be finite, got {value}.")
        if any(not 0 < sigma < float("inf") for sigma in self.schedule):
            raise InputError(f"Every sigma of a schedule must be positive, got {self.schedule}.")
        if not 1 <= self.num_steps <= _MOST or self.num_steps % 1:
            raise InputError(
                f"num_steps must be a whole number from 1 to {_MOST}, got {self.num_steps}. "
                "For no correction use k1 = k2 = 0."
            )
        object.__setattr__(self, "num_steps", int(self.num_steps))
        if len(self.schedule) > _MOST:
            raise InputError(f"A schedule has at most {_MOST} sigmas, got {len(self.schedule)}.")
        if self.gate is not None and not 0 < self.gate < 1:
            raise InputError(f"gate is a quantile between 0 and 1, got {self.gate}.")
        if self.max_shift is not None and not self.max_shift > 0:
            raise InputError(f"max_shift must be positive, got {self.max_shift}. For no correction use k1 = k2 = 0.")

    @classmethod
    def none(cls) -> Coefficients:
        """No correction: the baseline's action unchanged."""
        return cls()

    @property
    def changes_nothing(self) -> bool:
        """True where the correction is the identity whatever the networks say."""
        return self.k1 == 0 and (self.k2 == 0 or self.a2 == "off")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written into an artefact's header."""
        return asdict(self) | {"schedule": list(self.schedule)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Coefficients:
        """The inverse of `to_dict`.

        Raises:
            InputError: a key that is no field.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("coefficient", key, known)
        return cls(**{**values, "schedule": tuple(values.get("schedule", ()))})

r"""The candidates among which the rules choose, and what each does to a policy's actions in states of the data.

none           the baseline's action
ann3           one denoising step a + sigma^2 g_sigma(s, a) at every trained sigma, largest first, clipped after each
gate90         ann3 where the predicted noise exceeds the data's 90 % quantile
recommended    what is recommended for the task, where that differs from ann3
residual       the same with the residual a2, where the recommended one uses the paper's
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cdsa_lightning.audit import Drift, Reference, audit
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.policy import Policy

__all__ = ["Effect", "candidates", "effect"]


@dataclass(frozen=True)
class Effect:
    """What a candidate makes of the actions: r and f99 of the corrected ones, and the density drift towards them."""

    r: float
    f99: float
    drift: Drift

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return {"r": self.r, "f99": self.f99, "drift": self.drift.to_json()}


def candidates(corrector: Corrector, recommended: Coefficients) -> dict[str, Coefficients]:
    """The candidates by name; "none" is always one.

    Args:
        corrector: Says which sigmas were trained, and whether the data's noise was measured, without which no gate is.
        recommended: For the task and the baseline.
    """
    schedule = tuple(sorted(corrector.networks.settings.action_sigmas, reverse=True))
    annealed = Coefficients(k1=1.0, schedule=schedule, units="sigma2", a2="off", clip="every_step")
    found = {"none": Coefficients.none(), "ann3": annealed}
    if bool(corrector.noise_quantiles.any()):
        found["gate90"] = replace(annealed, gate=0.9)
    if not recommended.changes_nothing and recommended not in (annealed, replace(annealed, schedule=())):
        found["recommended"] = recommended
        if recommended.k2 and recommended.a2 == "paper":
            found["residual"] = replace(recommended, a2="residual")
    return found


def effect(
    policy: Policy, corrector: Corrector, coefficients: Coefficients, reference: Reference, seed: int = 0
) -> Effect:
    """What `coefficients` make of the policy's actions in states of the data."""
    after = audit(CorrectedPolicy(policy, corrector, coefficients), reference, Coefficients.none(), seed=seed).measures
    (drift,) = audit(policy, reference, coefficients, seed=seed).drift.values()
    return Effect(after.r, after.f99, drift)

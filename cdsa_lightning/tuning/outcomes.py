r"""What episodes with some coefficients gave, and what of it a search looks for.

return      the mean return                                          larger is better
cvar_10     the mean of the worst tenth of the returns               larger is better
violation   the share of episodes that entered a risk region         smaller is better
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Evaluator
from cdsa_lightning.metrics.bootstrap import Interval, bootstrap_difference
from cdsa_lightning.metrics.functional import conditional_value_at_risk

__all__ = ["OBJECTIVES", "Objective", "Outcome", "episodes_with", "mean_difference"]


@dataclass(frozen=True)
class Outcome:
    """Episodes of E seeds: returns [E, N], and whether each entered a risk region [E, N], where a world has those."""

    returns: np.ndarray
    violated: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `from_json` reads them."""
        return {
            "returns": self.returns.tolist(),
            "violated": None if self.violated is None else self.violated.astype(int).tolist(),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json`."""
        violated = kept["violated"]
        return cls(np.array(kept["returns"]), None if violated is None else np.array(violated, dtype=bool))


@dataclass(frozen=True)
class Objective:
    """A number that outcomes are compared by: name, label, and whether more of it (1) or less (-1) is better."""

    name: str
    label: str
    sign: int

    def value(self, outcome: Outcome) -> float:
        """The number.

        Raises:
            InputError: it counts violations, and the world has no risk regions.
        """
        episodes = self._episodes(outcome).reshape(-1)
        return float(conditional_value_at_risk(episodes, 0.1) if self.name == "cvar_10" else episodes.mean())

    def gain(self, outcome: Outcome, none: Outcome) -> Interval:
        """How much better `outcome` is than `none`, positive where it is better, with the 95 % interval."""
        statistic = (lambda pooled: conditional_value_at_risk(pooled, 0.1)) if self.name == "cvar_10" else None
        first, second = (self.sign * self._episodes(one) for one in (outcome, none))
        return bootstrap_difference(first, second, statistic)

    def _episodes(self, outcome: Outcome) -> torch.Tensor:
        if self.name != "violation":
            return torch.as_tensor(outcome.returns)
        if outcome.violated is None:
            others = ", ".join(name for name in OBJECTIVES if name != "violation")
            raise InputError(f"This task has no risk regions to violate: choose --objective from {others}.")
        return torch.as_tensor(outcome.violated, dtype=torch.float64)


OBJECTIVES = {
    "return": Objective("return", "mean return", 1),
    "cvar_10": Objective("cvar_10", "mean of the worst tenth of the returns", 1),
    "violation": Objective("violation", "share of episodes in a risk region", -1),
}
"""What can be searched for, by name."""


def episodes_with(evaluator: Evaluator, corrected: CorrectedPolicy, coefficients: Coefficients) -> Outcome:
    """Episodes of the baseline of `corrected` with these coefficients; with those that change nothing, its own."""
    policy: Policy = corrected.policy
    if not coefficients.changes_nothing:
        policy = CorrectedPolicy(corrected.policy, corrected.corrector, coefficients)
    episodes = evaluator.run({"it": policy}).arms["it"]
    steps = episodes.info.get("in_risk_region")
    return Outcome(episodes.returns, None if steps is None else steps > 0)


def mean_difference(outcome: Outcome, none: Outcome) -> Interval:
    """The difference of the mean returns, with its 95 % interval."""
    return bootstrap_difference(torch.as_tensor(outcome.returns), torch.as_tensor(none.returns))

"""What an audit found: measures in states of the data, episodes step by step, the drift of corrections."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = [
    "FAR_BIAS",
    "INSIDE_F99",
    "INSIDE_R",
    "KINDS",
    "MILD_F99",
    "NOISY_BIAS",
    "NOISY_RHO",
    "NOISY_SHARE",
    "RANDOM_SPREAD",
    "Audit",
    "Drift",
    "Measures",
    "Step",
    "Walk",
]

INSIDE_R, INSIDE_F99 = 1.1, 0.015
NOISY_RHO, NOISY_SHARE, NOISY_BIAS = 0.5, 1.5, 4.0
MILD_F99 = 0.12
FAR_BIAS = 2.7
RANDOM_SPREAD = 0.7
"""What is called inside the data, noisy, mildly outside and far, and which data random; docs/results.md measures it."""

KINDS = {
    "unknown": "cannot be judged: the data's own actions are nearly random",
    "inside": "acts as the data do",
    "noisy": "is noisy around the data",
    "mild": "leaves the data mildly",
    "systematic": "acts systematically outside the data",
}


@dataclass(frozen=True)
class Measures:
    """r, rho, f90 and f99 of a policy in states of the data, at one sigma, and `spread`, tau of these data."""

    r: float
    rho: float
    f90: float
    f99: float
    sigma: float
    rows: int
    spread: float

    @property
    def noise(self) -> float:
        """The random share of the policy's predicted noise over that of the data's actions: r sqrt(1 - rho)."""
        return self.r * math.sqrt(max(1.0 - self.rho, 0.0))

    @property
    def bias(self) -> float:
        """The systematic share of it over all predicted noise of the data's actions: r sqrt(rho)."""
        return self.r * math.sqrt(max(self.rho, 0.0))

    @property
    def kind(self) -> str:
        """Which of `KINDS`, tested in their order."""
        if self.spread >= RANDOM_SPREAD:
            return "unknown"
        if self.r <= INSIDE_R and self.f99 <= INSIDE_F99:
            return "inside"
        if self.rho < NOISY_RHO or (self.noise >= NOISY_SHARE and self.bias < NOISY_BIAS):
            return "noisy"
        return "mild" if self.f99 < MILD_F99 else "systematic"


@dataclass(frozen=True)
class Drift:
    """D of corrections, those alone that moved the action: [N]."""

    values: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Mean, share below zero and number; None where nothing was moved."""
        count = len(self.values)
        mean, negative = (float(self.values.mean()), float((self.values < 0).mean())) if count else (None, None)
        return {"mean": mean, "negative_share": negative, "corrections": count}


@dataclass(frozen=True)
class Step:
    """One step of an episode and how unusual its action is among the data."""

    seed: int
    episode: int
    step: int
    noise: float
    p_value: float
    obs: list[float]
    action: list[float]


@dataclass(frozen=True)
class Walk:
    """Episodes of one policy: |eps| and p of every step, episode by episode, and the most unusual steps."""

    noise: list[np.ndarray]
    p_values: list[np.ndarray]
    outside_90: float
    outside_99: float
    worst: list[Step]
    mean_return: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; the steps themselves are left out but for the worst."""
        shares = {"mean_return": self.mean_return, "outside_90": self.outside_90, "outside_99": self.outside_99}
        steps = int(sum(len(p) for p in self.p_values))
        return {**shares, "episodes": len(self.noise), "steps": steps, "worst": [asdict(step) for step in self.worst]}


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        measures: In states of the data.
        noise: |eps| of the policy's actions there, all seeds pooled. reference: of the data's own actions.
        walks: Of each policy whose episodes were recorded.
        drift: Of the corrections, in states of the data and along the corrected episodes.
    """

    measures: Measures
    noise: np.ndarray
    reference: np.ndarray
    walks: dict[str, Walk]
    drift: dict[str, Drift]

    def sentence(self, baseline: str) -> str:
        """The finding in plain words."""
        m = self.measures
        text = f"In states of the data {baseline} {KINDS[m.kind]}: r {m.r:.2f}, rho {m.rho:.2f}, f99 {m.f99:.1%}"
        if self.walks:
            shares = ", ".join(f"{name} {walk.outside_99:.1%}" for name, walk in self.walks.items())
            text += f"; along episodes, steps outside 99 % of the data: {shares}"
        return f"{text}."

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "measures": asdict(self.measures) | {"kind": self.measures.kind},
            "quantiles": "in-sample: random rows of the data that the corrector was fitted on",
            "episodes": {name: walk.to_json() for name, walk in self.walks.items()},
            "drift": {where: drift.to_json() for where, drift in self.drift.items()},
        }

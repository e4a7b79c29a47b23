"""The panels of a dashboard: the same on the page and in W&B, in this order."""

from __future__ import annotations

__all__ = ["PANELS"]

PANELS = {
    "scores": (
        "Normalised score, base and corrected",
        "The mean over all episodes with its 95 % interval (seeds, then episodes); small dots are training seeds. "
        "Returns where a task has no range.",
    ),
    "var": ("VaR curves", "Every percentile of the episodes' scores, worst first."),
    "cvar": ("CVaR 10 %", "The mean score of the worst tenth of the episodes."),
    "violations": (
        "Violation rate and cost",
        "The share of episodes that entered a risk region (on Risky PointMass, the disc), and the cost of an episode.",
    ),
    "ablation": ("Ablation", "The baseline alone, corrected without a1, without a2, and whole."),
    "coefficients": ("Coefficients", "What each correction was told: k1 weighs the action score, k2 the dynamics."),
    "losses": (
        "Losses per seed",
        "A thin line for each training seed, a thick one for their mean, over gradient steps.",
    ),
    "pictures": ("Pictures", "What 'cdsa evaluate' and 'cdsa plot' drew beside the evaluations."),
}
"""Name -> title, and what it shows."""

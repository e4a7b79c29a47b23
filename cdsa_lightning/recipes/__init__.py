"""Data sets that no single policy makes: scripted behaviour, by task."""

from __future__ import annotations

from collections.abc import Callable

from cdsa_lightning.collection import Collected
from cdsa_lightning.recipes.pointmass import safe_pointmass
from cdsa_lightning.recipes.transportation import safe_transportation

__all__ = ["RECIPES"]

RECIPES: dict[str, Callable[..., Collected]] = {
    "risky-pointmass": safe_pointmass,
    "risky-transportation": safe_transportation,
}
"""What `cdsa collect` does for a task where no baseline is named: recipe(task, output, seed)."""

"""Data sets that no single policy makes: scripted behaviour, by task."""

from __future__ import annotations

from collections.abc import Callable

from cdsa_lightning.collection import Collected
from cdsa_lightning.envs import ANTMAZE
from cdsa_lightning.recipes.antmaze import walk_maze
from cdsa_lightning.recipes.pointmass import safe_pointmass
from cdsa_lightning.recipes.transportation import safe_transportation

__all__ = ["RECIPES", "WALKED", "walk_maze"]

RECIPES: dict[str, Callable[..., Collected]] = {
    "risky-pointmass": safe_pointmass,
    "risky-transportation": safe_transportation,
}
"""What `cdsa collect` does for a task where no baseline is named: recipe(task, output, seed)."""

WALKED = {f"cdsa/{name}-v0" for name in ANTMAZE}
"""Environments through which a policy that walks towards points is led: walk_maze(task, output, walker, steps)."""

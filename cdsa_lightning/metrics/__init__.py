"""Metrics of episode returns: pure functions, their torchmetrics, and the bootstrap of a difference.

The torchmetrics import slowly, so they are loaded when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdsa_lightning.metrics.classes import ConditionalValueAtRisk, NormalizedScore, ValueAtRisk, ViolationRate

__all__ = ["ConditionalValueAtRisk", "NormalizedScore", "ValueAtRisk", "ViolationRate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("cdsa_lightning.metrics.classes"), name)

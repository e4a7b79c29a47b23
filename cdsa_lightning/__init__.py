"""Correct any pre-trained policy towards its dataset at run time (CDSA, arXiv 2406.07541)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Alarm": "cdsa_lightning.alarm",
    "CorrectActions": "cdsa_lightning.deploy",
    "Coefficients": "cdsa_lightning.core.coefficients",
    "CorrectedPolicy": "cdsa_lightning.core.corrector",
    "Corrector": "cdsa_lightning.core.corrector",
    "SafePolicy": "cdsa_lightning.deploy",
    "Monitor": "cdsa_lightning.monitor",
    "FunctionPolicy": "cdsa_lightning.core.policy",
    "Policy": "cdsa_lightning.core.policy",
    "PrometheusExporter": "cdsa_lightning.prometheus",
    "correct": "cdsa_lightning.deploy",
    "evaluate": "cdsa_lightning.calls",
    "fit": "cdsa_lightning.calls",
    "get_task": "cdsa_lightning.tasks",
    "load_corrector": "cdsa_lightning.core.artifact",
    "load_policy": "cdsa_lightning.registry",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    # Lazy: `cdsa --help` must not wait for torch.
    if name not in _WHERE:
        raise AttributeError(f"module 'cdsa_lightning' has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(import_module(_WHERE[name]), name)

r"""What is compared on a task: a baseline X alone, corrected, and corrected by only one of the two terms.

base  X      cdsa  cdsa(X)      without_a1  cdsa(X) without a1: k1 = 0      without_a2  cdsa(X) without a2: k2 = 0
"""

from __future__ import annotations

import re
from dataclasses import replace

from cdsa_lightning.core.coefficients import Coefficients

__all__ = ["ARMS", "arm_name", "baseline_of", "corrections"]

ARMS = ("base", "without_a1", "without_a2", "cdsa")


def corrections(whole: Coefficients) -> dict[str, Coefficients]:
    """The coefficients of each corrected arm; where one term is off, leaving out either would repeat another arm."""
    parts = {"cdsa": whole}
    if whole.k1 and whole.k2 and whole.a2 != "off":
        parts |= {"without_a1": replace(whole, k1=0.0), "without_a2": replace(whole, k2=0.0)}
    return parts


def arm_name(arm: str, baseline: str) -> str:
    """What reports call `arm`, one of `ARMS`, of `baseline`."""
    return {"base": baseline, "cdsa": f"cdsa({baseline})"}.get(arm, f"cdsa({baseline}) {arm.replace('_', ' ')}")


def baseline_of(name: str) -> str | None:
    """X of every corrected arm of X; None for a name of another kind."""
    match = re.fullmatch(r"cdsa\((.+)\)(?: .*)?", name)
    return match.group(1) if match else None

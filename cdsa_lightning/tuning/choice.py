"""What was chosen and why, as the file coefficients.json that `cdsa evaluate --coefficients` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import read_json

__all__ = ["Choice", "read_choice"]


@dataclass(frozen=True)
class Choice:
    """Coefficients with the candidate's name, the rule that chose it, and the reason in a sentence."""

    coefficients: Coefficients
    name: str = ""
    selector: str = ""
    reason: str = ""
    task: str = ""
    baseline: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `read_choice` reads them."""
        return {**vars(self), "coefficients": self.coefficients.to_dict()}

    @property
    def origin(self) -> str:
        """Where the coefficients come from, in a few words; empty where the file says nothing."""
        chosen = f"{self.name}, chosen by {self.selector}" if self.name and self.selector else self.name
        return f"{chosen} for {self.baseline} on {self.task}" if chosen and self.baseline and self.task else chosen


def read_choice(path: str | Path) -> Choice:
    """What `cdsa tune` wrote, or a bare mapping of coefficients written by hand.

    Raises:
        InputError: the file is missing, no JSON, or holds anything but coefficients.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise InputError(f"Cannot read the coefficients in {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"The coefficients in {path} are not JSON: {error}.") from None
    inner = content.get("coefficients", content) if isinstance(content, dict) else content
    if not isinstance(inner, dict):
        raise InputError(
            f'{path} must hold a mapping of coefficients, got {str(inner)[:60]}: for instance {{"k1": 1.0}}.'
        )
    try:
        coefficients = Coefficients.from_dict(inner)
    except (TypeError, ValueError) as error:
        raise InputError(f"The coefficients in {path} cannot be used: {error}") from None
    about = {key: str(content.get(key, "")) for key in ("name", "selector", "reason", "task", "baseline")}
    return Choice(coefficients, **about)

"""Returns of a policy's own episodes beside those of the data, and files of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import read_json, read_npz, read_text

__all__ = ["Returns", "read_returns"]

_FORMS = "a JSON list (or a mapping with 'returns'), an .npz with the array 'returns', or numbers in a text file"


@dataclass(frozen=True)
class Returns:
    """Episode returns of a policy [n] and the mean return of the data's episodes, where they are of the same task."""

    values: np.ndarray
    data_mean: float

    @property
    def mean(self) -> float:
        """The policy's mean return."""
        return float(self.values.mean())

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return {"mean": self.mean, "episodes": len(self.values), "data_mean": self.data_mean}


def read_returns(path: str | Path) -> np.ndarray:
    """The episode returns in a file, raw, in any order: [n] float64.

    Args:
        path: A JSON list or a mapping with "returns", an .npz with the array "returns" (or a single one), or numbers
            apart by spaces, commas or lines.

    Raises:
        InputError: the file is missing or malformed, holds no number, or one that is NaN or infinite.
    """
    path = Path(path)
    readers = {".json": _from_json, ".npz": _from_npz}
    try:
        values = np.asarray(readers.get(path.suffix, _from_text)(path), dtype=np.float64).reshape(-1)
    except OSError as error:
        raise InputError(f"Cannot read the returns in {path}: {error.strerror or error}.") from None
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError(f"{path} holds no returns: {error}. Returns are {_FORMS}.") from None
    if not len(values):
        raise InputError(f"{path} holds no returns: it is empty. Returns are {_FORMS}.")
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise InputError(
            f"{path}: {len(broken)} of {len(values)} returns are NaN or infinite, first number {broken[0]}."
        )
    return values


def _from_json(path: Path) -> Any:
    content = read_json(path)
    return content["returns"] if isinstance(content, dict) else content


def _from_npz(path: Path) -> Any:
    arrays = read_npz(path)
    return arrays[next(iter(arrays)) if len(arrays) == 1 else "returns"]


def _from_text(path: Path) -> Any:
    return [float(word) for word in read_text(path).replace(",", " ").split()]

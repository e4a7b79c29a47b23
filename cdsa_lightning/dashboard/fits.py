r"""The curves of a fit: what `cdsa fit` logs into metrics.csv, per training seed, thinned to what a screen resolves.

A curve of n points becomes one of at most m: each is the mean of ceil(n / m) neighbours, at the last one's step. A
resumed run goes on in resumed-1/metrics.csv, and so on; from its first step on it replaces what was before.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import read_text

__all__ = ["POINTS", "Curve", "Fit", "read_fit"]

CURVES = 256 << 20
"""Bytes that metrics.csv may have; a million steps take a few MB."""
POINTS = 160
"""The most points that a curve keeps."""
_MEAN, _SEED = "mean", "/seed_"


@dataclass(frozen=True)
class Curve:
    """One thing that was logged, over gradient steps.

    Args:
        steps: Gradient steps.
        lines: Of each training seed by its number, and their ``mean``; None where nothing was logged.
    """

    steps: list[int]
    lines: dict[str, list[float | None]]


@dataclass(frozen=True)
class Fit:
    """One run of `cdsa fit`.

    Args:
        run: Where it lies.
        task: Whose data.
        name: ``cdsa`` or the baseline's.
        curves: By name, for instance ``action_score_loss``.
        time: When it was last written, in nanoseconds.
    """

    run: str
    task: str
    name: str
    curves: dict[str, Curve]
    time: int


def read_fit(directory: Path) -> Fit:
    """The curves of a run directory <task>/<name>/<run id>.

    Raises:
        InputError: metrics.csv cannot be read, or is not what a fit writes.
    """
    parts = [directory / "metrics.csv", *sorted(directory.glob("resumed-*/metrics.csv"), key=_number)]
    rows: list[dict[str, str]] = []
    for path in parts:
        added = _rows(path)
        if added:
            first = _step(path, added[0])
            rows = [row for row in rows if _step(path, row) < first] + added
    names = [key for row in rows for key in row if key.startswith("train/")]
    curves: dict[str, dict[str, str]] = {}
    for key in dict.fromkeys(names):
        name, _, seed = key.removeprefix("train/").partition(_SEED)
        curves.setdefault(name, {})[seed or _MEAN] = key
    path = directory / "metrics.csv"
    return Fit(
        run=str(directory),
        task=directory.parts[-3],
        name=directory.parts[-2],
        curves={name: _curve(path, rows, keys) for name, keys in curves.items()},
        time=parts[-1].stat().st_mtime_ns,
    )


def _number(path: Path) -> int:
    digits = path.parent.name.removeprefix("resumed-")
    return int(digits) if digits.isdecimal() else 0


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        lines = io.StringIO(read_text(path, CURVES), newline="")
        # A run under way may be in the middle of its last line.
        rows = [row for row in csv.DictReader(lines) if None not in row.values() and None not in row]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from None
    if rows and "step" not in rows[0]:
        raise InputError(f"{path} has no column 'step': it is not what 'cdsa fit' writes.")
    return rows


def _curve(path: Path, rows: list[dict[str, str]], keys: dict[str, str]) -> Curve:
    """The rows that have any of `keys`, thinned."""
    kept = [row for row in rows if any(row.get(key) for key in keys.values())]
    size = max(1, math.ceil(len(kept) / POINTS))
    groups = [kept[start : start + size] for start in range(0, len(kept), size)]
    lines = {name: [_mean([_value(path, row, key) for row in group]) for group in groups] for name, key in keys.items()}
    return Curve([_step(path, group[-1]) for group in groups], lines)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(f"{sum(known) / len(known):.5g}") if known else None


def _step(path: Path, row: dict[str, str]) -> int:
    try:
        return int(float(row["step"]))
    except (ValueError, OverflowError):
        raise InputError(f"{path} is damaged: {row['step']!r} is no step.") from None


def _value(path: Path, row: dict[str, str], key: str) -> float | None:
    if not row.get(key):
        return None
    try:
        value = float(row[key])
    except ValueError:
        raise InputError(f"{path} is damaged: {row[key][:40]!r} in {key} is no number.") from None
    return value if math.isfinite(value) else None

r"""What a corrected policy does in use: counters, three histograms, and an alarm, in constant memory.

    |eps|       how long the predicted noise is: how far from the data's actions the policy's is, in deviations
    p           the share of the data's actions that are at least as unusual
    |shift|     how far the action was moved, in action units

The edges of the histograms are fixed by the corrector: quantiles of |eps| on its data, shares of the action box.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.alarm import Alarm, Window
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.errors import InputError

__all__ = ["Histogram", "Monitor"]

_QUANTILES = (10, 25, 50, 75, 90, 95, 99, 100)
_BEYOND = (1.25, 1.5, 2.0, 4.0)
_P_VALUES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_SHARES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_COUNTERS = ("observations", "corrected", "clipped", "refused", "alarms")


class Histogram:
    """How many values lay at or below each edge.

    Args:
        edges: Ascending, [K]; what lies above the last is counted too.
    """

    def __init__(self, edges: Any) -> None:
        self.edges = np.unique(np.asarray(edges, dtype=np.float64)).tolist()
        self.clear()

    def clear(self) -> None:
        """As new."""
        self.counts, self.sum = [0] * (len(self.edges) + 1), 0.0

    def add(self, values: np.ndarray) -> None:
        """Count further values, [B]; what is not finite lies above all edges and in no sum."""
        if len(values) == 1:  # four times as fast
            value = float(values[0])
            self.counts[bisect_left(self.edges, value) if value == value else -1] += 1
            self.sum += value if math.isfinite(value) else 0.0
            return
        found = np.bincount(np.searchsorted(self.edges, values), minlength=len(self.counts)).tolist()
        self.counts = [old + new for old, new in zip(self.counts, found, strict=True)]
        self.sum += float(values[np.isfinite(values)].sum(dtype=np.float64))

    def buckets(self) -> list[tuple[float, int]]:
        """(edge, how many values at or below it); the last edge is infinite."""
        return list(zip([*self.edges, math.inf], accumulate(self.counts), strict=True))

    def summary(self) -> dict[str, Any]:
        """Plain values: the edges, the values at or below each, all values, and their mean."""
        *below, (_, count) = self.buckets()
        edges, upto = [edge for edge, _ in below], [number for _, number in below]
        return {"edges": edges, "at_or_below": upto, "count": count, "mean": self.sum / count if count else None}


class Monitor:
    """Watches a corrected policy; give it to `correct`, or show it explanations.

    Any number of threads may use one.

    Args:
        corrector: What corrects: the result of `correct`, a corrector, or its file.
        alarm: When to raise an alarm; None for never.
        on_alarm: Called with `summary()` once when an alarm begins, in the thread that observed; what it raises reaches
            whoever asked for the action.

    Raises:
        InputError: no corrector, or one that does not know the data's noise.
    """

    def __init__(
        self,
        corrector: Any,
        alarm: Alarm | None = Alarm(),  # noqa: B008  frozen
        on_alarm: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        held = load_corrector(corrector) if isinstance(corrector, str | Path) else corrector
        coefficients = getattr(held, "coefficients", None)
        held = getattr(held, "corrector", held)
        if not hasattr(held, "noise_quantiles"):
            raise InputError(f"A monitor watches what correct() gives, or a corrector, not a {type(held).__name__}.")
        table = held.noise_quantiles[held.schedule(coefficients)[0]][0].cpu().numpy()
        if not table.any():
            raise InputError("A monitor needs the data's noise, which this corrector's file lacks: fit it again.")
        self.score_norm = Histogram([*table[list(_QUANTILES)], *(table[-1] * factor for factor in _BEYOND)])
        self.p_value, self.shift = Histogram(_P_VALUES), Histogram(_box(held) * np.array(_SHARES))
        self.window = None if alarm is None else Window(alarm)
        self.on_alarm = on_alarm
        self._lock = threading.Lock()
        self.counters = dict.fromkeys(_COUNTERS, 0)

    def observe(self, explanation: Any) -> None:
        """Count the rows of an `Explanation`, in their order."""
        moved = np.linalg.norm(_array(explanation.shift), axis=-1)
        parts = (explanation.score_norm, explanation.p_value, moved, explanation.clipped)
        self.record(*(np.atleast_1d(_array(part)) for part in parts))

    def record(self, score_norm: np.ndarray, p_value: np.ndarray, shift: np.ndarray, clipped: np.ndarray) -> None:
        """Count rows, in their order; all [B], the shift by its length."""
        begun, count = 0, self.counters
        with self._lock:
            count["observations"] += len(shift)
            count["corrected"] += int(np.count_nonzero(shift))
            count["clipped"] += int(np.count_nonzero(clipped))
            self.score_norm.add(score_norm)
            self.p_value.add(p_value)
            self.shift.add(shift)
            if self.window is not None:
                begun = self.window.add(p_value < self.window.alarm.alpha)
                count["alarms"] += begun
        if self.on_alarm is not None:
            for _ in range(begun):
                self.on_alarm(self.summary())

    def refuse(self, rows: int) -> None:
        """Count rows that were not corrected because the observation or the action is NaN or infinite."""
        with self._lock:
            self.counters["refused"] += rows

    def reset(self) -> None:
        """Forget everything that was observed."""
        with self._lock:
            self.counters.update(dict.fromkeys(_COUNTERS, 0))
            for part in (self.score_norm, self.p_value, self.shift, self.window):
                if part is not None:
                    part.clear()

    def summary(self) -> dict[str, Any]:
        """Everything that is known, as plain values that JSON takes."""
        with self._lock:
            histograms = {name: getattr(self, name).summary() for name in ("score_norm", "p_value", "shift")}
            return {**self.counters, **histograms, "alarm": None if self.window is None else _told(self.window)}


def _told(window: Window) -> dict[str, Any]:
    alarm = window.alarm
    return {
        "on": window.on,
        "window": alarm.window,
        "filled": window.filled,
        "unusual": window.unusual,
        "threshold": alarm.threshold,
        "alpha": alarm.alpha,
        "false_alarms": alarm.false_alarms,
    }


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _box(corrector: Any) -> float:
    """The length of the diagonal of the action bounds; an entry without bounds counts with the data's deviation."""
    width = (corrector.high - corrector.low).cpu().numpy()
    std = corrector.networks.action_std.cpu().numpy()
    return float(np.linalg.norm(np.where(np.isfinite(width), width, std)))

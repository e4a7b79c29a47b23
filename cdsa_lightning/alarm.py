r"""An alarm whose false alarms are counted beforehand: how many of the last n actions were unusual for the data.

    K_t = #{i in (t - n, t]: p_i < alpha},    the alarm goes on where K_t >= c, and off where K_t <= alpha n

For draws from the data p is uniform, K_t ~ Bin(n, alpha), and K steps from c - 1 to c at t exactly where the other
n - 1 hold c - 1, the new one is unusual and the one that leaves is not. Alarms per observation are therefore at most

    alpha (1 - alpha) P(Bin(n - 1, alpha) = c - 1),

and c is the least number that brings this below the rate that is asked for. The data's quantiles were measured on m
rows, so the share that they call alpha is known to d = sqrt(alpha (1 - alpha) / m); the bound is taken at alpha + 3 d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cdsa_lightning.errors import InputError

__all__ = ["Alarm", "Window"]


@dataclass(frozen=True)
class Alarm:
    """When to raise an alarm.

    Args:
        window: n, observations looked back upon.
        alpha: An action is unusual where its p-value is below; .01 at least, as fine as the data's quantiles are kept.
        false_alarms: At most so many alarms per observation that counts, for independent draws from the data.
            Neighbouring steps of an episode are alike, and raise more (docs/results.md): let every tenth count.
        rows: m, rows of data on which the corrector was measured.
        every: Only every so many-th observation counts.

    Raises:
        InputError: a number out of range, or a window too short for so low a rate.
    """

    window: int = 1000
    alpha: float = 0.05
    false_alarms: float = 1e-6
    rows: int = 10_000
    every: int = 1

    def __post_init__(self) -> None:
        if not 0.01 <= self.alpha < 0.5:
            raise InputError(f"alpha must lie in [.01, .5): the data's quantiles are kept to 1 %, got {self.alpha}.")
        if min(self.window, self.rows, self.every) < 1 or not 0 < self.false_alarms < 1:
            raise InputError(
                "window, rows and every must be at least 1 and false_alarms in (0, 1), got "
                f"{self.window}, {self.rows}, {self.every} and {self.false_alarms}."
            )
        if self.threshold > self.window:
            raise InputError(
                f"A window of {self.window} observations cannot tell one false alarm in {1 / self.false_alarms:.3g}: "
                "raise window or false_alarms."
            )

    def start_rate(self, count: int, alpha: float) -> float:
        """The bound above for c = `count`: alarms per observation where a share `alpha` is unusual."""
        n, k = self.window - 1, count - 1
        if not 0 <= k <= n:
            return 0.0
        log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        return alpha * (1 - alpha) * math.exp(log + k * math.log(alpha) + (n - k) * math.log1p(-alpha))

    @cached_property
    def threshold(self) -> int:
        """c, unusual observations in the window that raise the alarm."""
        share = self.alpha + 3 * math.sqrt(self.alpha * (1 - self.alpha) / self.rows)
        count = math.ceil(share * self.window) + 1  # from here on the rate falls
        while count <= self.window and self.start_rate(count, share) > self.false_alarms:
            count += 1
        return count

    @property
    def rest(self) -> int:
        """Unusual observations at which an alarm ends: what the data have on average."""
        return int(self.alpha * self.window)


class Window:
    """The last n observations of an alarm, in constant memory.

    Args:
        alarm: When to raise it.
    """

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.clear()

    def clear(self) -> None:
        """As new."""
        self.ring, self.at = np.zeros(self.alarm.window, dtype=np.int64), 0
        self.seen, self.filled, self.unusual, self.on = 0, 0, 0, False

    def add(self, unusual: np.ndarray) -> int:
        """Look at further observations, in their order.

        Args:
            unusual: Whether each was, [B] bool.

        Returns:
            How many alarms began.
        """
        begun, size = 0, self.alarm.window
        if self.alarm.every > 1:
            first, self.seen = -self.seen % self.alarm.every, self.seen + len(unusual)
            unusual = unusual[first :: self.alarm.every]
        if len(unusual) == 1:  # without arrays it is ten times as fast
            return self._add_one(int(unusual[0]), size)
        for start in range(0, len(unusual), size):
            new = unusual[start : start + size].astype(np.int64)
            place = (self.at + np.arange(len(new))) % size
            counts = self.unusual + np.cumsum(new - self.ring[place])
            self.ring[place], self.unusual = new, int(counts[-1])
            self.at, self.filled = (self.at + len(new)) % size, min(size, self.filled + len(new))
            begun += self._switch(counts)
        return begun

    def _add_one(self, new: int, size: int) -> int:
        self.unusual += new - int(self.ring[self.at])
        self.ring[self.at] = new
        self.at, self.filled = (self.at + 1) % size, min(size, self.filled + 1)
        before = self.on
        self.on = self.unusual > self.alarm.rest if before else self.unusual >= self.alarm.threshold
        return int(self.on and not before)

    def _switch(self, counts: np.ndarray) -> int:
        begun = 0
        while len(counts):
            reached = counts <= self.alarm.rest if self.on else counts >= self.alarm.threshold
            first = int(reached.argmax())
            if not reached[first]:
                break
            self.on = not self.on
            begun += self.on
            counts = counts[first:]
        return begun

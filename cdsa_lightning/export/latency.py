"""How long one call takes, file by file, beside PyTorch without an export: medians of calls that take turns.

Every way is asked some times in a row, then the next, round after round, so that what else the machine does falls on
all alike. What is counted is this process's own time: where others wait for the same core, a clock on the wall would
charge the longer calls with their turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cdsa_lightning.deploy import correct
from cdsa_lightning.export.files import FORMATS, Exported
from cdsa_lightning.export.parity import questions
from cdsa_lightning.export.subject import Subject

__all__ = ["BATCHES", "Latency", "measure"]

BATCHES = (1, 32, 1024)
_ROUNDS, _IN_A_ROW, _SECONDS = 30, 20, 4.0


@dataclass(frozen=True)
class Latency:
    """One way to ask.

    Attributes:
        name: What is asked, for instance ``onnx (onnxruntime)``.
        microseconds: Median CPU time of one call, by batch size.
    """

    name: str
    microseconds: dict[int, float]


def measure(subject: Subject, files: Sequence[Exported], batches: Sequence[int] = BATCHES) -> list[Latency]:
    """The latencies of PyTorch and of each file; the first is what the others are compared with.

    Args:
        subject: What was exported.
        files: What was written of it.
        batches: Rows per call.
    """
    found: dict[str, dict[int, float]] = {}
    for size in batches:
        ways = _ways(subject, files, size)
        for name, seconds in zip(ways, _medians(list(ways.values())), strict=True):
            found.setdefault(name, {})[size] = 1e6 * seconds
    return [Latency(name, micros) for name, micros in found.items()]


def _ways(subject: Subject, files: Sequence[Exported], size: int) -> dict[str, Callable[[], Any]]:
    obs, action = (rows.repeat(-(-size // len(rows)), 1)[:size].contiguous() for rows in questions(subject))
    arrays = obs.numpy(), action.numpy()
    policy = subject.policy if subject.policy is not None else lambda _: arrays[1]
    safe = correct(policy, subject.corrector, subject.coefficients)
    called = "CorrectedPolicy" if subject.policy is not None else "Corrector"
    ways: dict[str, Callable[[], Any]] = {f"PyTorch, {called}": lambda: subject.eager(obs, action)}
    ways["PyTorch, cdsa.correct"] = lambda: safe(arrays[0])
    for file in files:
        ways[f"{file.format} ({FORMATS[file.format].runtime})"] = lambda ask=file.ask: ask(*arrays)  # type: ignore[misc]
    return ways


def _medians(calls: Sequence[Callable[[], Any]]) -> list[float]:
    taken: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + _SECONDS
    for number in range(_ROUNDS):
        if number > 1 and time.perf_counter() > end:
            break
        for call, times in zip(calls, taken, strict=True):
            for repeat in range(_IN_A_ROW):
                start = time.process_time()
                call()
                if repeat:  # the first after another one finds the caches cold
                    times.append(time.process_time() - start)
    return [statistics.median(times) for times in taken]

"""A monitor as metrics of Prometheus: read when Prometheus asks, so that acting pays nothing for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.monitor import Monitor

__all__ = ["PrometheusExporter"]

_COUNTERS = {
    "observations": "Observations that were acted upon.",
    "corrected": "Observations whose action was moved.",
    "clipped": "Observations where an action bound cut the correction.",
    "refused": "Observations refused: NaN or infinite, in the observation or in the policy's action.",
    "alarms": "Alarms that began.",
}
_HISTOGRAMS = {
    "score_norm": "Length of the predicted noise; the edges are quantiles of the data's.",
    "p_value": "Share of the data's actions that are at least as unusual as the policy's.",
    "shift": "Length of the correction, in action units.",
}


class PrometheusExporter:
    """A custom collector: ``prometheus_client.REGISTRY.register(PrometheusExporter(monitor))``.

    Args:
        monitor: What is shown.
        prefix: First word of every metric's name.

    Raises:
        InputError: prometheus-client is not installed, or the prefix is no name.
    """

    def __init__(self, monitor: Monitor, prefix: str = "cdsa") -> None:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", prefix):
            raise InputError(f"A metric's name is made of letters, digits and _, got the prefix {prefix!r}.")
        self.monitor, self.prefix, self.core = monitor, prefix, _core()

    def collect(self) -> Iterator[Any]:
        """The metrics as they stand now."""
        said, name = self.monitor.summary(), self.prefix
        for key, about in _COUNTERS.items():
            yield self.core.CounterMetricFamily(f"{name}_{key}", about, value=said[key])
        for key, about in _HISTOGRAMS.items():
            known = said[key]
            buckets = [*zip(map(str, known["edges"]), known["at_or_below"], strict=True), ("+Inf", known["count"])]
            total = (known["mean"] or 0.0) * known["count"]
            yield self.core.HistogramMetricFamily(f"{name}_{key}", about, buckets=buckets, sum_value=total)
        if alarm := said["alarm"]:
            gauge = self.core.GaugeMetricFamily
            yield gauge(f"{name}_alarm", "1 while the alarm is on.", value=float(alarm["on"]))
            share = alarm["unusual"] / max(1, alarm["filled"])
            yield gauge(f"{name}_unusual_ratio", "Share of unusual actions in the window.", value=share)
            limit = alarm["threshold"] / alarm["window"]
            yield gauge(f"{name}_unusual_ratio_limit", "Share that raises the alarm.", value=limit)


def _core() -> Any:
    try:
        from prometheus_client import core
    except ModuleNotFoundError:
        raise InputError(
            'Metrics for Prometheus need prometheus-client: pip install "cdsa-lightning[prometheus]".'
        ) from None
    return core

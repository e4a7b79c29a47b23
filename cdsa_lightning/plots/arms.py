"""Which arms of a report a picture shows: a baseline and its corrected self, and the traces of one training seed."""

from __future__ import annotations

import dataclasses

from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.rollout import Trace

__all__ = ["map_of", "needed_map", "pair", "paths_of"]


def pair(report: Report) -> tuple[str, str]:
    """The first arm with a corrected self, and that; the first arm and "" where nothing was corrected."""
    for name in report.arms:
        if f"cdsa({name})" in report.arms:
            return name, f"cdsa({name})"
    return next(iter(report.arms)), ""


def paths_of(report: Report) -> tuple[tuple[str, str], list[Trace], list[Trace]]:
    """The names of `pair` with the traces of their first training seed: five would draw five times nearly the same.

    Raises:
        InputError: no trace was kept.
    """
    names = pair(report)
    traces = [[t for t in report.arms[name].traces if t.seed == 0] if name else [] for name in names]
    if not any(traces):
        raise InputError(f"The evaluation on {report.task.name!r} kept no trace: run 'cdsa evaluate' again.")
    return names, traces[0], traces[1]


def map_of(report: Report) -> WorldMap | None:
    """The map of the world as it was evaluated; None for worlds without one."""
    return dataclasses.replace(report.task, env_kwargs={**report.task.env_kwargs, **(report.env_kwargs or {})}).map


def needed_map(report: Report) -> WorldMap:
    """`map_of`, where nothing can be drawn without.

    Raises:
        InputError: there is none.
    """
    world = map_of(report)
    if world is None:
        raise InputError(f"The task {report.task.name!r} has no map: paths are drawn in worlds that have one.")
    return world

"""Tables are data: the tasks, the paper's Table 1, and correction coefficients (Table 2 and our own).

Readers check what they read, so that a slip in a table is one sentence naming file, line and column.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from importlib import resources
from typing import Any

from cdsa_lightning.errors import InputError

__all__ = ["read_coefficients", "read_table", "read_table1", "read_tasks"]

Convert = Callable[[str], Any]


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def _positive(convert: Callable[[str], float]) -> Convert:
    def read(text: str) -> float:
        value = convert(text)
        if value <= 0:
            raise ValueError("expected a positive number")
        return value

    return read


def _optional(convert: Convert) -> Convert:
    return lambda text: convert(text) if text else None


def _one_of(*choices: str) -> Convert:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return read


def _named(text: str) -> str:
    if not text:
        raise ValueError("expected a name")
    return text


def _tuple_of(convert: Convert) -> Convert:
    return lambda text: tuple(convert(part) for part in text.split())


_TASKS: dict[str, Convert] = {
    "name": _named,
    "env_id": _named,
    "score_min": _optional(_number),
    "score_max": _optional(_number),
    "episodes": _positive(int),
    "sources": _tuple_of(str),
    "collect": str,
    "obs_to_state": _optional(_tuple_of(int)),
    "corrector_task": str,
}

_COEFFICIENTS: dict[str, Convert] = {
    "task": _named,
    "baseline": _named,
    "preset": _one_of("paper", "robust"),
    "k1": _number,
    "k2": _number,
    "schedule": _tuple_of(_positive(_number)),
    "num_steps": _positive(int),
    "units": _one_of("raw", "sigma2"),
    "state_step": _number,
    "a2": _one_of("paper", "residual", "off"),
    "clip": _one_of("final", "every_step"),
    "gate": _optional(_number),
    "max_shift": _optional(_positive(_number)),
    "source": _named,
}

_TABLE1: dict[str, Convert] = {"task": _named} | {
    column: _number
    for column in (
        *("one_step", "bc10", "td3_bc", "cql", "codac", "iql", "por"),
        *("cdsa_iql_mean", "cdsa_iql_std", "cdsa_por_mean", "cdsa_por_std"),
    )
}


def read_tasks() -> list[dict[str, Any]]:
    """tasks.csv: one row per task, in the order of the file, keyed by column."""
    return read_table(_text("tasks.csv"), _TASKS, "tasks.csv", key=("name",))


def read_coefficients() -> list[dict[str, Any]]:
    """coefficients.csv: recommended coefficients per task, baseline (``*``: any) and preset, each with its source."""
    return read_table(_text("coefficients.csv"), _COEFFICIENTS, "coefficients.csv", key=("task", "baseline", "preset"))


def read_table1() -> list[dict[str, Any]]:
    """table1.csv: the paper's normalised scores; CDSA with mean and standard deviation."""
    return read_table(_text("table1.csv"), _TABLE1, "table1.csv", key=("task",))


def read_table(text: str, columns: dict[str, Convert], where: str, key: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of a comma-separated table with exactly these columns.

    Args:
        text: The file's text, header first.
        columns: For each column, what turns its text into a value; ValueError for text it does not take.
        where: The file's name, for errors.
        key: Columns whose values together name a row once.

    Raises:
        InputError: other columns, a value a column does not take, or two rows of one key.
    """
    reader = csv.DictReader(text.splitlines())
    if list(reader.fieldnames or []) != list(columns):
        raise InputError(f"{where}: the columns are {reader.fieldnames}, expected {list(columns)}.")
    rows: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for line in reader:
        rows.append(_read_row(line, columns, f"{where}, line {reader.line_num}"))
        name = tuple(rows[-1][column] for column in key)
        if name in seen:
            raise InputError(f"{where}, line {reader.line_num}: a second row for {' / '.join(map(str, name))}.")
        seen.add(name)
    return rows


def _read_row(line: dict[str, str], columns: dict[str, Convert], where: str) -> dict[str, Any]:
    if None in line or None in line.values():
        raise InputError(f"{where}: expected {len(columns)} values.")
    row = {}
    for column, convert in columns.items():
        try:
            row[column] = convert(line[column].strip())
        except ValueError as error:
            raise InputError(f"{where}: {column} is {line[column]!r}: {error}.") from error
    return row


def _text(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")

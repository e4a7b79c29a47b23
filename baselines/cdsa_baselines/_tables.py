r"""Settings per task as data: the first row of a table that fits a task says what its authors chose for it.

A table is a CSV file beside the baselines. Its first column is a pattern of task names (``antmaze-*``), rows that are
more particular come first, and ``*`` last, so that every task finds a row.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from importlib import resources
from typing import Any

from cdsa_lightning.errors import InputError

__all__ = ["boolean", "task_settings"]


def boolean(text: str) -> bool:
    """``true`` or ``false``.

    Raises:
        ValueError: another word.
    """
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def task_settings(file: str, columns: Mapping[str, Callable[[str], Any]], task: str, **wanted: Any) -> dict[str, Any]:
    """The values of the first row whose pattern fits `task` and whose columns have the values `wanted`.

    Args:
        file: Name of the table in this package.
        columns: For each column but ``task``, what turns its text into a value; ValueError for text it does not take.
        task: Name of the task.
        wanted: Values that single columns must have; None for any.

    Raises:
        InputError: no row fits, or the table has other columns or a value that its column does not take.
    """
    reader = csv.DictReader(resources.files(__package__).joinpath(file).read_text(encoding="utf-8").splitlines())
    if list(reader.fieldnames or []) != ["task", *columns]:
        raise InputError(f"{file}: the columns are {reader.fieldnames}, expected {['task', *columns]}.")
    for row in reader:
        if not fnmatchcase(task, row["task"]):
            continue
        values = {}
        for column, convert in columns.items():
            try:
                values[column] = convert(row[column])
            except (TypeError, ValueError) as error:
                where = f"{file}, line {reader.line_num}"
                raise InputError(f"{where}: {column} is {row[column]!r}: {error}.") from None
        if all(value is None or values[column] == value for column, value in wanted.items()):
            return values
    named = "".join(f", {column} {value!r}" for column, value in wanted.items() if value is not None)
    raise InputError(f"{file} has no settings for task {task!r}{named}: give {', '.join(columns)} yourself.")

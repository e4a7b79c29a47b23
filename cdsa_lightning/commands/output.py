"""What commands share when they tell what they found: JSON files that are whole, tables of one look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError

__all__ = ["table", "write_json"]


def write_json(content: dict[str, Any], path: Path) -> Path:
    """Write plain values, whole or not at all; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from None
    return path


def table(title: str, *columns: str) -> Any:
    """An empty table of these columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

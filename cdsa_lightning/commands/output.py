"""What commands share when they tell what they found: tables of one look."""

from __future__ import annotations

from typing import Any

__all__ = ["table"]


def table(title: str, *columns: str) -> Any:
    """An empty table of these columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table

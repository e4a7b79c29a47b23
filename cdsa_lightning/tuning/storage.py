"""Where a search keeps its trials: an SQLite file or any data base of SQLAlchemy's, reached through Optuna."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import regular_file

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

__all__ = ["find_optuna", "open_storage", "reached", "understood", "without_password"]


def without_password(storage: str) -> str:
    """A storage as it can be shown."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", storage)


def find_optuna() -> Any:
    """The library.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(f"A search needs Optuna: pip install 'cdsa-lightning[tune]' ({error}).") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(storage: str) -> RDBStorage:
    """What a file's name or a URL stands for.

    Raises:
        InputError: it cannot be read, made or reached.
    """
    url = _url(storage)
    with reached(storage), understood(storage):
        _require_plain(url)
        try:
            return find_optuna().storages.RDBStorage(url)
        except ImportError as error:  # the driver of another data base than SQLite
            raise _refused(storage, error.__cause__ or error) from None


def _url(storage: str) -> str:
    """The URL of a storage; a file's folder is made."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if "://" in storage:
        try:
            make_url(storage)
        except (ArgumentError, ValueError):
            raise _refused(storage, "it cannot be read as a URL") from None
        return storage
    if "?" in storage:
        raise _refused(storage, "'?' cannot stand in a file's name, SQLite's URL ends there")
    path = Path(storage)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(storage, error.strerror or str(error)) from None
    return f"sqlite:///{path}"


@contextlib.contextmanager
def reached(storage: str) -> Iterator[None]:
    """What a data base objects to as an InputError; its driver's own words hold no password."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, find_optuna().exceptions.StorageInternalError) as error:
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        raise _refused(storage, cause.orig if isinstance(cause, DBAPIError) else error) from None


@contextlib.contextmanager
def understood(storage: str) -> Iterator[None]:
    """What is no trial of a search as an InputError; around what reads a storage and does nothing else."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        raise _refused(storage, f"what it holds is damaged ({type(error).__name__}: {error})") from None


def _require_plain(url: str) -> None:
    """Refuse an SQLite file with views or triggers, which are programs, and whatever is no plain file."""
    path, strange = Path(url.removeprefix("sqlite:///")), "type NOT IN ('table', 'index')"
    if not url.startswith("sqlite:///") or not path.exists():
        return
    try:
        with regular_file(path), contextlib.closing(sqlite3.connect(path)) as base:
            rows = base.execute(f"SELECT name FROM sqlite_master WHERE {strange} LIMIT 1").fetchall()
    except (OSError, sqlite3.Error) as error:
        raise ValueError(str(error)) from None
    if rows:
        raise ValueError(f"{str(rows[0][0])[:80]!r} is a view or a trigger")


def _refused(storage: str, reason: object) -> InputError:
    said = " ".join(str(reason).split()).removesuffix(".")
    return InputError(
        f"Cannot keep trials in {without_password(storage)}: {said}. --storage takes a file, which becomes an SQLite "
        "data base, or a URL of SQLAlchemy's, such as postgresql://USER@HOST/NAME."
    )

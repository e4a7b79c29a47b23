"""Where a search keeps its trials: an SQLite file or any data base of SQLAlchemy's, reached through Optuna."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

__all__ = ["find_optuna", "open_storage", "reached", "without_password"]


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
    with reached(storage):
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


def _refused(storage: str, reason: object) -> InputError:
    said = " ".join(str(reason).split()).removesuffix(".")
    return InputError(
        f"Cannot keep trials in {without_password(storage)}: {said}. --storage takes a file, which becomes an SQLite "
        "data base, or a URL of SQLAlchemy's, such as postgresql://USER@HOST/NAME."
    )

"""What a user is told when an input cannot be used: the value, the alternatives, the remedy. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "UnknownNameError", "unknown_name"]


class InputError(ValueError):
    """Input that cannot be used; the command line prints its text without a traceback and exits with 2."""


class UnknownNameError(InputError, LookupError):
    """A name that is not in the table it was looked up in."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UnknownNameError:
    """The error for `name` that is none of `known`: nearest match first, then all alternatives, then the remedy.

    Args:
        kind: What was looked up, for instance ``baseline``.
        name: What the user wrote.
        known: Every name that would have been accepted.
        remedy: One more sentence, where there is something to do about it.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    end = f" {remedy}" if remedy else ""
    return UnknownNameError(f"Unknown {kind} {name!r}.{guess} Known: {', '.join(names) or 'none'}.{end}")

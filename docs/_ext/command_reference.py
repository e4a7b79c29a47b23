"""What every command can be told, read off its real parser; no Sphinx, so that a test can ask as well.

A command is called with --help, and the parser that would have printed itself is caught. So the reference is what users
see: a command that is added appears, one that changes changes. An option without a word of help is an error.
"""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any
from unittest.mock import patch

__all__ = ["Option", "Parser", "UndocumentedError", "asked", "every_parser"]

BUILT = {
    "model": ["cdsa_lightning.training.CDSAModule"],
    "data": ["cdsa_lightning.data.TransitionData", "cdsa_lightning.replay.ReplayData"],
}
"""What `cdsa fit` builds, besides the baselines that come along; their options are options of the command."""


class UndocumentedError(Exception):
    """An option that says nothing of itself."""


class _Caught(BaseException):
    """Not an Exception: no command may take it for a mistake of its user."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: As users write it: ``--task TASK``, or the name of a positional argument.
        help: What the command says about it.
        note: Its type and default, or that it is required; empty where the parser says neither.
    """

    name: str
    help: str
    note: str


@dataclass(frozen=True)
class Parser:
    """One parser: the words that it follows, and its options by group."""

    words: str
    groups: dict[str, list[Option]]


def every_parser() -> Iterator[Parser]:
    """The parser of each command in the order of ``cdsa --help``; after `fit` those of the classes that it builds.

    Raises:
        UndocumentedError: an option without help.
    """
    from cdsa_lightning.cli import COMMANDS

    for name in COMMANDS:
        yield asked(name, "--help")
        if name == "fit":
            for section, paths in BUILT.items():
                trained = _baselines() if section == "model" else []
                yield from (asked(name, f"--{section}.help={path}") for path in paths + trained)


def _baselines() -> list[str]:
    """The baselines of this project that `fit` trains: those whose entry point is the `load` of a class."""
    values = [point.value for point in entry_points(group="cdsa.baselines")]
    own = {value for value in values if value.startswith("cdsa_baselines.") and value.endswith(".load")}
    return sorted(value.removesuffix(".load").replace(":", ".") for value in own)


def asked(command: str, *words: str) -> Parser:
    """The parser that answers `words`, which ask for help.

    Raises:
        UndocumentedError: an option without help, or no parser answered.
    """
    import jsonargparse

    from cdsa_lightning.cli import main

    def catch(parser: Any, *_: Any, **__: Any) -> None:
        caught.append(parser)
        raise _Caught

    caught: list[Any] = []
    with patch.object(jsonargparse.ArgumentParser, "print_help", catch):
        try:
            main([command, *words])
        except _Caught:
            return _read(command, " ".join([command, *words]), caught[0])
    raise UndocumentedError(f"cdsa {command} {' '.join(words)} prints no help.")


def _read(command: str, words: str, parser: Any) -> Parser:
    groups: dict[str, list[Option]] = {}
    for group in parser._action_groups:
        options = [_option(command, parser, action) for action in group._group_actions if _is_shown(action)]
        if options:
            groups[" ".join((group.title or "").split())] = options
    return Parser(words.removesuffix(" --help"), groups)


def _is_shown(action: Action) -> bool:
    linked = type(action).__name__ == "ActionLink"  # follows from another option, cannot be given
    return action.help != SUPPRESS and action.dest not in ("help", "print_shtab") and not linked


def _option(command: str, parser: Any, action: Action) -> Option:
    names = ", ".join(action.option_strings)
    if not (action.help or "").strip():
        raise UndocumentedError(f"cdsa {command} says nothing about {names or action.dest}: give it a help text.")
    text = " ".join(parser._get_formatter()._expand_help(action).split())
    found = re.search(r" ?\(((?:required|type|default)\b.*?)(?:, known subclasses: .*)?\)$", text)
    value = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
    value = value.replace("\b", "").strip() or action.dest.rpartition(".")[2].upper()
    name = names or value
    if names and action.nargs != 0:
        name = f"{names} {value}"
    return Option(name, text[: found.start()] if found else text, found[1] if found else "")

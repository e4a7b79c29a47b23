"""jsonargparse's objections in a sentence each: the key or value, the nearest known one, alternatives, remedy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.untrusted import parse_yaml, read_text

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

__all__ = ["STRICT", "check_config", "config_paths", "explain", "parse"]

STRICT: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
"""Keywords of a parser whose mistakes `parse` explains; an abbreviation is a mistake."""


def config_paths(argv: Sequence[str]) -> list[str]:
    """What --config names, in order."""
    words = zip(argv, [*argv, ""][1:], strict=True)
    named = [following if word == "--config" else word.partition("=")[2] for word, following in words if _names(word)]
    return [name for name in named if name and not name.lstrip().startswith("{")]  # settings may be written in place


def _names(word: str) -> bool:
    return word == "--config" or word.startswith("--config=")


def check_config(path: str) -> dict[str, Any]:
    """A configuration's content, seen to be readable and made of sections.

    Raises:
        InputError: missing, unreadable, not YAML, or not a mapping of sections.
    """
    try:
        content = parse_yaml(read_text(path))
    except OSError as error:
        folder = Path(path).parent
        near = ", ".join(sorted(str(found) for found in folder.glob("*.yaml"))[:20])
        there = f" In {folder}: {near}." if near else ""
        raise InputError(f"Cannot read the configuration {path}: {error.strerror or error}.{there}") from None
    except ValueError as error:
        raise InputError(f"The configuration {path} is not valid YAML: {' '.join(str(error).split())}") from None
    sections = ("model", "data", "trainer")
    if not isinstance(content, dict):
        raise InputError(f"The configuration {path} must be a mapping with the sections {', '.join(sections)}.")
    for name in sections:
        section = content.get(name)
        if section is not None and not isinstance(section, dict if name == "trainer" else (dict, str)):
            raise InputError(f"{name} in the configuration {path} must be a mapping, got {section!r}.")
    return content


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """`argv` as options; a mistake is an InputError, where jsonargparse would print its usage and exit.

    Args:
        parser: One made with `STRICT`.
        argv: The words after the command.

    Raises:
        InputError: an unknown or missing option, or a value of the wrong type.
    """
    from jsonargparse import ArgumentError

    try:
        return parser.parse_args(list(argv))
    except ArgumentError as error:
        raise explain(str(error), parser.get_defaults().keys(), parser.prog) from None


def explain(message: str, known: Iterable[str], command: str = "cdsa fit") -> InputError:
    """The error for what jsonargparse wrote.

    Args:
        message: Its text.
        known: Every key that would have been accepted, dotted.
        command: Whose help tells more.
    """
    if found := re.search(r"class_path '([^']+)':\s+Option '([^']+)' is not accepted", message):
        return _unknown_argument(*found.groups())
    if found := re.search(r"class_path '([^']+)':\s+(No module named .*|module '.*' has no attribute .*)", message):
        return _no_class(found[1], found[2].strip())
    if found := re.search(r"Import path (\S*) ?does not correspond to a subclass of (\S+)", message):
        given = re.search(r"Given value: (.*)", message)
        return _no_class(found[1] or (given[1] if given else ""), f"it is no {found[2]}")
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        return _no_class(found[1], "no class of that name is known")
    if found := re.search(r"[Oo]ption '([^']+)'(?: is not accepted|$)", message):
        return _unknown_key(found[1], known, command)
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        option = found[1]
        if option.startswith("--"):
            return _unknown_key(option[2:].partition("=")[0], known, command)
        return InputError(f"{option!r} is not an option; options are written --KEY VALUE, see '{command} --help'.")
    if found := re.search(r"arguments are required: (?:fit\.)?(\S+)", message):
        file = " or in a file given by --config" if command == "cdsa fit" else ""
        section = re.search(r'Parser key "(model|data)"', message)  # a class under construction lacks an argument
        name = f"{section[1]}.{found[1]}" if section else found[1]
        return InputError(f"{name} is missing. Name it with --{name} VALUE{file}.")
    if "Parser key" in message:
        return _wrong_value(message)
    text = " ".join(message.split()).removesuffix(".")
    return InputError(f"{text}. '{command} --help' tells the options.")


def _unknown_argument(class_path: str, name: str) -> InputError:
    module, _, cls = class_path.rpartition(".")
    try:
        accepted = list(inspect.signature(getattr(import_module(module), cls)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):
        accepted = []
    return unknown_name(f"argument of {cls}", name, accepted, "In YAML they stand under init_args.")


def _no_class(class_path: str, reason: str) -> InputError:
    return InputError(
        f"Cannot use the class_path {class_path!r}: {reason}. Write package.module.Class; "
        "models that come along: cdsa_lightning.training.CDSAModule, cdsa_baselines.iql.IQL; data: "
        "cdsa_lightning.data.TransitionData, cdsa_lightning.replay.ReplayData."
    )


def _unknown_key(name: str, known: Iterable[str], command: str) -> InputError:
    """The first part of a dotted key that is not known, among the keys of its level."""
    parts, level = name.split("."), [key.split(".") for key in known]
    for depth, part in enumerate(parts):
        children = {key[depth] for key in level if len(key) > depth}
        if part not in children:
            where = f" of {'.'.join(parts[:depth])}" if depth else ""
            return unknown_name(f"key{where}", part, children, f"'{command} --help' describes them.")
        level = [key for key in level if len(key) > depth and key[depth] == part]
    return InputError(f"The key {name!r} cannot be given here; '{command} --help' describes the keys.")


def _wrong_value(message: str) -> InputError:
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    kinds: dict[str, Any] = dict.fromkeys(re.findall(r"Expected an? <class '([\w.]+)'>", message))
    names = [kind.rpartition(".")[2].lower() for kind in kinds if kind not in ("NoneType", "type")]
    words = re.findall(r"'([^']+)'", " ".join(re.findall(r"Expected a typing\.Literal\[(.*)\]", message)))
    # The innermost objection is the one about the value itself.
    value = re.search(r"Got value: (.*)", message) or re.search(r"Given value: (.*)", message)
    if value is None or not (words or names):
        return InputError(" ".join(message.split()))
    allowed = f"one of {', '.join(dict.fromkeys(words))}" if words else " or ".join(names)
    return InputError(f"{key} must be {allowed}, got {value[1].strip()!r}.")

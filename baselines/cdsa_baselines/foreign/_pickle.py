r"""A pickle as data: its opcodes are walked here, and nothing is ever handed to an unpickler.

A pickle is a program for a small stack machine. Of its some 70 instructions this reader knows the few that write down
strings, bytes, plain constants and dictionaries; one that imports, calls or builds anything ends the reading before the
next is looked at.
"""

from __future__ import annotations

import pickletools
from typing import Any

from cdsa_lightning.errors import InputError

__all__ = ["read_pickled_dict"]

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("BININT", "BININT1", "BININT2", "BINFLOAT"),
}
SILENT = {"PROTO", "FRAME"}
REMEMBER, RECALL = {"MEMOIZE", "BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
MARK = object()
LONGEST = 1000
"""Instructions; a dictionary of a few entries takes a dozen. Each byte of a hostile file could be one more object."""


def read_pickled_dict(content: bytes, source: str) -> dict[str, Any]:
    """The dictionary of strings, bytes, numbers and further dictionaries that a pickle (protocol 3 to 5) spells out.

    Args:
        content: The pickle.
        source: Where it comes from, for the errors.

    Raises:
        InputError: it is damaged, no pickle of such a dictionary, or holds any other instruction.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if opcode.name == "STOP":
                break
            if number == LONGEST:
                raise ValueError(f"it has more than {LONGEST} instructions")
            _step(opcode.name, argument, stack, memo, source)
        (value,) = stack
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ValueError("it holds no dictionary with names as keys")
    except InputError:
        raise
    except Exception as error:  # A damaged or hostile program can break the parser and this machine in any way.
        raise InputError(f"{source} is damaged, or not the pickle of a dictionary: {error}.") from error
    return value


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any], source: str) -> None:
    """One instruction."""
    if name in VALUES:
        stack.append(argument)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name])
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "MARK":
        stack.append(MARK)
    elif name in REMEMBER:
        memo[len(memo) if argument is None else argument] = stack[-1]
    elif name in RECALL:
        stack.append(memo[argument])
    elif name in ("SETITEM", "SETITEMS"):
        start = len(stack) - 2
        if name == "SETITEMS":
            start = max(place for place, entry in enumerate(stack) if entry is MARK) + 1
        items = stack[start:]
        del stack[start - (name == "SETITEMS") :]
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name not in SILENT:
        wanted = argument if argument is not None else ".".join(str(entry)[:40] for entry in stack[-2:])
        raise InputError(
            f"{source} was refused: its pickle asks for {name} ({str(wanted)[:80]}), and only strings, bytes, numbers "
            "and dictionaries are read. Nothing in it was executed."
        )

"""Structured inputs for Hypothesis: a valid value in which entries were replaced, removed, renamed or swapped.

What fails is shrunk to the fewest edits and the simplest values, which random damage of `mutations` is not.
"""

import copy
import json
import struct

import yaml
from hypothesis import strategies as st

from cdsa_lightning.files import seal
from fuzz.mutations import NUMBERS, places

__all__ = ["FILES", "VALUES", "edited"]

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NUMBERS)
VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON can say, with NaN and infinities."""


@st.composite
def edited(draw, valid):
    """`valid`, a dictionary or list, with one to three edits."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        spots = places(value)
        if not spots:
            break
        holder, key = spots[draw(st.integers(0, len(spots) - 1))]
        kind = draw(st.sampled_from(("replace", "remove", "rename", "swap")))
        if kind == "remove":
            del holder[key]
        elif kind == "rename" and isinstance(holder, dict):
            holder[draw(st.text(max_size=6))] = holder.pop(key)
        elif kind == "swap":
            other, place = spots[draw(st.integers(0, len(spots) - 1))]
            holder[key] = copy.deepcopy(other[place])
        else:
            holder[key] = draw(VALUES)
    return value


def _header(content):
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    return {**header, "__metadata__": json.loads(header["__metadata__"]["cdsa"])}


def _with_header(content, value):
    (size,) = struct.unpack("<Q", content[:8])
    text = json.dumps({**value, "__metadata__": {"cdsa": json.dumps(value.get("__metadata__"))}}).encode()
    return seal(struct.pack("<Q", len(text)) + text + content[8 + size :])


FILES = {
    ".safetensors": (_header, _with_header),
    ".json": (json.loads, lambda _, value: seal(json.dumps(value).encode())),
    ".yaml": (yaml.safe_load, lambda _, value: yaml.safe_dump(value, allow_unicode=False).encode()),
}
"""Suffix -> the value in a file's content, and the content with another value, its digest forged."""

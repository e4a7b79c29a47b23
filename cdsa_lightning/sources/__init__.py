"""Where transitions come from: one file per scheme, one line per scheme in the table.

A source is written ``scheme:name``, for instance ``minari:cdsa/hopper-medium-v0``, ``d4rl:hopper-medium-v2`` or
``npz:my_data.npz``. A new scheme is a module with `load` and `locate` and a row in `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.sources import d4rl, minari, npz
from cdsa_lightning.sources.transitions import Transitions

__all__ = ["SCHEMES", "Scheme", "Transitions", "load_transitions", "locate"]


@dataclass(frozen=True)
class Scheme:
    """How one kind of source is read.

    Attributes:
        load: Reads the named data, downloading it where the scheme can.
        locate: Where the named data lies on this machine; None where it would have to be downloaded. Opens no file.
    """

    load: Callable[[str], Transitions]
    locate: Callable[[str], Path | None]


SCHEMES: dict[str, Scheme] = {
    "minari": Scheme(minari.load, minari.locate),
    "d4rl": Scheme(d4rl.load, d4rl.locate),
    "npz": Scheme(npz.load, npz.locate),
}


def load_transitions(source: str) -> Transitions:
    """All transitions of a source.

    Args:
        source: ``minari:<id>``, ``d4rl:<name or path.hdf5>`` or ``npz:<path>``.

    Raises:
        InputError: the scheme or the data is unknown, cannot be downloaded or read, or holds no usable numbers.
    """
    scheme, name = _split(source)
    return scheme.load(name)


def locate(source: str) -> Path | None:
    """Where a source lies on this machine; None where it would have to be downloaded.

    Raises:
        InputError: unknown scheme.
    """
    scheme, name = _split(source)
    return scheme.locate(name)


def _split(source: str) -> tuple[Scheme, str]:
    scheme, colon, name = source.partition(":")
    if not colon or not name:
        raise InputError(
            f"Cannot read the source {source!r}. Write it as scheme:name with one of: {', '.join(SCHEMES)}."
        )
    if scheme not in SCHEMES:
        raise unknown_name("data source scheme", scheme, SCHEMES, f"In {source!r}.")
    return SCHEMES[scheme], name

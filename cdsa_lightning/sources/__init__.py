"""Where transitions come from: one file per scheme, one line per scheme in the table.

A source is written ``scheme:name``, for instance ``minari:cdsa/hopper-medium-v0``, ``d4rl:hopper-medium-v2`` or
``npz:my_data.npz``. A new scheme is a module with `load` and `locate` and a row in `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.sources import d4rl, minari, npz
from cdsa_lightning.sources.transitions import Filled, Room, Transitions

__all__ = ["SCHEMES", "Filled", "Room", "Scheme", "Transitions", "fill", "load_transitions", "locate", "stamp"]


@dataclass(frozen=True)
class Scheme:
    """How one kind of source is read.

    Attributes:
        load: Reads the named data, downloading it where the scheme can.
        locate: Where the named data lies on this machine; None where it would have to be downloaded. Opens no file.
        fill: Reads the named data into room that the caller makes, without holding them besides; None where the scheme
            can only `load`.
    """

    load: Callable[[str], Transitions]
    locate: Callable[[str], Path | None]
    fill: Callable[[str, Room], Filled] | None = None


SCHEMES: dict[str, Scheme] = {
    "minari": Scheme(minari.load, minari.locate, minari.fill),
    "d4rl": Scheme(d4rl.load, d4rl.locate, d4rl.fill),
    "npz": Scheme(npz.load, npz.locate, npz.fill),
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


def fill(source: str, room: Room) -> Filled:
    """Read all transitions of a source into `room`, once, in order; whether they are finite is left unchecked.

    Args:
        source: As for `load_transitions`.
        room: Called once, with the number of rows that the source announces.

    Raises:
        InputError: as `load_transitions`.
    """
    scheme, name = _split(source)
    if scheme.fill is not None:
        return scheme.fill(name, room)
    data = scheme.load(name)
    for key, array in room(len(data), data.obs_dim, data.action_dim).items():
        array[:] = getattr(data, key)
    return Filled(np.bincount(data.episode), data.source, data.provenance, data.metadata)


def stamp(place: Path) -> list[Any]:
    """What tells whether the files at `place` have changed: where, how many, their size, and the newest's time."""
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    stats = [path.stat() for path in files]
    newest = max((s.st_mtime_ns for s in stats), default=0)
    return [str(place.resolve()), len(files), sum(s.st_size for s in stats), newest]


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

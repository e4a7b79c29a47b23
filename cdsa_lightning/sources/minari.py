"""`minari:<id>`: a Minari data set, from the local store or, where it is not there, downloaded.

The arrays are read in bulk into their final place (HDF5 through the low-level interface, Arrow memory-mapped); Minari's
own iterator builds one object per episode and is several times slower. Minari stores T + 1 observations an episode, so
every row has its true next observation; an episode with only T of them loses its last row.

Data sets whose observations are a dictionary say which entries to join, in order, after a question mark:
``minari:D4RL/antmaze/umaze-v1?obs=achieved_goal,observation:27`` joins achieved_goal and the first 27 of observation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import store
from cdsa_lightning.sources.minari_arrow import ArrowEpisodes
from cdsa_lightning.sources.minari_hdf5 import HDF5Episodes
from cdsa_lightning.sources.transitions import Filled, Room, Transitions, loaded
from cdsa_lightning.untrusted import parse_json

__all__ = ["fill", "load", "locate"]

Parts = list[tuple[str, int | None]] | None


def locate(name: str) -> Path | None:
    """The data set's folder in the local store, where it is there."""
    dataset_id, _, _ = name.partition("?")
    return store.dataset_path(dataset_id) if store.is_stored(dataset_id) else None


def load(name: str) -> Transitions:
    """The transitions of a Minari data set.

    Raises:
        InputError: it is neither stored nor downloadable, or it is damaged, or its spaces do not fit the method.
    """
    return loaded(lambda room: fill(name, room))


def fill(name: str, room: Room) -> Filled:
    """Read a Minari data set into `room`, episode after episode; the numbers are left unchecked.

    Raises:
        InputError: it is neither stored nor downloadable, or it is damaged, or its spaces do not fit the method.
    """
    dataset_id, _, query = name.partition("?")
    if not store.is_stored(dataset_id):
        _download(dataset_id)
    facts = store.metadata(dataset_id)
    parts = _parts(dataset_id, facts, query)
    lengths = _read(dataset_id, facts, parts, room)
    about = {key: value for key, value in facts.items() if key not in ("observation_space", "action_space")}
    made_by = facts.get("cdsa", {})
    cut = made_by.get("cut_episodes", []) if isinstance(made_by, dict) else None
    if not isinstance(cut, list) or not all(type(index) is int and 0 <= index < len(lengths) for index in cut):
        raise InputError(f"The data set {dataset_id!r} is damaged: 'cdsa' in its metadata is {str(made_by)[:60]!r}.")
    provenance = "d4rl-v2" if "converted_from" in made_by else "regenerated" if made_by else "minari"
    _verify(dataset_id, facts)  # last: what is wrong with the numbers is better named
    return Filled(lengths, f"minari:{name}", provenance, about)


def _verify(dataset_id: str, facts: dict[str, Any]) -> None:
    """See that the files are those that were written; data sets of others say nothing about theirs."""
    path = store.dataset_path(dataset_id) / "data"
    try:
        whole = store.DIGEST not in facts or facts[store.DIGEST] == store.data_digest(path)
    except OSError as error:
        raise InputError(f"Cannot read the data set {dataset_id!r}: {error.filename}: {error.strerror}.") from None
    if not whole:
        raise InputError(
            f"The data set {dataset_id!r} is damaged: its files are not those that were written. Delete {path.parent} "
            "and make it again."
        )


def _download(dataset_id: str) -> None:
    import minari  # only a download needs the library

    local = store.stored_ids()
    try:
        minari.download_dataset(dataset_id)
    # Whatever goes wrong on the way (no network, no such id, no login) has one meaning here.
    except Exception as error:
        raise InputError(
            f"The data set {dataset_id!r} is not in the local store {store.root()} and cannot be downloaded ({error}). "
            f"Local data sets: {', '.join(local) or 'none'}. `cdsa datasets` lists what can be collected instead."
        ) from error
    if not store.is_stored(dataset_id):
        raise InputError(f"The download of {dataset_id!r} left no data set in {store.root()}. Try again.")


def _parts(dataset_id: str, facts: dict[str, Any], query: str) -> Parts:
    """Which entries of a dictionary observation to join; None for a plain vector."""
    try:
        spaces = {key: _space(facts[key]) for key in ("observation_space", "action_space") if key in facts}
    except (TypeError, ValueError) as error:
        raise InputError(f"The data set {dataset_id!r} is damaged: its metadata name no spaces ({error}).") from None
    if spaces.get("action_space", {}).get("type", "Box") != "Box":
        raise InputError(
            f"The actions of {dataset_id!r} are {spaces['action_space']['type']}; "
            "the method needs continuous ones (Box)."
        )
    kind = spaces.get("observation_space", {"type": "Box"})
    if kind["type"] == "Box" and len(kind.get("shape", [0])) == 1 and not query:
        return None
    if kind["type"] != "Dict":
        raise InputError(
            f"The observations of {dataset_id!r} are no vector and no dictionary of vectors: {kind['type']}."
        )
    known = kind.get("subspaces", kind.get("spaces", {}))
    remedy = (
        f"Write for instance minari:{dataset_id}?obs=achieved_goal,observation:27 (entry:length keeps the first ones)."
    )
    if not query.startswith("obs="):
        raise InputError(f"The observations of {dataset_id!r} are a dictionary of {', '.join(known)}. {remedy}")
    parts: list[tuple[str, int | None]] = []
    for part in query.removeprefix("obs=").split(","):
        key, _, length = part.partition(":")
        if key not in known or (length and not length.isdigit()):
            raise InputError(f"{dataset_id!r} has no observation entry {part!r}; it has {', '.join(known)}. {remedy}")
        parts.append((key, int(length) if length else None))
    return parts


def _space(text: str) -> dict[str, Any]:
    space = parse_json(text)
    if not isinstance(space, dict) or not isinstance(space.get("type"), str):
        raise ValueError("a space is a dictionary with a type")
    for name in ("subspaces", "spaces"):
        if not isinstance(space.get(name, {}), dict):
            raise ValueError(f"{name} must be a dictionary")
    if not isinstance(space.get("shape", []), list):
        raise ValueError("shape must be a list")
    return space


def _read(dataset_id: str, facts: dict[str, Any], parts: Parts, room: Room) -> np.ndarray:
    path = store.dataset_path(dataset_id) / "data"
    readers: dict[str, type[HDF5Episodes] | type[ArrowEpisodes]]
    readers = {"hdf5": HDF5Episodes, "arrow": ArrowEpisodes, "parquet": ArrowEpisodes}
    if facts["data_format"] not in readers:
        raise InputError(f"{dataset_id!r} is stored as {facts['data_format']!r}; readable: {', '.join(readers)}.")
    try:
        with readers[facts["data_format"]](path, int(facts["total_episodes"]), parts) as episodes:
            return _fill(dataset_id, episodes, int(facts["total_steps"]), room)
    # pyarrow's errors are ValueError and OSError, h5py's OSError, KeyError and RuntimeError.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The data set {dataset_id!r} is damaged or incomplete ({type(error).__name__}: {error}). Delete "
            f"{path.parent} and make or download it again."
        ) from error


def _fill(dataset_id: str, episodes: HDF5Episodes | ArrowEpisodes, total: int, room: Room) -> np.ndarray:
    obs_dim, action_dim = episodes.dims()
    # Numbers in the metadata ask for memory, the data on the disk say how much of it there is to fill.
    if total < 0 or 4 * total * (2 * obs_dim + action_dim + 1) > 2 * episodes.room:
        raise ValueError(f"it announces {total:,} transitions, more than its files can hold")
    arrays = room(total, obs_dim, action_dim)
    lengths: list[int] = []
    row = 0
    for index in range(episodes.count):
        filled = episodes.read_into(index, arrays, row)
        row += filled
        if filled:
            lengths.append(filled)
    if row != total - episodes.dropped:
        raise InputError(
            f"The data set {dataset_id!r} announces {total} transitions but holds {row + episodes.dropped}. It is "
            "incomplete: delete it and make or download it again."
        )
    return np.array(lengths, np.int64)

"""`d4rl:<name>` and `d4rl:<path.hdf5>`: the HDF5 files of D4RL, converted once into the local Minari store.

A name (``hopper-medium-v2``) is looked for in the store as ``d4rl/<name>``, then as a file in D4RL's own folder
(``D4RL_DATASET_DIR``, by default ``~/.d4rl/datasets``), then downloaded from where D4RL publishes it. The files have no
checksum; a download counts only when it has its announced size and the arrays of a D4RL file.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import tempfile
import urllib.request
from pathlib import Path

import h5py
import numpy as np

from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.sources import minari, store
from cdsa_lightning.sources.hdf5 import CHUNK, open_dataset, plain_bytes
from cdsa_lightning.sources.rows import Column, fill_rows
from cdsa_lightning.sources.transitions import Filled, Room, Transitions, loaded
from cdsa_lightning.untrusted import room as room_of

__all__ = ["URL", "fill", "load", "locate", "names"]

URL = "https://rail.eecs.berkeley.edu/datasets/offline_rl"
"""Where D4RL publishes its files."""

_ROWS = ("observations", "actions", "rewards", "terminals")
_KEYS = dict(zip(("obs", "action", "reward", "terminated"), _ROWS, strict=True)) | {
    "next_obs": "next_observations",
    "timeout": "timeouts",
}
_FLAT = ("reward", "terminated", "timeout")
_ANTMAZE = {
    "umaze": "u-maze_noisy_multistart_False_multigoal_False",
    "umaze-diverse": "u-maze_noisy_multistart_True_multigoal_True",
    "medium-play": "big-maze_noisy_multistart_True_multigoal_False",
    "medium-diverse": "big-maze_noisy_multistart_True_multigoal_True",
    "large-play": "hardest-maze_noisy_multistart_True_multigoal_False",
    "large-diverse": "hardest-maze_noisy_multistart_True_multigoal_True",
}
_FILES = {
    f"{world}-{level}-v2": f"gym_mujoco_v2/{world}_{level.replace('-', '_')}-v2.hdf5"
    for world in ("hopper", "halfcheetah", "walker2d")
    for level in ("random", "medium", "medium-replay", "full-replay", "medium-expert", "expert")
} | {f"antmaze-{maze}-v2": f"ant_maze_v2/Ant_maze_{file}_sparse_fixed.hdf5" for maze, file in _ANTMAZE.items()}


def names() -> list[str]:
    """The data sets that can be downloaded by name."""
    return sorted(_FILES)


def locate(name: str) -> Path | None:
    """The converted data set, or the file it would be converted from, where either is on this machine."""
    if _is_path(name):
        path = Path(name).expanduser()
        return path if path.is_file() else None
    if name in _FILES and store.is_stored(f"d4rl/{name}"):
        return store.dataset_path(f"d4rl/{name}")
    file = _folder() / Path(_FILES[name]).name if name in _FILES else None
    return file if file is not None and file.is_file() else None


def load(name: str) -> Transitions:
    """The transitions of a D4RL data set, converting or downloading it on first use.

    Raises:
        InputError: the name is unknown, the file is missing, damaged or no D4RL file, or the download failed.
    """
    return minari.load(_stored(name))


def fill(name: str, room: Room) -> Filled:
    """Read a D4RL data set into `room`; only its conversion, on first use, holds it.

    Raises:
        InputError: as `load`.
    """
    return minari.fill(_stored(name), room)


def _stored(name: str) -> str:
    """The id of the data set in the store, once it is there."""
    if _is_path(name):
        file = Path(name).expanduser()
        if not file.is_file():
            raise InputError(f"There is no file {name!r}. Give a D4RL HDF5 file or one of: {', '.join(names())}.")
        return _converted(_stem_id(file), file, f"d4rl:{name}")
    if name not in _FILES:
        raise unknown_name("D4RL data set", name, _FILES, "A file of your own is named by its path, ending in .hdf5.")
    dataset_id = f"d4rl/{name}"
    if store.is_stored(dataset_id):
        return dataset_id
    file = _folder() / Path(_FILES[name]).name
    if not file.is_file():
        _download(f"{URL}/{_FILES[name]}", file)
    return _converted(dataset_id, file, f"d4rl:{name}")


def _is_path(name: str) -> bool:
    return name.endswith((".hdf5", ".h5")) or "/" in name


def _folder() -> Path:
    return Path(os.environ.get("D4RL_DATASET_DIR") or Path.home() / ".d4rl" / "datasets")


def _stem_id(file: Path) -> str:
    known = next((name for name, path in _FILES.items() if Path(path).name == file.name or name == file.stem), None)
    return f"d4rl/{known}" if known else f"d4rl/{re.sub(r'[^-A-Za-z0-9_]', '-', file.stem)}-file-v0"


def _converted(dataset_id: str, file: Path, source: str) -> str:
    """The id of the store's copy of `file`, made anew where the file has changed."""
    origin = {"file": file.name, "bytes": file.stat().st_size, "modified": file.stat().st_mtime_ns}
    if store.is_stored(dataset_id) and store.metadata(dataset_id).get("cdsa", {}).get("converted_from") == origin:
        return dataset_id
    data = _read(file, source)
    reach = float(np.abs(data.action).max())
    bound = np.full(data.action_dim, 1.0 if reach <= 1 else reach, np.float32)
    facts = {
        "algorithm_name": "D4RL",
        "cdsa": {"converted_from": origin, "mean_return": float(data.episode_returns().mean())},
    }
    try:
        store.write_dataset(
            dataset_id, data.episodes(), -bound, bound, facts, obs_dim=data.obs_dim, overwrite=True
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"Cannot store {file} as {dataset_id!r} in {store.root()}: {error}. Free some space or "
            "set MINARI_DATASETS_PATH, and run again."
        ) from error
    shutil.rmtree(store.partial_path(dataset_id), ignore_errors=True)
    return dataset_id


def _read(file: Path, source: str) -> Transitions:
    def fill(room: Room) -> Filled:
        # A chunk that does not fit the cache would be unpacked again for every block of rows.
        with h5py.File(file, "r", rdcc_nbytes=CHUNK) as opened:
            missing = [key for key in _ROWS if key not in opened]
            if missing:
                found = ", ".join(opened) or "nothing"
                raise InputError(f"{file} is no D4RL file: it lacks {', '.join(missing)}. Found: {found}.")
            there = {name: open_dataset(opened.id, key.encode()) for name, key in _KEYS.items() if key in opened}
            total = sum(map(plain_bytes, there.values()))
            if total > room_of(file.stat().st_size):
                raise ValueError(f"it announces {total:,} bytes of numbers in {file.stat().st_size:,}")
            columns = {name: _column(h5py.Dataset(data), name in _FLAT) for name, data in there.items()}
            return Filled(fill_rows(columns, room, source), source, "d4rl-v2", {})

    try:
        return loaded(fill)
    except InputError:
        raise
    except (OSError, RuntimeError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"{file} cannot be read as HDF5 ({error}). It may be truncated: delete it and get it again."
        ) from error


def _column(data: h5py.Dataset, flat: bool) -> Column:
    """A dataset; one of shape [N, 1] as [N] where it should be `flat`."""
    one = flat and data.shape[1:] == (1,)
    return Column(
        data.shape[:1] if one else data.shape,
        data.dtype,
        lambda low, high: data[low:high, 0] if one else data[low:high],
    )


def _download(url: str, file: Path) -> None:
    """Fetch `url` to `file`, which appears only when it is whole."""
    part = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=30) as reply, tempfile.NamedTemporaryFile(
            dir=file.parent, prefix=f".{file.name}.", delete=False
        ) as target:  # fmt: skip
            part = Path(target.name)
            shutil.copyfileobj(reply, target, 1 << 20)
            announced = reply.headers.get("Content-Length")
        if announced is not None and part.stat().st_size != int(announced):
            raise InputError(
                f"The download of {url} broke off at {part.stat().st_size} of {announced} bytes. Try again."
            )
        _require_structure(part, url)
        part.replace(file)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"Cannot download {url} ({error}). Put the file into {file.parent} yourself, or collect data instead: "
            "`cdsa datasets` names the command."
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()


def _require_structure(part: Path, url: str) -> None:
    try:
        with h5py.File(part, "r") as opened:
            whole = all(key in opened for key in _ROWS) and len({len(opened[key]) for key in _ROWS}) == 1
    except (OSError, RuntimeError, TypeError) as error:
        raise InputError(f"What {url} sent is no HDF5 file ({error}). Try again later.") from error
    if not whole:
        raise InputError(f"What {url} sent is no D4RL file: it lacks one of {', '.join(_ROWS)}.")

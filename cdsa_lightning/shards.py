"""A data set made shard by shard: each shard written atomically, the whole renamed into the store at the end.

The shards lie in a hidden folder beside the data set's place, with the settings that decide their content. Whatever
stops the work, the finished shards stay; going on under other settings is refused, for the result would be neither.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file
from cdsa_lightning.sources import store
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import read_json, read_npz

__all__ = ["Collected", "Output", "Piece", "kept", "make_dataset"]

_LIBRARIES = ("cdsa-lightning", "gymnasium", "mujoco", "minari", "numpy", "torch")


@dataclass(frozen=True)
class Piece:
    """An episode, and whether the collection cut it short (rather than the world or its time limit)."""

    episode: Episode
    cut: bool = False


@dataclass(frozen=True)
class Output:
    """Where a data set goes, and how.

    Attributes:
        dataset_id: Minari id, namespace/name-vN.
        data_format: ``hdf5`` or ``arrow``.
        overwrite: Replace a data set of that id, at the very end.
        command: What the user typed, for the metadata.
        progress: Called with the number of transitions just gained.
    """

    dataset_id: str
    data_format: str = "hdf5"
    overwrite: bool = False
    command: str = ""
    progress: Callable[[int], None] = lambda steps: None


@dataclass(frozen=True)
class Collected:
    """A data set that was just written: its id, folder, size, and the mean return of its whole episodes."""

    dataset_id: str
    path: Path
    episodes: int
    steps: int
    mean_return: float


def make_dataset(
    task: Task, produce: Callable[[int], Iterable[Piece]], shards: int, settings: dict[str, Any], output: Output
) -> Collected:
    """Make the shards that are missing, then the data set.

    Args:
        task: The world of the data.
        produce: A shard's number to its episodes; the same ones every time.
        shards: How many there are.
        settings: Plain values that decide the data; kept as metadata.
        output: Where it goes.

    Raises:
        InputError: the id is taken, an unfinished collection of other settings is in the way, another process is
            collecting into it, or the disk is full.
    """
    if output.data_format not in ("hdf5", "arrow"):
        raise InputError(f"Unknown data format {output.data_format!r}. Known: arrow, hdf5.")
    folder = store.partial_path(output.dataset_id)
    settings = json.loads(json.dumps(settings | {"versions": _versions()}))
    if store.is_stored(output.dataset_id) and not output.overwrite:
        if _finished(folder, settings, output.dataset_id):
            shutil.rmtree(folder, ignore_errors=True)
            return _stored(output.dataset_id)
        raise InputError(f"The data set {output.dataset_id!r} exists already. Choose another id or pass --overwrite.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _agree(folder, settings, output.overwrite)
            for shard in range(shards):
                if _file(folder, shard).is_file():
                    output.progress(int(_load(folder, shard)["lengths"].sum()))
                else:
                    _save(folder, shard, produce(shard), output.progress)
            collected = _build(folder, task, shards, settings, output)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"Cannot write the data set {output.dataset_id!r}: {error}. {kept(output.dataset_id)} Free some space (or "
            "move the store and set MINARI_DATASETS_PATH) and run the same command again."
        ) from error
    return collected


def _finished(folder: Path, settings: dict[str, Any], dataset_id: str) -> bool:
    """Whether the program that made the stored data set was killed before it had tidied up."""
    try:
        begun = read_json(folder / "settings.json")
    except (OSError, ValueError):
        return False
    made = store.metadata(dataset_id).get("cdsa", {})
    return begun == settings == {key: made.get(key) for key in settings}


def _stored(dataset_id: str) -> Collected:
    facts = store.metadata(dataset_id)
    counts = int(facts["total_episodes"]), int(facts["total_steps"])
    return Collected(dataset_id, store.dataset_path(dataset_id), *counts, float(facts["cdsa"]["mean_return"]))


def kept(dataset_id: str) -> str:
    """One sentence: how much of an unfinished collection is on disk."""
    folder = store.partial_path(dataset_id)
    numbers = [shard for shard in range(len(list(folder.glob("shard-*.npz")))) if _file(folder, shard).is_file()]
    steps = sum(int(_load(folder, shard)["lengths"].sum()) for shard in numbers)
    return f"{steps:,} transitions are kept in {folder}; the same command goes on from there."


def _file(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.npz"


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder to ourselves; the lock goes with the process, however that ends."""
    with (folder / "lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"Another process is collecting into {folder}. Wait for it or choose another id."
            ) from error
        yield


def _agree(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Refuse to go on from shards that other settings made; with `overwrite`, begin afresh."""
    path = folder / "settings.json"
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    if path.is_file():
        try:
            earlier = read_json(path)
        except (OSError, ValueError):
            earlier = {}
        earlier = earlier if isinstance(earlier, dict) else {}
        keys = [key for key in {**earlier, **settings} if earlier.get(key) != settings.get(key)]
        if not keys:
            return
        if not overwrite:
            changes = "; ".join(f"{key}: {earlier.get(key)!r} there, {settings.get(key)!r} now" for key in keys)
            raise InputError(
                f"An unfinished collection in {folder} was begun with other settings ({changes}). Repeat it with "
                "its own settings to go on, choose another id, or delete that folder to begin afresh."
            )
        for shard in folder.glob("shard-*.npz"):
            shard.unlink()
    with whole_file(path) as place:
        place.write_text(json.dumps(settings))


def _save(folder: Path, shard: int, pieces: Iterable[Piece], progress: Callable[[int], None]) -> None:
    found = []
    for piece in pieces:
        found.append(piece)
        progress(len(piece.episode.reward))
    episodes = [piece.episode for piece in found]
    temporary = _file(folder, shard).with_suffix(".tmp")
    try:
        with temporary.open("wb") as handle:
            np.savez(
                handle,
                obs=np.concatenate([episode.obs for episode in episodes]).astype(np.float32),
                action=np.concatenate([episode.action for episode in episodes]).astype(np.float32),
                reward=np.concatenate([episode.reward for episode in episodes]).astype(np.float32),
                lengths=np.array([len(episode.reward) for episode in episodes]),
                terminated=np.array([episode.terminated for episode in episodes]),
                truncated=np.array([episode.truncated for episode in episodes]),
                cut=np.array([piece.cut for piece in found]),
            )
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(_file(folder, shard))
    finally:
        temporary.unlink(missing_ok=True)


def _load(folder: Path, shard: int) -> dict[str, np.ndarray]:
    path = _file(folder, shard)
    try:
        return _checked(read_npz(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}). Delete it and run the same command again.") from error


def _checked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kinds = {"obs": ("f", 2), "action": ("f", 2), "reward": ("f", 1), "lengths": ("i", 1)}
    kinds |= dict.fromkeys(("terminated", "truncated", "cut"), ("b", 1))
    for name, found in kinds.items():
        if name not in arrays or (arrays[name].dtype.kind, arrays[name].ndim) != found:
            raise ValueError(f"{name} is missing, or not what was written")
    lengths, rows = arrays["lengths"], len(arrays["reward"])
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= rows or lengths.sum() != rows:
        raise ValueError("its episodes are not as long as they say")
    each = {"obs": rows + len(lengths), "action": rows}
    each |= dict.fromkeys(("terminated", "truncated", "cut"), len(lengths))
    if any(len(arrays[name]) != wanted for name, wanted in each.items()):
        raise ValueError("its arrays do not fit each other")
    return arrays


def _episodes(folder: Path, shards: int) -> Iterator[Episode]:
    for shard in range(shards):
        arrays = _load(folder, shard)
        ends = np.cumsum(arrays["lengths"])
        for index, (high, length) in enumerate(zip(ends, arrays["lengths"], strict=True)):
            low = high - length
            yield Episode(
                # Each earlier episode has one observation more than steps.
                arrays["obs"][low + index : high + index + 1],
                arrays["action"][low:high],
                arrays["reward"][low:high],
                bool(arrays["terminated"][index]),
                bool(arrays["truncated"][index]),
            )


def _build(folder: Path, task: Task, shards: int, settings: dict[str, Any], output: Output) -> Collected:
    lengths, returns, cut = _summary(folder, shards)
    whole = returns[~cut] if not cut.all() else returns
    made = {
        **settings,
        "mean_return": float(whole.mean()),
        "cut_episodes": np.flatnonzero(cut).tolist(),
        "command": output.command,
    }
    try:
        path = store.write_dataset(
            output.dataset_id,
            _episodes(folder, shards),
            task.low,
            task.high,
            {"algorithm_name": str(settings.get("behaviour", "")), "cdsa": made},
            obs_dim=task.obs_dim,
            env_spec=gymnasium.spec(task.env_id),
            data_format=output.data_format,
            overwrite=output.overwrite,
            build=folder / "dataset",
        )
    except RuntimeError as error:  # HDF5 says so where a file on a full disk cannot be closed.
        raise OSError(str(error)) from error
    return Collected(output.dataset_id, path, len(lengths), int(lengths.sum()), made["mean_return"])


def _summary(folder: Path, shards: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length, return, and whether it was cut, of every episode."""
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    for shard in range(shards):
        arrays = _load(folder, shard)
        lengths = arrays["lengths"]
        owner = np.repeat(np.arange(len(lengths)), lengths)
        returns = np.bincount(owner, weights=arrays["reward"], minlength=len(lengths))
        for column, values in zip(columns, (lengths, returns, arrays["cut"]), strict=True):
            column.append(values)
    lengths, returns, cut = (np.concatenate(column) for column in columns)
    return lengths, returns, cut


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found

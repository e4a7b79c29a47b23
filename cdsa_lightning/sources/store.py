"""The local Minari store: where data sets lie, what they say about themselves, and writing one whole or not at all.

A data set is built in a hidden folder beside its final place, on the same file system, and renamed when it is complete.
Minari lists no hidden folders, so nobody ever sees half a data set.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources.minari_hdf5 import write_episodes
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.untrusted import read_json, regular_file

__all__ = [
    "DIGEST",
    "data_digest",
    "dataset_path",
    "is_stored",
    "metadata",
    "partial_path",
    "root",
    "stored_ids",
    "write_dataset",
]

_ID = re.compile(r"(?:[-_\w]+/)*[-_\w]+-v\d+", re.ASCII)
DIGEST = "cdsa_sha256"
"""The entry of a data set's metadata for the digest of its files."""
_BUFFERED = 64  # episodes handed to Minari at once


def root() -> Path:
    """The folder of the local store: ``MINARI_DATASETS_PATH``, or Minari's own default. Nothing is created."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def dataset_path(dataset_id: str) -> Path:
    """Where a data set lies or would lie.

    Raises:
        InputError: the id is not of Minari's form.
    """
    if not _ID.fullmatch(dataset_id):
        raise InputError(
            f"{dataset_id!r} is no data set id. Write namespace/name-vN, for instance cdsa/hopper-medium-v0."
        )
    return root() / dataset_id


def partial_path(dataset_id: str) -> Path:
    """The hidden folder in which a data set is being made."""
    path = dataset_path(dataset_id)
    return path.with_name(f".partial-{path.name}")


def is_stored(dataset_id: str) -> bool:
    """Whether the data set is in the local store."""
    return (dataset_path(dataset_id) / "data" / "metadata.json").is_file()


def stored_ids() -> list[str]:
    """Every data set in the local store, sorted."""
    found = (path.parent.parent.relative_to(root()) for path in root().rglob("data/metadata.json"))
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def metadata(dataset_id: str) -> dict[str, Any]:
    """What a stored data set says about itself (spaces left as text).

    Raises:
        InputError: the file is missing or damaged.
    """
    path = dataset_path(dataset_id) / "data" / "metadata.json"
    try:
        facts = read_json(path)
        int(facts["total_episodes"]), int(facts["total_steps"])
        if not isinstance(facts["data_format"], str):
            raise TypeError("data_format must be a text")
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(
            f"The data set {dataset_id!r} is damaged: {path} cannot be read ({error!r}). "
            f"Delete {path.parent.parent} and make it again."
        ) from error
    return facts


def write_dataset(
    dataset_id: str,
    episodes: Iterable[Episode],
    low: np.ndarray,
    high: np.ndarray,
    facts: dict[str, Any],
    *,
    obs_dim: int,
    env_spec: Any = None,
    data_format: str = "hdf5",
    overwrite: bool = False,
    build: Path | None = None,
) -> Path:
    """Write a whole Minari data set, atomically.

    Args:
        dataset_id: Minari id, namespace/name-vN.
        episodes: The episodes in order; consumed once, a few at a time.
        low, high: Action bounds, [A].
        facts: Further metadata, plain JSON values.
        obs_dim: S.
        env_spec: The gymnasium specification of the environment, where the data have one.
        data_format: ``hdf5`` or ``arrow``.
        overwrite: Replace a data set of that id, at the very end.
        build: Hidden folder to build in; emptied first.

    Returns:
        The folder of the data set.

    Raises:
        InputError: the id is taken and `overwrite` is not set.
        OSError: the disk is full; the store is as it was before.
    """
    path = dataset_path(dataset_id)
    if is_stored(dataset_id) and not overwrite:
        raise InputError(f"The data set {dataset_id!r} exists already. Choose another id or pass --overwrite.")
    build = build or partial_path(dataset_id) / "dataset"
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True)
    try:
        _fill(build / "data", dataset_id, episodes, (low, high), facts, obs_dim, env_spec, data_format)
        _name_namespace(dataset_id)
        _move_into_place(build, path)  # last: where the data set is, all is done
    except BaseException:
        shutil.rmtree(build, ignore_errors=True)
        raise
    return path


def _fill(
    data: Path,
    dataset_id: str,
    episodes: Iterable[Episode],
    bounds: tuple[np.ndarray, np.ndarray],
    facts: dict[str, Any],
    obs_dim: int,
    env_spec: Any,
    data_format: str,
) -> None:
    # Imported here: Minari takes .2 s, and reading and listing data sets never need it.
    import minari
    from gymnasium.spaces import Box
    from minari.dataset.minari_storage import MinariStorage

    low, high = (np.asarray(bound, dtype=np.float32) for bound in bounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an environment that cannot be described is no fault of the data
        storage = MinariStorage.new(
            data,
            observation_space=Box(-np.inf, np.inf, (obs_dim,), np.float32),
            action_space=Box(low, high, dtype=np.float32),
            env_spec=env_spec,
            data_format=data_format,
        )
    storage.update_metadata({"dataset_id": dataset_id, "minari_version": minari.__version__, **facts})
    if data_format == "hdf5":
        count, steps = write_episodes(data / "main_data.hdf5", episodes)
        storage.update_metadata({"total_episodes": count, "total_steps": steps})
    else:
        # Minari measures the folder after every episode, which is quadratic in their number; once at the end will do.
        storage.get_size = lambda: 0.0
        for chunk in _chunks(_buffers(episodes)):
            storage.update_episodes(chunk)
        del storage.get_size
    storage.update_metadata({"dataset_size": float(storage.get_size()), DIGEST: data_digest(data)})


def data_digest(data: Path) -> str:
    """The SHA-256 of all files of a data folder but its metadata, which hold it, with their names.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in data.rglob("*") if path.is_file() and path.name != "metadata.json"):
        with regular_file(path) as file:
            own = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(data).as_posix()} {own}\n".encode())
    return digest.hexdigest()


def _buffers(episodes: Iterable[Episode]) -> Iterable[Any]:
    from minari.data_collector import EpisodeBuffer

    for number, episode in enumerate(episodes):
        ends = np.zeros((2, len(episode.reward)), dtype=bool)
        ends[:, -1] = episode.terminated, episode.truncated
        yield EpisodeBuffer(
            id=number,
            observations=episode.obs.astype(np.float32, copy=False),
            actions=episode.action.astype(np.float32, copy=False),
            rewards=episode.reward.astype(np.float32, copy=False),
            terminations=ends[0],
            truncations=ends[1],
        )


def _chunks(items: Iterable[Any]) -> Iterable[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _BUFFERED:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _move_into_place(build: Path, path: Path) -> None:
    for file in build.rglob("*"):
        if file.is_file():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
    # A folder cannot replace a full one: the old data set steps aside for the moment between two renames.
    aside = path.with_name(f".replaced-{path.name}")
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    try:
        build.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)  # also that of a program which was killed between the two


def _name_namespace(dataset_id: str) -> None:
    # Minari wants one small file per namespace folder before it uploads or describes it.
    folder = root()
    for part in dataset_id.split("/")[:-1]:
        folder = folder / part
        marker = folder / "namespace_metadata.json"
        if not marker.exists():
            place = marker.with_name(f".{marker.name}.partial")
            try:
                place.write_text("{}")
                place.replace(marker)
            finally:
                place.unlink(missing_ok=True)

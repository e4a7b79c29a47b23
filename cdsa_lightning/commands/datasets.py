"""`cdsa datasets`: every task with the state of its data: here, downloadable, or collectable with which command."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from cdsa_lightning.tasks import Task

__all__ = ["DataState", "main", "state"]


@dataclass(frozen=True)
class DataState:
    """The data of one task.

    Attributes:
        task: Its name.
        state: ``here``, ``damaged``, ``downloadable``, ``collectable`` or ``missing``; the first that holds.
        source: What is here, or what would be downloaded.
        episodes, transitions, mean_return: What the data set says about itself; None where it does not.
        bytes: Its size on disk.
        download: The command that downloads it; empty where none does.
        collect: The command that collects it; empty where none does.
    """

    task: str
    state: str
    source: str = ""
    episodes: int | None = None
    transitions: int | None = None
    mean_return: float | None = None
    bytes: int | None = None
    download: str = ""
    collect: str = ""


def main(argv: list[str]) -> None:
    """Parse `argv`, then list or download."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="cdsa datasets", description="Every task, and where its data are.", **STRICT)
    parser.add_argument("--download", metavar="TASK", help="Download a task's data.")
    parser.add_argument("--json", action="store_true", help="Machine-readable.")
    options = parse(parser, argv)
    from cdsa_lightning.tasks import get_task, task_names

    if options.download:
        states = [_download(get_task(options.download))]
    else:
        states = [state(get_task(name)) for name in task_names()]
    if options.json:
        print(json.dumps([asdict(one) for one in states], indent=2))
    else:
        _print(states)


def state(task: Task) -> DataState:
    """Where the data of `task` are; reads metadata, and sees that files open."""
    from cdsa_lightning.sources import locate, store

    remote = _remote(task)
    download = f"cdsa datasets --download {task.name}" if remote else ""
    source = task.local_source()
    if source is None:
        kind = "downloadable" if remote else "collectable" if task.collect else "missing"
        return DataState(task.name, kind, source=remote or "", download=download, collect=task.collect)
    path = locate(source)
    kind, facts = "here", dict[str, Any]()
    if path is not None and path.is_dir() and path.is_relative_to(store.root()):
        try:
            facts = store.metadata(path.relative_to(store.root()).as_posix())
        except InputError:  # One damaged data set must not hide the others; loading it says what is wrong.
            kind = "damaged"
    if path is not None and not _opens(path, facts):
        kind = "damaged"
    return DataState(
        task.name,
        kind,
        source=source,
        episodes=facts.get("total_episodes"),
        transitions=facts.get("total_steps"),
        mean_return=facts.get("cdsa", {}).get("mean_return"),
        bytes=None if path is None else _size(path),
        download=download,
        collect=task.collect,
    )


def _opens(path: Path, facts: dict[str, Any]) -> bool:
    """Whether an HDF5 file is whole as far as opening it tells: it keeps its length; and holds its last episode."""
    if path.is_dir() and facts.get("data_format") != "hdf5":
        return True
    import h5py

    try:
        with h5py.File(path if path.is_file() else path / "data" / "main_data.hdf5", "r") as file:
            return path.is_file() or f"episode_{int(facts['total_episodes']) - 1}" in file
    except (OSError, RuntimeError, KeyError):
        return False


def _remote(task: Task) -> str | None:
    """The first source that can be downloaded: data sets in our own namespace exist only where they were collected."""
    return next((source for source in task.sources if not source.startswith(("minari:cdsa/", "npz:"))), None)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def _download(task: Task) -> DataState:
    from cdsa_lightning.sources import locate

    remote = _remote(task)
    if remote is None:
        remedy = (
            f"Collect them: {task.collect}" if task.collect else "Name a source of your own, for instance npz:my.npz."
        )
        raise InputError(f"The data of {task.name!r} are nowhere to download. {remedy}")
    if locate(remote) is None:
        print(f"Downloading {remote} ...", flush=True)
    task.transitions(remote)
    return state(task)


def _print(states: list[DataState]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in ("task", "data", "episodes", "transitions", "return", "size"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("task", "data") else "right")
    for one in states:
        table.add_row(
            one.task,
            one.source
            if one.state == "here"
            else f"[red]damaged[/]: {one.source}"
            if one.state == "damaged"
            else f"[dim]{one.state}[/]",
            "" if one.episodes is None else f"{one.episodes:,}",
            "" if one.transitions is None else f"{one.transitions:,}",
            "" if one.mean_return is None else f"{one.mean_return:,.1f}",
            "" if one.bytes is None else f"{one.bytes / 1e6:,.1f} MB",
        )
    # Never narrower than its content: a cut-off id cannot be copied.
    Console(width=max(Console().width, 120)).print(table)
    away = [one for one in states if one.state != "here"]
    if any(one.download for one in away):
        print("To download a task's data: cdsa datasets --download TASK")
    if any(one.collect for one in away):
        print("To collect them (a checkpoint is the file of a policy of your own):")
    for one in away:
        if one.collect:
            print(f"  {one.collect}")

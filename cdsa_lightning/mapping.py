r"""A table that lies in a file and is read from there: data larger than memory.

The file is the rows, float32, and behind them the episodes' lengths, int64; a sidecar of the same name in JSON, written
last, holds everything that is told about them. A file without its sidecar is not there. It is named by the source, by a
hash of where the source's files lie, how many, how large and how new they are, and by the share of the episodes that it
holds; so a second run finds it, and changed data make a new one.

Random rows of a file that is not in memory cost one small read each. A disk answers many at a time, so `gathered` asks
for the rows of the next chunk from many threads while the present one is trained on, in the order of the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file, write_json
from cdsa_lightning.sources import locate, stamp
from cdsa_lightning.table import Accept, Facts, Table, best_episodes, read_table

__all__ = ["READERS", "gathered", "map_table"]

VERSION = 1
READERS = 16
"""Threads that read rows; a disk that is not in memory answered 16 ten times as fast as one."""

Make = Callable[[Callable[[int, int], np.ndarray]], Table]


def map_table(source: str, folder: str | Path, fraction: float, accept: Accept) -> Table:
    """The transitions of a source as a read-only file, made where it is not there yet.

    Args:
        source: On this machine.
        folder: Where the files lie.
        fraction: Share of the episodes with the highest returns; below 1 in a file of their own, beside that of all.
        accept: Raises where the data are of other widths than they should be.

    Raises:
        InputError: the source is not on this machine or cannot be read, or the files cannot be written.
    """
    place = locate(source)
    if place is None:
        raise InputError(f"{source} is not on this machine; a table is made of local data. Download it first.")
    mark = hashlib.sha256(json.dumps([VERSION, source, stamp(place)]).encode()).hexdigest()[:16]
    name = re.sub(r"[^-A-Za-z0-9]+", "-", source)[-60:].strip("-")
    path = Path(folder).expanduser() / f"{name}-{mark}.rows"
    whole = _found(path) or _made(path, lambda allocate: read_table(source, allocate, accept))
    accept(whole, source)
    if fraction == 1:
        return whole
    path = path.with_name(f"{path.stem}-best-{fraction:g}.rows")
    return _found(path) or _made(path, lambda allocate: best_episodes(whole, fraction, allocate))


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _found(path: Path) -> Table | None:
    """The table in a file; None where there is no whole one."""
    try:
        about = json.loads(_sidecar(path).read_text(encoding="utf-8"))
        rows, width, episodes = (int(about[key]) for key in ("rows", "width", "episodes"))
        if path.stat().st_size != 4 * rows * width + 8 * episodes:
            return None
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.madvise(mmap.MADV_RANDOM)  # reading ahead brings 32 pages for one row
        table = np.frombuffer(mapped, np.float32, rows * width).reshape(rows, width)
        lengths = np.frombuffer(mapped, np.int64, episodes, 4 * rows * width).copy()
        named = (about["source"], about["provenance"], Facts(**about["facts"]))
        return Table(table, int(about["obs_dim"]), lengths, *named)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # missing or damaged: made again
        return None


def _made(path: Path, make: Make) -> Table:
    """Make a table's file and open it; a second program that wants the same waits, and takes it."""
    with _alone(path):
        found = _found(path)
        if found is None:
            _write(path, make)
            found = _found(path)
    if found is None:
        raise InputError(f"The table {path} cannot be read back. Delete it, and run again.")
    return found


def _write(path: Path, make: Make) -> None:
    _sidecar(path).unlink(missing_ok=True)
    for left in path.parent.glob(f".{path.name}.*.partial"):  # of programs that were killed: nobody else is here
        left.unlink(missing_ok=True)
    remedy = "Free some space, or name another folder."
    with whole_file(path, "the table", remedy) as partial:
        table = make(lambda rows, width: _allocated(partial, rows, width))
        facts, (rows, width) = asdict(table.facts), table.rows.shape
        named = {"source": table.source, "provenance": table.provenance}
        os.truncate(partial, 4 * rows * width)  # fewer than announced, where a source drops rows
        with partial.open("ab") as file:
            file.write(table.lengths.astype(np.int64).tobytes())
    sizes = {"rows": rows, "width": width, "episodes": len(table.lengths), "obs_dim": table.obs_dim}
    write_json({"version": VERSION, **named, **sizes, "facts": facts}, _sidecar(path), remedy)


def _allocated(path: Path, rows: int, width: int) -> np.ndarray:
    """A new file of so many rows, mapped for writing, with its room on the disk."""
    size = 4 * rows * width
    with path.open("wb+") as file:
        try:
            # Writing to a map whose room is not there would kill the program.
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except (OSError, OverflowError) as error:
            free = shutil.disk_usage(path.parent).free
            raise InputError(
                f"The table of {rows} transitions needs {size / 1e9:.1f} GB in {path.parent}, where "
                f"{free / 1e9:.1f} GB are free ({error}). Free some space, or name another folder."
            ) from None
        mapped = mmap.mmap(file.fileno(), max(size, 1), access=mmap.ACCESS_WRITE)
    return np.frombuffer(mapped, np.float32, rows * width).reshape(rows, width)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise InputError(f"Cannot write into {path.parent}: {error.strerror}. Name another folder.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the program ends, however it ends
        yield


def as_tensor(rows: np.ndarray) -> Tensor:
    """`rows` as a tensor, without a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that nobody may write into it is meant
        return torch.from_numpy(rows)


def gathered(
    rows: Float[Tensor, "N D"], indices: Iterable[Int[Tensor, "*shape"]], device: torch.device
) -> Iterator[Float[Tensor, "*shape D"]]:
    """`rows[index]` of each of `indices` on `device`, read while the one before it is used.

    Args:
        rows: In memory or in a file, on the CPU.
        indices: On any device.
        device: Where the rows are wanted; a GPU takes them from pinned memory while it works.
    """
    with ThreadPoolExecutor(READERS) as pool:
        before: Callable[[], Tensor] | None = None
        for index in indices:
            coming = _start(pool, rows, index, device)
            if before is not None:
                yield before()
            before = coming
        if before is not None:
            yield before()


def _start(pool: ThreadPoolExecutor, rows: Tensor, index: Tensor, device: torch.device) -> Callable[[], Tensor]:
    wanted = index.flatten().cpu()
    out = torch.empty(len(wanted), rows.shape[1], dtype=rows.dtype, pin_memory=device.type == "cuda")

    def read(part: Tensor) -> None:
        out.index_copy_(0, part, rows.index_select(0, wanted[part]))

    reads: list[Future[Any]] = [pool.submit(read, part) for part in wanted.argsort().chunk(READERS)]

    def result() -> Tensor:
        for future in reads:
            future.result()
        return out.view(*index.shape, -1).to(device, non_blocking=True)

    return result

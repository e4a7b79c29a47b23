r"""A folder that every machine of a grid sees: a path, or what fsspec opens (s3://, gs://, file://, ...).

Object stores show a file whole or not at all, and so does a path here. Whoever works in the folder does it in a copy on
its own disk, a `Mirror`: takes what it needs, and sends what it changed, what says "done" last.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file

__all__ = ["Mirror", "Storage"]

_MARK = ".grid"


class Storage:
    """Files by name under a path or URL.

    Args:
        url: For instance ``s3://bucket/folder``, or a path on a disk that all machines share.

    Raises:
        InputError: fsspec knows no such scheme, or lacks the package for it; likewise of all methods, where the storage
            cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise InputError(f"{url} needs a package that is not here: {error} (with pip, on every machine).") from None
        except ValueError as error:
            raise InputError(
                f"Cannot open {url!r}: {error}. Name a folder that all machines share, or a URL that fsspec opens, for "
                "instance s3://bucket/folder, gs://bucket/folder or file:///shared/folder."
            ) from None

    def path(self, name: str) -> str:
        """Where the file is, for people."""
        return f"{self.url}/{name}"

    def names(self, folder: str = "") -> list[str]:
        """Every file under `folder`, by its whole name; none where there is no such folder."""
        with self._told(folder):
            self._fs.invalidate_cache()  # other machines write as well
            try:
                found = self._fs.find(f"{self._root}/{folder}".rstrip("/"))
            except FileNotFoundError:
                return []
            return sorted(path[len(self._root) :].lstrip("/") for path in found)

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        with self._told(name):
            try:
                return self._fs.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None

    def get(self, name: str, place: Path) -> None:
        """Copy a file to `place`."""
        with self._told(name):
            place.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(f"{self._root}/{name}", str(place))

    def put(self, place: Path, name: str) -> None:
        """Copy `place` to a file, replacing what was there."""
        with self._told(name):
            if isinstance(self._fs, LocalFileSystem):
                with whole_file(Path(self._root) / name) as target:
                    shutil.copyfile(place, target)
            else:
                self._fs.put_file(str(place), f"{self._root}/{name}")

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""
        with self._told(name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    def mark(self) -> str:
        """A text that no other storage has; made where there is none."""
        if (said := self.read(_MARK)) is None:
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / "mark"
                place.write_text(uuid.uuid4().hex, encoding="utf-8")
                self.put(place, _MARK)
                said = place.read_bytes()
        return said.decode(errors="replace")

    def expect(self, mark: str) -> None:
        """See that this is the storage of that mark.

        Raises:
            InputError: it is another, for instance a folder of the same name on this machine's own disk.
        """
        if (said := self.read(_MARK)) is None or said.decode(errors="replace") != mark:
            raise InputError(
                f"{self.url} on {platform.node()} is not the one of the program that started the grid: --output must "
                "be a folder that all machines share, or a URL such as s3://bucket/folder."
            )

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # Packages behind fsspec raise what they like when a network or a right is missing.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"Cannot reach {self.path(name)}: {reason}.") from error


class Mirror:
    """Some files of a storage on this machine's disk.

    Args:
        storage: Whose.
        root: The folder here; names are the same below it.
        last: Names, without folders, of the files to send after all others, in this order.
    """

    def __init__(self, storage: Storage, root: Path, last: Sequence[str] = ()) -> None:
        self.storage, self.root, self.last = storage, root, last
        self._alike: dict[str, tuple[int, int]] = {}  # name -> size and time of what both have

    def take(self, names: Iterable[str]) -> None:
        """Bring files here."""
        for name in names:
            self.storage.get(name, self.root / name)
            self._alike[name] = _stamp(self.root / name)

    def send(self) -> None:
        """Bring to the storage what changed here since, and remove there what was removed here."""
        with tempfile.TemporaryDirectory() as folder:
            # Another thread may write meanwhile: what comes last is copied first, so that all it needs is there.
            kept = {name: stamp for name, stamp in self._changed().items() if self._turn(name) >= 0}
            copies = {name: Path(folder) / str(number) for number, name in enumerate(kept)}
            for name, copy in copies.items():
                shutil.copyfile(self.root / name, copy)
            for name in [name for name in self._alike if not (self.root / name).exists()]:
                self.storage.remove(name)
                del self._alike[name]
            rest = {name: stamp for name, stamp in self._changed().items() if self._turn(name) < 0}
            for name in [*rest, *sorted(kept, key=self._turn)]:
                self.storage.put(copies.get(name, self.root / name), name)
                self._alike[name] = (rest | kept)[name]

    def _changed(self) -> dict[str, tuple[int, int]]:
        files = (path for path in sorted(self.root.rglob("*")) if path.is_file() and path.suffix != ".partial")
        stamps = {path.relative_to(self.root).as_posix(): _stamp(path) for path in files}
        return {name: stamp for name, stamp in stamps.items() if self._alike.get(name) != stamp}

    def _turn(self, name: str) -> int:
        base = name.rpartition("/")[2]
        return self.last.index(base) if base in self.last else -1


def _stamp(path: Path) -> tuple[int, int]:
    said = path.stat()
    return said.st_size, said.st_mtime_ns

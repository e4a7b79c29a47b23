"""Shared storage and its copies: what is there, what is sent, in which order, and what cannot be opened."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.storage import Mirror, Storage


@pytest.fixture(params=["path", "file", "memory"])
def storage(request, tmp_path):
    """A folder, the same as a URL, and an object store in memory."""
    yield Storage({"path": "", "file": "file://", "memory": "memory://"}[request.param] + str(tmp_path / "kept"))
    MemoryFileSystem.store.clear()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_come_back_by_name(storage, tmp_path):
    assert storage.names() == storage.names("a") == []
    assert storage.read("a/b.txt") is None
    storage.put(write(tmp_path / "one", "1"), "a/b.txt")
    storage.put(write(tmp_path / "two", "2"), "c.txt")
    storage.put(tmp_path / "two", "a/b.txt")  # replaces
    assert storage.names() == ["a/b.txt", "c.txt"]
    assert storage.names("a") == ["a/b.txt"]
    assert storage.read("a/b.txt") == b"2"
    storage.get("c.txt", tmp_path / "d" / "e")
    assert (tmp_path / "d" / "e").read_text() == "2"
    storage.remove("c.txt")
    storage.remove("c.txt")
    assert storage.names() == ["a/b.txt"]
    with pytest.raises(InputError, match=r"Cannot reach .*kept/c.txt"):
        storage.get("c.txt", tmp_path / "f")


def test_a_copy_sends_what_changed_alone_and_what_says_done_last(storage, tmp_path, monkeypatch):
    storage.put(write(tmp_path / "x", "old"), "n/taken")
    storage.put(tmp_path / "x", "n/removed")
    storage.put(tmp_path / "x", "n/foreign")  # never taken, never touched
    mirror, sent, put = Mirror(storage, tmp_path / "copy", last=("last.ckpt", "done.json")), [], storage.put
    monkeypatch.setattr(storage, "put", lambda place, name: (sent.append(name), put(place, name)))
    mirror.take(["n/taken", "n/removed"])
    mirror.send()
    assert sent == []
    for name in ("done.json", "last.ckpt", "z.txt", "a.txt", ".a.txt.7.partial"):
        write(mirror.root / "n" / name, name)
    (mirror.root / "n" / "removed").unlink()
    mirror.send()
    assert sent == ["n/a.txt", "n/z.txt", "n/last.ckpt", "n/done.json"]
    assert storage.names() == ["n/a.txt", "n/done.json", "n/foreign", "n/last.ckpt", "n/taken", "n/z.txt"]
    assert storage.read("n/done.json") == b"done.json"
    sent.clear()
    write(mirror.root / "n" / "taken", "newer")
    mirror.send()
    assert sent == ["n/taken"]


def test_a_checkpoint_is_sent_as_it_was_before_what_it_needs(storage, tmp_path, monkeypatch):
    """A replay buffer grows and its checkpoint moves on while both are sent: the older checkpoint goes with them."""
    mirror, put = Mirror(storage, tmp_path / "copy", last=("last.ckpt",)), storage.put
    write(mirror.root / "last.ckpt", "knows 1 row")
    write(mirror.root / "rows", "1")

    def put_while_training(place, name):
        put(place, name)
        write(mirror.root / "rows", "1 2")
        write(mirror.root / "last.ckpt", "knows 2 rows")

    monkeypatch.setattr(storage, "put", put_while_training)
    mirror.send()
    assert (storage.read("rows"), storage.read("last.ckpt")) == (b"1", b"knows 1 row")
    monkeypatch.setattr(storage, "put", put)
    mirror.send()
    assert (storage.read("rows"), storage.read("last.ckpt")) == (b"1 2", b"knows 2 rows")


def test_another_storage_is_told(storage, tmp_path):
    mark = storage.mark()
    assert storage.mark() == mark
    Storage(storage.url).expect(mark)
    other = Storage(str(tmp_path / "other"))
    for _ in range(2):  # without a mark, and with another
        with pytest.raises(InputError, match="other on .* is not the one of the program that started the grid"):
            other.expect(mark)
        assert other.mark() != mark


def test_what_cannot_be_opened_is_told_with_the_remedy():
    with pytest.raises(InputError, match="Cannot open 'teapot://x'.*teapot.*s3://bucket/folder"):
        Storage("teapot://x")
    fsspec.register_implementation("absent", "no_such_module.Files", errtxt="Install absentfs to use it", clobber=True)
    with pytest.raises(InputError, match="absent://x needs a package that is not here: Install absentfs"):
        Storage("absent://x")
    with pytest.raises(InputError, match="Cannot write /proc/none/a"):
        Storage("/proc/none").put(__file__, "a")

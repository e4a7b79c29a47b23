"""A file is whole or as it was before, whatever happens while it is written."""

import json

import pytest

from cdsa_lightning import files
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file, write_json


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.txt").write_text("before")
    return tmp_path / "a.txt"


def test_the_new_content_appears_when_the_block_ends_and_not_earlier(path):
    with whole_file(path) as place:
        place.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), InputError("told already")])
def test_what_goes_wrong_in_the_block_goes_on_and_leaves_the_old_file(path, error):
    with pytest.raises(type(error)), whole_file(path) as place:
        place.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_sentence_with_its_remedy(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    said = f"Cannot write the thing {path}: No space left on device. Free some."
    with pytest.raises(InputError) as error, whole_file(path, "the thing", "Free some.") as place:
        place.write_text("after")
    assert str(error.value) == said
    assert path.read_text() == "before"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_the_folder_is_made_and_a_file_in_its_place_is_refused(path, tmp_path):
    assert json.loads(write_json({"a": [1, None]}, tmp_path / "new" / "b.json").read_text()) == {"a": [1, None]}
    with pytest.raises(InputError, match="Cannot write .*c.json"):
        write_json({}, path / "c.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "d.json")
    assert not (tmp_path / "d.json").exists()

"""`cdsa collect` killed at twenty random moments: the data set is that of an undisturbed run."""

from __future__ import annotations

import json
from itertools import count

import pytest

from cdsa_lightning.shards import _load
from cdsa_lightning.sources import load_transitions, store
from faults.killing import finish, survive, undisturbed

ID = "cdsa/hopper-random-v0"
WORDS = "collect --task hopper-random --baseline random --lanes 4 --overwrite --steps".split()


@pytest.mark.slow
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_killed_at_twenty_moments_a_collection_ends_with_the_undisturbed_data(data_format, tmp_path, monkeypatch):
    words = [*WORDS, "30000", "--format", data_format]
    numbers = count()

    def fingerprint(root, data=ID):
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "store"))
        return load_transitions(f"minari:{data}").fingerprint

    def fresh():
        """A folder in whose store an older data set has the name."""
        root = tmp_path / f"run{next(numbers)}"
        root.mkdir()
        finish([*WORDS, "2000", "--seed", "7"], root)
        return root

    def whole(root):
        """The old data set or the new one is there, and every shard that is there is whole."""
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "store"))
        folder = store.partial_path(ID)
        for path in folder.glob("shard-*.npz"):
            assert _load(folder, int(path.stem.removeprefix("shard-")))["lengths"].sum() == 2000
        if (folder / "settings.json").exists():
            assert json.loads((folder / "settings.json").read_text())["steps"] == 30000
        if store.is_stored(ID):
            assert fingerprint(root) in (old, new)
        else:  # between two renamings
            assert (folder.parent / ".replaced-hopper-random-v0" / "data" / "metadata.json").is_file()

    def same(one, two):
        assert fingerprint(one) == fingerprint(two) == new
        assert store.metadata(ID)["cdsa"]["steps"] == 30000

    root = fresh()
    old = fingerprint(root)
    model = undisturbed(words, root)
    new = fingerprint(root)
    assert survive(lambda root: words, fresh, model, whole, same) >= 1

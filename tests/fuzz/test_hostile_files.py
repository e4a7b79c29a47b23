"""Files that once crashed a reader, filled memory, or raised something besides InputError."""

import json
import struct

import h5py
import numpy as np
import pytest
import torch

from cdsa_lightning import untrusted
from cdsa_lightning.allowance import Allowance
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import seal
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.torch_files import Foreign, read_torch_file
from evaluation_files import write_corrector
from fuzz import attacks_archives as archives
from fuzz import attacks_text as text
from fuzz import attacks_torch as torches


def stored(program):
    return torches._archive(torches.dictionary(program))


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (torches.tensor([10**6, 10**5], [10**5, 1]), "hostile: 100000000000 entries"),
        (torches.tensor([10**6, 10**6], [0, 0]), "hostile: 1000000000000 entries up to number 0"),
        (torches.called("builtins\nbytearray", 10**12), "it holds builtins.bytearray"),
        (torches.called("torch\nFloatTensor", 10**6, 10**6), "it holds torch.FloatTensor"),
        (torches.laughs(), "refer to each other too often"),
        (torches.contained(), "it contains itself"),
        (b")" + b"\x85" * 2000, "nested too deeply"),
    ],
)
def test_what_a_pickle_asks_for_is_not_given(program, said):
    with pytest.raises(ValueError, match=said):
        read_torch_file(stored(program))


def test_a_plain_tensor_of_the_same_form_is_read():
    assert read_torch_file(stored(torches.tensor([2, 2], [2, 1])))["actor"].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_all_foreign_names_are_told():
    with pytest.raises(Foreign, match="posix.system"):
        read_torch_file(torches._archive(b"\x80\x02cposix\nsystem\nX\x01\x00\x00\x00x\x85R."))


@pytest.mark.parametrize(("shape", "descr"), [((10**12,), "<f8"), ((10**12,), "|S0"), ((10**15, 0), "<f4")])
def test_an_array_is_no_larger_than_its_file(tmp_path, shape, descr):
    (tmp_path / "a.npy").write_bytes(archives.npy(descr, shape, bytes(8)))
    with pytest.raises(ValueError, match="its header announces"):
        untrusted.read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("attack", [text.laughs, text.merged_laughs, text.itself, text.deep_yaml, text.impossible_date])
def test_yaml_does_not_repeat_itself_without_end(tmp_path, attack):
    attack(tmp_path, tmp_path / "a.yaml")
    with pytest.raises(ValueError, match="stand for more|contains itself|too deeply|must be in"):
        untrusted.parse_yaml((tmp_path / "a.yaml").read_text())


def test_an_alias_or_two_are_read():
    assert untrusted.parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


def test_deep_json_is_a_fault_of_the_file():
    with pytest.raises(ValueError, match="nested too deeply"):
        untrusted.parse_json("[" * 100_000)


@pytest.mark.parametrize("attack", [text.endless_device, text.waiting_pipe])
def test_a_device_or_a_pipe_is_not_read(tmp_path, attack):
    (tmp_path / "a.json").write_text("{}")
    attack(tmp_path, tmp_path / "a.json")
    with pytest.raises(OSError, match="no plain file"):
        untrusted.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(("change", "said"), [("_hollow", "has no entries"), ("_long_vectors", "weights of shape")])
def test_a_corrector_asks_for_no_more_than_its_weights(tmp_path, change, said):
    path = write_corrector(tmp_path / "c.safetensors")
    header, content = getattr(archives, change)(*archives.header_of(path))
    written = json.dumps(header).encode()
    path.write_bytes(seal(struct.pack("<Q", len(written)) + written + content))
    with pytest.raises(InputError, match=said):
        load_corrector(path)


def test_hdf5_is_read_in_the_file_itself_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros((4, 2))
    for link in (h5py.ExternalLink("other.h5", "x"), h5py.SoftLink("/actions")):
        with h5py.File(tmp_path / "data.hdf5", "w") as file:
            file["actions"], file["rewards"], file["terminals"] = np.zeros((4, 2)), np.zeros(4), np.ones(4, bool)
            file["observations"] = link
        with pytest.raises(InputError, match="link to another place, which is not followed"):
            load_transitions(f"d4rl:{tmp_path / 'data.hdf5'}")


def test_an_allowance_is_counted_before_memory_is_taken():
    with pytest.raises(InputError, match="more entries"), Allowance(1000):
        torch.zeros(10**6, 10**6)
    with Allowance(1000):
        assert torch.ones(10, 10).sum() == 100

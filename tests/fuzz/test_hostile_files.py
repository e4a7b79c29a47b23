"""Files that once crashed a reader, filled memory, or raised something besides InputError."""

import json
import struct
import tracemalloc

import h5py
import numpy as np
import pytest
import torch

from baselines.checkpoints import CHECKPOINTS
from cdsa_baselines import mlp
from cdsa_baselines.foreign import onnx, torchscript
from cdsa_baselines.foreign._graph import Graph
from cdsa_baselines.foreign._onnx_limits import packages
from cdsa_baselines.foreign._zip import holds_members, read_bytes
from cdsa_lightning import untrusted
from cdsa_lightning.allowance import Allowance
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import digest_of, seal
from cdsa_lightning.shards import _agree
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.sources.minari_hdf5 import HDF5Episodes
from cdsa_lightning.torch_files import Foreign, read_torch_file
from evaluation_files import write_corrector
from fuzz import attacks_archives as archives
from fuzz import attacks_text as text
from fuzz import attacks_torch as torches
from fuzz.attacks_programs import ONNX, SCRIPT
from fuzz.attacks_tables import SQLITE
from fuzz.made import _read_evaluation, _read_report, _report, task
from fuzz.made_more import _grid, _onnx_beside, _read_grid, _read_storage, _script, _storage


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
        (b")" + b"\x85" * 200_000, "more than 100,000 instructions"),  # which every format would read anew
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


def test_members_are_not_packed_in_more_than_the_archive(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    archives.false_packed_sizes(tmp_path, tmp_path / "data.npz")
    tracemalloc.start()
    with pytest.raises(ValueError, match="its members announce 2,147,483,632 packed bytes, and it has"):
        untrusted.read_npz(tmp_path / "data.npz")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_header_that_announces_gigabytes_of_itself_is_not_waited_for(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b"{}")
    tracemalloc.start()
    with pytest.raises(ValueError, match="EOF"):
        untrusted.read_npy(tmp_path / "a.npy")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


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


def test_yaml_of_strange_characters_is_a_fault_of_the_file():
    with pytest.raises(ValueError, match="unacceptable character"):
        untrusted.parse_yaml("a: \x00")


def test_a_file_of_holes_is_not_read(tmp_path):
    text.huge_and_hollow(tmp_path, tmp_path / "a.json")
    (tmp_path / "a.json").open("r+b").write(b"[]")  # a block that is there
    with pytest.raises(OSError, match="holes"):
        untrusted.read_json(tmp_path / "a.json")


def test_episodes_in_a_pipe_are_not_waited_for(tmp_path):
    (tmp_path / "main_data.hdf5").touch()
    text.waiting_pipe(tmp_path, tmp_path / "main_data.hdf5")
    with pytest.raises(OSError, match="no plain file"):
        HDF5Episodes(tmp_path, 1, None)


@pytest.mark.parametrize("attack", ["no_json", "deep_json", "wrong_distribution", "unknown_state", "endless_view"])
def test_a_damaged_storage_of_trials_is_told(tmp_path, attack):
    _storage(tmp_path)
    dict((one.__name__, one) for _, one in SQLITE)[attack](tmp_path, tmp_path / "trials.db")
    with pytest.raises(InputError, match="Cannot keep trials in .*(damaged|is a view)"):
        _read_storage(tmp_path / "trials.db")


def test_the_output_of_a_perceptron_is_a_name(tmp_path):
    CHECKPOINTS["mlp"](tmp_path, task())
    said = json.loads((tmp_path / "clone.json").read_text())
    said["network"]["output"] = ["tanh"]
    (tmp_path / "clone.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="output"):
        mlp.inspect(tmp_path / "clone.npz")


def test_a_program_without_end_is_left_after_few_steps(tmp_path):
    _script(tmp_path)
    dict((one.__name__, one) for _, one in SCRIPT)["endless_loop"](tmp_path, tmp_path / "net.pt")
    with pytest.raises(InputError, match="more than 50,000 steps"):
        torchscript.load(tmp_path / "net.pt", task())


def test_a_graph_has_a_number_of_calls():
    arg = {"arg": {"as_tensor": {"name": "obs"}}, "kind": 1}
    node = {"target": "torch.ops.aten.neg.default", "inputs": [arg], "outputs": [{"as_tensor": {"name": "x"}}]}
    with pytest.raises(InputError, match="more than 10,000 operators"):
        Graph(["obs"], [node] * 10_001)


def test_names_in_an_onnx_model_are_text(tmp_path):
    _onnx_beside(tmp_path)
    path = tmp_path / "net.onnx"
    path.write_bytes(path.read_bytes().replace(b"net.onnx.data", b"net.onnx.dat\xff"))
    with pytest.raises(InputError, match="is no text"):
        onnx.inspect(path)


def test_branches_within_branches_are_counted(tmp_path):
    CHECKPOINTS["onnx"](tmp_path, task())
    dict((one.__name__, one) for _, one in ONNX)["nested_branches"](tmp_path, tmp_path / "net.onnx")
    with pytest.raises(InputError, match="more than 10,000 nodes"):
        onnx.inspect(tmp_path / "net.onnx")


def test_the_settings_of_a_grid_are_what_json_can_say(tmp_path):
    _grid(tmp_path)
    (tmp_path / "own.yaml").write_text("model: {1: 0.1, lr: 0.1}\n")
    with pytest.raises(InputError, match="cannot be kept as JSON"):
        _read_grid(tmp_path / "grid.yaml")


def test_a_program_is_not_nested_beyond_what_the_parser_takes(tmp_path):
    _script(tmp_path)
    dict((one.__name__, one) for _, one in SCRIPT)["deep_minus"](tmp_path, tmp_path / "net.pt")
    with pytest.raises(InputError, match="nested too deeply"):
        torchscript.inspect(tmp_path / "net.pt")


def test_a_number_type_that_nobody_knows_is_told_by_its_number(tmp_path):
    CHECKPOINTS["onnx"](tmp_path, task())
    path = tmp_path / "net.onnx"
    model = packages()[0].load_model_from_string(path.read_bytes())
    model.graph.input[0].type.tensor_type.elem_type = 33
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="type 33|not a valid ONNX model"):
        onnx.inspect(path)


@pytest.mark.parametrize("reads", [digest_of, read_bytes])
def test_digests_and_archives_are_not_taken_of_pipes(tmp_path, reads):
    (tmp_path / "a").touch()
    text.waiting_pipe(tmp_path, tmp_path / "a")
    with pytest.raises((OSError, InputError), match="no plain file"):
        reads(tmp_path / "a")
    assert not holds_members(tmp_path / "a", [])


@pytest.mark.parametrize("read", [_read_report, _read_evaluation])
@pytest.mark.parametrize("number", ["Infinity", "1e999", "-Infinity", "NaN"])
def test_a_report_of_numbers_without_end_is_damaged(tmp_path, read, number):
    _report(tmp_path)
    said = json.loads((tmp_path / "report.json").read_text())
    for arm in said["arms"].values():
        arm["seeds"] = "NUMBER"
    changed = json.dumps(said).replace('"NUMBER"', number).encode()
    (tmp_path / "report.json").write_bytes(seal(changed))
    with pytest.raises(InputError, match="whole report|damaged"):
        read(tmp_path)


SHARDS = [(text.a_folder, "Cannot write"), (text.huge_and_hollow, "other settings")]


@pytest.mark.parametrize(("attack", "said"), SHARDS)
def test_the_settings_of_shards_are_a_file(tmp_path, attack, said):
    (tmp_path / "settings.json").write_text("{}")
    attack(tmp_path, tmp_path / "settings.json")
    if attack is text.huge_and_hollow:
        (tmp_path / "settings.json").open("r+b").write(b"{}")  # a block that is there
    with pytest.raises(InputError, match=said):
        _agree(tmp_path, {"task": "x"}, overwrite=False)

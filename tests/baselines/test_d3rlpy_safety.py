"""d3rlpy files from strangers: nothing in them is executed, and what cannot be read is told by name."""

import copyreg
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cdsa_baselines.foreign._pickle import read_pickled_dict
from cdsa_baselines.foreign.d3rlpy import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task, random_layers, sac_state, write_sb3_zip
from .d3rlpy_files import (
    actor_state,
    d3rlpy_config,
    d3rlpy_states,
    min_max,
    standard,
    torch_bytes,
    write_d3,
    write_pt,
)

LAYERS = random_layers(3, 8, 6, 2)
STATES = d3rlpy_states(actor_state(LAYERS))


class Attack:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def task():
    return box_task(3, [-2.0, -0.5], [1.0, 0.5])


def refused(path, task, text):
    """Both doors refuse `path` with `text`."""
    with pytest.raises(InputError, match=text):
        load(path, task)
    with pytest.raises(InputError, match=text):
        inspect(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["whole", "torch", "version", "beside"])
def test_a_malicious_d3_is_refused_and_not_executed(tmp_path, task, protocol, place):
    target, path = tmp_path / "attacked", tmp_path / "model.d3"
    honest = {"torch": torch_bytes(STATES), "config": json.dumps(d3rlpy_config()), "version": "2.8.1"}
    attack = Attack(target)
    content = pickle.dumps(attack if place == "whole" else honest | {place: attack}, protocol)
    path.write_bytes(content)
    # Before protocol 3 the bytes themselves are calls; d3rlpy never wrote those.
    refused(path, task, "Nothing in it was executed" if protocol > 2 else r"model.d3.*(executed|not the pickle)")
    assert not target.exists()
    pickle.loads(content)  # The attack itself works: a reader that unpickles would have failed above.
    assert target.exists()


def test_a_refusal_names_what_the_pickle_asks_for(tmp_path, task):
    (tmp_path / "model.d3").write_bytes(pickle.dumps(Attack(tmp_path / "attacked"), 4))
    refused(tmp_path / "model.d3", task, r"asks for STACK_GLOBAL \(posix.system\), and only strings, bytes, numbers")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["pickle", "torch", "inside"])
@pytest.mark.parametrize("suffix", [".d3", ".pt"])
def test_malicious_weights_are_refused_and_not_executed(tmp_path, task, form, suffix):
    target, attack = tmp_path / "attacked", Attack(tmp_path / "attacked")
    states = STATES | {"x": attack} if form == "inside" else attack
    content = pickle.dumps(attack) if form == "pickle" else torch_bytes(states)
    path = tmp_path / f"model{suffix}"
    if suffix == ".d3":
        write_d3(path, content, d3rlpy_config())
    else:
        path.write_bytes(content)
        (tmp_path / "params.json").write_text(json.dumps(d3rlpy_config()))
    with pytest.raises(InputError, match="model.*was refused.*Nothing in it was executed"):
        load(path, task)
    if suffix == ".d3" or form == "inside":  # Otherwise nothing about the file speaks of d3rlpy.
        with pytest.raises(InputError, match="Nothing in it was executed"):
            inspect(path)
    else:
        assert inspect(path) is None
    assert not target.exists()
    torch.load(io.BytesIO(content), weights_only=False) if form != "pickle" else pickle.loads(content)
    assert target.exists()


def test_neither_persistent_ids_nor_extensions_nor_buffers_are_looked_up():
    class Writer(pickle.Pickler):
        def persistent_id(self, value):
            return "anything" if value == "here" else None

    persistent = io.BytesIO()
    Writer(persistent, 4).dump({"a": "here"})
    copyreg.add_extension("builtins", "print", 240)
    try:
        extension = pickle.dumps({"a": print}, 4)
    finally:
        copyreg.remove_extension("builtins", "print", 240)
    buffer = pickle.dumps({"a": bytearray(b"x")}, 5)
    for content, name in ((persistent.getvalue(), "BINPERSID"), (extension, "EXT1"), (buffer, "BYTEARRAY8")):
        with pytest.raises(InputError, match=f"refused: its pickle asks for {name}"):
            read_pickled_dict(content, "it")


def test_a_plain_dictionary_comes_back_as_it_was():
    value = {"a": "ä", "b": b"\0" * 300, "c": {"d": None, "e": True, "f": {}}, "g": 1.5, "h": 70_000, "i": "ä"}
    for protocol in (3, 4, 5):
        assert read_pickled_dict(pickle.dumps(value, protocol), "it") == value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "damaged, or not the pickle"),
        (b"{}", "damaged, or not the pickle"),
        (b"\x80\x04.", "damaged, or not the pickle"),
        (b"\x80\x04}", "damaged, or not the pickle"),
        (b"\x80\x04}K\x01K\x02s.", "no dictionary with names as keys"),
        (b"\x80\x04\x8c\x01a.", "no dictionary with names as keys"),
        (b"\x80\x04j\xff\xff\xff\xff.", "damaged, or not the pickle"),  # recalls what was never remembered
        (b"\x80\x04" + b"}" * 5000 + b".", "more than 1000 instructions"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "damaged, or not the pickle"),  # bytes of an absurd length
    ],
)
def test_programs_that_are_no_dictionary_are_refused(content, text):
    with pytest.raises(InputError, match=text):
        read_pickled_dict(content, "it")


def test_a_memo_place_far_away_costs_nothing():
    # The library's unpickler makes room for all places before it.
    content = b"\x80\x04}r\xff\xff\xff\xff\x8c\x01aj\xff\xff\xff\xffs."
    assert list(read_pickled_dict(content, "it")) == ["a"]


@pytest.mark.parametrize("suffix", [".d3", ".pt"])
def test_truncated_files_are_refused(tmp_path, task, suffix):
    path = tmp_path / f"model{suffix}"
    write_d3(path, STATES, d3rlpy_config()) if suffix == ".d3" else write_pt(path, STATES, d3rlpy_config())
    whole = path.read_bytes()
    assert load(path, task)
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="model"):
            load(path, task)
    path.write_bytes(whole[: len(whole) // 2])
    if suffix == ".d3":
        with pytest.raises(InputError, match="damaged"):
            inspect(path)
    else:
        assert inspect(path) is None  # without its directory at the end the archive does not tell whose it is


def test_files_of_others_are_refused_and_not_claimed(tmp_path, task):
    agent = write_sb3_zip(tmp_path / "agent.zip", sac_state(LAYERS))
    assert inspect(agent) is None
    assert inspect(tmp_path) is None
    assert inspect(tmp_path / "nothing.d3") is None
    with pytest.raises(InputError, match="from a .d3 or .pt file, got .*agent.zip"):
        load(agent, task)
    with pytest.raises(InputError, match="from a .d3 or .pt file: name it with --checkpoint"):
        load(None, task)
    for content in (agent.read_bytes(), b"{}", b"", json.dumps(d3rlpy_config()).encode()):
        (tmp_path / "model.d3").write_bytes(content)
        refused(tmp_path / "model.d3", task, "model.d3.* is (empty|damaged, or not the pickle of a dictionary)")
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(InputError, match="model.pt"):
            load(tmp_path / "model.pt", task)
        assert inspect(tmp_path / "model.pt") is None


def test_models_of_other_libraries_are_refused_and_not_claimed(tmp_path, task):
    path = write_pt(tmp_path / "model.pt", {"actor": actor_state(LAYERS, "net"), "total_it": 3} | {"qf": {}})
    other = write_pt(tmp_path / "other.pt", {"net.0.weight": torch.ones(2, 2)})
    with pytest.raises(InputError, match=r"other.pt' holds \['net.0.weight'\], and no actor of d3rlpy"):
        load(other, task)
    assert inspect(other) is None
    with pytest.raises(InputError, match="no actor of d3rlpy"):
        load(path, task)


def test_a_torchscript_program_is_named_as_such(tmp_path, task):
    torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)).save(tmp_path / "policy.pt")
    with pytest.raises(InputError, match="is a TorchScript program"):
        load(tmp_path / "policy.pt", task)
    assert inspect(tmp_path / "policy.pt") is None


def test_too_large_files_are_refused_unread(tmp_path, task, monkeypatch):
    path = write_d3(tmp_path / "model.d3", STATES, d3rlpy_config())
    monkeypatch.setattr("cdsa_baselines._files.LIMIT", 500)
    refused(path, task, "bytes, more than the limit of 500")


def test_weights_that_unpack_to_too_much_are_refused(tmp_path, task, monkeypatch):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000)
    path = write_d3(tmp_path / "model.d3", inner.getvalue(), d3rlpy_config())
    monkeypatch.setattr("cdsa_lightning.untrusted.room", lambda size: 5_000)
    refused(path, task, "would unpack to 10,000, more than the limit of 5,000")


def test_an_array_that_stands_for_more_than_it_stores_is_refused(tmp_path, task):
    actor = actor_state(LAYERS) | {"_encoder._layers.0.weight": torch.ones(1, 1).expand(30_000, 30_000)}
    path = write_d3(tmp_path / "model.d3", d3rlpy_states(actor), d3rlpy_config())
    refused(path, task, "hostile: 900000000 entries up to number 0 where 1 are stored")


def test_statistics_of_another_task_do_not_fit(tmp_path, task):
    path = write_d3(tmp_path / "model.d3", STATES, d3rlpy_config(actions=min_max([-2.0, -0.5], [1.0, 0.7])))
    with pytest.raises(InputError, match=r"acts between \[-2.0, -0.5\] and \[1.0, 0.7\] .* allows \[-2.0, -0.5\] to"):
        load(path, task)
    write_d3(path, STATES, d3rlpy_config(obs=standard([0] * 3, np.ones(3)), actions=min_max([-1, -0.5], [1, 0.501])))
    load(path, task)  # within what data overshoot by
    with pytest.raises(InputError, match="made for S=3 observation and A=2 action entries, task 'box' has 4 and 2"):
        load(path, box_task(4, [-2.0] * 2, [2.0] * 2))


def test_an_archive_that_spans_disks_is_not_taken_for_a_model(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
    content = bytearray(path.read_bytes())
    end = content.rfind(b"PK\x05\x06")
    locator = b"PK\x06\x07" + (1).to_bytes(4, "little") + (0).to_bytes(8, "little") + (2).to_bytes(4, "little")
    path.write_bytes(bytes(content[:end]) + locator + bytes(content[end:]))
    assert inspect(path) is None

"""The deployable file: what goes in comes out, and what is broken is called so."""

import json
import os
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from cdsa_lightning import files
from cdsa_lightning.core.artifact import load_corrector, read_header, save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, random_corrector, set_statistics

INFO = {"task": "hopper-medium", "env_id": "Hopper-v5", "preset": "robust", "fingerprint": "ab" * 32, "seeds": [3, 4]}


def known_corrector() -> Corrector:
    corrector = random_corrector(2, 1.5, standardize=True, predict="noise", action_sigmas=(0.4, 0.1), state_sigma=0.2)
    set_statistics(corrector, [1.0, 2.0, 3.0], [0.1, 1.0, 10.0], [0.5, -0.5], [0.2, 2.0])
    corrector.measure_noise(torch.randn(300, OBS), torch.randn(300, ACTION))
    corrector.coefficients = Coefficients(k1=1.0, units="sigma2", schedule=(0.4, 0.1), clip="every_step", gate=0.5)
    corrector.info = dict(INFO)
    return corrector


@pytest.fixture
def path(tmp_path):
    return save_corrector(known_corrector(), tmp_path / "corrector.safetensors")


def rewrite(path, change_header=None, change_tensors=None):
    """The same file with its header or tensors changed by a function."""
    header, tensors = read_header(path), load_file(path)
    for change, value in ((change_header, header), (change_tensors, tensors)):
        if change:
            change(value)
    save_file(tensors, path, {"cdsa": json.dumps(header)})


def test_a_corrector_survives_its_file_bit_by_bit(tmp_path):
    before = known_corrector()
    after = load_corrector(save_corrector(before, tmp_path / "new" / "corrector.safetensors"))
    for (name, old), new in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        assert torch.equal(old, new), name
    assert (after.info, after.coefficients) == (before.info, before.coefficients)
    assert after.networks.settings == before.networks.settings
    assert not after.training
    obs, action = torch.randn(2, 50, OBS), torch.randn(2, 50, ACTION)
    assert torch.equal(after(obs, action), before(obs, action))


def test_one_selected_seed_corrects_as_its_row_and_survives_its_file(tmp_path):
    corrector, obs, action = known_corrector(), torch.randn(2, 50, OBS), torch.randn(2, 50, ACTION)
    for row in range(2):
        one = corrector.select(row)
        for each in (one, load_corrector(save_corrector(one, tmp_path / "one.safetensors"))):
            assert each.num_seeds == 1
            torch.testing.assert_close(each(obs[row : row + 1], action[row : row + 1])[0], corrector(obs, action)[row])
    for row in (-1, 2):
        with pytest.raises(InputError, match=f"no seed {row}; the corrector holds 2"):
            corrector.select(row)


@pytest.mark.parametrize("state_index", [None, [2, 0]])
@pytest.mark.parametrize("state_score_input", ["state", "state_action"])
def test_every_kind_of_network_survives(tmp_path, state_index, state_score_input):
    before = random_corrector(state_index=state_index, state_score_input=state_score_input)
    after = load_corrector(save_corrector(before, tmp_path / "c.safetensors"))
    obs, action, c = torch.randn(1, 5, OBS), torch.randn(1, 5, ACTION), Coefficients(k1=1.0, k2=1.0)
    assert torch.equal(after(obs, action, c), before(obs, action, c))


def test_actions_without_bounds_survive(tmp_path):
    after = load_corrector(save_corrector(random_corrector(bound=float("inf")), tmp_path / "c.safetensors"))
    assert after.high.tolist() == [float("inf")] * ACTION


def test_the_header_says_where_the_corrector_comes_from(path):
    header = read_header(path)
    assert {key: header[key] for key in INFO} == INFO
    assert (header["obs_dim"], header["action_dim"], header["num_seeds"]) == (OBS, ACTION, 2)
    assert header["networks"]["action_sigmas"] == [0.4, 0.1]
    assert header["low"] == [-1.5, -1.5]


def test_information_cannot_overwrite_what_loading_needs(tmp_path):
    corrector = known_corrector()
    corrector.info["num_seeds"] = 99
    assert load_corrector(save_corrector(corrector, tmp_path / "c.safetensors")).num_seeds == 2


def test_the_header_is_read_without_torch(path):
    code = (
        "import sys; from cdsa_lightning.core.artifact import read_header; "
        f"print(read_header({str(path)!r})['task'], 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hopper-medium", "False", "False"]


def test_a_missing_file_is_named_with_the_command_that_makes_it(tmp_path):
    for read in (read_header, load_corrector):
        with pytest.raises(InputError, match="no corrector file .*absent.*cdsa fit"):
            read(tmp_path / "absent.safetensors")
        with pytest.raises(InputError, match="no corrector file"):
            read(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match=path.name):
        load_corrector(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95 a pickle of some kind",
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10) + b"\xff" * 10,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 24) + b'{"__metadata__":{"a":1}}',
        struct.pack("<Q", 100_000) + b"[" * 100_000,
    ],
    ids=["pickle", "zip", "huge header", "no text", "empty", "null", "other metadata", "deep nesting"],
)
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    for read in (read_header, load_corrector):
        with pytest.raises(InputError, match="is not a corrector written by 'cdsa fit'"):
            read(path)


def test_plain_safetensors_are_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="not a corrector"):
        load_corrector(tmp_path / "plain.safetensors")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused(path, version):
    rewrite(path, lambda header: header.update(format=version))
    with pytest.raises(InputError, match=f"of format 1: found {version!r}"):
        load_corrector(path)


@pytest.mark.parametrize(
    "change",
    [
        {"obs_dim": "three"},
        {"obs_dim": 10**12},
        {"obs_dim": OBS + 1},
        {"action_dim": None},
        {"num_seeds": 10**12},
        {"num_seeds": 3},
        {"num_seeds": -1},
        {"state_index": "all"},
        {"state_index": [0, 1, 7]},
        {"low": ["a", "b"]},
        {"low": [0.0]},
        {"high": 1.0},
        {"networks": []},
        {"networks": {"action_sigmas": ["a", "b"]}},
        {"networks": {"action_sigmas": [0.4, 0.1], "depth": 3}},
        {"networks": {"action_sigmas": [0.4, -0.1]}},
        {"coefficients": ["k1"]},
        {"coefficients": {"k1": "one"}},
        {"coefficients": {"k3": 1.0}},
    ],
    ids=str,
)
def test_a_header_of_wrong_values_is_refused(path, change):
    rewrite(path, lambda header: header.update(change))
    with pytest.raises(InputError, match="corrector.safetensors is damaged: .*Fit it again"):
        load_corrector(path)


@pytest.mark.parametrize("key", ["obs_dim", "networks", "coefficients", "low", "state_index"])
def test_a_header_without_a_key_is_refused(path, key):
    rewrite(path, lambda header: header.pop(key))
    with pytest.raises(InputError, match=f"is damaged: it lacks '{key}'. Fit it again"):
        load_corrector(path)


@pytest.mark.parametrize("name", ["noise_quantiles", "networks.obs_mean", "networks.action_score.layers.0.weight"])
def test_a_missing_tensor_is_refused(path, name):
    rewrite(path, change_tensors=lambda tensors: tensors.pop(name))
    with pytest.raises(InputError, match="damaged"):
        load_corrector(path)


def test_weights_that_are_not_finite_are_refused(path):
    rewrite(path, change_tensors=lambda tensors: tensors["networks.state_score.layers.1.bias"].fill_(float("nan")))
    with pytest.raises(InputError, match="not finite .*state_score.*diverged"):
        load_corrector(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(path, monkeypatch):
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(InputError, match="Cannot write the corrector .*No space left on device"):
        save_corrector(known_corrector(), path)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before


def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(path, monkeypatch):
    before = path.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_corrector(known_corrector(), path)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write the corrector"):
        save_corrector(known_corrector(), tmp_path / "file" / "corrector.safetensors")

"""Stable-Baselines3 zips from strangers: nothing in them is executed, and what cannot be read is told by name."""

import base64
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cdsa_baselines.foreign.sb3 import load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task, ppo_state, random_layers, sac_state, write_sb3_zip

LAYERS = random_layers(3, 16, 8, 2)
MEAN, VAR = np.array([1.0, -2.0, 0.0]), np.array([0.25, 4.0, 1e-3])


class Attack:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def task():
    return box_task(3, [-2.0, -0.5], [1.0, 0.5])


@pytest.mark.parametrize(
    ("stats", "text"),
    [
        ({"obs_var": VAR}, "has no 'obs_mean'"),
        ({"obs_mean": MEAN}, "has no 'obs_std'"),
        ({"obs_mean": MEAN[:2], "obs_var": VAR}, r"obs_mean must hold numbers of shape \(3,\), got \(2,\)"),
        ({"obs_mean": MEAN, "obs_var": np.array([1, np.nan, 1])}, "obs_var must hold numbers"),
        ({"obs_mean": MEAN, "obs_var": -VAR}, "must be positive"),
        ({"obs_mean": MEAN, "obs_var": VAR, "clip_obs": 0.0}, "must be positive"),
        ({"obs_mean": np.array(["x"] * 3), "obs_var": VAR}, "obs_mean is not numeric"),
    ],
)
def test_bad_statistics_are_named(tmp_path, task, stats, text):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS))
    np.savez(tmp_path / "a.vecnormalize.npz", **stats)
    with pytest.raises(InputError, match=text):
        load(path, task)


@pytest.mark.parametrize("place", ["vecnormalize.pkl", "vec_normalize.pkl", "a/vecnormalize.pkl", "inside"])
def test_pickled_statistics_are_refused_unopened_with_the_way_to_export_them(tmp_path, task, place):
    target, content = tmp_path / "attacked", pickle.dumps(Attack(tmp_path / "attacked"))
    if place == "inside":
        path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS), **{"vec_normalize.pkl": content})
    else:
        path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS))
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(content)
    with pytest.raises(InputError, match=r"(?s)np.savez.*a.vecnormalize.npz.*obs_mean=stats.obs_rms.mean"):
        load(path, task)
    assert not target.exists()


def test_a_malicious_pickle_in_data_is_never_opened(tmp_path, task):
    target = tmp_path / "attacked"
    attack = base64.b64encode(pickle.dumps(Attack(target))).decode()
    poisoned = {":type:": "<class 'function'>", ":serialized:": attack}
    data = {
        key: poisoned for key in ("policy_class", "policy_kwargs", "observation_space", "action_space", "lr_schedule")
    }
    path = write_sb3_zip(
        tmp_path / "a.zip", sac_state(LAYERS), data, **{"pytorch_variables.pth": pickle.dumps(Attack(target))}
    )
    clean = write_sb3_zip(tmp_path / "b.zip", sac_state(LAYERS))
    obs = torch.rand(5, 3)
    assert torch.equal(load(path, task)(obs), load(clean, task)(obs))
    assert not target.exists()
    pickle.loads(base64.b64decode(attack))  # The attack itself works: a reader that unpickles would have failed above.
    assert target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["pickle", "torch", "inside"])
def test_a_malicious_weight_file_is_refused(tmp_path, task, form):
    target, attack = tmp_path / "attacked", Attack(tmp_path / "attacked")
    if form == "pickle":
        path = write_sb3_zip(tmp_path / "a.zip", pickle.dumps(attack))
    else:
        path = write_sb3_zip(tmp_path / "a.zip", attack if form == "torch" else sac_state(LAYERS) | {"x": attack})
    with pytest.raises(InputError, match="'policy.pth' in .* was refused.*Nothing in it was executed"):
        load(path, task)
    assert not target.exists()


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path, task):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", "{}")
        archive.writestr("policy.pth", b"\0" * 1000)
    content = (tmp_path / "a.zip").read_bytes()
    # The size in the central directory, which is what a reader believes, becomes 2 GiB.
    assert content.count((1000).to_bytes(4, "little")) == 2
    (tmp_path / "a.zip").write_bytes(content.replace((1000).to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    with pytest.raises(InputError, match="would unpack to 2,147,483,650, more than the limit"):
        load(tmp_path / "a.zip", task)


def test_a_weight_file_that_unpacks_to_too_much_is_refused(tmp_path, task, monkeypatch):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000)
    path = write_sb3_zip(tmp_path / "a.zip", inner.getvalue())
    monkeypatch.setattr("cdsa_lightning.untrusted.room", lambda size: max(5_000, size))
    with pytest.raises(InputError, match="'policy.pth' in .*would unpack to 10,000, more than the limit of 5,000"):
        load(path, task)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"features_extractor.cnn.0.weight": torch.ones(1)}, "image, dict or otherwise extracted observations"),
        ({"actor.features_extractor.extractors.a.0.weight": torch.ones(1)}, "image, dict"),
        (ppo_state(LAYERS) | {"lstm_actor.weight_ih_l0": torch.ones(1)}, "a recurrent policy"),
        ({"q_net.q_net.0.weight": torch.ones(1)}, "discrete actions"),
        ({key: value for key, value in ppo_state(LAYERS).items() if key != "log_std"}, "discrete actions"),
        (
            {"weird.weight": torch.ones(1)},
            "none of SAC, TQC, TD3, DDPG, PPO, A2C, TRPO actors. Its tensors: weird.weight",
        ),
        ({}, "Its tensors: nothing"),
        (sac_state(LAYERS) | {"actor.latent_pi.0.scale": torch.ones(3)}, "not a plain linear layer"),
        (
            {"actor.latent_pi.0.weight": torch.ones(4, 3), "actor.latent_pi.0.bias": torch.ones(4)},
            "no 'actor.mu.weight'",
        ),
        ({"actor.mu.0.scale": torch.ones(4)}, "not a plain linear layer"),
        (sac_state(random_layers(3, 8, 4)), "made for S=3 observation and A=4 action entries, task 'box' has 3 and 2"),
        (sac_state([(w * np.nan, b) for w, b in LAYERS]), "48 of 48 numbers of actor.latent_pi.0.weight are NaN"),
        ({"actor.mu.0.weight": 3, "actor.mu.0.bias": 4}, "none of SAC"),
        ([torch.ones(2)], "holds a list, expected a state dict"),
        (torch.ones(2), "holds a Tensor, expected a state dict"),
    ],
)
def test_what_is_no_such_actor_is_refused_by_name(tmp_path, task, state, text):
    with pytest.raises(InputError, match=text):
        load(write_sb3_zip(tmp_path / "a.zip", state), task)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"policy_class": {"__module__": "my.code"}}, "policy class of module 'my.code'"),
        ({"policy_kwargs": {"features_extractor_class": "<class 'my.Net'>"}}, "features extractor <class 'my.Net'>"),
        ({"policy_kwargs": {"squash_output": True}}, "squash_output without gSDE"),
        ({"action_space": {"low": "[-1. -0.5]", "high": "[1. 0.5]"}}, r"low bounds \[-1.0, -0.5\], task 'box' has"),
        ({"action_space": {"low": "[-2. -0.5]", "high": "[1. 0.7]"}}, r"high bounds \[1.0, 0.7\]"),
        ([], "holds a JSON list"),
    ],
)
def test_what_data_says_in_plain_values_is_believed(tmp_path, task, data, text):
    path = tmp_path / "a.zip"
    write_sb3_zip(path, ppo_state(LAYERS), data)
    if data == []:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("data", "[]")
            archive.writestr("policy.pth", b"")
    with pytest.raises(InputError, match=text):
        load(path, task)


def test_printed_bounds_that_agree_or_are_elided_are_accepted(tmp_path, task):
    for low in ("[-2. -0.5]", "[-2. ... -0.5]", "[[-1.]]", "", None, 3):
        data = {"action_space": {"low": low, "high": "[1. 0.5]"}}
        load(write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS), data), task)


def test_a_clamp_must_be_positive(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", sac_state(LAYERS, "actor.mu.0."), {"policy_kwargs": {"clip_mean": "wide"}})
    with pytest.raises(InputError, match="clip_mean must be a positive number, got 'wide'"):
        load(path, task)


def test_damaged_and_foreign_files_are_refused(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS))
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-5], whole[:300] + b"\0" * 300 + whole[600:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a.zip"):
            load(path, task)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", "{}")
    with pytest.raises(InputError, match=r"is not a Stable-Baselines3 zip: it has no \['policy.pth'\]"):
        load(path, task)
    with pytest.raises(InputError, match="from a .zip file: name it with --checkpoint"):
        load(None, task)

"""What Stable-Baselines3 actors compute, against NumPy; the zips are built by hand, without the library."""

import base64
import json
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from cdsa_baselines.foreign.sb3 import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task, ppo_state, random_layers, sac_state, sb3_state, write_sb3_zip

LOW, HIGH = np.array([-2.0, -0.5]), np.array([1.0, 0.5])


@pytest.fixture
def task():
    return box_task(3, LOW, HIGH)


def observations():
    return np.random.default_rng(1).normal(0, 2, (50, 3)).astype(np.float32)


def act(path, task):
    with torch.inference_mode():
        return load(path, task).eval()(torch.as_tensor(observations())).numpy()


def dense(layers, x, hidden):
    """The perceptron again, in NumPy double precision, without its output function."""
    for weight, bias in layers[:-1]:
        x = hidden(x @ weight.T.astype(np.float64) + bias)
    return x @ layers[-1][0].T.astype(np.float64) + layers[-1][1]


def relu(x):
    return np.maximum(x, 0)


def span(unit):
    return LOW + (unit + 1) / 2 * (HIGH - LOW)


def pickled(**plain):
    """A value of `data` as the library writes what JSON cannot hold: base64 of a pickle, and its plain parts."""
    return {":type:": "<class 'dict'>", ":serialized:": base64.b64encode(pickle.dumps(object)).decode(), **plain}


LAYERS = random_layers(3, 16, 8, 2, scale=2.0)

ELU = "<class 'torch.nn.modules.activation.ELU'>"


def test_sac_and_tqc_squash_their_mean(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", sac_state(LAYERS) | {"critic.qf0.0.weight": torch.ones(4, 5)})
    np.testing.assert_allclose(act(path, task), span(np.tanh(dense(LAYERS, observations(), relu))), atol=1e-5)


@pytest.mark.parametrize(("settings", "limit"), [({}, 2.0), ({"clip_mean": 0.3}, 0.3)])
def test_gsde_clamps_the_mean_before_it_is_squashed(tmp_path, task, settings, limit):
    layers = random_layers(3, 16, 8, 2, scale=3.0)
    path = write_sb3_zip(tmp_path / "a.zip", sac_state(layers, "actor.mu.0."), {"policy_kwargs": settings})
    mean = dense(layers, observations(), relu)
    assert (np.abs(mean) > limit).any()
    np.testing.assert_allclose(act(path, task), span(np.tanh(np.clip(mean, -limit, limit))), atol=1e-5)


def test_gsde_without_a_clamp_has_a_plain_layer(tmp_path, task):
    state = sb3_state(LAYERS, "actor.latent_pi.", "actor.mu.") | {"actor.log_std": torch.ones(8, 2)}
    path = write_sb3_zip(tmp_path / "a.zip", state, {"policy_kwargs": {"clip_mean": 0.0}})
    np.testing.assert_allclose(act(path, task), span(np.tanh(dense(LAYERS, observations(), relu))), atol=1e-5)


def test_td3_and_ddpg_number_all_their_layers(tmp_path, task):
    state = sb3_state(LAYERS, "actor.mu.", "actor.mu.4.")
    state |= {key.replace("actor.", "actor_target."): torch.zeros_like(value) for key, value in state.items()}
    path = write_sb3_zip(tmp_path / "a.zip", OrderedDict(state))
    np.testing.assert_allclose(act(path, task), span(np.tanh(dense(LAYERS, observations(), relu))), atol=1e-5)


def test_ppo_and_a2c_clip_their_mean(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS))
    mean = dense(LAYERS, observations(), np.tanh)
    assert (mean < LOW).any() and (mean > HIGH).any()
    np.testing.assert_allclose(act(path, task), np.clip(mean, LOW, HIGH), atol=1e-5)


def test_ppo_with_gsde_squashes_only_where_it_was_asked_to(tmp_path, task):
    state = ppo_state(LAYERS, log_std=torch.zeros(8, 2))
    mean = dense(LAYERS, observations(), np.tanh)
    plain = write_sb3_zip(tmp_path / "a.zip", state)
    np.testing.assert_allclose(act(plain, task), np.clip(mean, LOW, HIGH), atol=1e-5)
    squashed = write_sb3_zip(tmp_path / "b.zip", state, {"policy_kwargs": {"squash_output": True}})
    np.testing.assert_allclose(act(squashed, task), span(np.tanh(mean)), atol=1e-5)


def test_the_shared_layers_of_old_releases_come_first(tmp_path, task):
    state = {key: value for key, value in ppo_state(LAYERS).items() if "policy_net.0" not in key}
    for old in ("policy_net.2.weight", "policy_net.2.bias"):
        state["mlp_extractor." + old.replace("2", "0")] = state.pop("mlp_extractor." + old)
    state |= sb3_state(LAYERS[:1] + LAYERS[-1:], "mlp_extractor.shared_net.", "action_net.")
    path = write_sb3_zip(tmp_path / "a.zip", state)
    np.testing.assert_allclose(act(path, task), np.clip(dense(LAYERS, observations(), np.tanh), LOW, HIGH), atol=1e-5)


def test_a_policy_without_hidden_layers_is_linear(tmp_path, task):
    layers = random_layers(3, 2)
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(layers))
    np.testing.assert_allclose(act(path, task), np.clip(dense(layers, observations(), None), LOW, HIGH), atol=1e-5)


def test_the_activation_is_the_one_that_data_spells_out(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS), {"policy_kwargs": pickled(activation_fn=ELU)})
    mean = dense(LAYERS, observations(), lambda x: np.where(x > 0, x, np.expm1(x)))
    np.testing.assert_allclose(act(path, task), np.clip(mean, LOW, HIGH), atol=1e-5)


def test_the_sidecar_overrides_the_activation(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS), {"policy_kwargs": pickled(activation_fn="mine.Act")})
    with pytest.raises(InputError, match=r"activation mine.Act, which cannot be read.*'a.json'"):
        load(path, task)
    path.with_suffix(".json").write_text('{"hidden_activation": "relu"}')
    mean = dense(LAYERS, observations(), relu)
    np.testing.assert_allclose(act(path, task), np.clip(mean, LOW, HIGH), atol=1e-5)
    path.with_suffix(".json").write_text('{"activation": "relu"}')
    with pytest.raises(InputError, match="may hold 'hidden_activation' alone"):
        load(path, task)


MEAN, VAR = np.array([1.0, -2.0, 0.0]), np.array([0.25, 4.0, 1e-3])


@pytest.mark.parametrize("kind", ["npz", "json"])
@pytest.mark.parametrize("spread", ["obs_var", "obs_std"])
def test_statistics_of_vecnormalize_are_applied(tmp_path, task, kind, spread):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS))
    (tmp_path / "vecnormalize.pkl").write_bytes(b"not opened")
    stats = {"obs_mean": MEAN, spread: VAR if spread == "obs_var" else np.sqrt(VAR), "clip_obs": 1.5, "epsilon": 0.1}
    if kind == "npz":
        np.savez(tmp_path / "a.vecnormalize.npz", **stats)
    else:
        text = json.dumps({key: np.asarray(value).tolist() for key, value in stats.items()})
        (tmp_path / "a.vecnormalize.json").write_text(text)
    scaled = np.clip((observations() - MEAN) / np.sqrt(VAR + 0.1), -1.5, 1.5)
    assert (np.abs(scaled) == 1.5).any()
    np.testing.assert_allclose(act(path, task), np.clip(dense(LAYERS, scaled, np.tanh), LOW, HIGH), atol=1e-5)


def test_the_library_defaults_fill_in_clip_and_epsilon(tmp_path, task):
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS))
    np.savez(tmp_path / "a.vecnormalize.npz", obs_mean=MEAN, obs_var=VAR)
    scaled = np.clip((observations() - MEAN) / np.sqrt(VAR + 1e-8), -10, 10)
    np.testing.assert_allclose(act(path, task), np.clip(dense(LAYERS, scaled, np.tanh), LOW, HIGH), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG", "PPO", "A2C"])
def test_actions_are_those_of_the_library(tmp_path, task, algorithm):
    import stable_baselines3  # the extra sb3; without it this fails rather than passes unseen

    model = getattr(stable_baselines3, algorithm)("MlpPolicy", task.make_single())
    model.save(tmp_path / "a.zip")
    expected, _ = model.predict(observations(), deterministic=True)
    np.testing.assert_allclose(act(tmp_path / "a.zip", task), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("state", "data", "algorithm"),
    [
        (sac_state(LAYERS), {}, "SAC or TQC"),
        (sac_state(LAYERS), {"target_entropy": -2}, "SAC"),
        (sac_state(LAYERS), {"target_entropy": -2, "top_quantiles_to_drop_per_net": 2}, "TQC"),
        (sb3_state(LAYERS, "actor.mu.", f"actor.mu.{2 * len(LAYERS) - 2}."), {}, "TD3 or DDPG"),
        (ppo_state(LAYERS), {}, "PPO, A2C or TRPO"),
        (ppo_state(LAYERS), {"clip_range": 0.2}, "PPO"),
        (ppo_state(LAYERS), {"cg_max_steps": 15}, "TRPO"),
    ],
)
def test_the_algorithm_is_told_as_far_as_weights_and_settings_tell(tmp_path, state, data, algorithm):
    found = inspect(write_sb3_zip(tmp_path / "a.zip", state, data))
    assert (found.algorithm, found.obs_dim, found.action_dim) == (algorithm, 3, 2)


def test_shapes_bounds_steps_and_missing_statistics_are_told(tmp_path):
    data = {"action_space": {"low": "[-2. -0.5]", "high": "[1. 0.5]"}, "num_timesteps": 30_000}
    path = write_sb3_zip(tmp_path / "a.zip", ppo_state(LAYERS), data)
    found = inspect(path)
    network = "3 - 16 - 8 - 2, tanh"
    assert found.details == {"network": network, "bounds": "[-2. -0.5] to [1. 0.5]", "trained": "30,000 steps"}
    assert found.statistics == "none: raw observations"
    assert "trained under VecNormalize?" in found.notes[0]
    np.savez(tmp_path / "a.vecnormalize.npz", obs_mean=np.ones(3), obs_var=np.ones(3))
    found = inspect(path)
    assert found.statistics == "mean and std of 3 entries, from a.vecnormalize.npz"
    assert not found.notes


def test_zips_of_others_are_passed_over_and_its_own_refused_where_they_cannot_be_read(tmp_path):
    np.savez(tmp_path / "b.zip", data=np.ones(2))
    (tmp_path / "folder.zip").mkdir()
    assert inspect(tmp_path / "b.npz") is inspect(tmp_path / "folder.zip") is inspect(tmp_path / "absent.zip") is None
    with pytest.raises(InputError, match="a recurrent policy"):
        inspect(write_sb3_zip(tmp_path / "c.zip", ppo_state(LAYERS) | {"lstm_actor.weight": torch.ones(1)}))
    with pytest.raises(InputError, match="from a .zip file, got"):
        inspect(write_sb3_zip(tmp_path / "d.agent", ppo_state(LAYERS)))

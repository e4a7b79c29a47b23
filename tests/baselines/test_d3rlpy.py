"""d3rlpy checkpoints: actions against the layout written out in NumPy, and against d3rlpy itself (slow)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cdsa_baselines.foreign.d3rlpy import ACTORS, inspect, load

from .checkpoints import box_task, random_layers
from .d3rlpy_files import actor_state, d3rlpy_config, d3rlpy_states, min_max, standard, write_d3, write_pt

LAYERS = random_layers(3, 8, 6, 2)
MEAN, STD = [1.0, -2.0, 100.0], [0.5, 4.0, 0.0]
MINIMUM, MAXIMUM = [-0.1, 1.0], [0.3, 5.0]
OBS = np.random.default_rng(5).normal(size=(50, 3)).astype(np.float32) * [1, 4, 0.01] + MEAN
ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "swish": lambda x: x / (1 + np.exp(-x)),
    "none": lambda x: x,
}


@pytest.fixture
def task():
    return box_task(3, MINIMUM, MAXIMUM)


def perceptron(x, layers=LAYERS):
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight.T + bias, 0)
    return np.tanh(x @ layers[-1][0].T + layers[-1][1])


def span(unit):
    return np.asarray(MINIMUM) + (np.asarray(MAXIMUM) - MINIMUM) * (unit + 1) / 2


def act(policy, obs=OBS):
    with torch.inference_mode():
        return policy(torch.tensor(obs, dtype=torch.float32)).numpy()


def states_of(algorithm, layers=LAYERS):
    actor, last = ACTORS[algorithm]
    return d3rlpy_states(actor_state(layers, last), actor)


def policy_type(algorithm):
    return {"policy_type": "deterministic"} if algorithm == "bc" else {}


@pytest.mark.parametrize("algorithm", sorted(ACTORS))
@pytest.mark.parametrize("write", [write_d3, write_pt])
def test_every_algorithm_answers_tanh_of_its_mean_between_its_scalers(tmp_path, task, algorithm, write):
    scalers = {"obs": standard(MEAN, STD, eps=0.01), "actions": min_max(MINIMUM, MAXIMUM)}
    config = d3rlpy_config(algorithm, **scalers, **policy_type(algorithm))
    path = write(tmp_path / f"model.{'d3' if write is write_d3 else 'pt'}", states_of(algorithm), config)
    wanted = span(perceptron((OBS - MEAN) / (np.asarray(STD) + 0.01)))
    np.testing.assert_allclose(act(load(path, task)), wanted, atol=2e-5)
    assert np.ptp(wanted, axis=0).min() > 0.1


def test_stochastic_cloning_answers_its_mean_too(tmp_path, task):
    config = d3rlpy_config("bc", actions=min_max(MINIMUM, MAXIMUM), policy_type="stochastic")
    states = d3rlpy_states(actor_state(LAYERS) | {"_logstd.weight": torch.ones(2, 6)}, "imitator")
    path = write_d3(tmp_path / "model.d3", states, config)
    np.testing.assert_allclose(act(load(path, task)), span(perceptron(OBS)), atol=1e-5)


def test_a_standard_deviation_kept_as_a_parameter_is_passed_over(tmp_path, task):
    states = d3rlpy_states(actor_state(LAYERS) | {"_logstd": torch.ones(1, 2)})
    path = write_d3(tmp_path / "model.d3", states, d3rlpy_config(actions=min_max(MINIMUM, MAXIMUM)))
    np.testing.assert_allclose(act(load(path, task)), span(perceptron(OBS)), atol=1e-5)


def test_min_max_observations_become_minus_one_to_one(tmp_path, task):
    low, high = np.array([-1.0, -20.0, 99.0]), np.array([3.0, 10.0, 101.0])
    config = d3rlpy_config(obs=min_max(low, high), actions=min_max(MINIMUM, MAXIMUM))
    policy = load(write_d3(tmp_path / "model.d3", states_of("iql"), config), task)
    np.testing.assert_allclose(act(policy), span(perceptron(2 * (OBS - low) / (high - low) - 1)), atol=1e-5)


def test_without_an_action_scaler_the_policy_acts_in_minus_one_to_one_and_is_clipped(tmp_path):
    path = write_d3(tmp_path / "model.d3", states_of("iql"), d3rlpy_config())
    wanted = perceptron(OBS)
    np.testing.assert_allclose(act(load(path, box_task(3, [-2.0] * 2, [2.0] * 2))), wanted, atol=1e-5)
    narrow = act(load(path, box_task(3, [-0.3] * 2, [0.2] * 2)))
    np.testing.assert_allclose(narrow, np.clip(wanted, -0.3, 0.2), atol=1e-5)
    assert (narrow != np.float32(wanted)).any()


@pytest.mark.parametrize(
    ("name", "last", "batch_norm", "layer_norm", "dropout"),
    [
        ("tanh", None, False, False, None),
        ("none", "tanh", False, False, None),
        ("relu", None, False, False, 0.5),
        ("relu", None, True, False, None),
        ("swish", None, False, True, None),
        ("swish", "excluded", True, True, 0.5),
        ("relu", "tanh", True, True, None),
        ("tanh", "excluded", False, False, 0.5),
    ],
)
def test_an_encoder_is_built_as_its_options_say(tmp_path, name, last, batch_norm, layer_norm, dropout):
    rng, x, place, state = np.random.default_rng(1), OBS - MEAN, 0, {}
    for number, (weight, bias) in enumerate(LAYERS[:-1]):
        state |= {f"{place}.weight": weight, f"{place}.bias": bias}
        x, place, final = x @ weight.T + bias, place + 1, number == 1
        if not (final and last == "excluded"):
            x, place = ACTIVATIONS["tanh" if final and last == "tanh" else name](x), place + 1
        if batch_norm:
            parts = {key: rng.uniform(0.5, 2, len(bias)) for key in ("weight", "bias", "running_mean", "running_var")}
            state |= {f"{place}.{key}": value for key, value in parts.items()} | {f"{place}.num_batches_tracked": 7}
            x = (x - parts["running_mean"]) / np.sqrt(parts["running_var"] + 1e-5) * parts["weight"] + parts["bias"]
            place += 1
        if layer_norm:
            scale, shift = rng.uniform(0.5, 2, (2, len(bias)))
            state |= {f"{place}.weight": scale, f"{place}.bias": shift}
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + shift
            place += 1
        place += dropout is not None
    wanted = np.tanh(x @ LAYERS[-1][0].T + LAYERS[-1][1])
    actor = {f"_encoder._layers.{key}": torch.tensor(value) for key, value in state.items()}
    actor |= {"_mu.weight": torch.tensor(LAYERS[-1][0]), "_mu.bias": torch.tensor(LAYERS[-1][1])}
    options = {"hidden_units": [8, 6], "activation": name, "use_batch_norm": batch_norm, "use_layer_norm": layer_norm}
    options |= {"dropout_rate": dropout, "exclude_last_activation": last == "excluded"}
    options |= {"last_activation": last if last == "tanh" else None}
    config = d3rlpy_config(encoder=options, obs=standard(MEAN, [1, 1, 1], eps=0))
    policy = load(write_d3(tmp_path / "a.d3", d3rlpy_states(actor), config), box_task(3, [-1.0] * 2, [1.0] * 2))
    np.testing.assert_allclose(act(policy), wanted, atol=1e-5)
    np.testing.assert_allclose(act(policy.train()), wanted, atol=1e-5)  # no batch statistics, no dropout, ever


def test_the_default_encoder_has_two_layers_of_256(tmp_path, task):
    layers = random_layers(3, 256, 256, 2)
    config = d3rlpy_config(actions=min_max(MINIMUM, MAXIMUM))
    config["config"]["params"]["actor_encoder_factory"] = {"type": "default", "params": {"activation": "relu"}}
    policy = load(write_d3(tmp_path / "model.d3", states_of("iql", layers), config), task)
    np.testing.assert_allclose(act(policy), span(perceptron(OBS, layers)), atol=2e-5)


def test_a_configuration_of_the_same_name_comes_before_that_of_the_folder(tmp_path, task):
    scaled, raw = d3rlpy_config(actions=min_max(MINIMUM, MAXIMUM)), d3rlpy_config("sac")
    path = write_pt(tmp_path / "model.pt", states_of("iql"), raw)
    assert inspect(path).algorithm == "sac"
    write_pt(tmp_path / "model.pt", states_of("iql"), scaled, "model.json")
    assert inspect(path).algorithm == "iql"
    np.testing.assert_allclose(act(load(path, task)), span(perceptron(OBS)), atol=1e-5)


def test_a_d3_file_needs_nothing_beside_it_and_asks_nothing_else(tmp_path):
    path = write_d3(tmp_path / "model.d3", states_of("iql"), d3rlpy_config())
    write_pt(tmp_path / "model.pt", states_of("sac"), d3rlpy_config("sac"))
    assert inspect(path).algorithm == "iql"


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("version", ["2.1.0", "2.10.1", "2.8.1"])
def test_versions_and_pickle_protocols_that_are_read(tmp_path, task, protocol, version):
    path = write_d3(tmp_path / "model.d3", states_of("iql"), d3rlpy_config(), version, protocol)
    assert act(load(path, task)).shape == (50, 2)


def test_inspection_tells_what_is_inside_and_where_the_numbers_come_from(tmp_path):
    config = d3rlpy_config("td3_plus_bc", obs=standard(MEAN, STD), actions=min_max(MINIMUM, MAXIMUM))
    found = inspect(write_d3(tmp_path / "model.d3", states_of("td3_plus_bc"), config))
    assert (found.format, found.algorithm, found.obs_dim, found.action_dim) == ("d3rlpy .d3", "td3_plus_bc", 3, 2)
    assert found.statistics == "mean and std of 3 entries, inside the file"
    wanted = {"network": "3 - 8 - 6 - 2, relu", "version": "d3rlpy 2.8.1", "bounds": "[-0.1, 1.0] to [0.3, 5.0]"}
    assert (found.details, found.notes) == (wanted, ())
    found = inspect(write_pt(tmp_path / "b.pt", states_of("cql"), d3rlpy_config("cql", obs=min_max([0] * 3, [1] * 3))))
    assert found.statistics == "minimum and maximum of 3 entries, from params.json beside it"
    assert found.notes == ("It has no action scaler: it acts in [-1, 1], clipped to the bounds of the task.",)
    assert inspect(write_pt(tmp_path / "b.pt", states_of("cql"), d3rlpy_config("cql"))).statistics.startswith("none")


NEEDS = [
    *("gym==0.26.2", "gym-notices", "structlog", "colorama", "dataclasses-json==0.6.7", "marshmallow<4"),
    *("typing-inspect", "mypy-extensions", "scikit-learn<1.8", "joblib", "threadpoolctl"),
]
"""What d3rlpy imports beyond what this project does. It pins an older gymnasium, which it can do without."""


@pytest.fixture(scope="module", params=["2.1.0", "2.8.1"])
def reference(request, tmp_path_factory):
    """A folder with checkpoints and predictions of d3rlpy itself, in its oldest and newest version that is read."""
    folder = tmp_path_factory.mktemp("d3rlpy")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "packages"]
    script = Path(__file__).with_name("d3rlpy_reference.py")
    path = {**os.environ, "PYTHONPATH": str(folder / "packages"), "OMP_NUM_THREADS": "1"}
    for command in ([*pip, f"d3rlpy=={request.param}", *NEEDS], [sys.executable, script, folder / "runs"]):
        done = subprocess.run(list(map(str, command)), env=path, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}:\n{done.stderr[-3000:]}"
    return folder / "runs"


@pytest.mark.slow
def test_actions_agree_with_d3rlpy(reference):
    largest = {}
    for folder in sorted(reference.iterdir()):
        with np.load(folder / "predictions.npz") as file:
            obs, wanted, low, high = (file[name] for name in ("obs", "action", "low", "high"))
        assert len(obs) == 1000
        assert (wanted.std(0) > 1e-3 * (high - low)).all(), f"{folder.name} predicts constants; that would prove little"
        for kind in ("d3", "pt"):
            action = act(load(folder / f"model.{kind}", box_task(5, low, high)), obs)
            largest[folder.name, kind] = float(np.abs(action - wanted).max())
    print("\n".join(f"{name:<20} .{kind:<4} {value:.1e}" for (name, kind), value in largest.items()))
    cases = {name.partition("-")[0] for name, _ in largest}
    assert {"IQL", "CQL", "TD3PlusBC", "SAC", "BC", "AWAC", "TD3", "DDPG"} <= cases
    assert max(largest.values()) < 1e-5

"""Perceptrons from npz and safetensors files."""

import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from cdsa_baselines.mlp import inspect, load, save_mlp
from cdsa_lightning.errors import InputError

from .checkpoints import box_task, random_layers

LOW, HIGH = [-1.0, -0.5], [2.0, 0.5]
MEAN, STD = np.array([1.0, -2.0, 0.0]), np.array([0.5, 2.0, 10.0])


@pytest.fixture
def task():
    return box_task(3, LOW, HIGH)


def observations():
    return np.random.default_rng(1).normal(0, 3, (64, 3)).astype(np.float32)


def in_numpy(layers, obs, hidden, output, mean=0.0, std=1.0):
    """The formula again, in NumPy double precision."""
    x = (obs.astype(np.float64) - mean) / std
    for weight, bias in layers[:-1]:
        x = hidden(x @ weight.T.astype(np.float64) + bias)
    return np.clip(output(x @ layers[-1][0].T.astype(np.float64) + layers[-1][1]), LOW, HIGH)


def act(policy):
    with torch.inference_mode():
        return policy.eval()(torch.as_tensor(observations())).numpy()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
    ],
)
@pytest.mark.parametrize(("output", "function"), [("tanh", np.tanh), ("linear", lambda x: x)])
def test_it_is_the_formula(tmp_path, task, suffix, name, hidden, output, function):
    layers = random_layers(3, 16, 8, 2)
    path = save_mlp(
        tmp_path / f"a{suffix}",
        layers,
        hidden_activation=name,
        output=output,
        obs_mean=MEAN,
        obs_std=STD,
        eps_added_to_std=0.25,
    )
    expected = in_numpy(layers, observations(), hidden, function, MEAN, STD + 0.25)
    np.testing.assert_allclose(act(load(path, task)), expected, atol=1e-5)


def test_raw_observations_need_no_statistics(tmp_path, task):
    layers = random_layers(3, 4, 2)
    expected = in_numpy(layers, observations(), lambda x: np.maximum(x, 0), np.tanh)
    np.testing.assert_allclose(act(load(save_mlp(tmp_path / "a.npz", layers), task)), expected, atol=1e-5)


def test_one_layer_is_a_linear_policy(tmp_path, task):
    layers = random_layers(3, 2)
    expected = in_numpy(layers, observations(), None, lambda x: x)
    np.testing.assert_allclose(
        act(load(save_mlp(tmp_path / "a.npz", layers, output="linear"), task)), expected, atol=1e-5
    )


def test_unit_outputs_span_the_bounds_where_asked(tmp_path, task):
    layers = random_layers(3, 2, scale=0.2)
    unit = np.tanh(observations() @ layers[0][0].T + layers[0][1])
    policy = load(save_mlp(tmp_path / "a.npz", layers, scale_to_bounds=True), task)
    np.testing.assert_allclose(act(policy), np.array(LOW) + (unit + 1) / 2 * (np.array(HIGH) - LOW), atol=1e-6)


def test_a_torch_network_is_written_as_it_is(tmp_path, task):
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    path = save_mlp(tmp_path / "a.npz", [(net[0].weight, net[0].bias), (net[2].weight, net[2].bias)],
                    hidden_activation="tanh", output="linear", info={"made_by": "a test"})  # fmt: skip
    with torch.no_grad():
        expected = net(torch.as_tensor(observations())).clamp(torch.tensor(LOW), torch.tensor(HIGH))
    np.testing.assert_allclose(act(load(path, task)), expected, atol=1e-6)
    assert json.loads(path.with_suffix(".json").read_text())["made_by"] == "a test"


def test_further_arrays_and_keys_are_provenance(tmp_path, task):
    layers = random_layers(3, 4, 2)
    path = save_mlp(tmp_path / "a.npz", layers, info={"measured_returns": [{"mean": 1.0}], "licence": "MIT"})
    before = act(load(path, task))
    np.savez(path, **np.load(path), log_std=np.full(2, np.nan))
    np.testing.assert_array_equal(act(load(path, task)), before)


def edit(path, **changes):
    """Change arrays of an npz; None removes one."""
    arrays = {**np.load(path), **{key.replace("__", "."): value for key, value in changes.items()}}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"layers__0__bias": None}, "has no 'layers.0.bias'"),
        (
            {"layers__1__weight": None, "layers__1__bias": None, "layers__0__weight": None, "layers__0__bias": None},
            "no 'layers.0.weight'; it holds: obs_mean, obs_std",
        ),  # fmt: skip  # noqa: E501
        (
            {"layers__3__weight": np.ones((2, 2)), "layers__3__bias": np.ones(2)},
            r"numbers its layers layers.\* \[0, 1, 3\], expected \[0, 1, 2\]",
        ),  # fmt: skip  # noqa: E501
        ({"layers__1__weight": np.ones((2, 9))}, "has 4 outputs, the next one 9 inputs"),
        ({"layers__1__bias": np.ones(3)}, r"shape \(2, 4\) and layers.1.bias \(3,\)"),
        ({"layers__0__scale": np.ones(3)}, "'layers.0.scale', which is not a plain linear layer"),
        ({"layers__0__weight": np.full((4, 3), np.nan)}, "12 of 12 numbers of layers.0.weight are NaN or infinite"),
        ({"layers__0__weight": np.full((4, 3), "x")}, "expected numbers"),
        ({"obs_mean": None}, "has no 'obs_mean'"),
        ({"obs_std": np.ones(4)}, r"obs_std is float64 \(4,\), expected \(3,\)"),
        ({"obs_std": np.array([1, np.inf, 1])}, "obs_std holds NaN or infinite"),
        ({"obs_std": np.array([1, -1, 1.0])}, "obs_std must be positive"),
        ({"obs_mean": np.array([{}, 1, 2], dtype=object)}, "cannot be read as plain .npz arrays"),
    ],
)
def test_a_bad_array_is_named(tmp_path, task, changes, text):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 4, 2), obs_mean=MEAN, obs_std=STD)
    edit(path, **changes)
    with pytest.raises(InputError, match=text):
        load(path, task)


@pytest.mark.parametrize(
    ("section", "values", "text"),
    [
        ("network", None, "needs a section 'network'"),
        ("network", {"type": "cnn"}, "of type 'mlp'"),
        (
            "network",
            {"hidden_activation": "rleu", "output": "tanh"},
            "Unknown hidden activation 'rleu'. Did you mean 'relu'",
        ),
        ("network", {"output": "tanh"}, "Unknown hidden activation 'None'"),
        ("network", {"hidden_activation": "relu", "output": "softmax"}, "Unknown output 'softmax'"),
        ("network", {"hidden_activation": "relu", "output": "tanh", "sizes": [3, 5, 2]}, "its sidecar says"),
        ("network", {"hidden_activation": "relu", "output": "tanh", "time_feature_appended": True}, "sees the time"),
        ("obs_normalisation", {"kind": "min-max", "low": 0}, "'obs_normalisation' is null or holds"),
        ("obs_normalisation", {"eps_added_to_std": "small"}, "must be a number >= 0"),
        ("obs_normalisation", {"eps_added_to_std": -1}, "must be a number >= 0"),
    ],
)
def test_a_bad_sidecar_is_told_what_is_wrong(tmp_path, task, section, values, text):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 4, 2), obs_mean=MEAN, obs_std=STD)
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), section: values}))
    with pytest.raises(InputError, match=text):
        load(path, task)


def test_a_missing_sidecar_is_named_with_the_writer(tmp_path, task):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 4, 2))
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="needs 'a.json' beside it.*save_mlp"):
        load(path, task)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff\xfe"])
def test_a_sidecar_that_is_no_json_object_is_refused(tmp_path, task, text):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 4, 2))
    path.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match="a.json"):
        load(path, task)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_every_truncation_is_refused(tmp_path, task, suffix):
    path = save_mlp(tmp_path / f"a{suffix}", random_layers(3, 4, 2))
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cannot be read"):
            load(path, task)


def test_arrays_that_numpy_lacks_are_refused(tmp_path, task):
    path = save_mlp(tmp_path / "a.safetensors", random_layers(3, 4, 2))
    arrays = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({**arrays, "layers.0.weight": arrays["layers.0.weight"].astype(bool)}, path)
    with pytest.raises(InputError, match="bool entries, expected numbers"):
        load(path, task)


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path, task):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 4, 2))
    arrays = dict(np.load(path))
    arrays[next(iter(arrays))] = np.zeros(20_000_000, np.float32)  # 80 MB, compressed to 80 kB
    np.savez_compressed(path, **arrays)
    with pytest.raises(InputError, match="more than the limit of"):
        load(path, task)


def test_a_perceptron_of_another_task_is_refused(tmp_path):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 4, 2))
    with pytest.raises(InputError, match="made for S=3 observation and A=2 action entries, task 'box' has 11 and 3"):
        load(path, box_task(11, [-1] * 3, [1] * 3))


def test_no_checkpoint_and_other_files_are_answered_with_the_suffixes(tmp_path, task):
    with pytest.raises(InputError, match=r"from a .npz or .safetensors file: name it with --checkpoint"):
        load(None, task)
    for name in (tmp_path / "a.pt", tmp_path):
        with pytest.raises(InputError, match=r".npz or .safetensors file, got"):
            load(name, task)


@pytest.mark.parametrize(
    ("name", "kwargs", "text"),
    [
        ("a.pt", {}, "written to .npz or .safetensors"),
        ("a.npz", {"hidden_activation": "rleu"}, "Did you mean 'relu'"),
        ("a.npz", {"output": "than"}, "Did you mean 'tanh'"),
        ("a.npz", {"obs_mean": MEAN}, "belong together"),
        ("a.npz", {"layers": []}, "at least one layer"),
    ],
)
def test_the_writer_refuses_what_the_reader_would(tmp_path, name, kwargs, text):
    with pytest.raises(InputError, match=text):
        save_mlp(tmp_path / name, **{"layers": random_layers(3, 4, 2), **kwargs})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_it_tells_what_it_holds(tmp_path, suffix):
    info = {"algorithm": "BC", "trained_on": "my data", "measured_returns": [3]}
    path = save_mlp(tmp_path / f"a{suffix}", random_layers(3, 8, 2), obs_mean=MEAN, obs_std=STD, info=info)
    found = inspect(path)
    assert (found.obs_dim, found.action_dim, found.algorithm) == (3, 2, "BC")
    assert found.statistics == "mean and std of 3 entries, inside the file"
    network = "3 - 8 - 2, relu, tanh output in environment units"
    assert found.details == {"network": network, "trained on": "my data"}
    bounded = inspect(save_mlp(tmp_path / f"b{suffix}", random_layers(3, 2), scale_to_bounds=True))
    assert (bounded.algorithm, bounded.statistics) == ("not told by the file", "none: raw observations")
    assert bounded.details == {"network": "3 - 2, relu, tanh output spans the action bounds"}


def test_other_files_of_its_suffixes_are_passed_over(tmp_path):
    np.savez(tmp_path / "data.npz", obs=np.ones(3))
    safetensors.numpy.save_file({"weight": np.ones(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.npz").write_text("text")
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "folder.npz").mkdir()
    names = ("data.npz", "other.safetensors", "text.npz", "folder.npz", "absent.npz", "text.json")
    assert [inspect(tmp_path / name) for name in names] == [None] * 6


def test_its_own_files_that_cannot_be_read_are_refused(tmp_path):
    path = save_mlp(tmp_path / "a.npz", random_layers(3, 8, 2))
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    with pytest.raises(InputError, match="cannot be read as plain .npz arrays"):
        inspect(path)
    path.write_bytes(whole)
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="needs 'a.json' beside it"):
        inspect(path)

"""d3rlpy files that are sound but cannot be used: each is refused with what was found and what was expected."""

import pytest
import torch

from cdsa_baselines.foreign.d3rlpy import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task, random_layers
from .d3rlpy_files import actor_state, d3rlpy_config, d3rlpy_states, min_max, standard, write_d3, write_pt

LAYERS = random_layers(3, 8, 6, 2)
STATES = d3rlpy_states(actor_state(LAYERS))


@pytest.fixture
def task():
    return box_task(3, [-2.0, -0.5], [1.0, 0.5])


def refused(path, task, text):
    """Both doors refuse `path` with `text`."""
    with pytest.raises(InputError, match=text):
        load(path, task)
    with pytest.raises(InputError, match=text):
        inspect(path)


@pytest.mark.parametrize("version", ["1.1.1", "2.0.2", "3.0.0", "20.1", "", "two"])
def test_another_version_is_named_with_the_one_expected(tmp_path, task, version):
    path = write_d3(tmp_path / "model.d3", STATES, d3rlpy_config(), version)
    refused(path, task, rf"was saved by d3rlpy {version}, expected 2.1 or a later 2.x.*save_policy\('model.onnx'\)")


def test_weights_of_an_older_version_are_named_with_the_one_expected(tmp_path, task):
    old = {"_encoder._fcs.0.weight": torch.ones(8, 3), "_mu.weight": torch.ones(2, 8)}
    path = write_pt(
        tmp_path / "model.pt", {"_policy": old, "_q_func": {"_q_funcs.0._encoder._fcs.0.bias": torch.ones(1)}}
    )
    refused(path, task, "model.pt' was saved by d3rlpy 2.0 or earlier, expected 2.1 or a later 2.x")
    flat = {"algorithm": "CQL", "observation_shape": [3], "action_size": 2, "scaler": None}
    path = write_pt(tmp_path / "model.pt", STATES, flat)
    refused(path, task, "params.json' was written by d3rlpy 1.x or earlier, expected 2.1 or a later 2.x")


def test_weights_without_their_configuration_tell_where_it_is(tmp_path, task):
    path = write_pt(tmp_path / "model.pt", STATES)
    refused(
        path, task, r"weights alone.*params.json of its log folder beside it \(or as 'model.json'\).*save\('model.d3'\)"
    )


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        ("dqn", "dqn acts by discrete actions, and the method needs continuous ones. Readable are awac, bc, "),
        ("discrete_cql", "discrete_cql acts by discrete actions"),
        ("discrete_bc", "discrete_bc acts by discrete actions"),
        ("decision_transformer", "decision_transformer acts on a history"),
        ("bcq", "bcq ranks random actions by its critics"),
        ("plas", "plas acts through a decoder"),
        ("fqe", "fqe has no actor"),
        ("td3_plus_bcc", "Unknown algorithm of d3rlpy 'td3_plus_bcc'. Did you mean 'td3_plus_bc'"),
    ],
)
def test_other_algorithms_are_refused_by_name(tmp_path, task, algorithm, text):
    refused(write_d3(tmp_path / "model.d3", STATES, d3rlpy_config(algorithm)), task, text)


def test_files_of_critics_or_transformers_alone_are_refused_by_what_they_hold(tmp_path, task):
    critics = {name: STATES[name] for name in ("q_funcs", "targ_q_funcs")}
    for states in (critics, {"transformer": {"_encoder._layers.0.weight": torch.ones(2, 2)}}):
        refused(
            write_pt(tmp_path / "model.pt", states), task, "and no actor of d3rlpy .'policy' or 'imitator'.: it comes"
        )
        refused(write_d3(tmp_path / "model.d3", states, d3rlpy_config()), task, "but no 'policy', as iql has it")


def edited(**changes):
    """A configuration with other entries of its innermost part, or of the whole."""
    config = d3rlpy_config()
    for name, value in changes.items():
        (config["config"]["params"] if name.endswith(("scaler", "factory")) else config)[name] = value
    return config


def encoder(kind="vector", **options):
    return {"actor_encoder_factory": {"type": kind, "params": {"hidden_units": [8, 6], **options}}}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"observation_shape": [3, 84, 84]}, r"observations of shape \[3, 84, 84\] cannot be read, only flat ones"),
        ({"observation_shape": [[3], [2]]}, r"observations of shape \[\[3\], \[2\]\] cannot be read"),
        ({"observation_shape": 3}, "'observation_shape' must be a list, got '3'"),
        ({"observation_shape": [4]}, r"weight has shape \(8, 3\), its configuration asks for \(8, 4\)"),
        ({"action_size": 3}, r"_mu.weight has shape \(2, 6\), its configuration asks for \(3, 6\)"),
        ({"config": {"type": "iql"}}, "'params' must be a dict, it has"),
        (encoder("pixel"), "the actor reads images .encoder factory 'pixel'.; only 'default' and 'vector'"),
        (encoder("mine"), "an encoder of its own kind .encoder factory 'mine'."),
        (encoder("simba"), "encoder factory 'simba'"),
        (encoder(use_dense=True), "use_dense=True of encoder factory 'vector' cannot be read"),
        (encoder(use_batch_norm="yes"), "use_batch_norm='yes' of encoder factory"),
        (encoder(hidden_units=[8, -6]), r"hidden_units=\[8, -6\]"),
        (encoder(hidden_units=[]), r"hidden_units=\[\]"),
        (encoder(hidden_units=[8, 7]), r"weight has shape \(6, 8\), its configuration asks for \(7, 8\). Do weights"),
        (encoder(hidden_units=[8]), r"_mu.weight has shape \(2, 6\)"),
        (encoder(hidden_units=[8, 6, 6]), "has no '_encoder._layers.4.weight'"),
        (encoder(activation="geglu"), "Unknown activation 'geglu'.*Known: gelu, none, relu, swish, tanh"),
        (encoder(activation=""), "Unknown activation ''"),
        (encoder(last_activation=""), "Unknown activation ''"),
        (encoder(use_batch_norm=True), "_encoder._layers.2.weight of the actor must hold 8 finite numbers"),
        ({"observation_scaler": {"type": "pixel", "params": {}}}, "observations are images .scaler 'pixel'."),
        ({"observation_scaler": {"type": "tuple", "params": {}}}, "observations are tuples of arrays"),
        ({"observation_scaler": {"type": "robust", "params": {}}}, "Unknown observation scaler 'robust'"),
        ({"observation_scaler": None}, "'observation_scaler' must be a dict, got 'None'"),
        ({"observation_scaler": standard([0, 0], [1, 1])}, "'mean' of scaler 'standard' must hold 3 finite numbers"),
        ({"observation_scaler": standard([0, 0, float("nan")], [1] * 3)}, "'mean' of scaler"),
        ({"observation_scaler": standard([0, 0, 10**400], [1] * 3)}, "'mean' of scaler"),
        ({"observation_scaler": standard([0] * 3, [1, 1, 0], eps=0)}, "std . eps of the observation scaler must be"),
        (
            {"observation_scaler": {"type": "standard", "params": {"mean": None}}},
            "its statistics are missing: no 'mean'",
        ),
        ({"observation_scaler": min_max([0] * 3, [1, 0, 1])}, "minimum of the observation scaler must be below"),
        ({"action_scaler": min_max([0, 0], [1, 0])}, "minimum of the action scaler must be below maximum"),
        ({"action_scaler": standard([0] * 2, [1] * 2)}, "Unknown action scaler 'standard'"),
    ],
)
def test_configurations_that_cannot_be_followed_are_refused_by_name(tmp_path, task, changes, text):
    refused(write_d3(tmp_path / "model.d3", STATES, edited(**changes)), task, text)


@pytest.mark.parametrize("config", ["", "[]", "{", "[" * 100_000, "{}"])
def test_configurations_that_are_none_are_refused(tmp_path, task, config):
    refused(
        write_d3(tmp_path / "model.d3", STATES, config), task, "model.d3'.*( is not JSON| is a list|'config' must be)"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"_mu.weight": torch.ones(2, 6) * torch.nan}, "12 of 12 numbers of _mu.weight are NaN or infinite"),
        ({"_mu.weight": "text"}, "'_mu.weight' of the actor is no plain array"),
        ({"_encoder._layers.1.weight": torch.ones(8)}, r"holds \['_encoder._layers.1.weight'\] beyond what"),
        ({"_encoder._layers.0.weight": torch.ones(8, 3).to_sparse()}, "holds torch._utils._rebuild_sparse_tensor"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(tmp_path, task, change, text):
    path = write_d3(tmp_path / "model.d3", d3rlpy_states(actor_state(LAYERS) | change), d3rlpy_config())
    refused(path, task, text)

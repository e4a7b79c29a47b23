"""ONNX: the same answers as the module itself, out of models that can neither open files nor call strangers' code."""

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cdsa_baselines.foreign.onnx import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import make_onnx, random_layers, sac_state, write_sb3_zip
from .programs import (
    ANY_BATCH,
    NETWORKS,
    A,
    S,
    check_parity,
    check_sidecar,
    network,
    observations,
    program_task,
    sidecar,
    write_export,
    write_onnx,
)


@pytest.fixture(scope="module")
def task():
    return program_task()


@pytest.fixture
def path(tmp_path, task):
    return make_onnx(tmp_path, task)


def changed(path, change):
    """The model at `path` after `change(model)`."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_answers_as_the_module_itself(tmp_path, task, kind):
    path = write_onnx(tmp_path / "net.onnx", network(kind))
    policy = check_parity(load, sidecar(path, output="mean") if kind == "gaussian" else path, network(kind), task)
    assert policy.on_host


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_model_for_one_row_is_run_row_by_row(tmp_path, task, kind):
    path = write_onnx(tmp_path / "net.onnx", network(kind), batch=1)
    check_parity(load, sidecar(path, output=1) if kind == "gaussian" else path, network(kind), task)


def test_weights_in_a_file_beside_the_model_are_taken_in(tmp_path, task):
    # The newer exporter puts them there by default.
    net, path = network("residual"), tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(2, S),), str(path), dynamic_shapes=ANY_BATCH, verbose=False)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    assert all(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors if tensor.name == "first.weight")
    check_parity(load, path, net, task)
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(InputError, match="'net.onnx.data', which is not beside it. Copy that file too"):
        load(path, task)


def test_the_sidecar_scales_and_standardises(tmp_path):
    check_sidecar(load, write_onnx(tmp_path / "net.onnx", network("residual")), network("residual"))


# ---- files that attack -----------------------------------------------------------------------------------------------


def external(location, **entries):
    """A change that lets the first weight say it lies in the file `location`."""

    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))

    return change


@pytest.mark.parametrize("location", ["../secret", "{absolute}", "folder/../../secret", "..\\secret", "..", "", "link"])
def test_weights_outside_the_folder_are_never_opened(tmp_path, task, location):
    folder = tmp_path / "folder"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(np.zeros(16 * S, np.float32).tobytes())
    (folder / "link").symlink_to(secret)
    path = changed(make_onnx(folder, task), external(location.format(absolute=secret)))
    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match="from a plain file beside the model alone. Nothing was opened"):
            reader()


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"offset": -4}, "bytes -4 to"),
        ({"length": 1 << 40}, "bytes 0 to 1099511627776; that file holds 8"),
        ({"offset": 9}, "bytes 9 to 8"),
        ({"offset": "x"}, "at a place that is no number"),
        ({}, "not a valid ONNX model|refused by onnxruntime"),  # 8 bytes where 320 are needed
    ],
)
def test_weights_at_impossible_places_are_refused(path, task, entries, text):
    (path.parent / "weights").write_bytes(b"\0" * 8)
    with pytest.raises(InputError, match=text):
        load(changed(path, external("weights", **entries)), task)


def test_a_weight_hidden_in_an_attribute_is_found(path, task):
    def change(model):
        tensor = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="../secret")
        branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "then", [], [])
        model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))

    with pytest.raises(InputError, match="Nothing was opened"):
        load(changed(path, change), task)


@pytest.mark.parametrize(("domain", "name"), [("evil.ops", "System"), ("com.microsoft", "EPContext"), ("x", "PyOp")])
def test_an_operator_of_another_maker_is_refused(path, task, domain, name):
    def change(model):
        model.opset_import.add(domain=domain, version=1)
        model.graph.node.append(helper.make_node(name, ["obs"], ["more"], domain=domain, ep_cache_context="attacked"))

    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match=f"it calls {domain}::{name}.*Nothing in it was executed"):
            changed(path, change)
            reader()
    assert not (path.parent / "attacked").exists()


def test_an_operator_of_another_maker_inside_a_function_is_refused(path, task):
    def change(model):
        body = [helper.make_node("System", ["a"], ["b"], domain="evil.ops")]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil.ops", 1)]
        model.functions.append(helper.make_function("own", "Wrapped", ["a"], ["b"], body, opsets))
        model.opset_import.add(domain="own", version=1)
        model.graph.node.append(helper.make_node("Wrapped", ["obs"], ["more"], domain="own"))

    with pytest.raises(InputError, match="it calls evil.ops::System"):
        load(changed(path, change), task)


def test_functions_that_the_file_defines_by_standard_operators_are_run(tmp_path, task):
    body, opsets = [helper.make_node("Tanh", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Squash", ["a"], ["b"], body, opsets)
    path = make_onnx(tmp_path, task)
    wanted = load(path, task)(observations(20))

    def change(model):
        model.functions.append(function)
        model.opset_import.add(domain="own", version=1)
        node = next(node for node in model.graph.node if node.op_type == "Tanh")
        node.op_type, node.domain = "Squash", "own"

    assert torch.equal(load(changed(path, change), task)(observations(20)), wanted)


def test_random_operators_are_refused(path, task):
    def change(model):
        model.graph.node.append(helper.make_node("RandomNormal", [], ["noise"], shape=[1]))

    with pytest.raises(InputError, match="draws random numbers .RandomNormal."):
        load(changed(path, change), task)


# ---- other files -----------------------------------------------------------------------------------------------------


def sizes(graph_input, *values):
    for size, value in zip(graph_input.type.tensor_type.shape.dim, values, strict=True):
        size.ClearField("dim_param")
        size.dim_value = value


def more_inputs(model):
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("noise", 1, ["B", 2]))


def no_nodes(model):
    del model.graph.node[:]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (more_inputs, r"takes 2 inputs .obs, noise., expected the observations"),
        (
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11),
            "observations as double, expected float",
        ),
        (lambda m: sizes(m.graph.input[0], 3, S), "batches of exactly 3 observations. Export it for any number"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(), "observations of 1 axes, expected .B, S."),
        (no_nodes, "is not an ONNX model: it holds no graph"),
        (lambda m: m.graph.node[0].input.__delitem__(slice(1, None)), "refused by onnxruntime|not a valid"),
        (lambda m: setattr(m.opset_import[0], "version", 9999), "refused by onnxruntime|not a valid"),
    ],
)
def test_a_model_that_is_no_policy_is_refused(path, task, change, text):
    with pytest.raises(InputError, match=text):
        load(changed(path, change), task)


def test_weights_listed_among_the_inputs_are_no_inputs(path, task):
    wanted = load(path, task)(observations(20))

    def change(model):
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))

    assert torch.equal(load(changed(path, change), task)(observations(20)), wanted)


def test_other_files_are_refused_by_name(tmp_path, path, task):
    whole = path.read_bytes()
    spoilt = {"empty": b"", "text": b"weights", "cut": whole[: len(whole) // 2], "changed": whole[::-1]}
    spoilt["export"] = write_export(tmp_path / "net.pt2", nn.Linear(S, A)).read_bytes()
    spoilt["agent"] = write_sb3_zip(tmp_path / "agent.zip", sac_state(random_layers(S, 8, A))).read_bytes()
    for name, content in spoilt.items():
        other = tmp_path / f"{name}.onnx"
        other.write_bytes(content)
        for reader in (lambda other=other: load(other, task), lambda other=other: inspect(other)):
            with pytest.raises(InputError, match=f"{name}.onnx' is not a(n| valid) ONNX model"):
                reader()
    assert inspect(tmp_path / "net.pt2") is None and inspect(tmp_path / "agent.zip") is None


def test_a_file_above_the_limit_is_refused_unread(path, task, monkeypatch):
    monkeypatch.setattr("cdsa_baselines.foreign.onnx.LIMIT", 100)
    with pytest.raises(InputError, match="more than the limit of 100"):
        load(path, task)


def test_without_its_packages_the_error_names_the_extra(path, task, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match=r"needs onnx and onnxruntime.*pip install 'cdsa-lightning\[onnx\]'"):
            reader()


def test_inspect_tells_shapes_operators_and_producer(path):
    found = inspect(path)
    assert (found.format, found.obs_dim, found.action_dim) == ("ONNX model", S, A)
    assert found.details["operators"] == "Gemm, Tanh" and found.details["opset"] == "ai.onnx 17"
    assert found.details["outputs"] == f"action [any, {A}]" and not found.notes
    one = inspect(changed(path, lambda model: sizes(model.graph.input[0], 1, S)))
    assert "acts row by row" in one.notes[0]
    assert numpy_helper.to_array(onnx.load(path).graph.initializer[0]).shape == (16, S)

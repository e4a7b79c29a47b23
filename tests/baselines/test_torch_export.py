"""torch.export: the same answers as the module itself, out of archives that are read and never run."""

import io
import json
import warnings

import pytest
import torch
from torch import nn
from torch._export.verifier import SpecViolationError

from cdsa_baselines.foreign.torch_export import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import random_layers, sac_state, write_sb3_zip
from .programs import (
    NETWORKS,
    A,
    S,
    check_parity,
    check_sidecar,
    network,
    program_task,
    rewrite,
    sidecar,
    write_export,
    write_script,
)


@pytest.fixture(scope="module")
def task():
    return program_task()


@pytest.mark.parametrize("decompose", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_answers_as_the_module_itself(tmp_path, task, kind, decompose):
    path = write_export(tmp_path / "net.pt2", network(kind), decompose=decompose)
    check_parity(load, sidecar(path, output="mean") if kind == "gaussian" else path, network(kind), task)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_graph_for_one_row_is_mapped_over_all(tmp_path, task, kind):
    path = write_export(tmp_path / "net.pt2", network(kind), batch=1)
    check_parity(load, sidecar(path, output="mean") if kind == "gaussian" else path, network(kind), task)


def test_a_graph_for_several_rows_alone_is_refused_with_the_remedy(tmp_path, task):
    path = write_export(tmp_path / "net.pt2", network("residual"), batch=3)
    with pytest.raises(InputError, match="for batches of exactly 3 observations. Export it for any .*Dim.DYNAMIC"):
        load(path, task)
    assert "cannot act" in inspect(path).notes[0]


def test_the_sidecar_scales_and_standardises(tmp_path):
    check_sidecar(load, write_export(tmp_path / "net.pt2", network("residual")), network("residual"))


def test_weights_of_older_releases_are_read_as_state_dicts(tmp_path, task):
    path = as_older_release(write_export(tmp_path / "net.pt2", network("residual")), network("residual"))
    check_parity(load, path, network("residual"), task)


def as_older_release(path, net, weights=None):
    """The layout of PyTorch 2.8: weights and constants by torch.save instead of raw numbers."""
    constants = {"scale": net.scale} if hasattr(net, "scale") else {}
    for kind, state in (("weights", weights or dict(net.state_dict())), ("constants", constants)):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        changes = {f"/data/{kind}/model_{kind}_config.json": lambda _, buffer=buffer: buffer.getvalue()}
        rewrite(path, changes, {f"/data/{kind}/model_{kind}_config.json": f"/data/{kind}/model.pt"})
    return path


# ---- files that attack -----------------------------------------------------------------------------------------------


class Attack:
    """Unpickled, it leaves a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed(content, change):
    program = json.loads(content)
    change(program)
    return json.dumps(program).encode()


def torch_loader(path):
    """What PyTorch's own loader makes of the file: the attacks must work there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(path)


def test_pickled_example_inputs_are_never_opened(tmp_path, task):
    target, path = tmp_path / "attacked", write_export(tmp_path / "net.pt2", network("residual"))
    rewrite(path, {"/data/sample_inputs/model.pt": lambda _: saved(Attack(target))})
    check_parity(load, path, network("residual"), task)
    assert inspect(path).obs_dim == S
    assert not target.exists()


def test_pickled_weights_are_refused_unopened(tmp_path, task):
    target, path = tmp_path / "attacked", write_export(tmp_path / "net.pt2", nn.Linear(S, A))

    def change(config):
        config["config"]["bias"]["use_pickle"] = True

    changes = {"weights_config.json": lambda old: changed(old, change), "weight_1": lambda _: saved(Attack(target))}
    rewrite(path, changes)
    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match="refused: 'bias' .* is a pickled object, and pickles are never opened"):
            reader()
    assert not target.exists()
    with pytest.raises(SpecViolationError):  # PyTorch's loader stumbles over the type, after it ran the attack.
        torch_loader(path)
    assert target.exists()


def test_a_pickle_among_the_weights_of_older_releases_is_refused(tmp_path, task):
    target, path = tmp_path / "attacked", write_export(tmp_path / "net.pt2", nn.Linear(S, A))
    as_older_release(path, nn.Linear(S, A), {"weight": torch.ones(A, S), "bias": Attack(target)})
    with pytest.raises(InputError, match="was refused.*Nothing in it was executed"):
        load(path, task)
    assert not target.exists()


def test_symbolic_expressions_are_never_evaluated(tmp_path, task):
    target, path = tmp_path / "attacked", write_export(tmp_path / "net.pt2", network("residual"))
    evil = f"__import__('pathlib').Path({str(target)!r}).touch() or Symbol('s77', positive=True, integer=True)"

    def change(program):
        for meta in program["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = evil

    rewrite(path, {"/models/model.json": lambda old: changed(old, change)})
    check_parity(load, path, network("residual"), task)
    assert not target.exists()
    torch_loader(path)
    assert target.exists()


def text(value):
    return {"name": "x", "arg": {"as_string": value}, "kind": 1}


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.aten.save.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.randn.default",
        "torch.ops.aten.linear.default.__class__",
        "torch.ops.aten.linear.__init__",
        "torch.ops.prim.Print.default",
        "torch.ops.higher_order.cond",
        "_operator.attrgetter",
        "math.__loader__",
        "#extension:op",
    ],
)
def test_a_call_beyond_the_allow_list_is_refused(tmp_path, task, target):
    path = write_export(tmp_path / "net.pt2", nn.Linear(S, A))
    evil = {"target": target, "inputs": [text(f"touch {tmp_path / 'attacked'}")], "outputs": [], "metadata": {}}

    def change(program):
        program["graph_module"]["graph"]["nodes"].insert(0, evil)

    rewrite(path, {"/models/model.json": lambda old: changed(old, change)})
    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match="refused: it calls .*Nothing in it was executed"):
            reader()
    assert not (tmp_path / "attacked").exists()


def test_compiled_code_is_refused(tmp_path, task):
    path = write_export(tmp_path / "net.pt2", nn.Linear(S, A))
    rewrite(path, {}, added={"data/aotinductor/model/model.so": b"\x7fELF"})
    with pytest.raises(InputError, match="compiled machine code, never run here"):
        load(path, task)


# ---- other files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["schema_version"].update(major=9), r"its schema version is 9 \(PyTorch .*, expected 8"),
        (lambda p: p["graph_module"]["graph"].pop("nodes"), "damaged .KeyError"),
        (lambda p: p["graph_module"]["graph"]["nodes"][0].update(inputs=[]), "cannot act"),
        (lambda p: p["graph_module"]["signature"]["input_specs"].pop(), "takes 0 inputs, expected the observations"),
        (lambda p: p["graph_module"]["signature"]["output_specs"].append({"buffer_mutation": {}}), "leaves something"),
        (lambda p: p.clear(), "damaged .KeyError: 'schema_version'"),
    ],
)
def test_a_damaged_graph_is_refused(tmp_path, task, change, message):
    path = write_export(tmp_path / "net.pt2", nn.Linear(S, A))
    rewrite(path, {"/models/model.json": lambda old: changed(old, change)})
    with pytest.raises(InputError, match=message):
        load(path, task)


def test_a_weight_changed_at_each_call_is_refused(tmp_path, task):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(S, A)
            self.register_buffer("calls", torch.zeros(A))

        def forward(self, obs):
            self.calls.add_(1)
            return self.layer(obs) + self.calls

    with pytest.raises(InputError, match="changes 'b_calls' at each call|leaves something behind"):
        load(write_export(tmp_path / "net.pt2", Counting().eval()), task)


def test_a_weight_that_reaches_beyond_its_numbers_is_refused(tmp_path, task):
    path = write_export(tmp_path / "net.pt2", nn.Linear(S, A))
    with pytest.raises(InputError, match="10 entries up to number 9 where 9 are stored"):
        load(rewrite(path, {"/data/weights/weight_0": lambda old: old[:-4]}), task)


def test_other_files_are_refused_by_name(tmp_path, task):
    whole = write_export(tmp_path / "whole.pt2", nn.Linear(S, A)).read_bytes()
    spoilt = {"empty": b"", "text": b"weights", "cut": whole[: len(whole) // 2], "state": saved({"a": torch.ones(2)})}
    spoilt["script"] = write_script(tmp_path / "net.pt", nn.Linear(S, A)).read_bytes()
    spoilt["agent"] = write_sb3_zip(tmp_path / "agent.zip", sac_state(random_layers(S, 8, A))).read_bytes()
    for name, content in spoilt.items():
        path = tmp_path / f"{name}.pt2"
        path.write_bytes(content)
        for reader in (lambda path=path: load(path, task), lambda path=path: inspect(path)):
            with pytest.raises(InputError, match=f"{name}.pt2' is not a torch.export archive .* or it is damaged"):
                reader()
    assert inspect(tmp_path / "net.pt") is None and inspect(tmp_path / "agent.zip") is None


def test_inspect_tells_shapes_operators_and_statistics(tmp_path):
    found = inspect(write_export(tmp_path / "net.pt2", network("residual")))
    assert (found.format, found.obs_dim, found.action_dim) == ("torch.export archive", S, A)
    assert found.statistics.startswith("none: raw observations")
    assert found.details["PyTorch"] == torch.__version__ and found.details["batch"] == "any"
    assert found.details["operators"] == "add, clamp, dropout, gelu, layer_norm, linear, mul, sub, tanh"
    several = inspect(write_export(tmp_path / "two.pt2", network("gaussian"), batch=1))
    assert several.action_dim is None and several.details["outputs"] == f"std [1, {A}], mean [1, {A}]"

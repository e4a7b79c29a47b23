"""The runtime where torch cannot be imported: the same answers, and no torch in the process."""

import json
import subprocess
import sys

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime import OnnxPolicy
from measured_correctors import questions

CODE = """
import json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "safetensors", "gymnasium"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, NoTorch())
import numpy as np
from cdsa_lightning.runtime import NumpyCorrector, NumpyPolicy, OnnxCorrector, OnnxPolicy

files, (obs, action) = sys.argv[1:5], map(json.loads, sys.argv[5:])
answers = [NumpyCorrector(files[0]).correct(obs, action), NumpyPolicy(files[1]).act(obs)]
assert not any(name.partition(".")[0] == "onnxruntime" for name in sys.modules)
answers += [OnnxCorrector(files[2]).correct(obs, action), OnnxPolicy(files[3]).act(obs)]
assert not any(name.partition(".")[0] == "torch" for name in sys.modules)
print(json.dumps([answer.tolist() for answer in answers]))
"""


def test_correctors_and_policies_run_where_torch_is_not_installed(files):
    obs, action = (rows.numpy() for rows in questions(6))
    paths = [files[kind, name].path for name in ("safetensors", "onnx") for kind in ("corrector", "policy")]
    given = [*map(str, paths), json.dumps(obs.tolist()), json.dumps(action.tolist())]
    done = subprocess.run([sys.executable, "-c", CODE, *given], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wanted = [files[kind, "torchscript"].ask(obs, action) for kind in ("corrector", "policy")]
    np.testing.assert_allclose(json.loads(done.stdout), wanted * 2, atol=1e-5)


def test_without_onnxruntime_the_hint_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    try:
        OnnxPolicy(tmp_path / "policy.onnx")
    except InputError as error:
        assert 'pip install "cdsa-lightning[onnx]"' in str(error)
    else:
        raise AssertionError("a missing package went unnoticed")


def test_files_that_are_none_of_ours_are_told(tmp_path):
    for content, text in (
        (None, "There is no ONNX file"),
        (b"x", "is refused by onnxruntime"),
        (plain(), "not written by"),
    ):
        path = tmp_path / "policy.onnx"
        if content is not None:
            path.write_bytes(content)
        try:
            OnnxPolicy(path)
        except InputError as error:
            assert text in str(error)
        else:
            raise AssertionError(text)


def plain():
    """A model that says nothing about itself."""
    from onnx import TensorProto, helper

    io = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", io[:1], io[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

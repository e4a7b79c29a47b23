"""Attacks on programs: TorchScript, torch.export and ONNX files that ask for endless work, memory, or other files."""

import json
import re

import numpy as np
import onnx

from fuzz.attacks_archives import ZIP, members
from fuzz.attacks_text import COMMAND, FILE
from fuzz.attacks_torch import PICKLE
from fuzz.mutations import write_zip

make_node, make_info = onnx.helper.make_node, onnx.helper.make_tensor_value_info


# ---- TorchScript ---------------------------------------------------------------------------------------------------


def _body(name, column, *lines, extra="", constants=""):
    """The forward of the outermost module becomes these lines; they have `self` and `obs`."""

    def attack(folder, path):
        changed = []
        for title, content in members(path):
            if title.endswith(".py") and b"def forward" in content and b"class Gaussian" in content:
                body = "\n".join(f"    {line}" for line in lines)
                head = re.search(rb"class Gaussian\(Module\):\n((?:  __\w+__ = .*\n|  \w+ : .*\n)*)", content)[
                    0
                ].decode()
                text = (
                    f"{constants}{head}  def forward(self: __torch__.X,\n    obs: Tensor) -> Tensor:\n{body}\n{extra}"
                )
                content = text.encode()
            changed.append((title, content))
        path.write_bytes(write_zip(changed))

    attack.__name__ = name
    return column, attack


SCRIPT = [
    *ZIP,
    *PICKLE,
    _body("os_system", "code", f'x = os.system("{COMMAND}")', "return x"),
    _body("ops_of_others", "code", "x = ops.aten.from_file(obs)", "return x"),
    _body("native_class", "code", "x = __torch__.torch.classes.rnn.Cell(obs)", "return x"),
    _body("dunder", "code", "x = obs.__class__.__bases__", "return x"),
    _body("saves_a_file", "code", 'x = torch.save(obs, "saved")', "return x"),
    _body("reads_a_file", "places", 'x = torch.from_file("/etc/passwd", False, 10)', "return x"),
    _body("endless_loop", "bombs", "for i in range(1000000000000):", "  x = torch.add(obs, 1)", "return x"),
    _body("loops_in_loops", "bombs", *("  " * n + f"for i{n} in range(100000):" for n in range(6)), " " * 12 + "pass",
          "return obs"),
    _body("huge_zeros", "bombs", "x = torch.zeros([1000000, 1000000])", "return x"),
    _body("huge_ones", "bombs", "x = torch.ones([100000, 10000], dtype=6)", "return x"),
    _body("huge_repeat", "bombs", "x = torch.repeat(obs, [1000000, 1000000])", "return x"),
    _body("outer_products", "bombs", "x = torch.reshape(obs, [-1])", *(["x = torch.reshape(torch.outer(x, x), [-1])"] * 6),  # noqa: E501
          "return x"),
    _body("doubled_list", "bombs", "l = [1, 2]", *(["l = torch.add(l, l)"] * 45), "return obs"),
    _body("doubled_text", "bombs", 'l = "ab"', *(["l = torch.format(l, l)"] * 45), "return obs"),
    _body("squared_number", "bombs", "l = 123456789", *(["l = torch.mul(l, l)"] * 45), "return obs"),
    _body("lists_of_lists", "nesting", "l = [1.]", *(["l = [l, l]"] * 60), "x = torch.tensor(l)", "return x"),
    _body("text_of_lists", "nesting", "l = [1.]", *(["l = [l, l]"] * 60), "x = str(l)", "return obs"),
    _body("equal_lists", "nesting", "l = [1.]", "m = [1.]", *(["l = [l, l]", "m = [m, m]"] * 60), "x = torch.eq(l, m)",
          "return obs"),
    _body("stacked_lists", "nesting", "l = [obs]", *(["l = torch.add(l, l)"] * 40), "x = torch.cat(l)", "return x"),
    _body("calls_itself", "nesting", "x = (self).forward(obs)", "return x"),
    _body("calls_that_double", "bombs", "x = (self).f0(obs)", "return x", extra="".join(
        f"  def f{n}(self: __torch__.X,\n    obs: Tensor) -> Tensor:\n    x = (self).f{n + 1}(obs)\n"
        f"    y = (self).f{n + 1}(obs)\n    return y\n" for n in range(50))
        + "  def f50(self: __torch__.X,\n    obs: Tensor) -> Tensor:\n    return obs\n"),
    _body("deep_expression", "nesting", "x = " + "torch.neg(" * 3000 + "obs" + ")" * 3000, "return x"),
    _body("deep_minus", "nesting", "x = " + "-" * 50_000 + "1", "return obs"),
    _body("deep_attributes", "nesting", "x = obs" + ".a" * 100_000, "return obs"),
    _body("long_chain_of_calls", "nesting", "x = obs" + "()" * 100_000, "return obs"),
    _body("wrong_index", "values", "x = torch.select(obs, 1, 99999999999)", "return x"),
    _body("own_memory", "values", "x = torch.as_strided(obs, [1000], [1], 0)", "return x"),
    _body("uninitialised", "values", "x = torch.empty([5, 2])", "return x"),
    _body("endless_list", "bombs", "l = [1]", "for i in range(1000000000):", "  _0 = torch.append(l, 1)", "return obs"),
    _body("long_range", "bombs", "x = torch.arange(1000000000000)", "return x"),
    _body("wide_one_hot", "bombs", "x = torch.one_hot(torch.to(obs, 4), 1000000000)", "return x"),
    _body("wide_pad", "bombs", "x = torch.constant_pad_nd(obs, [0, 10000000000], 0.)", "return x"),
    _body("expanded", "bombs", "x = torch.contiguous(torch.expand(torch.ones([1]), [1000000, 1000000]))", "return x"),
]  # fmt: skip


# ---- torch.export --------------------------------------------------------------------------------------------------


def _program(name, column, change):
    def attack(folder, path):
        changed = []
        for title, content in members(path):
            if "/models/" in title and title.endswith(".json"):
                content = json.dumps(change(json.loads(content))).encode()
            changed.append((title, content))
        path.write_bytes(write_zip(changed))

    attack.__name__ = name
    return column, attack


def _nodes(change):
    def changed(program):
        graph = program["graph_module"]["graph"]
        graph["nodes"] = change(graph["nodes"])
        return program

    return changed


def _calling(target, *inputs):
    """The first node calls something else before what it called."""

    def change(nodes):
        given = [{"name": "", "arg": arg, "kind": 1} for arg in inputs]
        extra = {"target": target, "inputs": given, "outputs": [{"as_tensor": {"name": "extra"}}], "metadata": {}}
        return [extra, *nodes]

    return _nodes(change)


def _repeated(nodes):
    """Each result is joined with itself, forty times over."""
    joined, name = [], nodes[-1]["outputs"][0]["as_tensor"]["name"]
    for number in range(40):
        new = f"{name}_{number}"
        tensors = {"as_tensors": [{"name": name}, {"name": name}]}
        given = [{"name": "tensors", "arg": tensors, "kind": 1}]
        joined.append({"target": "torch.ops.aten.cat.default", "inputs": given,
                       "outputs": [{"as_tensor": {"name": new}}], "metadata": {}})  # fmt: skip
        name = new
    return [*nodes, *joined]


ZEROS = {"as_ints": [10**6, 10**6]}
EXPORTED = [
    *ZIP,
    *PICKLE,
    _program("os_system", "code", _calling("os.system", {"as_string": COMMAND})),
    _program("reads_a_file", "places", _calling("torch.ops.aten.from_file.default", {"as_string": "/etc/passwd"})),
    _program("custom_operator", "code", _calling("torch.ops.mine.op.default", ZEROS)),
    _program("huge_zeros", "bombs", _calling("torch.ops.aten.zeros.default", ZEROS)),
    _program("doubled_tensor", "bombs", _nodes(_repeated)),
    _program("squared_number", "bombs", _calling("_operator.pow", {"as_int": 9**9}, {"as_int": 9**9})),
    _program("unknown_schema", "values", lambda program: program | {"schema_version": {"major": 99}}),
    _program("no_graph", "values", lambda program: {"schema_version": program["schema_version"]}),
    _program("many_nodes", "bombs", _nodes(lambda nodes: nodes + nodes[-1:] * 20_000)),
]


# ---- ONNX ----------------------------------------------------------------------------------------------------------


def _model(name, column, change):
    def attack(folder, path):
        model = onnx.load_model_from_string(path.read_bytes())
        change(model, path)
        path.write_bytes(model.SerializeToString())

    attack.__name__ = name
    return column, attack


def _weight(name, array):
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def _added(*nodes, weights=()):
    def change(model, path):
        model.graph.initializer.extend(weights)
        for node in reversed(nodes):
            model.graph.node.insert(0, node)

    return change


def _feeding(node, weights=(), output="big"):
    """The action becomes itself plus zero times the sum of what `node` makes, so that nothing can leave it out."""

    def change(model, path):
        model.graph.initializer.extend([*weights, _weight("zero", np.float32(0))])
        last = model.graph.node[-1]
        old = last.output[0]
        last.output[0] = "before"
        tail = [
            node,
            make_node("ReduceSum", [output], ["total"], keepdims=0),
            make_node("Mul", ["total", "zero"], ["none"]),
        ]
        model.graph.node.extend([*tail, make_node("Add", ["before", "none"], [old])])

    return change


def _loop(model, path):
    body = onnx.helper.make_graph(
        [make_node("Identity", ["c"], ["c2"]), make_node("Add", ["x", "x"], ["x2"])],
        "body",
        [make_info("i", 7, []), make_info("c", 9, []), make_info("x", 1, [])],
        [make_info("c2", 9, []), make_info("x2", 1, [])],
    )
    weights = [_weight("n", np.int64(2**60)), _weight("go", np.bool_(True)), _weight("x0", np.float32(1))]
    _feeding(make_node("Loop", ["n", "go", "x0"], ["big"], body=body), weights)(model, path)


def _functions(model, path):
    """Each function calls the next one twice, forty deep."""
    opset = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]
    for number in range(40):
        inner = f"f{number + 1}"
        nodes = [make_node(inner, ["a"], ["b"], domain="own"), make_node(inner, ["b"], ["c"], domain="own")]
        if number == 39:
            nodes = [make_node("Identity", ["a"], ["c"])]
        model.functions.append(onnx.helper.make_function("own", f"f{number}", ["a"], ["c"], nodes, opset))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    _added(make_node("f0", ["obs"], ["unused"], domain="own"))(model, path)


def _located(location):
    def change(model, path):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "8"}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def _linked(model, path):
    path.with_name("beside.data").symlink_to("/etc/passwd")
    _located("beside.data")(model, path)


def _dims(*dims):
    def change(model, path):
        for tensor in model.graph.initializer:
            del tensor.dims[:]
            tensor.dims.extend(dims)

    return change


def _ifs(depth):
    def change(model, path):
        graph = onnx.helper.make_graph([make_node("Identity", ["obs"], ["o0"])], "g", [], [make_info("o0", 1, None)])
        for number in range(1, depth):
            node = make_node("If", ["yes"], [f"o{number}"], then_branch=graph, else_branch=graph)
            graph = onnx.helper.make_graph([node], "g", [], [make_info(f"o{number}", 1, None)])
        yes = _weight("yes", np.bool_(True))
        _added(make_node("If", ["yes"], ["x"], then_branch=graph, else_branch=graph), weights=[yes])(model, path)

    return change


SHAPE = _weight("shape", np.array([10**5, 10**5], np.int64))
ONNX = [
    *FILE,
    _model("custom_operator", "code", _added(make_node("Run", ["obs"], ["x"], domain="evil"))),
    _model("climbing_weights", "places", _located("../../../../etc/passwd")),
    _model("absolute_weights", "places", _located("/etc/passwd")),
    _model("linked_weights", "places", _linked),
    _model("endless_loop", "bombs", _loop),
    _model("functions_that_double", "bombs", _functions),
    _model("huge_constant", "bombs", _feeding(make_node("ConstantOfShape", ["shape"], ["big"]), [SHAPE])),
    _model("huge_tile", "bombs", _feeding(make_node("Tile", ["obs", "shape"], ["big"]), [SHAPE])),
    _model("huge_expand", "bombs", _feeding(make_node("Expand", ["zero", "shape"], ["big"]), [SHAPE])),
    _model("huge_range", "bombs", _feeding(make_node("Range", ["from", "to", "step"], ["big"]), [
        _weight("from", np.float32(0)), _weight("to", np.float32(1e30)), _weight("step", np.float32(1e-30))])),
    _model("squared_shape", "bombs", _feeding(make_node("ConstantOfShape", ["s2"], ["big"]))),
    _model("huge_dimensions", "bombs", _dims(10**9, 10**9)),
    _model("negative_dimensions", "values", _dims(-1, 5)),
    _model("nested_branches", "nesting", _ifs(14)),
    _model("random_numbers", "values", _added(make_node("RandomNormal", [], ["x"], shape=[2]))),
    _model("no_opset", "values", lambda model, path: model.ClearField("opset_import")),
]  # fmt: skip

"""Lists of operations: each word in closed form, and lists that are refused before anything is computed."""

import math

import numpy as np
import pytest

from cdsa_lightning.runtime.operations import WORDS, Program

X = np.array([[0.5, -2.0, 3.0], [1.0, 0.0, -4.0]], np.float32)
TENSORS = {
    "policy.row": np.array([1, 2, -3], np.float32),
    "policy.one": np.array([0.5], np.float32),
    "policy.matrix": np.array([[1, 0], [0, 2], [1, 1]], np.float32),
    "policy.two": np.array([10, 20], np.float32),
}
ROW = TENSORS["policy.row"]
KNOWN = {
    "add": ([0, "policy.row"], X + ROW),
    "subtract": (["policy.row", 0], ROW - X),
    "multiply": ([0, 0], X * X),
    "divide": ([0, "policy.one"], 2 * X),
    "maximum": ([0, "policy.one"], [[0.5, 0.5, 3.0], [1.0, 0.5, 0.5]]),
    "minimum": ([0, "policy.row"], [[0.5, -2.0, -3.0], [1.0, 0.0, -4.0]]),
    "greater": ([0, "policy.one"], [[0, 0, 1], [1, 0, 0]]),
    "where": ([0, "policy.row", "policy.one"], [[1, 2, -3], [1, 0.5, -3]]),
    "abs": ([0], abs(X)),
    "cos": ([0], np.cos(X)),
    "sin": ([0], np.sin(X)),
    "exp": ([0], np.exp(X)),
    "expm1": ([0], np.exp(X) - 1),
    "sqrt": ([0], [[0.5**0.5, math.nan, 3**0.5], [1, 0, math.nan]]),
    "log": ([0], [[-math.log(2), math.nan, math.log(3)], [0, -math.inf, math.nan]]),
    "tanh": ([0], np.tanh(X)),
    "sigmoid": ([0], 1 / (1 + np.exp(-X))),
    "softplus": ([0], np.log(1 + np.exp(X))),
    "erf": ([0], np.vectorize(math.erf)(X)),
    "sum": ([0], [[1.5], [-3.0]]),
    "min": ([0], [[-2.0], [-4.0]]),
    "max": ([0], [[3.0], [1.0]]),
    "affine": ([0, "policy.matrix", "policy.two"], [[13.5, 19.0], [7.0, 16.0]]),
    "cat": ([0, 0], np.concatenate((X, X), 1)),
    "slice": ([0, 1, 3], X[:, 1:]),
}


def test_every_word_is_known_here():
    assert set(KNOWN) == set(WORDS)


@pytest.mark.parametrize("word", KNOWN)
def test_each_word_computes_its_formula(word):
    operands, wanted = KNOWN[word]
    wanted = np.asarray(wanted)
    program = Program([[word, *operands]], TENSORS, 3, wanted.shape[1])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(program(X), wanted, rtol=1e-6, atol=3e-7)
        np.testing.assert_allclose(program(X[1]), wanted[1], rtol=1e-6, atol=3e-7)
        assert program(X).dtype == np.float32 and program(X[:0]).shape == (0, wanted.shape[1])


def test_erf_sigmoid_and_softplus_hold_from_end_to_end_without_overflow():
    x = np.array([-np.inf, -1e30, -200, -3, -1e-3, 0, 1e-3, 3, 200, 1e30, np.inf], np.float32)
    known = {"erf": np.vectorize(math.erf)(x.astype(float)), "softplus": np.logaddexp(x.astype(float), 0)}
    known["sigmoid"] = 0.5 + 0.5 * np.tanh(x.astype(float) / 2)
    with np.errstate(over="ignore"):
        for word, wanted in known.items():
            np.testing.assert_allclose(Program([[word, 0]], {}, 11, 11)(x), wanted, rtol=1e-6, atol=3e-7)
    assert np.isnan(Program([["erf", 0]], {}, 1, 1)(np.array([np.nan], np.float32))).all()


def test_later_operations_see_earlier_values_and_rows_of_one_entry_spread():
    operations = [["sum", 0], ["subtract", 0, 1], ["cat", 2, 1, 0], ["slice", 3, 2, 5]]
    np.testing.assert_allclose(Program(operations, {}, 3, 3)(X[0]), [1.5, 1.5, 0.5])
    assert np.array_equal(X[0], [0.5, -2.0, 3.0])  # what was given stays


@pytest.mark.parametrize(
    ("operations", "text"),
    [
        (None, "no list of operations"),
        ({"tanh": 0}, "no list of operations"),
        ([None], "is none of abs"),
        ([[]], "is none of abs"),
        ([["__class__", 0]], "is none of abs"),
        ([[["tanh"], 0]], "is none of abs"),
        ([["tanh", 1]], "no earlier value"),
        ([["tanh", -1]], "no earlier value"),
        ([["tanh", False]], "no earlier value"),
        ([["tanh", 0.0]], "no earlier value"),
        ([["tanh", [0]]], "no earlier value"),
        ([["tanh", None]], "no earlier value"),
        ([["tanh", 10**30]], "no earlier value"),
        ([["tanh", 0], ["tanh", 2]], "operation 2 of its policy, .*no earlier value"),
        ([["tanh"]], "0 operands, expected 1"),
        ([["tanh", "policy.row"]], "0 operands, expected 1"),
        ([["add", 0]], "1 operands, expected 2"),
        ([["add", "policy.row", "policy.row"]], "expected 1"),
        ([["add", 0, "networks.obs_mean"]], "needs a tensor of 1 axes"),
        ([["add", 0, "policy.matrix"]], "needs a tensor of 1 axes"),
        ([["add", 0, "policy.hollow"]], "needs a tensor of 1 axes"),
        ([["add", 0, "policy.two"]], r"operands of \[2, 3\] entries"),
        ([["sum", 0, 0]], "2 operands, expected 1"),
        ([["sum", "policy.row"]], "no earlier value"),
        ([["cat"]], "0 operands, expected 1"),
        ([["cat", 0, "policy.row"]], "no earlier value"),
        ([["slice", 0]], "lies outside of 3"),
        ([["slice", 0, 1, 4]], "lies outside of 3"),
        ([["slice", 0, 1, 1]], "lies outside of 3"),
        ([["slice", 0, -1, 2]], "lies outside of 3"),
        ([["slice", 0, 0.0, 2]], "lies outside of 3"),
        ([["slice", 0, 0, 10**30]], "lies outside of 3"),
        ([["affine", 0, "policy.matrix"]], "2 operands, expected 3"),
        ([["affine", 0, 0, 0]], "needs a tensor of 2 axes"),
        ([["affine", 0, "policy.matrix", "policy.row"]], "has weights of shape"),
        ([["slice", 0, 0, 2], ["affine", 1, "policy.matrix", "policy.two"]], "has weights of shape"),
        ([["affine", 0, "policy.broken", "policy.two"]], "not finite"),
        ([["slice", 0, 0, 2]], "answers 2 entries, expected 3"),
        ([], "answers 1 entries, expected 3"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_computed(operations, text):
    tensors = {**TENSORS, "policy.broken": np.full((3, 2), np.inf, np.float32), "policy.hollow": np.ones(0, np.float32)}
    with pytest.raises(ValueError, match=text):
        Program(operations, tensors, 3 if operations else 1, 3)


def test_lists_that_grow_or_repeat_without_end_are_refused():
    square = {"policy.0": np.ones((2000, 2000), np.float32), "policy.1": np.ones(2000, np.float32)}
    doubled = [["cat", number, number] for number in range(60)]
    long = [["tanh", number] for number in range(40_000)]
    again = [["affine", number, "policy.0", "policy.1"] for number in range(20)]
    for operations, tensors, width in ((doubled, {}, 2), (long, {}, 3), (again, square, 2000)):
        with pytest.raises(ValueError, match="asks for more than a policy of its weights needs"):
            Program(operations, tensors, width, width)
    Program(again[:10], square, 2000, 2000), Program(long[:9000], {}, 3, 3)

"""Attacks on lists of operations: policies in safetensors files that ask for work, memory, files, or other values."""

import json
import struct

import numpy as np

from fuzz.attacks_archives import SAFETENSORS, rewritten


def _operations(name, column, change):
    """The list of the file becomes what `change` makes of it."""

    def on(header, content):
        said = json.loads(header.get("__metadata__", {}).get("cdsa", "{}"))
        said["policy"] = change(said.get("policy", []))
        header["__metadata__"] = {"cdsa": json.dumps(said)}
        return header, content

    return rewritten(name, column, on)


def _before(*operations):
    """These first; what follows takes their last value for the observation."""

    def change(old):
        def moved(word, operands):
            values = operands[:1] if word == "slice" else operands  # behind it stand no values
            return [one + len(operations) if isinstance(one, int) else one for one in values] + operands[len(values) :]

        return [*operations, *([word, *moved(word, operands)] for word, *operands in old)]

    return change


def _filled(value):
    def change(header, content):
        parts = np.frombuffer(content, "<f4").copy()
        for name, entry in header.items():
            if name.startswith("policy."):
                parts[slice(*(at // 4 for at in entry["data_offsets"]))] = value
        return header, parts.tobytes()

    return change


def _overlapping(header, content):
    """Ten thousand names for the bytes of one matrix."""
    entry = max((one for name, one in header.items() if name != "__metadata__"), key=lambda one: one["data_offsets"][1])
    return header | {f"policy.x{number}": entry for number in range(10_000)}, content


def _wide_observation(header, content):
    said = json.loads(header.get("__metadata__", {}).get("cdsa", "{}"))
    said |= {"obs_dim": 10**12, "state_index": [0, 1, 2], "policy": [["tanh", 0], ["slice", 1, 0, 2]]}
    return header | {"__metadata__": {"cdsa": json.dumps(said)}}, content


def _deep(header, content):
    said = json.loads(header.get("__metadata__", {}).get("cdsa", "{}"))
    text = json.dumps(said)[:-1] + ', "policy": ' + "[" * 100_000 + "]" * 100_000 + "}"
    return header | {"__metadata__": {"cdsa": text}}, content


FUSED = [
    *SAFETENSORS,
    _operations("doubled_rows", "bombs", lambda old: [["cat", number, number] for number in range(100)]),
    _operations("rows_that_grow", "bombs", lambda old: [["cat", *range(number + 1)] for number in range(1000)]),
    _operations("endless_tanh", "bombs", _before(*(["tanh", number] for number in range(40_000)))),
    _operations("long_cat", "bombs", lambda old: [["cat", *[0] * 200_000]]),
    _operations("long_slice", "bombs", _before(["slice", 0, 0, 10**18])),
    rewritten("a_name_for_each", "bombs", _overlapping),
    rewritten("wide_observation", "bombs", _wide_observation),
    _operations("numpys_other_functions", "code", lambda old: [["save", 0], ["__import__", "policy.0"], ["eval", "x"]]),
    _operations("numpys_readers", "places", lambda old: [["load", "/etc/passwd"], ["fromfile", "/etc/passwd"]]),
    rewritten("deep_operations", "nesting", _deep),
    _operations("own_value", "values", _before(["tanh", 1])),
    _operations("earlier_than_all", "values", _before(["tanh", -1])),
    _operations("truth_for_a_value", "values", _before(["tanh", False])),
    _operations("weights_of_the_corrector", "values", _before(["add", 0, "networks.obs_mean"])),
    _operations("words_of_words", "values", _before([["tanh"], 0])),
    _operations("no_operations", "values", lambda old: []),
    _operations("an_object", "values", lambda old: {"tanh": 0}),
    _operations("logarithms", "values", _before(["log", 0], ["sqrt", 1], ["divide", 2, 2])),
    rewritten("not_a_number", "values", _filled(float("nan"))),
    rewritten("infinite", "values", _filled(float("inf"))),
    rewritten("largest", "values", _filled(struct.unpack("<f", b"\xff\xff\x7f\x7f")[0])),
]

r"""The tensors of a corrector file, read with the standard library and NumPy; nothing in it is believed unchecked.

    8 bytes: length n | n bytes: JSON, name -> {"dtype", "shape", "data_offsets": [start, end)} | numbers

A tensor is a view of bytes that are there: what a header claims is compared with the file's size before any is read.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.core.artifact import POLICY, read_content, read_header
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime.folding import Source
from cdsa_lightning.runtime.operations import PREFIX, Program
from cdsa_lightning.untrusted import parse_json

__all__ = ["read_corrector"]


def read_corrector(path: str | Path) -> tuple[dict[str, Any], Source, Program | None]:
    """A corrector's header and tensors, and the policy that it is fused with, None where it is alone.

    Raises:
        InputError: missing, damaged, changed since it was written, of another kind, or with tensors that do not fit
            its header.
    """
    header, content = read_header(path), read_content(path)
    try:
        tensors = _tensors(content)
        source = Source(tensors, header["networks"], header["state_index"], bool(header.get("ensemble", False)))
        _check(header, source)
        Coefficients.from_dict(header["coefficients"])
        program = _policy(header, tensors)
    except (InputError, KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise InputError(f"{path} is damaged: {reason.rstrip('.')}. Fit it again, or copy it again.") from None
    return header, source, program


def _policy(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> Program | None:
    if header.get(POLICY) is None:
        return None
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    return Program(header[POLICY], own, header["obs_dim"], header["action_dim"])


def _tensors(content: bytes) -> dict[str, np.ndarray]:
    (length,) = struct.unpack("<Q", content[:8])
    table = parse_json(content[8 : 8 + length])
    start, found, claimed = 8 + length, {}, 0
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        (begin, end), shape = entry["data_offsets"], entry["shape"]
        numbers = [begin, end, *shape]
        if entry["dtype"] != "F32" or any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f"{name[:80]!r} is {entry['dtype']} {shape}, expected numbers of 32 bits")
        if end - begin != 4 * math.prod(shape) or start + end > len(content):
            raise ValueError(f"{name[:80]!r} claims bytes {begin} to {end} of {len(content) - start} for {shape}")
        claimed += end - begin
        if claimed > len(content) - start:
            raise ValueError(f"{name[:80]!r} claims bytes that belong to another tensor")
        array = np.frombuffer(content, "<f4", (end - begin) // 4, start + begin).reshape(shape)
        # A bound may be infinite, and nothing else; `Program` looks at the weights of a policy.
        bounds = name in ("low", "high") or name.startswith(PREFIX)
        if np.isnan(array).any() if bounds else not np.isfinite(array).all():
            raise ValueError(f"{name[:80]!r} holds values that are not finite: its training diverged")
        found[name] = array
    return found


def _check(header: dict[str, Any], source: Source) -> None:
    """Every product that `fold` takes must fit, and every index lie inside."""
    tensors, settings, index = source.tensors, header["networks"], source.state_index
    obs_dim, action_dim, members = header["obs_dim"], header["action_dim"], source.members
    levels, seen = len(settings["action_sigmas"]), obs_dim if index is None else len(index)
    if type(obs_dim) is not int or any(type(i) is not int or not 0 <= i < obs_dim for i in index or ()):
        raise ValueError(f"state_index {index} names entries that an observation of {obs_dim} lacks")
    sigmas = [settings["state_sigma"], *settings["action_sigmas"]]
    if type(settings["standardize"]) is not bool or any(type(sigma) not in (int, float) for sigma in sigmas):
        raise ValueError(f"its networks are {settings}")
    if settings["predict"] not in ("score", "noise") or not all(s > 0 for s in settings["action_sigmas"]):
        raise ValueError(f"its networks are {settings}")
    answering = 1 if source.ensemble else members
    pair = seen + action_dim
    inputs = {"action_score": pair, "inverse_dynamics": 2 * seen}
    inputs["state_score"] = pair if settings["state_score_input"] == "state_action" else seen
    outputs = {"action_score": action_dim, "inverse_dynamics": action_dim, "state_score": seen}
    for net in inputs:
        copies = members * (levels if net == "action_score" else 1)
        _check_net(tensors, net, copies, inputs[net], outputs[net])
    shapes = {
        "noise_quantiles": (levels, answering, 101),
        **dict.fromkeys(("low", "high", "networks.action_mean", "networks.action_std"), (action_dim,)),
        **dict.fromkeys(("networks.obs_mean", "networks.obs_std"), (seen,)),
    }
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} has shape {tensors[name].shape}, expected {shape}")


def _check_net(tensors: Any, net: str, copies: int, inputs: int, outputs: int) -> None:
    number = 0
    while (name := f"networks.{net}.layers.{number}") + ".weight" in tensors:
        weight, bias = tensors[f"{name}.weight"].shape, tensors[f"{name}.bias"].shape
        if len(weight) != 3 or weight[:2] != (copies, inputs) or bias != (copies, 1, weight[2]):
            raise ValueError(f"{name} has shapes {weight} and {bias}, expected {copies} maps of {inputs} entries")
        inputs, number = weight[2], number + 1
    if number == 0 or inputs != outputs:
        raise ValueError(f"{net} answers {inputs if number else 'no'} entries, expected {outputs}")

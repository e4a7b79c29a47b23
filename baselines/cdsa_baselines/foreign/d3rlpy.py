r"""Actors of d3rlpy (Seno and Imai, JMLR 23, 2022), versions 2.1 to 2.x; perceptrons over flat observations.

    a = span(tanh(W phi(u) + b))     what `predict` answers, for every algorithm in `ACTORS`
    u = scaled observation           by the observation scaler: standard, min_max or none
    phi = perceptron                 by the encoder factory: default or vector

``span`` maps [-1, 1] onto the action scaler's minimum and maximum; without one, tanh's value is the action. Two files:

- ``NAME.d3``, from ``algo.save``: weights, configuration and scalers. It is a pickle, so it is read by
  `cdsa_baselines.foreign._pickle`, which executes nothing.
- ``NAME.pt``, from ``algo.save_model``: weights alone. The configuration comes from ``NAME.json`` or else, as in
  d3rlpy's log folders, from ``params.json`` beside it.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from cdsa_baselines._files import checkpoint_file, read_json
from cdsa_baselines._layers import require_widths
from cdsa_baselines.foreign._d3rlpy import (
    Affine,
    Network,
    action_span,
    member,
    observation_scaling,
    read_network,
    typed,
)
from cdsa_baselines.foreign._pickle import read_pickled_dict
from cdsa_baselines.foreign._zip import holds_members, pickled_strings, read_bytes, read_torch
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import parse_json, regular_file

__all__ = ["inspect", "load"]

ACTORS = {
    **dict.fromkeys(("awac", "cal_ql", "cql", "iql", "sac"), ("policy", "_mu")),
    **dict.fromkeys(("ddpg", "prdc", "rebrac", "td3", "td3_plus_bc"), ("policy", "_fc")),
    "bc": ("imitator", "_fc"),  # _mu where its policy_type is stochastic
}
"""Algorithm -> the name of its actor, and that of the actor's last layer."""

REFUSED = {
    **dict.fromkeys(("dqn", "double_dqn", "nfq"), "acts by discrete actions, and the method needs continuous ones"),
    **dict.fromkeys(("decision_transformer", "tacr"), "acts on a history, and a policy here on one observation"),
    **dict.fromkeys(("bear", "bcq", "crr"), "ranks random actions by its critics, and only actors are read"),
    **dict.fromkeys(("plas", "plas_with_perturbation"), "acts through a decoder, and only plain actors are read"),
    **dict.fromkeys(("fqe", "random_policy"), "has no actor"),
}
READABLE = "expected 2.1 or a later 2.x"


class _File(NamedTuple):
    """What a checkpoint holds, unchecked, and where its configuration comes from, for users."""

    config: dict[str, Any]
    states: dict[str, Any]
    source: str
    origin: str
    version: str


class _Agent(NamedTuple):
    """What a checkpoint holds, checked."""

    algorithm: str
    network: Network
    mean: np.ndarray
    std: np.ndarray
    statistics: str
    span: tuple[np.ndarray, np.ndarray] | None
    version: str


def load(checkpoint: Path | None, task: Task) -> Policy:
    """The deterministic actor of a d3rlpy checkpoint, ``.d3`` or ``.pt``.

    Args:
        checkpoint: The ``.d3`` that ``algo.save`` wrote, or the ``.pt`` of ``algo.save_model``.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: no such file, damaged, another library version's, no perceptron over continuous actions, made for
            other dimensions or action bounds, or its configuration or statistics are missing.
    """
    path = checkpoint_file("d3rlpy", checkpoint, (".d3", ".pt"))
    agent = _read(path)
    require_widths(path, agent.network.sizes[0], agent.network.sizes[-1], task)
    modules = [*agent.network.modules, nn.Tanh()]
    if agent.span is not None:
        low, high = agent.span
        slack = 0.01 * (np.asarray(task.high, float) - np.asarray(task.low, float))  # data may overshoot a little
        if (low < task.low - slack).any() or (high > task.high + slack).any():
            raise InputError(
                f"{str(path)!r} acts between {low.tolist()} and {high.tolist()} by its action scaler; task "
                f"{task.name!r} allows {np.asarray(task.low).tolist()} to {np.asarray(task.high).tolist()}."
            )
        modules.append(Affine((high - low) / 2, (high + low) / 2))
    return NormalizedPolicy(nn.Sequential(*modules), task.low, task.high, agent.mean, agent.std).eval()


def inspect(path: Path) -> Inspection | None:
    """What the d3rlpy checkpoint `path` holds; None where the file is something else.

    Raises:
        InputError: it is such a checkpoint, but damaged, or its policy cannot be read; see `load`.
    """
    if not path.is_file() or not (path.suffix == ".d3" or _is_model(path)):
        return None
    agent = _read(path)
    sizes = agent.network.sizes
    notes: tuple[str, ...] = ()
    details = {"network": f"{' - '.join(map(str, sizes))}, {agent.network.activation}"}
    if agent.version:
        details["version"] = f"d3rlpy {agent.version}"
    if agent.span is not None:
        details["bounds"] = " to ".join(str(np.round(end, 6).tolist()) for end in agent.span)
    else:
        notes = ("It has no action scaler: it acts in [-1, 1], clipped to the bounds of the task.",)
    return Inspection(
        format=f"d3rlpy {path.suffix}",
        algorithm=agent.algorithm,
        obs_dim=sizes[0],
        action_dim=sizes[-1],
        statistics=agent.statistics,
        details=details,
        notes=notes,
    )


def _is_model(path: Path) -> bool:
    """Whether a ``.pt`` names its arrays as d3rlpy does, of any version; nothing is loaded for that."""
    if path.suffix != ".pt" or not holds_members(path, ()) or _is_exported(path):
        return False
    return any("_encoder._" in name for name in pickled_strings(read_bytes(path)))


def _is_exported(path: Path) -> bool:
    """Whether a ``.pt`` is TorchScript, which ``algo.save_policy`` writes."""
    try:
        with regular_file(path) as file, zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # No archive, or one made to break the parser.
        return False


def _read(path: Path) -> _Agent:
    """The checkpoint, checked as far as it can be without a task."""
    file = _read_d3(path) if path.suffix == ".d3" else _read_pt(path)
    source = file.source
    if "config" not in file.config and "observation_shape" in file.config:
        raise InputError(f"{source} was written by d3rlpy 1.x or earlier, {READABLE}. {_export(path)}")
    algorithm, params = typed(file.config, "config", source)
    reason = REFUSED.get(algorithm, REFUSED["dqn"] if algorithm.startswith("discrete_") else "")
    if reason:
        raise InputError(f"{source}: {algorithm} {reason}. Readable are {', '.join(sorted(ACTORS))}.")
    if algorithm not in ACTORS:
        raise unknown_name("algorithm of d3rlpy", algorithm, ACTORS, f"It is named by {source}.")
    actor, last = ACTORS[algorithm]
    if algorithm == "bc" and member(params, "policy_type", (str,), source) == "stochastic":
        last = "_mu"
    shape = member(file.config, "observation_shape", (list,), source)
    if len(shape) != 1 or type(shape[0]) is not int:
        raise InputError(f"{source}: observations of shape {shape} cannot be read, only flat ones, [S].")
    ends = shape[0], member(file.config, "action_size", (int,), source)
    if not isinstance(file.states.get(actor), dict):
        raise InputError(f"{str(path)!r} holds {sorted(file.states)[:8]}, but no {actor!r}, as {algorithm} has it.")
    encoder = typed(params, "encoder_factory" if algorithm == "bc" else "actor_encoder_factory", source)
    network = read_network(file.states[actor], encoder, last, ends, source)
    mean, std, kind = observation_scaling(params, ends[0], source)
    statistics = f"{kind} of {ends[0]} entries, {file.origin}" if kind else "none: raw observations"
    return _Agent(algorithm, network, mean, std, statistics, action_span(params, ends[1], source), file.version)


def _read_d3(path: Path) -> _File:
    """What ``algo.save`` writes: the pickle of {torch: bytes, config: JSON, version: text}."""
    content = read_pickled_dict(read_bytes(path), repr(str(path)))
    texts = {name: content.get(name) for name in ("config", "version")}
    if not isinstance(content.get("torch"), bytes) or not all(isinstance(text, str) for text in texts.values()):
        raise InputError(
            f"{str(path)!r} is not what d3rlpy's save() writes: it holds {sorted(content)[:8]}, expected 'torch' "
            "(bytes), 'config' and 'version' (text)."
        )
    version = content["version"]
    if not re.match(r"2\.(?!0\b)\d", version):
        raise InputError(f"{str(path)!r} was saved by d3rlpy {version[:20]}, {READABLE}. {_export(path)}")
    try:
        config = parse_json(content["config"])
    except ValueError as error:
        raise InputError(f"The configuration in {str(path)!r} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise InputError(f"The configuration in {str(path)!r} is a {type(config).__name__}, expected an object.")
    states = read_torch(content["torch"], f"The weights in {str(path)!r}")
    return _File(config, states, repr(str(path)), "inside the file", version)


def _read_pt(path: Path) -> _File:
    """What ``algo.save_model`` writes, state dicts by name, and the configuration beside it."""
    if _is_exported(path):
        raise InputError(
            f"{str(path)!r} is a TorchScript program, as d3rlpy's save_policy() writes it, not what save_model() or "
            "save() do. Name it with --baseline torchscript."
        )
    states = read_torch(read_bytes(path), repr(str(path)))
    members = {f"{name}.{key}" for name, part in states.items() if isinstance(part, dict) for key in part}
    if any(name.startswith("_") and "_encoder._" in name for name in members):
        raise InputError(f"{str(path)!r} was saved by d3rlpy 2.0 or earlier, {READABLE}. {_export(path)}")
    beside = [path.with_suffix(".json"), path.parent / "params.json"]
    sidecar = next((file for file in beside if file.is_file()), None)
    if sidecar is not None:
        return _File(read_json(sidecar), states, repr(str(sidecar)), f"from {sidecar.name} beside it", "")
    if not any(isinstance(states.get(actor), dict) for actor, _ in ACTORS.values()):
        raise InputError(
            f"{str(path)!r} holds {sorted(states)[:8]}, and no actor of d3rlpy ('policy' or 'imitator'): it comes from "
            "another library, from DQN, which has critics alone, or from a transformer."
        )
    raise InputError(
        f"{str(path)!r} holds weights alone: scalers and shapes of networks are missing. Copy the params.json "
        f"of its log folder beside it (or as {beside[0].name!r}), or save both at once: "
        f"algo.save({path.with_suffix('.d3').name!r})."
    )


def _export(path: Path) -> str:
    """What is left to do with a file of another version."""
    return f"With that version, export the policy: algo.save_policy({path.with_suffix('.onnx').name!r})."

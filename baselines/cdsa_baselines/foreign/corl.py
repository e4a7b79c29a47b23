r"""Actors of CORL (Tarasov et al., NeurIPS 2023, single-file algorithms), told apart by the names of their tensors.

    IQL                    net.net.*         a = m tanh(net(u)); Gaussian (its mean) or deterministic
    TD3+BC, SPOT, BC       net.*             a = m tanh(net(u))
    CQL, Cal-QL            base_network.*    a = m tanh(first half of net(u)); the other half is a log-std
    SAC-N, EDAC, LB-SAC    trunk.*, mu       a = m tanh(mu(trunk(obs)))
    AWAC                   _mlp.*            a = net(u)

    u = (obs - mean) / std,     m = upper bound of the first action entry

CORL saves ``trainer.state_dict()`` as ``checkpoint_N.pt``: nested dictionaries of tensors and plain values. CQL's hold
two pickled modules besides (temperatures), which are passed over unread. None holds the observation statistics: they
come from ``checkpoint_N.stats.npz``, or from the data of training; see `_statistics`. The ``config.yaml`` that CORL
writes beside its checkpoints tells what it was trained on, ``normalize``, ``max_action``, and which part of the data BC
learned from; without it CORL's defaults hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from cdsa_baselines._files import checkpoint_file
from cdsa_baselines._layers import Layer, dense, linear, numbered_layers, require_widths
from cdsa_baselines.foreign._statistics import (
    Moments,
    best_rows,
    computed_moments,
    stored_moments,
    task_name,
    training_task,
)
from cdsa_baselines.foreign._zip import holds_members, pickled_strings, read_bytes, read_torch
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import parse_yaml

__all__ = ["inspect", "load"]

SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True)
class _Family:
    """Algorithms whose actors are laid out alike.

    Attributes:
        prefix: All before the number of a layer.
        last: Name of the last layer where it is none of the numbered ones.
        squashed: Whether a tanh and the action scale follow.
        halved: Whether the second half of the outputs is a log-std.
        normalized: Whether observations are standardised unless the configuration says otherwise.
    """

    prefix: str
    last: str = ""
    squashed: bool = True
    halved: bool = False
    normalized: bool = True


FAMILIES = {
    "IQL": _Family("net.net."),
    "TD3+BC": _Family("net."),
    "CQL": _Family("base_network.", halved=True),
    "SAC-N or EDAC": _Family("trunk.", last="mu.", normalized=False),
    "AWAC": _Family("_mlp.", squashed=False),
}


@dataclass(frozen=True)
class _Agent:
    """What is read of a checkpoint and its configuration."""

    path: Path
    algorithm: str
    family: _Family
    layers: list[Layer]
    settings: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{str(self.path)!r} (CORL {self.algorithm})"

    @property
    def sizes(self) -> list[int]:
        """Widths from the observation to the action."""
        return [self.layers[0][0].shape[1], *(weight.shape[0] for weight, _ in self.layers)]

    @property
    def trained_on(self) -> str | None:
        return next((self.settings[key] for key in ("env", "env_name", "dataset_id") if key in self.settings), None)

    @property
    def normalized(self) -> bool:
        return self.settings.get("normalize", self.settings.get("normalize_state", self.family.normalized))

    @property
    def sidecar(self) -> Path:
        return self.path.with_suffix(".stats.npz")


class _Scaled(nn.Module):
    """scale * tanh(x)."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch A"]:
        return self.scale * x.tanh()


def load(checkpoint: Path | None, task: Task) -> Policy:
    """The deterministic actor of a CORL checkpoint.

    Args:
        checkpoint: The ``.pt`` file; its ``config.yaml`` and ``NAME.stats.npz`` are used where they lie beside it.
        task: Gives the dimensions to check, the action bounds and, where they are missing, the observation statistics.

    Raises:
        InputError: no such file, damaged, no CORL actor, made for other dimensions or another action scale, or its
            observation statistics are neither stored nor computable.
    """
    path = checkpoint_file("corl", checkpoint, SUFFIXES)
    agent = _read(path, read_bytes(path))
    require_widths(path, agent.sizes[0], agent.sizes[-1], task)
    scale = _action_scale(agent, task)
    mean, std = _moments(agent, task)
    modules: list[nn.Module] = []
    for layer in agent.layers:
        modules += [linear(layer), nn.ReLU()]
    modules[-1] = _Scaled(scale) if agent.family.squashed else nn.Identity()
    return NormalizedPolicy(nn.Sequential(*modules), task.low, task.high, mean, std)


def inspect(path: Path) -> Inspection | None:
    """What the CORL checkpoint `path` holds; None where the file is something else.

    Raises:
        InputError: it is a CORL checkpoint, but damaged, or its actor cannot be read; see `load`.
    """
    if path.suffix not in SUFFIXES or not holds_members(path, ()):
        return None
    content = read_bytes(path)
    names = pickled_strings(content)
    if "actor" not in names or not any(f"{family.prefix}0.weight" in names for family in FAMILIES.values()):
        return None
    agent = _read(path, content)
    statistics = f"mean and std of {agent.sizes[0]} entries"
    stored = stored_moments(agent.sidecar, agent.sizes[0]) is not None
    missing = agent.normalized and not stored
    if stored:
        statistics += f", from {agent.sidecar.name}"
    elif missing:
        statistics = f"missing: {statistics} are computed from the data of {agent.trained_on or 'the task'} at loading"
    else:
        statistics = "none: raw observations"
    notes = [] if agent.settings else ["No config.yaml lies beside it, so CORL's defaults are taken for granted."]
    if missing and not agent.trained_on:
        notes.append("It does not tell which data it was trained on; those of the task it is loaded for are taken.")
    return Inspection(
        format="CORL checkpoint",
        algorithm=agent.algorithm,
        obs_dim=agent.sizes[0],
        action_dim=agent.sizes[-1],
        statistics=statistics,
        task=task_name(agent.trained_on) if agent.trained_on else None,
        details={"network": f"{' - '.join(map(str, agent.sizes))}, ReLU", "trained on": agent.trained_on or "not told"},
        notes=tuple(notes),
    )


def _read(path: Path, content: bytes) -> _Agent:
    state = read_torch(content, f"Checkpoint {str(path)!r}", set_aside=("Scalar",))
    actor = state.get("actor")
    if not isinstance(actor, dict) or not all(isinstance(key, str) for key in actor):
        what = "a Decision Transformer, which acts on histories" if "model_state" in state else "no CORL checkpoint"
        raise InputError(f"{str(path)!r} is {what}: expected 'actor' in it, found {_some(state)}.")
    for algorithm, family in FAMILIES.items():
        if f"{family.prefix}0.weight" in actor:
            settings = _config(path.with_name("config.yaml"))
            layers = _layers(actor, family, path)
            return _Agent(path, _name(algorithm, state, settings), family, layers, settings)
    raise InputError(f"{str(path)!r} holds the actor of none of {', '.join(FAMILIES)}. Its tensors: {_some(actor)}.")


def _layers(actor: Mapping[str, Any], family: _Family, path: Path) -> list[Layer]:
    # Where dropout stands behind each activation, it is counted too.
    stride = 3 if f"{family.prefix}3.weight" in actor else 2
    layers = numbered_layers(actor, family.prefix, path, stride)
    if family.last:
        parts = {part: actor[family.last + part] for part in ("weight", "bias") if family.last + part in actor}
        layers.append(dense(parts, family.last, path))
    if len(layers) < 2:
        raise InputError(f"{str(path)!r} holds a single layer {family.prefix}*; CORL's actors have hidden ones.")
    (_, before), (weight, bias) = layers[-2], layers[-1]
    if len(before) != weight.shape[1]:
        raise InputError(f"{str(path)!r}: a layer of {len(before)} outputs feeds one of {weight.shape[1]} inputs.")
    if family.halved:
        if len(bias) % 2:
            raise InputError(f"{str(path)!r}: expected a mean and a log-std per action entry, got {len(bias)} outputs.")
        layers[-1] = weight[: len(bias) // 2], bias[: len(bias) // 2]
    return layers


def _name(algorithm: str, state: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The algorithm among those whose actors are alike, as far as the rest of the checkpoint tells."""
    if algorithm == "TD3+BC":
        return "SPOT" if "vae" in state else algorithm if "critic_1" in state else "BC"
    if algorithm == "SAC-N or EDAC" and settings:
        return "EDAC" if "eta" in settings else "LB-SAC" if "critic_layernorm" in settings else "SAC-N"
    return algorithm


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)[:6]) or "nothing"


def _config(path: Path) -> dict[str, Any]:
    """The settings that matter of CORL's configuration, checked; none where the file is not there."""
    if not path.is_file():
        return {}
    content = read_bytes(path)
    try:
        values = parse_yaml(content.decode("utf-8"))
    except ValueError as error:
        raise InputError(f"{str(path)!r} cannot be read as YAML: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(path)!r} holds a YAML {type(values).__name__}, expected CORL's settings.")
    kinds: dict[str, type | tuple[type, ...]] = dict.fromkeys(("env", "env_name", "dataset_id"), str)
    kinds |= dict.fromkeys(("normalize", "normalize_state"), bool)
    kinds |= dict.fromkeys(("max_action", "frac", "discount"), (int, float))
    for key, kind in kinds.items():
        if key in values and not isinstance(values[key], kind):
            raise InputError(f"{str(path)!r}: {key} has the unusable value {values[key]!r}.")
    return values


def _action_scale(agent: _Agent, task: Task) -> float:
    """m, which CORL takes from the environment, but SAC-N and its kin from their configuration."""
    bound = float(task.high[0])
    if not agent.family.squashed:
        return 1.0
    if not np.isfinite(bound):
        raise InputError(f"{agent.title} spans its actions over the bounds, which are infinite in task {task.name!r}.")
    given = agent.settings.get("max_action", bound if agent.family.normalized else 1.0)
    if not np.isclose(given, bound):
        origin = "its config.yaml says" if "max_action" in agent.settings else "no config.yaml, so CORL's default is"
        raise InputError(
            f"{agent.title} was made for another action scale: {origin} max_action {given}, the actions of task "
            f"{task.name!r} reach {bound}."
        )
    return bound


def _moments(agent: _Agent, task: Task) -> Moments:
    """The sidecar first; then raw observations where there is nothing to normalise; then the training data."""
    obs_dim = agent.sizes[0]
    stored = stored_moments(agent.sidecar, obs_dim)
    if stored is not None:
        return stored
    if not agent.normalized:
        return np.zeros(obs_dim, np.float32), np.ones(obs_dim, np.float32)
    home = training_task(agent.title, agent.sidecar, agent.trained_on, task)
    if agent.algorithm != "BC":
        return computed_moments(agent.title, agent.sidecar, home, obs_dim)
    if "frac" not in agent.settings:
        raise InputError(
            f"{agent.title} was trained on the best part of its data, and only config.yaml tells which part: put it "
            f"beside the checkpoint, or store obs_mean and obs_std in {str(agent.sidecar)!r}."
        )
    frac, discount = float(agent.settings["frac"]), float(agent.settings.get("discount", 0.99))
    return computed_moments(
        agent.title, agent.sidecar, home, obs_dim, lambda reward, ends: best_rows(reward, ends, frac, discount)
    )

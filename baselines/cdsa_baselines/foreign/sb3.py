r"""Actors of Stable-Baselines3 (Raffin et al., JMLR 22, 2021): SAC, TQC, TD3, DDPG, PPO, A2C, TRPO; perceptrons only.

    SAC, TQC           a = span(tanh(mu(latent(u))))          with gSDE: mu clamped to [-clip_mean, clip_mean] first
    TD3, DDPG          a = span(tanh(mu(u)))
    PPO, A2C, TRPO     a = clip(action_net(policy_net(u)))    with squash_output: span(tanh(.))
    u = clip((obs - mean) / sqrt(var + epsilon), +-clip_obs)  where the policy was trained under VecNormalize, else obs

``span`` maps [-1, 1] onto the action bounds. Of the zip only ``policy.pth`` (weights) and the plain values of ``data``
(JSON) are read. Its other half is pickled code, which is never opened; so what is stored only there comes from files
beside ``agent.zip``:

- ``agent.json``, optional: ``{"hidden_activation": "elu"}``, see `cdsa_baselines._layers.ACTIVATIONS`.
- ``agent.vecnormalize.npz`` (or ``.json``): the observation statistics, from `VecNormalize` by three lines of your own:

      stats = VecNormalize.load("vecnormalize.pkl", venv)     # or: model.get_vec_normalize_env()
      np.savez("agent.vecnormalize.npz", obs_mean=stats.obs_rms.mean, obs_var=stats.obs_rms.var,
               clip_obs=stats.clip_obs, epsilon=stats.epsilon)
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from cdsa_baselines._files import checkpoint_file, read_json
from cdsa_baselines._layers import ACTIVATIONS, Layer, activation, dense, linear, numbered_layers, require_widths
from cdsa_baselines.foreign._vecnormalize import read_statistics
from cdsa_baselines.foreign._zip import read_members, read_state_dict
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import parse_json, regular_file

__all__ = ["inspect", "load"]

MEMBERS = ("data", "policy.pth")
MAKERS = ("stable_baselines3.", "sb3_contrib.")
SETTINGS = {
    "top_quantiles_to_drop_per_net": "TQC",
    "cg_max_steps": "TRPO",
    "clip_range": "PPO",
    "target_entropy": "SAC",
}
"""Setting -> the algorithm that has it; in this order, since TQC has an entropy target too."""


@dataclass(frozen=True)
class _Actor:
    """What the names in a state dict tell: the layers, and what follows the hidden and the last ones."""

    hidden: list[Layer]
    last: Layer
    default_activation: str
    output: list[nn.Module]
    unit_output: bool
    algorithm: str


@dataclass(frozen=True)
class _Agent:
    """What is read of a zip: the actor, the plain values of `data`, and the names of all members."""

    actor: _Actor
    hidden_activation: type[nn.Module]
    data: dict[str, Any]
    members: list[str]

    @property
    def sizes(self) -> list[int]:
        """Widths from the observation to the action."""
        layers = [*self.actor.hidden, self.actor.last]
        return [layers[0][0].shape[1], *(weight.shape[0] for weight, _ in layers)]


def load(checkpoint: Path | None, task: Task) -> Policy:
    """The deterministic actor inside a Stable-Baselines3 zip.

    Args:
        checkpoint: The zip that ``model.save`` wrote.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: no such zip, damaged, a policy that is no multilayer perceptron over continuous actions, made for
            other dimensions or bounds, or observation statistics that exist only as a pickle.
    """
    path = checkpoint_file("sb3", checkpoint, (".zip",))
    agent = _read(path)
    actor, hidden = agent.actor, agent.hidden_activation
    _require_bounds(agent.data.get("action_space"), task, path)
    require_widths(path, agent.sizes[0], agent.sizes[-1], task)
    if actor.unit_output and not np.isfinite([task.low, task.high]).all():
        raise InputError(f"{str(path)!r} spans its actions over the bounds, which are infinite in task {task.name!r}.")
    mean, std, clip_obs, _ = read_statistics(path, agent.members, task.obs_dim)
    modules: list[nn.Module] = [nn.Hardtanh(-clip_obs, clip_obs)] if math.isfinite(clip_obs) else []
    for layer in actor.hidden:
        modules += [linear(layer), hidden()]
    net = nn.Sequential(*modules, linear(actor.last), *actor.output)
    return NormalizedPolicy(net, task.low, task.high, mean, std, unit_output=actor.unit_output)


def inspect(path: Path) -> Inspection | None:
    """What the Stable-Baselines3 zip `path` holds; None where the file is something else.

    Raises:
        InputError: it is such a zip, but damaged, or its policy cannot be read; see `load`.
    """
    if not _is_agent(path):
        return None
    agent = _read(checkpoint_file("sb3", path, (".zip",)))
    *_, source = read_statistics(path, agent.members, agent.sizes[0])
    space, steps = agent.data.get("action_space"), agent.data.get("num_timesteps")
    bounds = [space.get(name) for name in ("low", "high")] if isinstance(space, dict) else []
    details = {
        "network": f"{' - '.join(map(str, agent.sizes))}, {agent.hidden_activation.__name__.lower()}",
        "bounds": " to ".join(map(str, bounds)) if all(bounds) else "",
        "trained": f"{steps:,} steps" if isinstance(steps, int) else "",
    }
    raw = "Was it trained under VecNormalize? The zip does not tell; then its statistics have to lie beside it."
    return Inspection(
        format="Stable-Baselines3 zip",
        algorithm=_algorithm(agent),
        obs_dim=agent.sizes[0],
        action_dim=agent.sizes[-1],
        statistics=f"mean and std of {agent.sizes[0]} entries, from {source}" if source else "none: raw observations",
        details={name: text for name, text in details.items() if text},
        notes=() if source else (raw,),
    )


def _is_agent(path: Path) -> bool:
    try:
        with regular_file(path) as file, zipfile.ZipFile(file) as archive:
            return set(MEMBERS) <= set(archive.namelist())
    except Exception:  # A folder, another kind of file, or an archive made to break the parser.
        return False


def _read(path: Path) -> _Agent:
    """The actor and the plain values of the zip."""
    members, names = read_members(path, MEMBERS, "a Stable-Baselines3 zip")
    data = _plain_values(members["data"], path)
    settings = data.get("policy_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    _refuse_custom(data, settings, path)
    state = read_state_dict(members["policy.pth"], f"'policy.pth' in {str(path)!r}")
    actor = _recognise(state, settings, path)
    return _Agent(actor, _hidden_activation(settings, actor.default_activation, path), data, names)


def _algorithm(agent: _Agent) -> str:
    """By settings that one algorithm alone has; where none is there, by the actor, which two may share."""
    told = [name for key, name in SETTINGS.items() if key in agent.data]
    return told[0] if told else agent.actor.algorithm


def _plain_values(content: bytes, path: Path) -> dict[str, Any]:
    try:
        data = parse_json(content)
    except ValueError as error:
        raise InputError(f"'data' in {str(path)!r} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise InputError(f"'data' in {str(path)!r} holds a JSON {type(data).__name__}, expected an object.")
    return data


def _refuse_custom(data: Mapping[str, Any], settings: Mapping[str, Any], path: Path) -> None:
    """A class of the user's own may compute anything from the same weights."""
    policy_class = data.get("policy_class")
    module = policy_class.get("__module__") if isinstance(policy_class, dict) else None
    if isinstance(module, str) and not module.startswith(MAKERS):
        raise InputError(
            f"{str(path)!r} holds a policy class of module {module!r}; only {', '.join(MAKERS)}* can be read."
        )
    extractor = settings.get("features_extractor_class")
    if extractor is not None and "FlattenExtractor" not in str(extractor):
        raise InputError(f"{str(path)!r} uses the features extractor {extractor}; only flat observations can be read.")


def _recognise(state: dict[str, Tensor], settings: Mapping[str, Any], path: Path) -> _Actor:
    """The actor whose names are in `state`."""
    for part, what in (
        ("features_extractor.", "image, dict or otherwise extracted observations"),
        ("lstm", "a recurrent policy"),
        ("q_net.", "discrete actions; the method needs continuous ones"),
        ("quantile_net.", "discrete actions; the method needs continuous ones"),
    ):
        if any(part in key for key in state):
            raise InputError(
                f"{str(path)!r} holds {what}. Only multilayer perceptrons over flat observations can be read."
            )
    if any(key.startswith(("actor.latent_pi.", "actor.log_std")) for key in state):
        return _sac(state, settings, path)
    if any(key.startswith("actor.mu.") for key in state):
        layers = numbered_layers(state, "actor.mu.", path, stride=2)
        return _Actor(layers[:-1], layers[-1], "relu", [nn.Tanh()], unit_output=True, algorithm="TD3 or DDPG")
    if "action_net.weight" in state:
        return _ppo(state, settings, path)
    found = ", ".join(sorted(state)[:6]) or "nothing"
    raise InputError(
        f"{str(path)!r} holds none of SAC, TQC, TD3, DDPG, PPO, A2C, TRPO actors. Its tensors: {found} ..."
    )


def _sac(state: dict[str, Tensor], settings: Mapping[str, Any], path: Path) -> _Actor:
    hidden = numbered_layers(state, "actor.latent_pi.", path, stride=2)
    output: list[nn.Module] = [nn.Tanh()]
    name = "actor.mu."
    if "actor.mu.0.weight" in state:  # gSDE: a clamp stands behind the linear layer, which makes it number 0.
        name = "actor.mu.0."
        limit = settings.get("clip_mean", 2.0)
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
            raise InputError(f"{str(path)!r}: clip_mean must be a positive number, got {limit!r}.")
        output = [nn.Hardtanh(-limit, limit), nn.Tanh()]
    last = dense({part: state[name + part] for part in ("weight", "bias") if name + part in state}, name, path)
    return _Actor(hidden, last, "relu", output, unit_output=True, algorithm="SAC or TQC")


def _ppo(state: dict[str, Tensor], settings: Mapping[str, Any], path: Path) -> _Actor:
    if "log_std" not in state:
        raise InputError(f"{str(path)!r} holds a policy over discrete actions; the method needs continuous ones.")
    hidden = numbered_layers(state, "mlp_extractor.shared_net.", path, stride=2)  # releases before 1.8 have one
    hidden += numbered_layers(state, "mlp_extractor.policy_net.", path, stride=2)
    last = dense({part: state[f"action_net.{part}"] for part in ("weight", "bias")}, "action_net.", path)
    squash = bool(settings.get("squash_output", False))
    if squash and state["log_std"].ndim != 2:
        raise InputError(f"{str(path)!r} asks for squash_output without gSDE, which Stable-Baselines3 does not have.")
    output: list[nn.Module] = [nn.Tanh()] if squash else []
    return _Actor(hidden, last, "tanh", output, unit_output=squash, algorithm="PPO, A2C or TRPO")


def _hidden_activation(settings: Mapping[str, Any], default: str, path: Path) -> type[nn.Module]:
    """The sidecar's word first, then the class name that `data` spells out, then the library's default."""
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        values = read_json(sidecar)
        if set(values) != {"hidden_activation"}:
            raise InputError(f"{str(sidecar)!r} may hold 'hidden_activation' alone, got {sorted(values)}.")
        return activation(values["hidden_activation"], sidecar)
    spelled = settings.get("activation_fn")
    if spelled is None:
        return activation(default, path)
    match = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", str(spelled))
    for module in ACTIVATIONS.values():
        if match and module.__name__ == match[1]:
            return module
    raise InputError(
        f"{str(path)!r} uses the activation {spelled}, which cannot be read from the zip. Name the nearest of "
        f'{", ".join(ACTIVATIONS)} in {sidecar.name!r}: {{"hidden_activation": "..."}}.'
    )


def _require_bounds(space: Any, task: Task, path: Path) -> None:
    """Compare the action bounds that `data` prints, where it prints them whole, with the task's."""
    if not isinstance(space, dict):
        return
    for name, bound in (("low", task.low), ("high", task.high)):
        printed = str(space.get(name, ""))
        # Eight printed digits; long vectors are elided by dots and say nothing.
        if not re.fullmatch(r"\[[-+\d.e\sinf]*\]", printed) or "..." in printed:
            continue
        made_for = [float(number) for number in printed.strip("[]").split()]
        if len(made_for) == task.action_dim and not np.allclose(made_for, bound, rtol=1e-4, atol=1e-6):
            raise InputError(
                f"{str(path)!r} was made for actions with {name} bounds {made_for}, "
                f"task {task.name!r} has {np.asarray(bound).tolist()}."
            )

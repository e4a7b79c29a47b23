r"""POR policies as their authors' code saves them (Xu et al., NeurIPS 2022): a goal network g and an action network pi.

    a = clip(pi([u, g(u)])),     u = obs, or (obs - mean) / std for files named ``...normalize-True...``

Both are means of Gaussians, perceptrons with ReLU and no tanh; g gives the next state itself, not a difference.
``POR.save(NAME)`` writes the state dicts ``NAME-policy_network`` (pi) and ``NAME-goal_network`` (g), maybe renamed to
``.pt``. The released ``POR.load`` restores pi and leaves g as initialised; here both are asked for.
``NAME-behavior_goal_network``, which the authors publish, models the data and is no policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from cdsa_baselines._goal_policy import GoalThenAction
from cdsa_baselines._layers import Layer, numbered_layers, stack
from cdsa_baselines.foreign._statistics import Moments, computed_moments, stored_moments, task_name, training_task
from cdsa_baselines.foreign._zip import holds_members, pickled_strings, read_bytes, read_state_dict
from cdsa_lightning.core.policy import NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task

__all__ = ["inspect", "load"]

POLICY, GOAL, BEHAVIOR = "policy_network", "goal_network", "behavior_goal_network"
NAME = re.compile(rf"(?P<run>.+)-(?P<role>{POLICY}|{GOAL}|{BEHAVIOR})(?P<suffix>\.pt|\.pth)?")
OTHER = {POLICY: GOAL, GOAL: POLICY}
NETWORKS = {POLICY: "action network", GOAL: "goal network", BEHAVIOR: "behaviour goal network"}
NEEDS = {POLICY: "the goal network g", GOAL: "the action network pi", BEHAVIOR: "pi and the g trained against it"}
EXPECTED = f"NAME-{POLICY} and NAME-{GOAL}, as POR.save(NAME) writes them (.pt or .pth may follow)"


@dataclass(frozen=True)
class _Network:
    """One state dict of the authors' `GaussianPolicy`; `title` is for texts."""

    title: str
    layers: list[Layer]

    @property
    def sizes(self) -> list[int]:
        """Widths from its input to its output."""
        return [self.layers[0][0].shape[1], *(weight.shape[0] for weight, _ in self.layers)]

    @property
    def widths(self) -> str:
        return " - ".join(map(str, self.sizes))

    def module(self) -> nn.Module:
        return nn.Sequential(*stack(self.layers, nn.ReLU))


def load(checkpoint: Path | None, task: Task) -> Policy:
    """The policy out of the two networks that POR's authors save, g and pi.

    Args:
        checkpoint: One of the two files, the other lying beside it; or a folder that holds one such pair.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: one of the two is missing or damaged, they do not belong together or to the task, or the file is
            something else, for instance a behaviour goal network.
    """
    if checkpoint is None:
        raise InputError(f"Baseline 'por_authors' is restored from {EXPECTED}: name one, or their folder.")
    if not checkpoint.exists():
        raise InputError(f"There is no checkpoint {str(checkpoint)!r}. Expected {EXPECTED}.")
    policy_path, goal_path = _pair(checkpoint)
    action, goal = _read(policy_path), _read(goal_path)
    obs_dim, action_dim = task.obs_dim, task.action_dim
    for network, role, ends in (
        (goal, "goal network", (obs_dim, obs_dim)),
        (action, "action network of observation and goal", (2 * obs_dim, action_dim)),
    ):
        found = network.sizes[0], network.sizes[-1]
        if found != ends:
            raise InputError(
                f"{network.title} has {found[0]} inputs and {found[1]} outputs; expected {ends[0]} and {ends[1]} of a "
                f"POR {role} for task {task.name!r} with S={obs_dim}, A={action_dim}."
            )
    net = GoalThenAction(goal.module(), action.module())
    mean, std = _moments(policy_path, task)
    return NormalizedPolicy(net, task.low, task.high, mean, std)


def inspect(path: Path) -> Inspection | None:
    """What the authors' file or folder `path` holds; None where it is something else.

    Raises:
        InputError: it is one of their files, but damaged, or a folder of several policies.
    """
    if path.is_dir():
        files = _runs(path)
        return inspect(_only(path, files)) if files else None
    role = _parts(path)[1]
    if not role and (path.suffix not in (".pt", ".pth") or not holds_members(path, ())):
        return None
    content = read_bytes(path)
    if not role and not {"log_std", "net.0.weight"} <= pickled_strings(content):
        return None
    state = read_state_dict(content, f"Checkpoint {str(path)!r}")
    if not _alike(state):
        return None
    network, named = _network(state, path), bool(role)
    inputs, outputs = network.sizes[0], network.sizes[-1]
    if not named:  # A renamed file: g maps states to states, pi a state and a goal to an action.
        role = GOAL if inputs == outputs else POLICY
    if role == POLICY and inputs % 2:
        return None  # The authors' IQL, among others, saves policies without a goal under this name.
    partner = _partner(path, OTHER[role]) if named and role in OTHER else None
    networks = {role: network} | ({} if partner is None else {OTHER[role]: _read(partner)})
    obs_dim = inputs // 2 if role == POLICY else inputs
    return Inspection(
        format="state dict of POR's authors",
        algorithm="POR" if partner else f"POR {NETWORKS[role]}",
        obs_dim=obs_dim,
        action_dim=networks[POLICY].sizes[-1] if POLICY in networks else None,
        statistics=_told_statistics(path, obs_dim),
        task=task_name(_trained_on(path) or ""),
        details={NETWORKS[name]: f"{net.widths}, ReLU" for name, net in networks.items()},
        notes=() if partner else (f"Not a policy: needs {NEEDS[role]}. Expected {EXPECTED}.",),
        acts=partner is not None,
    )


def _pair(checkpoint: Path) -> tuple[Path, Path]:
    """The files of pi and g."""
    if checkpoint.is_dir():
        checkpoint = _only(checkpoint, _runs(checkpoint))
    role = _parts(checkpoint)[1]
    if role == BEHAVIOR:
        raise InputError(
            f"{str(checkpoint)!r} is a POR behaviour goal network: it models the next states of the data and is no "
            f"policy; needs {NEEDS[role]}. Expected {EXPECTED}."
        )
    if not role:
        raise InputError(f"{str(checkpoint)!r} is not named as a POR policy. Expected {EXPECTED}.")
    other = _partner(checkpoint, OTHER[role])
    if other is None:
        raise InputError(
            f"POR acts by g and pi together, but beside {checkpoint.name!r} {NEEDS[role]} is missing. Expected "
            f"{EXPECTED}; found {_listing(checkpoint.parent)}."
        )
    return (checkpoint, other) if role == POLICY else (other, checkpoint)


def _only(folder: Path, files: list[Path]) -> Path:
    if len(files) == 1:
        return files[0]
    found = ", ".join(file.name for file in files) or _listing(folder)
    what = "several POR policies, name one of them" if files else "no POR policy (behaviour goal networks are none)"
    raise InputError(f"The folder {str(folder)!r} holds {what}: {found}. Expected {EXPECTED}.")


def _parts(path: Path) -> tuple[str, str, str]:
    """Run, role and suffix in a file's name; the stem and empty strings where it has no role."""
    match = NAME.fullmatch(path.name)
    return (match["run"], match["role"], match["suffix"] or "") if match else (path.stem, "", path.suffix)


def _partner(path: Path, role: str) -> Path | None:
    """The file of the same run with another role, where it is there."""
    run, _, suffix = _parts(path)
    names = [f"{run}-{role}{end}" for end in dict.fromkeys((suffix, "", ".pt", ".pth"))]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _runs(folder: Path) -> list[Path]:
    """The files of pi in `folder`, one per run; those of g where its pi is missing."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and _parts(file)[1] in (POLICY, GOAL))
    first: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: _parts(file)[1] != POLICY):
        first.setdefault(_parts(file)[0], file)
    return list(first.values())


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") or "nothing"


def _trained_on(path: Path) -> str | None:
    """The data set in the name of the run or, as the authors arrange their files, of the folder."""
    names = (_parts(path)[0], path.absolute().parent.name)
    return next((name for name in names if task_name(name)), None)


def _read(path: Path) -> _Network:
    return _network(read_state_dict(read_bytes(path), f"Checkpoint {str(path)!r}"), path)


def _network(state: dict[str, Tensor], path: Path) -> _Network:
    if not _alike(state):
        found = ", ".join(sorted(state)[:6]) or "none"
        raise InputError(
            f"{str(path)!r} is no network of POR's authors (log_std, net.0.weight, ...). Its tensors: {found}."
        )
    layers = {name: tensor for name, tensor in state.items() if name != "log_std"}
    return _Network(f"{str(path)!r}", numbered_layers(layers, "net.", path, stride=2))


def _alike(state: dict[str, Tensor]) -> bool:
    """Whether these are the tensors of the authors' Gaussian, by their names."""
    return {"log_std", "net.0.weight"} <= set(state) and all(
        name == "log_std" or name.startswith("net.") for name in state
    )


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{_parts(path)[0]}.stats.npz")


def _normalized(path: Path) -> bool:
    return "normalize-True" in path.name


def _moments(path: Path, task: Task) -> Moments:
    """The sidecar first; then raw observations, the authors' default; then the data of training."""
    stored = stored_moments(_sidecar(path), task.obs_dim)
    if stored is not None:
        return stored
    if not _normalized(path):
        return np.zeros(task.obs_dim, np.float32), np.ones(task.obs_dim, np.float32)
    title = f"{str(path)!r} (POR)"
    home = training_task(title, _sidecar(path), _trained_on(path), task)
    return computed_moments(title, _sidecar(path), home, task.obs_dim)


def _told_statistics(path: Path, obs_dim: int) -> str:
    entries = f"mean and std of {obs_dim} entries"
    if stored_moments(_sidecar(path), obs_dim) is not None:
        return f"{entries}, from {_sidecar(path).name}"
    if _normalized(path):
        return f"missing: {entries} are computed from the data of {_trained_on(path) or 'the task'} at loading"
    return "none: raw observations"

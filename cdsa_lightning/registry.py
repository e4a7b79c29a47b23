"""Baselines by name: entry points of the group ``cdsa.baselines``.

A baseline is one function ``load(checkpoint: Path | None, task: Task) -> Policy`` that a distribution announces:

    [project.entry-points."cdsa.baselines"]
    por = "my_package.por:load"

Where it reads files, the same module may offer ``inspect(path: Path) -> Inspection | None``, which tells what a file of
its kind holds and runs nothing in it; `cdsa inspect` asks them all. Both may be functions of a module, or of a class.

The baselines that ship with this project come through the same door; nothing here knows their names.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cdsa_lightning.core.policy import Policy, act
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task

__all__ = ["GROUP", "Findings", "inspect_as", "inspect_checkpoint", "load_policy", "names"]

GROUP = "cdsa.baselines"


def names() -> list[str]:
    """The names of all installed baselines, sorted."""
    return sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)})


def load_policy(name: str, checkpoint: Path | str | None, task: Task) -> Policy:
    """The baseline `name` as a frozen policy in eval(), checked against the task it is to act in.

    Args:
        name: An installed baseline, see `names`.
        checkpoint: What the baseline is restored from; None for baselines that need nothing.
        task: The task it will act in; gives the dimensions and the action bounds.

    Returns:
        The policy: observations [B, S] (or [E, B, S]) to actions of the same leading axes, environment units.

    Raises:
        InputError: the name is unknown, the baseline cannot be imported, the checkpoint does not exist or cannot be
            read, or the policy does not fit the task.
    """
    point = _entry_point(name)
    path = None if checkpoint is None else _existing(Path(checkpoint))
    loader = _import(point)
    try:
        policy = loader(path, task)
    except InputError:
        raise
    except Exception as error:  # A loader is a stranger's code reading a stranger's file: either may raise anything.
        raise InputError(
            f"Baseline {name!r} ({_origin(point)}) could not load {path or 'itself'}: {type(error).__name__}: {error}"
        ) from error
    return _checked(policy, name, point, task)


@dataclass
class Findings:
    """What the installed baselines say about one file or folder.

    Attributes:
        claims: Baselines that can restore it, and what it is.
        refusals: Baselines that know its kind and cannot restore it, and why not.
        unable: What keeps a baseline from saying anything, for instance a package that is not installed.
        readers: Every baseline that reads files, and what its loader says it reads.
    """

    claims: dict[str, Inspection] = field(default_factory=dict)
    refusals: dict[str, InputError] = field(default_factory=dict)
    unable: list[InputError] = field(default_factory=list)
    readers: dict[str, str] = field(default_factory=dict)


def inspect_as(name: str, path: Path) -> Inspection | None:
    """What the baseline `name` says a file holds; None where it says nothing, or cannot be asked on this machine.

    Raises:
        InputError: the name is unknown, or the file is of its kind and cannot be restored.
    """
    point = _entry_point(name)
    try:
        _import(point)
    except InputError:
        return None
    look = _inspector(point)
    try:
        return None if look is None else look(path)
    except InputError:
        raise
    except Exception:  # A stranger's code reading a stranger's file: either may raise anything.
        return None


def inspect_checkpoint(path: Path | str) -> Findings:
    """What every installed baseline says about a checkpoint; nothing in it is executed.

    Raises:
        InputError: it does not exist.
    """
    path, findings = _existing(Path(path)), Findings()
    for name in names():
        try:
            point = _entry_point(name)
            loader = _import(point)
        except InputError as error:  # One broken distribution must not hide what the others know.
            findings.unable.append(error)
            continue
        look = _inspector(point)
        if look is None:
            continue
        findings.readers[name] = (loader.__doc__ or "").strip().partition("\n")[0]
        try:
            found = look(path)
        except InputError as error:
            findings.refusals[name] = error
        except Exception as error:  # A stranger's code reading a stranger's file: either may raise anything.
            text = f"Baseline {name!r} ({_origin(point)}) could not look at it: {type(error).__name__}: {error}"
            findings.unable.append(InputError(text))
        else:
            if found is not None:
                findings.claims[name] = found
    return findings


def _inspector(point: importlib.metadata.EntryPoint) -> Callable[[Path], Inspection | None] | None:
    """What is called ``inspect`` beside the loader of `point`, which has been imported; None where there is none."""
    beside: Any = sys.modules[point.module]
    for part in point.attr.split(".")[:-1]:
        beside = getattr(beside, part)
    look: Any = getattr(beside, "inspect", None)
    return look if callable(look) else None  # it may also be a module: Python's own `inspect`


def _entry_point(name: str) -> importlib.metadata.EntryPoint:
    points = importlib.metadata.entry_points(group=GROUP, name=name)
    if not points:
        remedy = "Install the package that provides it, or see `baselines/README.md` to write one."
        raise unknown_name("baseline", name, names(), remedy)
    # One distribution may be visible twice (an editable and a plain install): only different loaders are a conflict.
    different = {point.value: point for point in points}
    if len(different) > 1:
        claims = "; ".join(f"{_origin(point)} -> {value}" for value, point in sorted(different.items()))
        raise InputError(f"Baseline {name!r} is announced by several packages: {claims}. Uninstall all but one.")
    return next(iter(different.values()))


def _origin(point: importlib.metadata.EntryPoint) -> str:
    return f"distribution {point.dist.name if point.dist else 'unknown'!r}"


def _import(point: importlib.metadata.EntryPoint) -> Callable[[Path | None, Task], Policy]:
    try:
        loader = point.load()
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing and not f"{point.module}.".startswith(f"{missing}."):
            extras = ",".join(point.extras)
            package = f"'{point.dist.name}[{extras}]'" if extras and point.dist else missing.partition(".")[0]
            raise InputError(
                f"Baseline {point.name!r} ({_origin(point)}) needs the package {missing!r}, which is not installed. "
                f"Install it: pip install {package}"
            ) from error
        raise InputError(
            f"Baseline {point.name!r}: {_origin(point)} announces {point.value!r}, but {error}."
        ) from error
    except Exception as error:  # Importing runs a stranger's module, which may raise anything.
        raise InputError(
            f"Baseline {point.name!r}: {point.value!r} of {_origin(point)} cannot be imported: "
            f"{type(error).__name__}: {error}. Repair or uninstall that distribution."
        ) from error
    if not callable(loader):
        raise InputError(
            f"Baseline {point.name!r}: {point.value!r} of {_origin(point)} is a {type(loader).__name__}, "
            "not a function load(checkpoint, task)."
        )
    return loader


def _existing(path: Path) -> Path:
    """`path` itself where it exists, otherwise an error that names files near it."""
    if path.is_file() or path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{str(path)!r} is no file but a device or a pipe, which is not read.")
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    if folder != path.absolute().parent:
        raise InputError(f"There is no checkpoint {str(path)!r}: the folder ends at {str(folder)!r}. Check the path.")
    files = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    near = difflib.get_close_matches(path.name, files, n=5, cutoff=0.3) or files[:5]
    there = f"Near it: {', '.join(near)}." if near else "The folder is empty."
    raise InputError(f"There is no checkpoint {path.name!r} in {str(folder)!r}. {there}")


def _checked(policy: object, name: str, point: importlib.metadata.EntryPoint, task: Task) -> Policy:
    """`policy` in eval() and frozen, after one observation of zeros has gone through it."""
    if not isinstance(policy, Policy):
        raise InputError(
            f"Baseline {name!r} ({_origin(point)}) returned a {type(policy).__name__}, not a cdsa_lightning.Policy."
        )
    made_for = f"Baseline {name!r} was made for another task than {task.name!r}"
    if policy.action_dim != task.action_dim:
        raise InputError(f"{made_for}: made for A={policy.action_dim} action entries, the task has {task.action_dim}.")
    mean = getattr(policy, "obs_mean", None)
    if isinstance(mean, torch.Tensor) and mean.ndim and mean.shape[-1] not in (1, task.obs_dim):
        raise InputError(f"{made_for}: made for S={mean.shape[-1]} observation entries, the task has {task.obs_dim}.")
    policy.eval().requires_grad_(False)
    obs = torch.zeros(policy.num_seeds, 1, task.obs_dim, device=policy.low.device)
    try:
        with torch.inference_mode():
            action = act(policy, obs)
    except RuntimeError as error:  # A matrix product that does not fit; its text names the shapes.
        raise InputError(f"{made_for}: it cannot act on S={task.obs_dim} observation entries ({error}).") from error
    if action.shape != (policy.num_seeds, 1, task.action_dim):
        expected = (policy.num_seeds, 1, task.action_dim)
        raise InputError(f"{made_for}: its action has shape {tuple(action.shape)}, expected {expected}.")
    if not bool(torch.isfinite(action).all()):
        raise InputError(f"Baseline {name!r} answers zeros with {action.tolist()}: its weights are not finite numbers.")
    return policy

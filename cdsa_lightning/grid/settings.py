r"""A grid as YAML: tasks x baselines x {base, without_a1, without_a2, cdsa} x seeds.

    tasks: [hopper-medium, antmaze-umaze]
    baselines:                            # installed names; without a config nothing is trained
      iql: {config: baselines/iql.yaml, max_steps: 100000, by_task: {antmaze: {config: baselines/iql_antmaze.yaml}}}
      shortest_path: {tasks: [risky]}     # on these tasks alone
      d3rlpy: {checkpoint: "trained/{task}/*.d3"}   # trained already; * stands for anything, the newest file is taken
    corrector: {config: paper.yaml}       # a configuration of cdsa fit, as those of baselines
    preset: paper                         # of correctors and coefficients
    arms: [base, cdsa]
    seeds: [0, 1, 2, 3, 4]
    episodes: 20                          # per seed; the task's own number by default
    sources: {hopper-medium: "minari:mujoco/hopper/medium-v0"}

Paths are relative to the grid's folder. `by_task` and `tasks` name tasks by how they begin; the longest beginning wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cdsa_lightning.comparison import ARMS
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.presets import get_preset
from cdsa_lightning.registry import names
from cdsa_lightning.tasks import get_task
from cdsa_lightning.untrusted import parse_yaml, read_text

__all__ = ["Grid", "Training", "read_grid"]


@dataclass(frozen=True)
class Training:
    """How a baseline or a corrector is trained.

    Args:
        config: Configuration of `cdsa fit`; None where nothing is trained.
        checkpoint: A pattern of files that are evaluated instead of training; {task} stands for the task.
        max_steps: Gradient steps instead of the configuration's.
        options: Further options of `cdsa fit` by dotted key, for instance ``model.expectile``.
        tasks: Beginnings of the tasks that it is for; None for all.
        by_task: Beginning of a task -> what differs there.
    """

    config: Path | None = None
    checkpoint: str | None = None
    max_steps: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] | None = None
    by_task: dict[str, dict[str, Any]] = field(default_factory=dict)

    def serves(self, task: str) -> bool:
        """Whether it is for `task`."""
        return self.tasks is None or task.startswith(self.tasks)

    def at(self, task: str) -> Training:
        """What holds for `task`."""
        near = max((start for start in self.by_task if task.startswith(start)), key=len, default=None)
        own = {} if near is None else dict(self.by_task[near])
        if own.get("checkpoint"):
            own["config"] = None  # one or the other, here too
        elif own.get("config"):
            own["checkpoint"] = None
        return replace(self, **own, by_task={})

    def find_checkpoint(self, task: str) -> Path | None:
        """The newest file of the pattern; None where there is none."""
        pattern = Path(str(self.checkpoint).replace("{task}", task))
        found = [path for path in Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))) if path.exists()]
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


@dataclass(frozen=True)
class Grid:
    """A whole grid; the module shows its YAML."""

    tasks: tuple[str, ...]
    baselines: dict[str, Training]
    corrector: Training | None = None
    preset: str = "paper"
    arms: tuple[str, ...] = ARMS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    episodes: int | None = None
    sources: dict[str, str] = field(default_factory=dict)


def read_grid(path: str | Path) -> Grid:
    """The grid in a YAML file.

    Raises:
        InputError: unreadable, an unknown key or name, or a value of another kind; the text says where.
    """
    path = Path(path)
    try:
        content = parse_yaml(read_text(path))
    except OSError as error:
        raise InputError(f"Cannot read the grid {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"The grid {path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return _grid(content, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _grid(content: Any, folder: Path) -> Grid:
    values = _mapping(content, "the grid", [item.name for item in fields(Grid)])
    for key in ("tasks", "baselines"):
        if not values.get(key):
            raise InputError(f"{key} is missing or empty: a grid needs at least one task and one baseline.")
    tasks = _list(values["tasks"], "tasks", _text)
    for task in tasks:
        get_task(task)
    known = names()
    baselines = {}
    for name, given in _mapping(values["baselines"], "baselines").items():
        if name not in known:
            raise unknown_name("baseline", name, known, "Install the package that provides it.")
        baselines[name] = _training(given, f"baselines.{name}", folder, tasks)
    made: dict[str, Any] = {"tasks": tasks, "baselines": baselines}
    if values.get("corrector") is not None:
        served = [*tasks, *(get_task(task).corrected_by for task in tasks)]
        made["corrector"] = _training(values["corrector"], "corrector", folder, served)
    checks: dict[str, Callable[[Any, str], Any]] = {
        "preset": lambda value, where: _preset(_text(value, where)),
        "arms": lambda value, where: _list(value, where, _arm),
        "seeds": lambda value, where: _list(value, where, lambda one, at: _number(one, at, 0)),
        "episodes": lambda value, where: _number(value, where, 1),
        "sources": lambda value, where: {k: _text(v, f"{where}.{k}") for k, v in _mapping(value, where, tasks).items()},
    }
    made |= {key: check(values[key], key) for key, check in checks.items() if values.get(key) is not None}
    grid = Grid(**made)
    if set(grid.arms) - {"base"} and grid.corrector is None:
        raise InputError(f"corrector is missing: the arms {', '.join(grid.arms)} need one. Name it, or arms: [base].")
    return grid


def _training(given: Any, where: str, folder: Path, tasks: Iterable[str], nested: bool = False) -> Training:
    allowed = ["config", "max_steps", "options", *([] if nested else ["tasks", "by_task"])]
    if where.startswith("baselines."):
        allowed.insert(1, "checkpoint")
    values = {key: value for key, value in _mapping(given or {}, where, allowed).items() if value is not None}
    made: dict[str, Any] = {}
    if {"config", "checkpoint"} <= set(values):
        raise InputError(f"{where} names a config, which trains, and a checkpoint, which is trained: give one.")
    if "config" in values:
        made["config"] = folder / _text(values["config"], f"{where}.config")
        if not made["config"].is_file():
            raise InputError(
                f"{where}.config is {values['config']!r}, and there is no file {made['config']}: "
                "paths are relative to the grid's folder."
            )
    if "checkpoint" in values:
        made["checkpoint"] = str((folder / _text(values["checkpoint"], f"{where}.checkpoint")).absolute())
    if "max_steps" in values:
        made["max_steps"] = _number(values["max_steps"], f"{where}.max_steps", 1)
    if "options" in values:
        made["options"] = dict(_mapping(values["options"], f"{where}.options"))
    if "tasks" in values:
        made["tasks"] = _list(values["tasks"], f"{where}.tasks", lambda one, at: _beginning(one, at, tasks))
    if "by_task" in values:
        parts = _mapping(values["by_task"], f"{where}.by_task")
        made["by_task"] = {}
        for start, part in parts.items():
            at = f"{where}.by_task.{_beginning(start, f'{where}.by_task', tasks)}"
            own = _training(part, at, folder, tasks, nested=True)
            made["by_task"][start] = {key: getattr(own, key) for key in part or {}}
    return Training(**made)


def _mapping(value: Any, where: str, allowed: Iterable[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        listed = f" with the keys {', '.join(allowed)}" if allowed is not None else ""
        raise InputError(f"{where} must be a mapping{listed}, got {value!r}.")
    for key in value:
        if allowed is not None and key not in allowed:
            raise unknown_name(f"key of {where}", key, allowed)
    return value


def _list(value: Any, where: str, entry: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} must be a list with at least one entry, for instance [a, b], got {value!r}.")
    found = tuple(entry(one, f"{where}[{index}]") for index, one in enumerate(value))
    twice = [one for one in found if found.count(one) > 1]
    if twice:
        raise InputError(f"{where} names {twice[0]!r} more than once.")
    return found


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where} must be a text, got {value!r}.")
    return value


def _number(value: Any, where: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{where} must be a whole number of at least {least}, got {value!r}.")
    return value


def _arm(value: Any, where: str) -> str:
    if value not in ARMS:
        raise unknown_name("arm", str(value), ARMS)
    return value


def _preset(name: str) -> str:
    get_preset(name)
    return name


def _beginning(value: Any, where: str, tasks: Iterable[str]) -> str:
    if not any(task.startswith(_text(value, where)) for task in tasks):
        known = ", ".join(dict.fromkeys(tasks))
        raise InputError(f"{where} names {value!r}, and none of the grid's tasks begins so: {known}.")
    return value

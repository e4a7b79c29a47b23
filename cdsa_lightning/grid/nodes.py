r"""What a grid is made of: train(task, baseline), fit(task, preset), and cell(task, baseline) that needs both.

A node's directory is <kind>/<task>/<name>-<hash>/, the hash that of everything which decides the result: configuration,
seeds, steps, and the fingerprint of the data. Equal nodes are one: what several cells need is made once. A node is done
when its done.json is there, which is written last. Where no coefficients are known for a baseline with a preset, or a
part of the correction is off anyway, the arms that would repeat another are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cdsa_lightning.collection import checkpoint_sha256
from cdsa_lightning.comparison import ARMS, corrections
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import UNSEALED, intact, write_json
from cdsa_lightning.grid.facts import DataFacts
from cdsa_lightning.grid.settings import Grid, Training
from cdsa_lightning.presets import coefficients_for, default_coefficients
from cdsa_lightning.records import versions
from cdsa_lightning.registry import inspect_as
from cdsa_lightning.runs import newest_checkpoint
from cdsa_lightning.tasks import get_task
from cdsa_lightning.untrusted import parse_json, parse_yaml, read_bytes, read_text

__all__ = ["DONE", "Kind", "Node", "done_record", "expand", "finish", "steps_taken"]

Kind = Literal["train", "fit", "cell"]
DONE = "done.json"


@dataclass(frozen=True)
class Node:
    """One thing to make.

    Args:
        kind: train, fit or cell.
        task: On which.
        name: The baseline's, or ``cdsa-<preset>``.
        settings: Plain values that decide the result.
        about: Plain values that say where it comes from.
        needs: Paths of the nodes that come first, by kind.
        problem: Why it cannot be made; empty where it can.
    """

    kind: Kind
    task: str
    name: str
    settings: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    problem: str = ""

    @cached_property
    def path(self) -> str:
        """Its directory under the output, and its identity.

        Raises:
            InputError: its settings, which may be those of a file, are not what JSON can say.
        """
        try:
            facts = json.dumps([self.kind, self.task, self.name, self.settings, self.needs], sort_keys=True)
        except (TypeError, ValueError) as error:
            raise InputError(f"The settings of {self.kind} {self.name!r} cannot be kept as JSON: {error}.") from None
        return f"{self.kind}/{self.task}/{self.name}-{hashlib.sha256(facts.encode()).hexdigest()[:10]}"

    @property
    def amount(self) -> int:
        """How much work it is: gradient steps, or episodes."""
        if self.kind == "cell":
            return len(self.settings["arms"]) * len(self.settings["seeds"]) * self.settings["episodes"]
        return self.settings["max_steps"] or self.settings["config"].get("trainer", {}).get("max_steps", 10_000)


def expand(grid: Grid, facts: Callable[[str], DataFacts]) -> list[Node]:
    """Every node of a grid once, each after those that it needs.

    Args:
        grid: The grid.
        facts: The data of a task.

    Raises:
        InputError: a configuration that cannot be read, or none for a corrector.
    """
    nodes: dict[str, Node] = {}
    cells = []
    for task in grid.tasks:
        for baseline, training in grid.baselines.items():
            if not training.serves(task):
                continue
            needs: dict[str, str] = {}
            parts: list[Node] = []
            how = training.at(task)
            if how.config is not None:
                parts.append(_training_node("train", task, baseline, how, grid, facts(task)))
            if grid.corrector is not None and set(_arms(task, baseline, grid)[0]) - {"base"}:
                own = get_task(task).corrected_by
                parts.append(
                    _training_node("fit", own, f"cdsa-{grid.preset}", grid.corrector.at(own), grid, facts(own))
                )
            for part in parts:
                nodes.setdefault(part.path, part)
                needs[part.kind] = part.path
            cells.append(_cell(task, baseline, how, grid, facts(task), needs))
    order = {"train": 0, "fit": 1}
    return [*sorted(nodes.values(), key=lambda node: order[node.kind]), *cells]


def _training_node(kind: Kind, task: str, name: str, how: Training, grid: Grid, data: DataFacts) -> Node:
    if how.config is None:
        raise InputError(f"corrector has no config for the task {task!r}: name one, or one for it under by_task.")
    config, options = _read_config(how.config), dict(how.options)
    if kind == "fit":
        options.setdefault("model.preset", grid.preset)
    section = config.get("data") or {}
    # Only a module that learns from its own experience does without the task's data.
    offline = str(section.get("class_path", "TransitionData")).endswith("TransitionData")
    settings = {
        "config": config,
        "max_steps": how.max_steps,
        "options": options,
        "seeds": list(grid.seeds),
        "fingerprint": data.fingerprint if offline else "",
    }
    about = {"config": str(how.config), "source": data.source if offline else "", "provenance": data.provenance}
    return Node(kind, task, name, settings, about, problem=data.problem if offline else "")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = parse_yaml(read_text(path))
        json.dumps(config, allow_nan=False)
    except OSError as error:
        raise InputError(f"Cannot read the configuration {path}: {error.strerror or error}.") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"The configuration {path} is no plain YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise InputError(f"The configuration {path} must be a mapping with the sections model, data, trainer.")
    return config


def _cell(task: str, baseline: str, how: Training, grid: Grid, data: DataFacts, needs: dict[str, str]) -> Node:
    arms, coefficients = _arms(task, baseline, grid)
    settings = {
        "arms": arms,
        "seeds": list(grid.seeds),
        "episodes": grid.episodes or get_task(task).episodes,
        "coefficients": coefficients.to_dict() if "fit" in needs else None,
    }
    about = {"provenance": data.provenance, "fingerprint": data.fingerprint, "source": data.source}
    if how.checkpoint is None:
        return Node("cell", task, baseline, settings, about, needs)
    found = how.find_checkpoint(task)
    if found is None:
        problem = f"there is no checkpoint {how.checkpoint.replace('{task}', task)}"
        return Node("cell", task, baseline, settings, about, needs, problem)
    settings |= {"checkpoint": checkpoint_sha256(found)}
    problem = _misfit(baseline, found, len(grid.seeds)) if "fit" in needs else ""
    return Node("cell", task, baseline, settings, about | {"checkpoint": str(found)}, needs, problem)


def _misfit(baseline: str, checkpoint: Path, seeds: int) -> str:
    """Why a corrector of so many seeds cannot correct what a checkpoint holds, as far as its file says."""
    try:
        found = inspect_as(baseline, checkpoint)
    except InputError as error:
        return str(error)
    if found is None or found.num_seeds == seeds or min(found.num_seeds, seeds) == 1:
        return ""
    return (
        f"{checkpoint} holds {found.num_seeds} training seeds and the grid names {seeds} for its corrector: name as "
        "many, or one"
    )


def _arms(task: str, baseline: str, grid: Grid) -> tuple[list[str], Coefficients]:
    """The arms that differ, and the coefficients: those recommended, else those that the corrector carries."""
    try:
        whole = coefficients_for(task, baseline, grid.preset)
    except InputError:
        whole = default_coefficients(get_task(task).corrected_by, grid.preset)
    if whole.changes_nothing:
        return ["base"], whole
    differing = {"base", *corrections(whole)}
    return [arm for arm in ARMS if arm in grid.arms and arm in differing] or ["cdsa"], whole


def done_record(root: Path, path: str) -> dict[str, Any] | None:
    """What a finished node's done.json says; None where it is not finished."""
    try:
        content = read_bytes(root / path / DONE)
        said = parse_json(content)
    except (OSError, ValueError):  # what is damaged was not finished
        return None
    return said if isinstance(said, dict) and said.get("path") == path and intact(content) else None


def steps_taken(directory: Path) -> int:
    """Gradient steps that a training which was stopped has behind it; 0 where it left nothing to go on from."""
    checkpoint = newest_checkpoint(root=directory)
    if checkpoint is None:
        return 0
    from cdsa_lightning.checkpoints import read_checkpoint

    try:
        return int(read_checkpoint(checkpoint).get("global_step", 0))
    except InputError:  # told when the training goes on
        return 0


def finish(root: Path, node: Node, seconds: float, made: dict[str, Any], taken: int = 0) -> None:
    """Write done.json: from now on the node is done.

    Args:
        root: The output directory.
        node: What was made.
        seconds: What the process that ended it took.
        made: Its file.
        taken: Gradient steps that processes before had taken.
    """
    said = {
        **UNSEALED,
        "path": node.path,
        "kind": node.kind,
        "task": node.task,
        "name": node.name,
        "settings": node.settings,
        "about": node.about,
        "needs": node.needs,
        "made": made,
        "amount": node.amount - taken,
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    write_json(said, root / node.path / DONE, "Choose another --output.")

"""The arms of an evaluation out of a policy and a corrector, whoever asks for it: a command, or a call in Python.

The corrector must have been fitted for the task. Coefficients are those that are named, else those recommended for the
task and the policy, else the corrector's own; single values override them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdsa_lightning.comparison import arm_name, corrections
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.presets import coefficients_for, get_preset
from cdsa_lightning.rollout import NoisyPolicy
from cdsa_lightning.tasks import Task
from cdsa_lightning.tuning import read_choice

__all__ = ["check_corrector", "find_coefficients", "fit_command", "make_arms", "select_seed"]

_WORLDS = ("antmaze", "halfcheetah", "hopper", "walker2d")


def check_corrector(corrector: Corrector, task: Task, where: str) -> None:
    """See that the corrector was fitted for the task, or on data of no task and as wide.

    Args:
        corrector: Of any number of seeds.
        task: What it shall be evaluated on.
        where: How an error calls the corrector, for instance its path.

    Raises:
        InputError: it was fitted for another task, for other widths, or for other entries of the observation.
    """
    trained, own = corrector.info.get("task"), task.corrected_by
    # An empty env_id: fitted on logged data, which belong to no world.
    if trained not in (task.name, own) and corrector.info.get("env_id") != "":
        served = "" if own == task.name else f", which is corrected by correctors of {own!r}"
        raise InputError(
            f"{where} corrects task {trained!r}, but the evaluation is on task {task.name!r}{served}: "
            f"name another with --corrector, or --task {trained}."
        )
    again = fit_command(own, corrector.info.get("preset"))
    if (corrector.obs_dim, corrector.action_dim) != (task.obs_dim, task.action_dim):
        raise InputError(
            f"{where} takes {corrector.obs_dim} observation and {corrector.action_dim} action entries, "
            f"{task.name!r} has {task.obs_dim} and {task.action_dim}. Fit it again: {again}."
        )
    seen, wanted = corrector.networks.state_index, None if task.obs_to_state is None else list(task.obs_to_state)
    if seen != wanted:
        raise InputError(
            f"{where} looks at the observation entries {_entries(seen)}, {task.name!r} is corrected by "
            f"{_entries(wanted)}. Fit it again: {again}."
        )


def select_seed(corrector: Corrector, corrector_seed: int | None, ensemble: bool) -> tuple[Corrector, str]:
    """The part of a corrector that corrects, and how it is told.

    Args:
        corrector: Of any number of seeds.
        corrector_seed: One of them, counted from 0; None for each seed with the policy's own.
        ensemble: The mean over all seeds.

    Raises:
        InputError: both are asked for, or there is no such seed.
    """
    if ensemble and corrector_seed is not None:
        raise InputError("--ensemble takes the mean of the seeds, --corrector_seed one of them: give one of the two.")
    told = f"{corrector.num_seeds} seeds"
    if corrector_seed is not None:
        corrector, told = corrector.select(corrector_seed), f"seed {corrector_seed} of {told}"
    elif ensemble:
        corrector = corrector.ensemble()
    if corrector.networks.ensemble:  # its file may hold one already
        told = f"the mean of {corrector.networks.members} seeds"
    return corrector, told


def find_coefficients(
    corrector: Corrector,
    task: Task,
    baseline: str,
    preset: str | None,
    named: Coefficients | str | Path | None,
    given: Mapping[str, Any],
) -> tuple[Coefficients, str]:
    """What a policy is corrected with, and where it comes from in a few words.

    Args:
        corrector: Whose own coefficients are the last resort.
        task: The task.
        baseline: The policy's name.
        preset: Whose recommended coefficients to take; None for the corrector's preset.
        named: Coefficients, or their file; None for the recommended ones.
        given: Single values that override the others; None where they do not.

    Raises:
        InputError: no such preset or file, or values that make no sense.
    """
    if isinstance(named, Coefficients):
        coefficients, origin = named, "as given"
    elif named is not None:
        choice = read_choice(named)
        coefficients, origin = choice.coefficients, f"from {named}{': ' if choice.origin else ''}{choice.origin}"
    else:
        coefficients, origin = _recommended(corrector, task, baseline, preset)
    changes = {key: value for key, value in given.items() if value is not None}
    coefficients = replace(coefficients, **changes)
    if changes.get("k2") and coefficients.a2 == "off":
        raise InputError(f"--k2 {changes['k2']:g} does nothing while a2 is off: add --a2 paper or --a2 residual.")
    changed = f"; {', '.join(changes)} as given" if changes else ""
    return coefficients, f"{origin}{changed}"


def _recommended(corrector: Corrector, task: Task, baseline: str, preset: str | None) -> tuple[Coefficients, str]:
    """Those recommended for the task and the baseline, else the corrector's own, and how they are told."""
    if corrector.info.get("env_id") == "":  # those of a task are for correctors of that task
        return corrector.coefficients, "the corrector's own"
    preset = str(preset or corrector.info.get("preset"))
    get_preset(preset)  # an unknown preset is a mistake, a missing row is not
    try:
        coefficients = coefficients_for(task.name, baseline, preset)
    except InputError:
        return corrector.coefficients, f"the corrector's own: none are recommended for {baseline} with preset {preset}"
    return coefficients, f"recommended for {baseline} on {task.name} with preset {preset}"


def make_arms(
    policy: Policy,
    name: str,
    corrector: Corrector | None,
    coefficients: Coefficients | None,
    ablation: bool = False,
    action_noise: float = 0.0,
) -> dict[str, Policy]:
    """The policies to compare, by name: the policy, its corrected self, and both halves of the correction.

    Args:
        policy: What is corrected.
        name: What it is called.
        corrector: None for the policy alone.
        coefficients: None for the corrector's own.
        ablation: Also without a1 (k1 = 0) and without a2 (k2 = 0), where both are on.
        action_noise: Standard deviation of Gaussian noise on the policy's actions, action units.

    Raises:
        InputError: policy and corrector do not fit together.
    """
    if action_noise:
        policy, name = NoisyPolicy(policy, action_noise), f"{name}+noise({action_noise:g})"
    arms = {name: policy}
    if corrector is None:
        return arms
    parts = corrections(coefficients or corrector.coefficients)
    for arm in parts if ablation else ["cdsa"]:
        arms[arm_name(arm, name)] = CorrectedPolicy(policy, corrector, parts[arm])
    return arms


def fit_command(task: str, preset: str | None = None) -> str:
    """The command that makes a corrector: one configuration serves all tasks of a robot, one the paper's preset."""
    world = task.partition("-")[0]
    config = "paper" if preset == "paper" else world if world in _WORLDS else task.replace("-", "_")
    return f"'cdsa fit --config configs/{config}.yaml --data.task {task}'"


def _entries(index: list[int] | None) -> str:
    return "all" if index is None else ", ".join(map(str, index))

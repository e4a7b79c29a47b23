r"""`cdsa fit` and `cdsa evaluate` as calls in Python, with the same meaning and the same numbers.

    corrector = fit("log.npz", low=-1, high=1);    report = evaluate(policy, corrector, "gym:MyEnv-v0")

Options are called as on the command line, without their section: `batch_size` is ``--data.batch_size``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped,unused-ignore]
from lightning import Callback

from cdsa_lightning import arms, fitting
from cdsa_lightning.commands.options import SINGLE
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.deploy import as_policy
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.evaluation import Evaluator, Report, traced
from cdsa_lightning.given import Dataset, make_data, make_model, sections
from cdsa_lightning.registry import load_policy
from cdsa_lightning.runs import CORRECTOR, new_run
from cdsa_lightning.sources import Transitions
from cdsa_lightning.tasks import Task, get_task
from cdsa_lightning.tracking import wandb_mode
from cdsa_lightning.training import CDSAModule

__all__ = ["evaluate", "fit"]

_OURS = ("default_root_dir", "enable_progress_bar", "logger", "plugins")
"""Arguments of the trainer that `fit` sets itself."""


def fit(
    dataset: Dataset = None,
    task: str | None = None,
    preset: str | None = None,
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    runs: str | Path | None = "runs",
    checkpoint_every: int = 1000,
    wandb: str = "off",
    num_threads: int = 1,
    quiet: bool = False,
    **overrides: Any,
) -> Corrector:
    """Train a corrector, as `cdsa fit` does: the same settings and seeds give the same weights, bit for bit.

    Args:
        dataset: A task's name; a source (``minari:``, ``d4rl:`` or ``npz:``), of which an npz path or a Minari id may
            lack the scheme; arrays by name, as in an npz file; or `Transitions`. None where `config` names data.
        task: Whose world and bounds the data are of: a name, or ``gym:<EnvId>``. Found by itself where a task has this
            source. For data of no task: any name for them, with `low` and `high` among the overrides.
        preset: ``robust`` or ``paper``; by default that of `config`, and robust without one.
        seeds: Training seeds; by default those of `config`, and (0,) without one.
        steps: Gradient steps; by default those of `config`, and 10,000 without.
        config: A configuration for `cdsa fit`, or its content: its model, data and trainer count.
        runs: Where the run directory is made; ``corrector.info["run"]`` names it. None leaves nothing on disk.
        checkpoint_every: Gradient steps between checkpoints.
        wandb: W&B mode: off, offline, online or auto.
        num_threads: CPU threads while it trains.
        quiet: Show no progress.
        overrides: Any argument of `CDSAModule`, `TransitionData`, `LoggedData` or Lightning's Trainer.

    Returns:
        The corrector as it lies in the run directory, on the CPU.

    Raises:
        InputError: an unknown name or option, data that cannot be used, missing bounds, or a training that failed.
    """
    own = {"task": task, "preset": preset, "seeds": seeds, "max_steps": steps}
    named = {name: value for name, value in own.items() if value is not None}
    alone = {"preset": "robust", "seeds": (0,)} if config is None else {}
    parts = sections(config, {**alone, **overrides, **named})
    options = {**fitting.TRAINER, "devices": 1, **parts["trainer"]}
    _check_trainer(options)
    mode = wandb_mode(wandb if runs is not None else "off")
    data, model = make_data(dataset, parts["data"]), make_model(parts["model"])
    held = isinstance(dataset, Transitions | Mapping)
    settings = None if held else _settings(model, data, parts, options)
    with _threads(num_threads), fitting.quietly(), _directory(data.task.name, runs) as directory:
        shown, keep = not quiet, runs is not None
        trainer = fitting.train(model, data, directory, options, settings, checkpoint_every, mode, shown, keep)
        written: Path = trainer.strategy.broadcast(directory)  # by the first process, if there are several
        corrector: Corrector = load_corrector(written / CORRECTOR)
        trainer.strategy.barrier()  # a temporary directory stays until all have read it
    if runs is not None:
        corrector.info["run"] = str(written)
    return corrector


def _check_trainer(options: Mapping[str, Any]) -> None:
    if ours := [name for name in _OURS if name in options]:
        raise InputError(f"cdsa.fit sets {', '.join(ours)} of the trainer itself: leave it out.")
    steps, callbacks = options["max_steps"], options.get("callbacks") or []
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps must be a whole number from 1, got {steps!r}.")
    if not all(isinstance(callback, Callback) for callback in callbacks):
        raise InputError("callbacks must be a list of Lightning's Callback objects; names are for the command.")


def _settings(model: Any, data: Any, parts: Mapping[str, dict[str, Any]], options: Mapping[str, Any]) -> str:
    """A configuration with which `cdsa fit` does the same; callbacks and other objects are left out."""
    made = {}
    for section, kind in (("model", type(model)), ("data", type(data))):
        made[section] = {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": _plain(parts[section])}
    return yaml.safe_dump({**made, "trainer": _plain(options)}, sort_keys=False)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    listed = {name: np.array(v).tolist() if isinstance(v, tuple | np.ndarray) else v for name, v in values.items()}
    listed.pop("callbacks", None)
    return {name: value for name, value in listed.items() if isinstance(value, str | int | float | bool | list)}


@contextmanager
def _directory(task: str, runs: str | Path | None) -> Iterator[Path]:
    """A new run directory, or one that is gone afterwards."""
    if runs is not None:
        yield new_run(task, CDSAModule.run_name, runs)
        return
    with tempfile.TemporaryDirectory(prefix="cdsa-") as folder:
        yield Path(folder)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """With so many CPU threads: these networks are too small for more than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def evaluate(
    policy: Any,
    corrector: Corrector | str | Path | None,
    task: Task | str | None = None,
    episodes: int | None = None,
    seed: int = 0,
    *,
    name: str = "policy",
    preset: str | None = None,
    coefficients: Coefficients | str | Path | None = None,
    corrector_seed: int | None = None,
    ensemble: bool = False,
    ablation: bool = False,
    action_noise: float = 0.0,
    env_kwargs: Mapping[str, Any] | None = None,
    threads: int = 1,
    **single: Any,
) -> Report:
    """A policy against its corrected self, as `cdsa evaluate` compares them: the same seed gives the same numbers.

    Args:
        policy: What `correct` takes, or an installed baseline as (name, checkpoint), with None where it needs no
            checkpoint. A function gets float32 batches [B, S] in NumPy.
        corrector: A corrector, or its file; None evaluates the policy alone.
        task: Where to act: a name, ``gym:<EnvId>``, or a `Task`; by default the corrector's.
        episodes: Episodes per training seed; by default the task's number.
        seed: Of the environments and of the noise.
        name: What the report calls the policy; an installed baseline has its own.
        preset: Whose recommended coefficients to take, by default the corrector's.
        coefficients: These, or those of a file; by default those recommended for the task, else the corrector's own.
        corrector_seed: Correct with this seed of the corrector, counted from 0.
        ensemble: Correct with the mean over the corrector's seeds.
        ablation: Evaluate also without a1 (k1 = 0) and without a2 (k2 = 0).
        action_noise: Standard deviation of Gaussian noise on the policy's actions, action units.
        env_kwargs: Settings of the environment.
        threads: CPU threads meanwhile.
        single: Single coefficients over the others: k1, k2, num_steps, schedule, state_step, a2, units, gate or
            max_shift.

    Returns:
        The report: `statistics`, `differences` with their verdicts, `sentence()`, `to_json()`; as a table for the
        terminal with ``rich.print(cdsa_lightning.report.table(report))``.

    Raises:
        InputError: a name, a file or a number that cannot be used, or a policy or corrector that does not fit the task.
    """
    for key in single:
        if key not in SINGLE:
            raise unknown_name("option of cdsa.evaluate", key, SINGLE)
    where = "The corrector" if isinstance(corrector, Corrector) else str(corrector)
    held: Corrector | None = load_corrector(corrector) if isinstance(corrector, str | Path) else corrector
    found = task if isinstance(task, Task) else get_task(_task_name(task, held))
    with _threads(threads):
        base, name = _policy(policy, name, found)
        chosen = None
        if held is not None:
            arms.check_corrector(held, found, where)
            held, _ = arms.select_seed(held, corrector_seed, ensemble)
            chosen, _ = arms.find_coefficients(held, found, name, preset, coefficients, single)
        compared = arms.make_arms(base, name, held, chosen, ablation, action_noise)
        return Evaluator(found, episodes, seed, traced(found), dict(env_kwargs or {}) or None).run(compared)


def _task_name(task: str | None, corrector: Corrector | None) -> str:
    trained = None if corrector is None or corrector.info.get("env_id") == "" else corrector.info.get("task")
    if not (task or trained):
        raise InputError("Nothing says where the policy shall act: name a task, for instance task='gym:<EnvId>'.")
    return str(task or trained)


def _policy(policy: Any, name: str, task: Task) -> tuple[Policy, str]:
    """Any policy as a `Policy` in the bounds of the task, and its name."""
    if isinstance(policy, tuple):
        if len(policy) != 2:
            raise InputError(f"An installed baseline is given as (name, checkpoint), got {policy!r}.")
        return load_policy(policy[0], policy[1], task), policy[0]
    return as_policy(policy, task.low, task.high), name

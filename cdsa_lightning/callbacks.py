r"""Evaluation while a model trains.

A module under training offers ``policy()`` (a baseline) or ``corrector()`` (CDSA, which needs a baseline to correct).
The callback hands it to the same `Evaluator` that the command line uses and logs `Report.scalars`. It leaves no trace
in the training: modules return to their modes and every random generator to its state.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch

from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Evaluator, Report
from cdsa_lightning.registry import load_policy
from cdsa_lightning.tasks import Task, get_task

__all__ = ["EvaluationCallback"]


class EvaluationCallback(pl.Callback):
    """Evaluates the model every so many gradient steps and at the end of the fit.

    Args:
        task: What to evaluate on; by default the task of the datamodule.
        every_n_steps: Gradient steps between evaluations. A training step may hold several gradient steps, so an
            evaluation takes place at the first training step past each multiple.
        episodes: Episodes per training seed; the task's own number by default.
        baseline: An installed baseline to correct; needed where the model is a corrector.
        checkpoint: Of the baseline, where it needs one.
        seed: Of the environments.

    Raises:
        InputError: `every_n_steps` is below 1.
    """

    def __init__(
        self,
        task: str | None = None,
        every_n_steps: int = 10_000,
        episodes: int | None = None,
        baseline: str | None = None,
        checkpoint: str | None = None,
        seed: int = 0,
    ) -> None:
        if every_n_steps < 1:
            raise InputError(f"every_n_steps must be at least 1, got {every_n_steps}.")
        self.task, self.every_n_steps, self.episodes = task, every_n_steps, episodes
        self.baseline, self.checkpoint, self.seed = baseline, checkpoint, seed
        self.report: Report | None = None  # the latest, for whoever holds the callback
        self._evaluator: Evaluator | None = None
        self._base: Policy | None = None
        self._done = 0  # the step of the latest evaluation

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the task and loads the baseline, so that a mistake shows before the training.

        Raises:
            InputError: no task is known, the model offers nothing to evaluate, or a corrector has no baseline.
        """
        if stage != "fit":
            return
        if not callable(getattr(pl_module, "policy", None)) and not callable(getattr(pl_module, "corrector", None)):
            raise InputError(
                f"EvaluationCallback cannot evaluate {type(pl_module).__name__}: "
                "it has neither policy() nor corrector()."
            )
        if _corrects(pl_module) and self.baseline is None:
            raise InputError(
                f"{type(pl_module).__name__} trains a corrector: EvaluationCallback needs the baseline to correct, "
                "for instance baseline: iql and checkpoint: PATH."
            )
        task = self._find_task(trainer)
        if self.baseline is not None and self._base is None:
            checkpoint = None if self.checkpoint is None else Path(self.checkpoint)
            self._base = load_policy(self.baseline, checkpoint, task)
        self._evaluator = Evaluator(task, self.episodes, self.seed)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A resumed fit evaluates from where it resumes."""
        self._done = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluates where a multiple of `every_n_steps` was crossed."""
        if trainer.global_step // self.every_n_steps > self._done // self.every_n_steps:
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluates the final weights, unless they were evaluated just now."""
        if trainer.global_step > self._done:
            self._evaluate(trainer, pl_module)

    def _find_task(self, trainer: pl.Trainer) -> Task:
        if self.task is not None:
            return get_task(self.task)
        task = getattr(getattr(trainer, "datamodule", None), "task", None)
        if isinstance(task, Task):
            return task
        if isinstance(task, str):
            return get_task(task)
        raise InputError("EvaluationCallback does not know the task: give it task: NAME.")

    def _evaluate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._done = trainer.global_step
        if not trainer.is_global_zero or self._evaluator is None:
            return
        with _untouched(module):
            self.report = self._evaluator.run(self._policies(module))
        for logger in trainer.loggers:
            logger.log_metrics(self.report.scalars(), step=trainer.global_step)

    def _policies(self, module: pl.LightningModule) -> dict[str, Policy]:
        offers = cast(Any, module)
        if not _corrects(module):
            return {self.baseline or _name(module): offers.policy().to(module.device).eval()}
        base = cast(Policy, self._base).to(module.device)
        corrected = CorrectedPolicy(base, offers.corrector()).to(module.device).eval()
        return {cast(str, self.baseline): base, f"cdsa({self.baseline})": corrected}


def _corrects(module: pl.LightningModule) -> bool:
    return callable(getattr(module, "corrector", None))


def _name(module: pl.LightningModule) -> str:
    """``IQLModule`` is ``iql`` in a log key."""
    return type(module).__name__.removesuffix("Module").lower() or "policy"


@contextmanager
def _untouched(module: pl.LightningModule) -> Iterator[None]:
    """Training modes and random generators are afterwards what they were before."""
    modes = {part: part.training for part in module.modules()}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    cuda = [torch.cuda.get_rng_state(device) for device in devices]
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        for device, state in zip(devices, cuda, strict=True):
            torch.cuda.set_rng_state(state, device)

"""What surrounds a fit, whoever asks for it: its checkpoints and curves, and an end that leaves no empty run behind."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from cdsa_lightning.checkpoints import LastCheckpoint, SafeCheckpointIO, read_checkpoint
from cdsa_lightning.data import TaskData
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file
from cdsa_lightning.progress import StepProgress
from cdsa_lightning.resources import explained
from cdsa_lightning.runs import CHECKPOINT
from cdsa_lightning.stepping import SteppedModule
from cdsa_lightning.tracking import wandb_logger

__all__ = ["TRAINER", "callbacks", "ending", "kept", "leave_to_first", "loggers", "made", "quietly", "train"]

TRAINER = {"max_steps": 10_000, "log_every_n_steps": 100, "enable_model_summary": False}
"""Arguments of the trainer that are ours."""

_CHATTER = (
    ".*LightningCLI's args parameter is intended.*",  # we leave sys.argv for processes that Lightning starts
    ".*`training_step` returned `None`.*",
    ".*GPU available but not used.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*Experiment logs directory.*",
    ".*smaller than the logging interval.*",
    ".*your dataloader is not resumable.*",  # it starts where the step count stands
    ".*`srun` command is available.*",
)


def callbacks(run_dir: Path, checkpoint_every: int, progress: bool = True) -> list[Callback]:
    """Those of every fit: the last checkpoint, and progress in gradient steps.

    Raises:
        InputError: `checkpoint_every` is below 1.
    """
    return [LastCheckpoint(run_dir / CHECKPOINT, checkpoint_every), *([StepProgress()] if progress else [])]


def loggers(run_dir: Path, is_new: bool, mode: str, task: str, name: str) -> list[Logger]:
    """CSV, and W&B unless `mode` is ``off``.

    Args:
        run_dir: Where both are kept.
        is_new: Whether nothing was logged there before.
        mode: What `tracking.wandb_mode` answered.
        task: Groups the runs of W&B.
        name: What is trained.
    """
    # A CSV logger empties the folder it is given: a resumed run writes beside its first part.
    parts = 0 if is_new else len(list(run_dir.glob("**/metrics.csv")))
    found: list[Logger] = [CSVLogger(run_dir, name="", version=f"resumed-{parts}" if parts else "")]
    if mode != "off":
        found.append(wandb_logger(mode, run_dir, task, f"{task}/{name}/{run_dir.name}"))
    return found


def train(
    module: SteppedModule,
    data: TaskData,
    run_dir: Path,
    options: Mapping[str, Any],
    settings: str | None = None,
    checkpoint_every: int = 1000,
    mode: str = "off",
    progress: bool = True,
    keep: bool = True,
) -> Trainer:
    """One fit in a new run directory, with a plain Trainer; what `cdsa fit` leaves there is left.

    Args:
        module: What is trained.
        data: Loaded already, so that mistakes in them leave no directory.
        run_dir: New and empty.
        options: Arguments of the Trainer.
        settings: What `cdsa fit` would need to do the same, as YAML; None where it cannot.
        checkpoint_every: Gradient steps between checkpoints.
        mode: What `tracking.wandb_mode` answered.
        progress: Show it.
        keep: Whether the directory outlives the fit.

    Returns:
        The trainer, after its work.

    Raises:
        InputError: the trainer cannot be made, or the training failed.
        KeyboardInterrupt: Ctrl-C; its text says what is left.
    """
    config = run_dir / "config.yaml"
    argv = None if settings is None else ["--config", str(config)]
    with ending(lambda: kept(run_dir, True, argv) if keep else ""):
        more = list(options.get("callbacks") or [])
        kit: dict[str, Any] = {
            "callbacks": callbacks(run_dir, checkpoint_every, progress) + more,
            "plugins": [SafeCheckpointIO()],
            "logger": loggers(run_dir, True, mode, data.task.name, module.run_name),
        }
        given = {**options, **kit}
        trainer = made(lambda: Trainer(**given, default_root_dir=run_dir, enable_progress_bar=progress))
        leave_to_first(trainer, run_dir)
        if settings is not None and trainer.is_global_zero:
            with whole_file(config) as place:
                place.write_text(settings, encoding="utf-8")
        trainer.fit(module, datamodule=data)
    return trainer


def leave_to_first(trainer: Trainer, run_dir: Path) -> None:
    """One run has one directory: other processes than the first, which torchrun or SLURM started, drop their own."""
    if not trainer.is_global_zero:
        run_dir.rmdir()


def made(make: Callable[[], Trainer]) -> Trainer:
    """The trainer that `make` makes; one that is alone is the first, whatever number a scheduler gave to its process.

    Raises:
        InputError: it cannot be made, or it would start more processes than there are cores.
    """
    try:
        trainer = make()
    except (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"The trainer cannot be made: {error}") from error
    cores, processes = os.cpu_count() or 1, trainer.num_devices
    if isinstance(trainer.accelerator, CPUAccelerator) and processes > max(cores, 2):  # two may be tried anywhere
        raise InputError(
            f"trainer.devices {processes} would start as many processes, each with its own copy of the data, on {cores}"
            f" cores. Give --trainer.devices {cores} or fewer."
        )
    if trainer.world_size == 1:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
    return trainer


@contextmanager
def quietly() -> Iterator[None]:
    """Without what Lightning says about itself, and with the Ctrl-C that was there before."""
    logger, handler = logging.getLogger("lightning.pytorch"), signal.getsignal(signal.SIGINT)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in _CHATTER:
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored


def kept(run_dir: Path, is_new: bool, argv: Sequence[str] | None) -> str:
    """What a fit that failed has left, and how to go on; a new run without a checkpoint or curves is removed.

    Args:
        run_dir: Its directory.
        is_new: Whether this fit made it.
        argv: What `cdsa fit` needs to go on with, besides the checkpoint; None where the command cannot.
    """
    path = run_dir / CHECKPOINT
    if path.is_file():
        step = read_checkpoint(path).get("global_step")
        if argv is None:
            return f"\nKept: {path} (step {step})."
        command = shlex.join(["cdsa", "fit", *argv, "--ckpt_path", str(path)])
        return f"\nKept: {path} (step {step}). Go on with:\n  {command}"
    if is_new and not list(run_dir.glob("**/metrics.csv")):
        shutil.rmtree(run_dir, ignore_errors=True)
        for folder in list(run_dir.parents)[:3]:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return ""


@contextmanager
def ending(left: Callable[[], str]) -> Iterator[None]:
    """Every way in which a fit can fail, as one that says what is left.

    Args:
        left: Tidies up and tells; `kept`.

    Raises:
        InputError: the fit's own, the trainer's, or what the machine could not give.
        SystemExit: the process was told to end.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        yield
    except (InputError, MisconfigurationException, OSError) as error:
        text = _os_error(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"{text}{left()}") from error
    except (MemoryError, RuntimeError) as error:
        if (reason := explained(error)) is None:
            raise
        raise InputError(f"{reason}{left()}") from error
    except SIGTERMException:
        # Lightning has finished the step and would end with 0, which a scheduler takes for success.
        print(f"cdsa: terminated.{left()}", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM) from None
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt(f"interrupted.{left()}") from None


def _os_error(error: OSError) -> str:
    return f"Cannot write or read {error.filename or 'a file'}: {error.strerror or error}."

"""What surrounds a fit, whoever asks for it: its checkpoints and curves, and an end that leaves no empty run behind."""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from cdsa_lightning.checkpoints import LastCheckpoint, read_checkpoint
from cdsa_lightning.errors import InputError
from cdsa_lightning.progress import StepProgress
from cdsa_lightning.resources import explained
from cdsa_lightning.runs import CHECKPOINT
from cdsa_lightning.tracking import wandb_logger

__all__ = ["TRAINER", "callbacks", "ending", "kept", "loggers", "quietly"]

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
)


def callbacks(run_dir: Path, checkpoint_every: int) -> list[Callback]:
    """Those of every fit: the last checkpoint, and progress in gradient steps.

    Raises:
        InputError: `checkpoint_every` is below 1.
    """
    return [LastCheckpoint(run_dir / CHECKPOINT, checkpoint_every), StepProgress()]


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


def kept(run_dir: Path, is_new: bool, argv: Sequence[str]) -> str:
    """What a fit that failed has left, and how to go on; a new run without a checkpoint or curves is removed.

    Args:
        run_dir: Its directory.
        is_new: Whether this fit made it.
        argv: What `cdsa fit` needs to go on with, besides the checkpoint.
    """
    path = run_dir / CHECKPOINT
    if path.is_file():
        step = read_checkpoint(path).get("global_step")
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
        if (text := explained(error)) is None:
            raise
        raise InputError(f"{text}{left()}") from error
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

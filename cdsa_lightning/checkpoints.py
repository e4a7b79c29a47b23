r"""Checkpoints of a run: one file, replaced whole or not at all, and never executed when read.

A checkpoint is written beside its place, brought to the disk, and renamed over the one before: whatever stops the
program, ``last.ckpt`` is the old one or the new one. Ctrl-C is taken between two training steps, where a checkpoint of
it equals that of an undisturbed run; a second Ctrl-C stops at once. The archive's check sums are verified
when it is read.
"""

from __future__ import annotations

import signal
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cdsa_lightning.data import DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import clear_partials, whole_file
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.torch_files import read_torch_file

__all__ = ["LastCheckpoint", "SafeCheckpointIO", "checked_info", "inspect_run", "read_checkpoint", "require_rows"]

_RAW = "none: raw observations"
_NO_SETTINGS = ("seeds", "inner_steps", "compile")  # they say how a run was computed, not what


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint written by `cdsa fit`, on the CPU; read as data, so that nothing in it can execute.

    Args:
        path: The file.

    Raises:
        InputError: no such file, damaged, or written by something else.
    """
    try:
        checkpoint = read_torch_file(Path(path))
        if not isinstance(checkpoint, dict):
            raise ValueError(f"it holds a {type(checkpoint).__name__}")
        missing = {"run_name", "data", "hyper_parameters", "state_dict"} - set(checkpoint)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"Cannot read the checkpoint {path}: {error.strerror or error}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a checkpoint of 'cdsa fit', or it is damaged: {str(error)[:160]}") from None
    if missing:
        raise InputError(f"{path} is not a checkpoint of 'cdsa fit': it lacks {', '.join(sorted(missing))}.")
    return checkpoint


def inspect_run(path: Path, run_name: str, standardised: bool = False) -> Inspection | None:
    """What a checkpoint of `cdsa fit` holds, where it is one of `run_name`; None for any other file.

    Args:
        path: Any file or folder.
        run_name: That of the module which a baseline restores.
        standardised: Whether that baseline divides observations by the data's deviations.

    Raises:
        InputError: it is one, but its record of the data or of its settings is damaged.
    """
    try:
        checkpoint = read_checkpoint(path) if path.is_file() and zipfile.is_zipfile(path) else {}
    except Exception:  # Any file may be asked about, and a damaged or hostile one can make the parsers raise anything.
        return None
    if checkpoint.get("run_name") != run_name:
        return None
    try:
        data, settings = checkpoint["data"], checkpoint["hyper_parameters"]
        standardised = standardised or bool(settings.get("standardize_obs"))
        obs_dim, seeds = len(data["obs_mean"]), [int(seed) for seed in settings["seeds"]]
        steps = checkpoint.get("global_step")
        kept = {key: value for key, value in settings.items() if not key.startswith("_") and key not in _NO_SETTINGS}
        return Inspection(
            format="checkpoint of 'cdsa fit'",
            algorithm=str(settings.get("_class_path", run_name)).rpartition(".")[2],
            obs_dim=obs_dim,
            action_dim=len(data["action_mean"]),
            statistics=f"mean and std of {obs_dim} entries, inside the file" if standardised else _RAW,
            num_seeds=len(seeds),
            task=str(data["task"]),
            details={
                "seeds": ", ".join(map(str, seeds)),
                "trained": "steps not recorded" if steps is None else f"{int(steps):,} steps",
                "data": f"{data['source']}, {int(data['transitions']):,} transitions",
                "settings": ", ".join(f"{key} {value}" for key, value in kept.items() if value is not None),
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is a checkpoint of {run_name!r} with a damaged record: {error!r}.") from None


def checked_info(path: Path, data: dict[str, Any]) -> DataInfo:
    """What a checkpoint says of its data, where its numbers are numbers: a stranger may have written them.

    Raises:
        InputError: they are not, or do not fit each other.
    """
    info = DataInfo.from_dict(data)
    vectors = (info.low, info.high, info.obs_mean, info.obs_std, info.action_mean, info.action_std)
    flat = [list(part) if isinstance(part, list | tuple) else [None] for part in (*vectors, info.state_index or [])]
    if not all(isinstance(number, int | float) for part in flat for number in part) or not flat[0] or not flat[2]:
        raise InputError(f"{path} is damaged: its record of the data holds something besides numbers.")
    widths = [len(part) for part in flat]
    if not isinstance(info.task, str) or len({*widths[:2], *widths[4:6]}) > 1 or widths[2] != widths[3]:
        raise InputError(f"{path} is damaged: its record of the data does not fit itself.")
    return info


def require_rows(seeds: Any, weights: dict[str, Any]) -> None:
    """Each seed is a generator and a row of every weight: there are no more seeds than rows.

    Raises:
        TypeError: there are, or they are no whole numbers.
    """
    if not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise TypeError("a weight is no tensor")
    rows = max((tensor.shape[0] for tensor in weights.values() if tensor.ndim and tensor.numel()), default=0)
    if not isinstance(seeds, list | tuple) or len(seeds) > rows or not all(type(seed) is int for seed in seeds):
        raise TypeError(f"seeds {str(seeds)[:60]} of weights with {rows} rows")


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes atomically within the folder of the checkpoint, and reads with weights_only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Replace `path` by the checkpoint.

        Raises:
            InputError: it cannot be written; what was at `path` before is untouched.
        """
        target = Path(path)
        with whole_file(target, "the checkpoint", "Free space on that disk.") as place, place.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # PyTorch's writer turns a full disk into one
                cause = error.__context__
                raise cause if isinstance(cause, OSError) else OSError(str(error).splitlines()[0]) from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """`read_checkpoint`, whatever `weights_only` asks for."""
        return read_checkpoint(path)


class LastCheckpoint(Checkpoint):
    """Keeps the last checkpoint of a run: every so many gradient steps, at the end, and at Ctrl-C.

    Args:
        path: Where it lies.
        every_n_steps: Gradient steps between two.

    Raises:
        InputError: `every_n_steps` is below 1.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise InputError(f"checkpoint_every must be at least 1, got {every_n_steps}.")
        self.path, self.every_n_steps, self.saved_at = path, every_n_steps, 0
        self.interrupted = False
        self.handler: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at = trainer.global_step
        if trainer.is_global_zero:
            clear_partials(self.path.parent)
        # Several processes would stop at different steps, and wait for each other; they are stopped at once.
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self.handler = signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, *_: Any) -> None:
        self.interrupted = True
        self._release()

    def _release(self) -> None:
        if self.handler is not None:
            signal.signal(signal.SIGINT, self.handler)
            self.handler = None

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if self.interrupted:
            self._save(trainer)
            raise KeyboardInterrupt
        # Steps come in chunks: what counts is that a multiple was crossed, not that one was hit.
        if trainer.global_step // self.every_n_steps > self.saved_at // self.every_n_steps:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self.saved_at:
            self._save(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step > self.saved_at or not self.path.exists():
            trainer.save_checkpoint(self.path)
            self.saved_at = trainer.global_step

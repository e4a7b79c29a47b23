"""`cdsa fit`: train CDSA's networks or a baseline. LightningCLI builds the objects; here are a run's place and loggers.

`class_path` and `init_args` in a YAML construct any `SteppedModule`; without them it is `CDSAModule`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from cdsa_lightning.data import TransitionData
from cdsa_lightning.errors import InputError
from cdsa_lightning.progress import StepProgress
from cdsa_lightning.runs import CHECKPOINT, new_run
from cdsa_lightning.stepping import SteppedModule
from cdsa_lightning.tracking import MODES, PROJECT, wandb_mode

__all__ = ["FitCLI", "LastCheckpoint", "main"]

STEPS_BETWEEN_CHECKPOINTS = 1000


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt`` of a run: replaced atomically every so many gradient steps and at the end."""

    def __init__(self, directory: Path, every_n_steps: int) -> None:
        self.path, self.every_n_steps, self.saved_at = directory / CHECKPOINT, every_n_steps, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        # Steps come in chunks: what counts is that a multiple was crossed, not that one was hit.
        if trainer.global_step // self.every_n_steps > self.saved_at // self.every_n_steps:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self.saved_at:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved_at = trainer.global_step


def _loggers(mode: str, directory: Path, task: str, name: str) -> list[Logger]:
    # A CSV logger empties the folder it is given: a resumed run writes beside its first part.
    parts = len(list(directory.glob("**/metrics.csv")))
    loggers: list[Logger] = [CSVLogger(directory, name="", version=f"resumed-{parts}" if parts else "")]
    mode = wandb_mode(mode)
    if mode != "off":
        run = f"{task}/{name}/{directory.name}"
        loggers.append(WandbLogger(name=run, save_dir=directory, project=PROJECT, group=task, mode=mode))
    return loggers


class FitCLI(LightningCLI):
    """LightningCLI with a directory per run, CSV and W&B side by side, and `CDSAModule` where no model is named."""

    run_dir: Path

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only `fit`: the other verbs are commands of their own."""
        return {"fit": LightningCLI.subcommands()["fit"]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--compile", type=bool, default=False, help="Compile the update: slow start, then faster.")
        parser.link_arguments("compile", "model.init_args.compile")
        parser.add_argument("--wandb", type=str, default="auto", help=f"One of {', '.join(MODES)}.")
        parser.add_argument("--runs", type=str, default="runs", help="Where run directories are made.")
        parser.add_argument(
            "--num_threads", type=int, default=1, help="CPU threads; these networks are too small for more."
        )
        parser.set_defaults({"model": {"class_path": "cdsa_lightning.training.CDSAModule"}})

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        options = self.config["fit"]
        torch.set_num_threads(options["num_threads"])
        task, resumed = self.datamodule.task.name, options.get("ckpt_path")
        if resumed is not None and not Path(resumed).is_file():
            raise InputError(f"There is no checkpoint {resumed}; leave --ckpt_path out to start afresh.")
        name = self.model.run_name
        self.run_dir = Path(resumed).parent if resumed else new_run(task, name, options["runs"])
        if options["trainer"]["logger"] is None and not options["trainer"]["fast_dev_run"]:
            kwargs["logger"] = _loggers(options["wandb"], self.run_dir, task, name)
        kwargs["default_root_dir"] = str(self.run_dir)
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        callbacks += [LastCheckpoint(self.run_dir, STEPS_BETWEEN_CHECKPOINTS), StepProgress()]
        return super()._instantiate_trainer(config, callbacks)


def _quiet() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for text in (
        ".*`training_step` returned `None`.*",
        ".*GPU available but not used.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*Experiment logs directory.*",
        ".*smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", text)


def main(argv: list[str]) -> int:
    """Parse, train, and say where the result is.

    Raises:
        InputError: options, configuration or data that cannot be used.
    """
    _quiet()
    program, sys.argv = sys.argv, [sys.argv[0]]  # LightningCLI warns where it is given args beside sys.argv
    try:
        cli = FitCLI(
            SteppedModule,
            TransitionData,
            subclass_mode_model=True,
            trainer_defaults={"max_steps": 10_000, "log_every_n_steps": 100, "enable_model_summary": False},
            seed_everything_default=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"fit": {"exit_on_error": False}, "exit_on_error": False, "prog": "cdsa"},
            auto_configure_optimizers=False,
            args=["fit", *argv],
        )
    except ArgumentError as error:
        raise InputError(str(error)) from None
    finally:
        sys.argv = program
    print(f"Run: {cli.run_dir}")
    return 0

"""`cdsa fit`: train CDSA's networks or a baseline. LightningCLI builds the objects; here are a run's place and its end.

`class_path` and `init_args` in a YAML construct any `SteppedModule`; without them it is `CDSAModule`.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cdsa_lightning import fitting
from cdsa_lightning.checkpoints import SafeCheckpointIO, read_checkpoint
from cdsa_lightning.commands.explain import check_config, config_paths, explain
from cdsa_lightning.data import TaskData
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file
from cdsa_lightning.fitting import TRAINER, ending, leave_to_first, quietly
from cdsa_lightning.runs import CHECKPOINT, CORRECTOR, new_run
from cdsa_lightning.stepping import SteppedModule
from cdsa_lightning.tracking import MODES, wandb_mode

__all__ = ["FitCLI", "main"]

_RUN_OF_PARENT = "CDSA_RUN_DIRECTORY"
"""Processes that Lightning starts beside the first one share its run directory."""
_CLASSES = {"model": "cdsa_lightning.training.CDSAModule", "data": "cdsa_lightning.data.TransitionData"}
"""What is trained, and on what, where nothing else is named."""


class _WholeConfig(SaveConfigCallback):
    """The configuration beside the curves, whole or not at all: a run that was killed is gone on with by it."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = trainer.log_dir  # asked in every process, since it is broadcast
        if trainer.is_global_zero:
            with whole_file(Path(folder or trainer.default_root_dir) / "config.yaml", "the configuration") as place:
                self.parser.save(self.config, str(place), skip_none=False)


class FitCLI(LightningCLI):
    """LightningCLI with a directory per run, CSV and W&B side by side, and `CDSAModule` where no model is named."""

    run_dir: Path
    steps_done: int = 0

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only `fit`: the other verbs are commands of their own. What is read is never executed, so no weights_only."""
        return {"fit": LightningCLI.subcommands()["fit"] | {"weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The options that are not of model, data or trainer."""
        parser.add_argument("--compile", type=bool, default=False, help="Compile the update: slow start, then faster.")
        parser.link_arguments("compile", "model.init_args.compile")
        parser.add_argument("--wandb", type=str, default="auto", help=f"One of {', '.join(MODES)}.")
        parser.add_argument("--runs", type=str, default="runs", help="Where run directories are made.")
        parser.add_argument("--checkpoint_every", type=int, default=1000, help="Gradient steps between checkpoints.")
        parser.add_argument(
            "--num_threads", type=int, default=1, help="CPU threads; these networks are too small for more."
        )
        self.options = parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and see at once whether a checkpoint to resume from fits.

        Raises:
            InputError: what cannot be parsed or resumed.
        """
        self.argv = args[1:]
        configs = [check_config(path) for path in config_paths(self.argv)]
        args = [args[0], *_default_classes(self.argv, configs), *self.argv]
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise explain(str(error), list(self.options.get_defaults().keys())) from None
        steps = self.config.fit.trainer.max_steps
        if steps < 1:
            raise InputError(f"trainer.max_steps must be at least 1, got {steps}: a run's length is in gradient steps.")
        self.mode = wandb_mode(self.config.fit.wandb)
        if self.config.fit.get("ckpt_path"):
            self._check_resumed(self.config.fit)

    def _check_resumed(self, options: Any) -> None:
        path = options.ckpt_path
        if not Path(path).is_file():
            raise InputError(f"There is no checkpoint {path}; leave --ckpt_path out to start afresh.")
        checkpoint = read_checkpoint(path)
        found, task = checkpoint["run_name"], checkpoint["data"].get("task")
        module, _, name = options.model.class_path.rpartition(".")
        wanted = getattr(sys.modules[module], name)
        if found != wanted.run_name:
            raise InputError(
                f"{path} is a checkpoint of {found!r}, and this would train {wanted.run_name!r}. Give the "
                f"configuration it was made with, for instance --config {Path(path).parent / 'config.yaml'}."
            )
        self.steps_done = int(checkpoint.get("global_step", 0))
        asked = options.data.init_args.task
        if task != asked:
            raise InputError(f"{path} was trained on task {task!r}, not on {asked!r}: --data.task {task}.")
        _require_same_settings(wanted, options.model.get("init_args") or {}, checkpoint["hyper_parameters"], path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer of a new run, or of the run that is resumed."""
        options = self.config.fit
        torch.set_num_threads(options.num_threads)
        resumed, above = options.get("ckpt_path"), os.environ.get(_RUN_OF_PARENT)
        if resumed or above:
            self.run_dir, self.is_new = Path(above or Path(resumed).parent), False
        else:
            self.run_dir = new_run(self.datamodule.task.name, self.model.run_name, options.runs)
            self.is_new = True
        if options.trainer.logger is None:
            kwargs["logger"] = False  # ours follow once the data are there
        plugins = options.trainer.plugins or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), SafeCheckpointIO()]
        with ending(self._kept):
            trainer = super().instantiate_trainer(default_root_dir=str(self.run_dir), **kwargs)
            if self.is_new:
                leave_to_first(trainer, self.run_dir)
            return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        callbacks = callbacks + fitting.callbacks(self.run_dir, self.config.fit.checkpoint_every)
        make = super()._instantiate_trainer
        return fitting.made(lambda: make(config, callbacks))

    def fit(self, model: LightningModule, datamodule: TaskData, ckpt_path: str | None = None) -> None:
        """Train; what LightningCLI calls for the verb."""
        if self.trainer.max_steps <= self.steps_done:
            _say(f"Nothing to do: {ckpt_path} has taken {self.steps_done} steps. For more raise --trainer.max_steps.")
            return
        with ending(self._kept), _sharing(self.run_dir):
            datamodule.load()
            if self.config.fit.trainer.logger is None and not self.config.fit.trainer.fast_dev_run:
                self.trainer.loggers = self._loggers()
            _say(f"Run: {self.run_dir}")
            self.trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
        results = {"Checkpoint": self.run_dir / CHECKPOINT, "Corrector": self.run_dir / CORRECTOR}
        _say(*(f"{what}: {path}" for what, path in results.items() if path.exists()))

    def _loggers(self) -> list[Logger]:
        mode = self.mode if self.trainer.is_global_zero else "off"
        return fitting.loggers(self.run_dir, self.is_new, mode, self.datamodule.task.name, self.model.run_name)

    def _kept(self) -> str:
        return fitting.kept(self.run_dir, self.is_new, _without_checkpoint(self.argv))


def _default_classes(argv: list[str], configs: list[dict[str, Any]]) -> list[str]:
    """Options that name the classes which neither `argv` nor a configuration names.

    Defaults of the parser would do the same, and leave their arguments to any class that is named instead of them.
    """
    options: list[str] = []
    for section, class_path in _CLASSES.items():
        words = {word.partition("=")[0] for word in argv}
        given = [config.get(section) for config in configs]
        named = any(isinstance(part, str) or "class_path" in (part or {}) for part in given)
        if not named and not words & {f"--{section}", f"--{section}.class_path"}:
            options += [f"--{section}", class_path]
    return options


def _require_same_settings(model: type, asked: Any, saved: dict[str, Any], path: str) -> None:
    """A checkpoint brings its settings, which LightningCLI puts in the place of others without a word.

    Raises:
        InputError: another value than the checkpoint's is asked for; a default counts as not asked for.
    """
    known = inspect.signature(model).parameters
    for name in sorted(set(known) & set(saved) - {"compile"}):
        wish, found = _plain(asked.get(name)), _plain(saved[name])
        if wish not in (found, _plain(known[name].default)):
            raise InputError(
                f"{path} was trained with --model.{name} {json.dumps(found)}, and goes on with it: leave "
                f"--model.{name} {json.dumps(wish)} out, or start afresh without --ckpt_path."
            )


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _without_checkpoint(argv: list[str]) -> list[str]:
    before = ["", *argv]
    return [w for w, b in zip(argv, before, strict=False) if "--ckpt_path" not in (b, w.partition("=")[0])]


@contextmanager
def _sharing(run_dir: Path) -> Iterator[None]:
    before = os.environ.get(_RUN_OF_PARENT)
    os.environ[_RUN_OF_PARENT] = str(run_dir.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RUN_OF_PARENT]


@rank_zero_only
def _say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)


def _input_error(error: BaseException | None) -> InputError | None:
    """The InputError from which jsonargparse made `error`."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def main(argv: list[str]) -> int:
    """Parse, train, and say where the result is.

    Raises:
        InputError: options, configuration or data that cannot be used.
        KeyboardInterrupt: Ctrl-C; its text says how to go on.
    """
    program = sys.argv
    sys.argv = [sys.argv[0], "fit", *argv]  # what Lightning starts further processes with
    try:
        with quietly():
            FitCLI(
                SteppedModule,
                TaskData,
                subclass_mode_model=True,
                subclass_mode_data=True,
                trainer_defaults=TRAINER,
                seed_everything_default=False,
                save_config_callback=_WholeConfig,
                parser_kwargs={
                    "fit": {"exit_on_error": False},
                    "exit_on_error": False,
                    "allow_abbrev": False,
                    "prog": "cdsa",
                },
                auto_configure_optimizers=False,
                args=["fit", *argv],
            )
    except ValueError as error:  # jsonargparse wraps what a constructor raises
        found = _input_error(error)
        if found is None:
            raise
        raise found from None
    finally:
        sys.argv = program
    return 0

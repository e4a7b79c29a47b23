"""A progress bar in gradient steps: a Lightning step holds many of them, and a run is one pass over its steps."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

__all__ = ["StepProgress"]


class StepProgress(ProgressBar):
    """Steps done, steps per second, time left and the losses; where there is no terminal, a line every ten seconds.

    Args:
        refresh: Seconds between two drawings.
    """

    def __init__(self, refresh: float = 0.5) -> None:
        super().__init__()
        self.refresh, self.enabled = refresh, True

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.enabled = self.enabled and trainer.is_global_zero
        self.begun = self.drawn = time.monotonic()
        self.first = trainer.global_step
        self.bar = None
        if self.enabled and sys.stdout.isatty():
            speed = TextColumn("{task.fields[speed]}")
            # Losses get what room is left: in a narrow terminal they are cut, not the steps.
            losses = TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True))
            columns = (BarColumn(20), MofNCompleteColumn(), speed, TimeElapsedColumn(), TimeRemainingColumn(), losses)
            self.bar = Progress(*columns, console=Console(), auto_refresh=False, expand=True)
            self.line = self.bar.add_task("fit", total=trainer.max_steps, completed=self.first, speed="", losses="")
            self.bar.start()
        elif self.enabled:
            self.refresh = 10.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args)
        if self.enabled and time.monotonic() - self.drawn >= self.refresh:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if self.enabled:
            self._draw(trainer)
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if getattr(self, "bar", None) is not None:
            self.bar.stop()  # type: ignore[union-attr]
            self.bar = None

    def _draw(self, trainer: Trainer) -> None:
        self.drawn = time.monotonic()
        rate = (trainer.global_step - self.first) / max(self.drawn - self.begun, 1e-9)
        losses = "  ".join(f"{name} {value:.4g}" for name, value in self._losses(trainer).items())
        if self.bar is not None:
            self.bar.update(self.line, completed=trainer.global_step, speed=f"{rate:.0f} steps/s", losses=losses)
            self.bar.refresh()
        else:
            print(f"step {trainer.global_step}/{trainer.max_steps}  {rate:.0f} steps/s  {losses}", flush=True)

    def _losses(self, trainer: Trainer) -> dict[str, float]:
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}
        return {k.removeprefix("train/").removesuffix("_loss"): v for k, v in metrics.items()}

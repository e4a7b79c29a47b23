r"""Algorithm 1 of the CDSA paper (arXiv 2406.07541): g, h and I trained side by side, for every seed at once.

theta <- theta - lr grad L_g (Eq. 6),   phi <- phi - lr grad L_h (Eq. 8),   I <- I - lr grad L_I (Eq. 9)
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import Parameter

from cdsa_lightning import __version__
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.networks import Networks
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.presets import default_coefficients, get_preset
from cdsa_lightning.runs import CORRECTOR
from cdsa_lightning.stepping import ParameterGroup, SteppedModule, flatten

__all__ = ["CDSAModule"]

SAMPLE = 10_000
"""Transitions on which a finished corrector is measured."""


class CDSAModule(SteppedModule):
    """Trains the three networks of the method; writes ``corrector.safetensors`` beside the checkpoint.

    Args:
        preset: ``paper`` or ``robust``; the arguments below replace single values of it.
        standardize: Standardise observations and actions with the data's statistics.
        predict: What score networks put out: ``score`` or ``noise``.
        action_sigmas: One action score for each, standardised units where `standardize`; where none are named, the
            preset's, or those that the task's recommended coefficients visit.
        state_sigma: Perturbation of the state score.
        state_score_input: ``state_action`` for h(s, a), ``state`` for h(s).
        lr_score: Learning rate of g and h.
        lr_inverse: Learning rate of I.
        lr_schedule: ``constant`` or ``cosine``.
        ema_decay: Decay of the averaged weights, in [0, 1); 0 for none.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.
    """

    run_name = "cdsa"
    written_at = -1  # the step of the corrector that lies there

    def __init__(
        self,
        preset: str = "paper",
        standardize: bool | None = None,
        predict: str | None = None,
        action_sigmas: list[float] | None = None,
        state_sigma: float | None = None,
        state_score_input: str | None = None,
        lr_score: float | None = None,
        lr_inverse: float | None = None,
        lr_schedule: str | None = None,
        ema_decay: float | None = None,
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 20,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        self.preset_name = preset
        self.preset = get_preset(preset).override(
            standardize=standardize,
            predict=predict,
            action_sigmas=None if action_sigmas is None else tuple(action_sigmas),
            state_sigma=state_sigma,
            state_score_input=state_score_input,
            lr_score=lr_score,
            lr_inverse=lr_inverse,
            lr_schedule=lr_schedule,
            ema_decay=ema_decay,
        )

    def build(self, info: DataInfo) -> None:
        recommended = default_coefficients(info.task, self.preset_name).schedule
        if self.hparams["action_sigmas"] is None and recommended:
            self.preset = self.preset.override(action_sigmas=recommended)
        self.networks = self._networks(info)
        self.averaged = self._networks(info).requires_grad_(False) if self.preset.ema_decay else None

    def _networks(self, info: DataInfo) -> Networks:
        networks = Networks(
            info.obs_dim, info.action_dim, self.preset.networks, init_generators(self.seeds), info.state_index
        )
        index = range(info.obs_dim) if info.state_index is None else info.state_index
        if self.preset.networks.standardize:
            networks.obs_mean.copy_(torch.tensor([info.obs_mean[i] for i in index]))
            networks.obs_std.copy_(torch.tensor([info.obs_std[i] for i in index]))
            networks.action_mean.copy_(torch.tensor(info.action_mean))
            networks.action_std.copy_(torch.tensor(info.action_std))
        return networks

    def parameter_groups(self) -> list[ParameterGroup]:
        preset = self.preset
        scores, inverse = self._split(self.networks)
        return [
            ParameterGroup("scores", scores, preset.lr_score, preset.lr_schedule),
            ParameterGroup("inverse", inverse, preset.lr_inverse, preset.lr_schedule),
        ]

    def _split(self, nets: Networks) -> tuple[list[Parameter], list[Parameter]]:
        scores = [*nets.action_score.parameters(), *nets.state_score.parameters()]
        return scores, list(nets.inverse_dynamics.parameters())

    @property
    def noise_dim(self) -> int:
        return self.networks.noise_dim

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        return self.networks.losses(batch.obs, batch.action, batch.next_obs, noise)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.averaged is not None:
            scores, inverse = self._split(self.averaged)  # the order of `self.flat`
            self.average = flatten(scores + inverse)

    def after_step(self, step: Tensor) -> None:
        if self.averaged is not None:
            # Short memory first: the initial weights must fade.
            self.average.lerp_(self.part("scores", "inverse"), (9 / (step + 9)).clamp_min(1 - self.preset.ema_decay))

    @torch.no_grad()
    def corrector(self) -> Corrector:
        """The corrector as trained so far: averaged weights where there are any, measured on the data."""
        info = self.data_info
        networks = copy.deepcopy(self.averaged if self.averaged is not None else self.networks).requires_grad_(False)
        coefficients = default_coefficients(info.task, self.preset_name)
        corrector = Corrector(networks, info.low, info.high, info.obs_dim, coefficients).float().to(self.device)
        corrector.info = {
            "task": info.task,
            "env_id": info.env_id,
            "preset": self.preset_name,
            "seeds": list(self.seeds),
            "steps": self.trainer.global_step,
            "source": info.source,
            "provenance": info.provenance,
            "fingerprint": info.fingerprint,
            "mean_return": info.mean_return,
            "weights": info.weights,
            "version": __version__,
        }
        sample = self.trainer.datamodule.sample(SAMPLE)  # type: ignore[attr-defined]
        batch = Batch(*sample.split(info.columns, -1))
        corrector.measure_noise(batch.obs, batch.action)
        return corrector.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        # Before the checkpoint of the last step: whatever stops the program, a run that has the one has the other.
        if self.trainer.global_step >= self.total_steps:
            self._write_corrector()

    def on_train_end(self) -> None:
        self._write_corrector()

    def _write_corrector(self) -> None:
        if self.trainer.is_global_zero and self.written_at != self.trainer.global_step:
            path = save_corrector(self.corrector(), Path(self.trainer.default_root_dir) / CORRECTOR)
            self.written_at = self.trainer.global_step
            rank_zero_info(f"Corrector: {path}")

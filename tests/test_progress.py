"""The progress of a fit, in gradient steps: a bar on a terminal, lines elsewhere, silence when told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from cdsa_lightning.data import TransitionData
from cdsa_lightning.progress import StepProgress
from cdsa_lightning.training import CDSAModule
from training_data import TASK, write_npz


@pytest.fixture(scope="module")
def npz(tmp_path_factory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz", 200)


def fit(npz: Path, root: Path, progress: StepProgress, **options) -> None:
    torch.set_num_threads(1)
    data = TransitionData(TASK, f"npz:{npz}", batch_size=8)
    trainer = Trainer(
        max_steps=40,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=10,
        default_root_dir=root,
        callbacks=[progress],
        **options,
    )
    trainer.fit(CDSAModule("paper", seeds=[0]), data)


def test_without_a_terminal_the_end_is_a_line_with_steps_and_losses(npz, tmp_path, capsys):
    fit(npz, tmp_path, StepProgress())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("step 40/40  ") and " steps/s  action_score " in line
    assert "nan" not in line


def test_on_a_terminal_the_bar_counts_gradient_steps(npz, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    fit(npz, tmp_path, StepProgress(refresh=0.0))
    shown = capsys.readouterr().out
    assert "40/40" in shown and "steps/s" in shown


def test_a_disabled_bar_is_silent(npz, tmp_path, capsys):
    progress = StepProgress()
    progress.disable()
    fit(npz, tmp_path, progress)
    assert capsys.readouterr().out == ""


def test_the_bar_is_closed_when_training_fails(npz, tmp_path, monkeypatch):
    progress = StepProgress(refresh=0.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(CDSAModule, "losses", fail)
    with pytest.raises(RuntimeError, match="broken"):
        fit(npz, tmp_path, progress)
    assert progress.bar is None

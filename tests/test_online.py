"""SAC on its own experience, through the commands: it solves Pendulum, and its experience becomes a data set."""

from __future__ import annotations

import json

import pytest

from cdsa_lightning.cli import main
from test_configs import FOLDER

PENDULUM = "gym:Pendulum-v1"


def fit(steps: int, *more: str) -> int:
    config = str(FOLDER / "baselines" / "sac.yaml")
    seeds = ["--model.seeds", "[0]", "--model.lr", "1e-3", "--wandb", "off"]
    return main(["fit", "--config", config, "--data.task", PENDULUM, *seeds, "--trainer.max_steps", str(steps), *more])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    return tmp_path


def test_experience_kept_by_a_fit_is_data_for_another(folder, capsys):
    assert fit(60, "--data.random_steps", "150", "--data.save_replay", "tests/pendulum-v0") == 0
    assert main(["datasets"]) == 0
    assert "pendulum-v0" not in capsys.readouterr().err
    data = ["--data", "cdsa_lightning.data.TransitionData", "--data.source", "minari:tests/pendulum-v0"]
    config = str(FOLDER / "baselines" / "td3_bc.yaml")
    options = ["--data.task", PENDULUM, "--model.seeds", "[0]", "--trainer.max_steps", "20", "--wandb", "off"]
    assert main(["fit", "--config", config, *data, *options]) == 0
    assert fit(60, "--data.random_steps", "150", "--data.save_replay", "tests/pendulum-v0") == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_sac_solves_pendulum_within_20_000_steps(folder):
    assert fit(20_000, "--data.random_steps", "1000") == 0
    evaluate = ["evaluate", "--baseline", "sac", "--task", PENDULUM, "--corrector", "none", "--episodes", "100"]
    assert main([*evaluate, "--wandb", "off"]) == 0
    (path,) = folder.glob("runs/*/evaluate/*/report.json")
    report = json.loads(path.read_text())
    assert report["arms"]["sac"]["return"] > -200

"""A fit in several processes, whoever starts them: one run, one directory, and the result for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.cli import main
from training_data import TASK, write_npz

SMALL = ("--data.task", TASK, "--data.batch_size", "32", "--model.seeds", "[0]", "--wandb", "off")
TWO = ("--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.accelerator", "cpu")
PYTHON = (sys.executable, "-m", "cdsa_lightning.cli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")
CALL = f"""
import os, sys
import cdsa_lightning as cdsa
runs = None if sys.argv[1] == "none" else "runs"
options = dict(steps=40, batch_size=32, devices=2, strategy="ddp", accelerator="cpu")
made = cdsa.fit("npz:data.npz", "{TASK}", runs=runs, **options)
os.write(1, f"made by {{made.info.get('run', 'nobody')}}\\n".encode())  # in one piece
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "data.npz")
    return tmp_path


def run(command, here: Path) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=here, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stdout


def only_run(here: Path) -> Path:
    (path,) = (here / "runs" / TASK / "cdsa").iterdir()
    return path


@pytest.mark.parametrize("starts", [PYTHON, (*TORCHRUN, "cdsa_lightning.cli")], ids=["lightning", "torchrun"])
def test_they_share_one_run(here, starts):
    argv = ("fit", *SMALL, *TWO, "--data.source", "npz:data.npz", "--trainer.max_steps", "40")
    said = run((*starts, *argv), here)
    assert said.count("Run:") == 1
    path = only_run(here)
    assert read_checkpoint(path / "last.ckpt")["global_step"] == 40
    assert {"config.yaml", "metrics.csv", "corrector.safetensors"} <= {file.name for file in path.iterdir()}


@pytest.mark.parametrize("runs", ["kept", "none"])
def test_a_call_gives_all_of_them_the_corrector_of_one_run(here, runs):
    (here / "two.py").write_text(CALL)
    said = run((sys.executable, "two.py", runs), here)
    if runs == "none":
        assert said.count("made by nobody") == 2
        assert not (here / "runs").exists()
        return
    assert said.count(f"made by {only_run(here).relative_to(here)}") == 2
    assert (only_run(here) / "config.yaml").is_file()


def test_alone_it_is_the_first_whatever_a_scheduler_says(here, capsys, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 3)  # as Lightning reads it off SLURM_PROCID
    for name, value in {"NTASKS": "7", "NTASKS_PER_NODE": "1", "PROCID": "3", "JOB_NAME": "grid"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    argv = ("--trainer.accelerator", "cpu", "--data.source", "npz:data.npz", "--trainer.max_steps", "200")
    assert main(["fit", *SMALL, *argv]) == 0
    assert "Run: runs/" in capsys.readouterr().out
    assert (only_run(here) / "metrics.csv").is_file()


def test_what_lightning_makes_of_a_scheduler_is_told(here, capsys, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "grid")
    argv = ("--data.source", "npz:data.npz", "--trainer.num_nodes", "2", "--trainer.devices", "1", *TWO[:2])
    assert main(["fit", *SMALL, *argv, "--trainer.accelerator", "cpu"]) == 2
    assert "The trainer cannot be made: You set `--ntasks=2`" in capsys.readouterr().err
    assert not (here / "runs").exists()

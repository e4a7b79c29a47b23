"""`cdsa fit`: a run leaves what it should, goes on where it was stopped, and keeps what was written before."""

from __future__ import annotations

import inspect
import os
import resource
import signal
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cdsa_baselines.iql import IQL
from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.cli import main
from cdsa_lightning.core.artifact import read_header
from training_data import TASK, write_npz

SMALL = ("--data.batch_size", "32", "--model.seeds", "[0]", "--trainer.accelerator", "cpu", "--wandb", "off")


@pytest.fixture(scope="module")
def npz(tmp_path_factory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz")


def words(npz: Path, *more: str) -> list[str]:
    return ["fit", "--data.task", TASK, "--data.source", f"npz:{npz}", *SMALL, *more]


def only_run(root: Path, name: str = "cdsa") -> Path:
    (path,) = (root / "runs" / TASK / name).iterdir()
    return path


def start(root: Path, *argv: str) -> tuple[subprocess.Popen, Path]:
    """The command in a process of its own, once its first checkpoint lies there."""
    command = [sys.executable, "-m", "cdsa_lightning.cli", *argv]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=root, env=env, stdout=pipe, stderr=pipe, text=True)
    end = time.monotonic() + 120
    while not list(root.glob("runs/*/*/*/last.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    return process, only_run(root) / "last.ckpt"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def test_a_terminated_fit_says_how_to_go_on_and_does_not_look_like_a_success(npz, here):
    process, checkpoint = start(here, *words(npz, "--trainer.max_steps", "1000000", "--checkpoint_every", "50"))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "terminated" in said and f"--ckpt_path {checkpoint.relative_to(here)}" in said and "Traceback" not in said


def test_a_run_leaves_a_checkpoint_a_corrector_its_configuration_and_its_curves(npz, here, capsys):
    assert main(words(npz, "--trainer.max_steps", "250")) == 0
    run = only_run(here)
    assert {path.name for path in run.iterdir()} >= {"last.ckpt", "corrector.safetensors", "config.yaml", "metrics.csv"}
    assert read_header(run / "corrector.safetensors")["task"] == TASK
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "100", "200", "250"]  # gradient steps, not chunks of them
    said = capsys.readouterr()
    shown = [line.partition(":")[0].partition(" ")[0] for line in said.out.splitlines()]
    assert [what for what, _ in groupby(shown)] == ["Run", "step", "Checkpoint", "Corrector"]
    assert said.err == ""


def test_a_run_killed_in_the_middle_ends_with_the_weights_of_an_undisturbed_one(npz, here):
    settings = ("--model.preset", "robust", "--trainer.max_steps", "600", "--checkpoint_every", "50")
    (here / "a").mkdir()
    (here / "b").mkdir()
    assert main(words(npz, *settings, "--runs", "a/runs")) == 0
    process, checkpoint = start(here / "b", *words(npz, *settings))
    process.kill()
    process.communicate()
    assert 0 < read_checkpoint(checkpoint)["global_step"] < 600
    assert main(words(npz, *settings, "--runs", "b/runs", "--ckpt_path", str(checkpoint))) == 0
    whole, resumed = read_checkpoint(only_run(here / "a") / "last.ckpt"), read_checkpoint(checkpoint)
    assert whole["global_step"] == resumed["global_step"] == 600
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][name]), name
    files = [(only_run(here / name) / "corrector.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_ctrl_c_says_how_to_go_on(npz, here):
    argv = words(npz, "--trainer.max_steps", "1000000", "--checkpoint_every", "50")
    process, checkpoint = start(here, *argv)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    path = checkpoint.relative_to(here)
    # Others' libraries may complain after our last word.
    assert any(line.endswith(f"--checkpoint_every 50 --ckpt_path {path}") for line in said.splitlines())
    step = read_checkpoint(checkpoint)["global_step"]
    assert f"(step {step})" in said
    assert main([*argv, "--trainer.max_steps", str(step + 20), "--ckpt_path", str(path)]) == 0
    assert read_checkpoint(checkpoint)["global_step"] == step + 20


def test_a_resumed_run_keeps_the_curves_of_its_first_part(npz, here, capsys):
    assert main(words(npz, "--trainer.max_steps", "100")) == 0
    run = only_run(here)
    first = (run / "metrics.csv").read_bytes()
    resume = ("--ckpt_path", str(run / "last.ckpt"))
    assert main(words(npz, "--trainer.max_steps", "200", *resume)) == 0
    assert only_run(here) == run
    assert (run / "metrics.csv").read_bytes() == first
    assert (run / "resumed-1" / "metrics.csv").read_text().splitlines()[-1].startswith("200,")
    capsys.readouterr()
    assert main(words(npz, "--trainer.max_steps", "200", *resume)) == 0
    assert "has taken 200 steps. For more raise --trainer.max_steps" in capsys.readouterr().out


def test_a_full_disk_leaves_the_previous_checkpoint_and_the_data(npz, here, capsys):
    assert main(words(npz, "--trainer.max_steps", "100")) == 0
    checkpoint = only_run(here) / "last.ckpt"
    before = checkpoint.read_bytes(), npz.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) // 2, limits[1]))
    try:
        assert main(words(npz, "--trainer.max_steps", "300", "--ckpt_path", str(checkpoint))) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (checkpoint.read_bytes(), npz.read_bytes()) == before
    assert not list(checkpoint.parent.glob(".*partial"))
    said = capsys.readouterr().err
    assert "Cannot write the checkpoint" in said and "Kept:" in said and "(step 100)" in said


def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(npz, here, capsys):
    assert main(words(npz, "--trainer.max_steps", "100")) == 0
    checkpoint = only_run(here) / "last.ckpt"
    before = checkpoint.read_bytes()
    arrays = dict(np.load(npz))
    np.savez(here / "huge.npz", **{**arrays, "obs": arrays["obs"] * 1e30, "next_obs": arrays["next_obs"] * 1e30})
    with pytest.warns(UserWarning, match="comes from other data"):
        status = main(words(here / "huge.npz", "--trainer.max_steps", "300", "--ckpt_path", str(checkpoint)))
    assert status == 2
    assert checkpoint.read_bytes() == before
    said = capsys.readouterr().err
    assert "diverged: train/" in said and "at step 200" in said and "(step 100)" in said


def test_weights_that_are_not_finite_are_not_written(npz, here, capsys):
    arrays = dict(np.load(npz))
    np.savez(here / "huge.npz", **{**arrays, "obs": arrays["obs"] * 1e30, "next_obs": arrays["next_obs"] * 1e30})
    settings = ("--trainer.max_steps", "90", "--checkpoint_every", "50")
    assert main(words(here / "huge.npz", *settings)) == 2
    assert "a weight is not finite at step 6" in capsys.readouterr().err
    assert not (here / "runs").exists()  # nothing was reached, nothing is left


def test_wandb_keeps_an_offline_run_with_the_curves_when_there_is_no_key(npz, here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    argv = words(npz, "--trainer.max_steps", "200")
    assert main([*argv, "--wandb", "auto"]) == 0
    run = only_run(here)
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    end = time.monotonic() + 60
    while b"train/action_score_loss" not in file.read_bytes():  # another process writes it, shortly after the end
        assert time.monotonic() < end
        time.sleep(0.02)
    assert b"trainer/global_step" in file.read_bytes()
    assert (run / "metrics.csv").is_file()
    assert main([*argv, "--wandb", "auto"]) == 0  # the next run of the process gets one of its own
    assert len(list((here / "runs").glob("**/*.wandb"))) == 2


def test_help_and_print_config_do_not_train(here, capsys):
    for argv in (["--help"], ["--data.task", TASK, "--print_config"]):
        with pytest.raises(SystemExit) as stop:
            main(["fit", *argv])
        assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "--checkpoint_every" in shown and f"task: {TASK}" in shown
    assert not list(here.iterdir())


def test_another_model_keeps_its_own_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--model", "cdsa_baselines.iql.IQL", "--data.task", TASK, "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert shown["inner_steps"] == inspect.signature(IQL).parameters["inner_steps"].default != 20

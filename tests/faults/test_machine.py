"""What the machine cannot give: memory, a process that was lost, W&B's server. A sentence, a status, nothing lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cdsa_lightning import cli, collection, evaluation, resources, stepping, tracking
from cdsa_lightning.errors import InputError
from cdsa_lightning.resources import available_memory, explained, require_memory
from evaluation_files import kept
from offline_runs import logged
from training_data import TASK, write_npz


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = f"npz:{write_npz(tmp_path / 'data.npz')}"
    small = ("--model.seeds", "[0]", "--trainer.accelerator", "cpu", "--trainer.max_steps", "40")
    return ["fit", "--data.task", TASK, "--data.source", source, *small]


def test_a_batch_larger_than_the_memory_is_refused_before_it_is_drawn(words, capsys):
    assert cli.main([*words, "--data.batch_size", "1000000000", "--wandb", "off"]) == 2
    said = capsys.readouterr().err
    assert "Batches of 1,000,000,000 transitions for 1 seeds would take" in said and "GB are free" in said
    assert "Lower --data.batch_size" in said and "Traceback" not in said
    assert not list(os.scandir("."))[1:]  # the data alone


def test_the_estimate_is_that_of_the_tensors(words, monkeypatch):
    asked = []
    monkeypatch.setattr(stepping, "require_memory", lambda needed, *more: asked.append(needed))
    assert cli.main([*words, "--data.batch_size", "512", "--wandb", "off"]) == 0
    # 20 steps of 512 rows: 12 numbers of data, 2 of an index, the noise; and no more activations than 6 layers keep.
    drawn = 4 * 20 * 512 * (12 + 2)
    assert drawn < asked[0] < 4 * drawn + 4 * 512 * 12 * 3 * 256


def test_more_episodes_and_lanes_than_fit_are_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    for module in (evaluation, collection):
        monkeypatch.setattr(module, "available_memory", lambda: 10**9)
    kept("1")
    assert cli.main(["evaluate", "--baseline", "random", "--task", TASK, "--episodes", "1000000000"]) == 2
    assert "1,000,000,000 episodes per seed would take" in capsys.readouterr().err
    steps = ("--steps", "5000", "--lanes", "1000000000")
    assert cli.main(["collect", "--task", "hopper-random", "--baseline", "random", *steps]) == 2
    assert "environments side by side would take 500,000.0 GB of memory, and 1.0 GB are free" in capsys.readouterr().err


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    monkeypatch.setattr(resources, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    assert available_memory() == 4_096_000
    for limit, expected in (("max", 4_096_000), ("3000000", 2_000_000), ("500000", 0), ("9000000", 4_096_000)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        (tmp_path / "memory.current").write_text("1000000\n")
        assert available_memory() == expected
    (tmp_path / "meminfo").unlink()
    assert available_memory() is None
    require_memory(10**18, "It", "Less.", None)
    require_memory(5, "It", "Less.", 5)
    with pytest.raises(InputError, match=r"^It would take 2.0 MB of memory, and 1.0 MB are free\. Less\.$"):
        require_memory(2_000_000, "It", "Less.", 1_000_000)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError("Unable to allocate 8 GiB"), "Out of memory: Unable to allocate 8 GiB."),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "Out of memory: CUDA out of memory. Tried."),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "Out of memory: DefaultCPUAllocator"),
        (RuntimeError("[/gloo/pair.cc:5] Connection closed by peer. GLHF"), "was lost: Connection closed by peer."),
        (OSError(28, "No space left on device", "/a/b"), "Cannot write or read /a/b: No space left on device."),
    ],
)
def test_what_the_machine_could_not_give_is_one_sentence_and_status_2(monkeypatch, capsys, error, text):
    def command(argv):
        raise error

    monkeypatch.setattr(cli, "_load", lambda name: command)
    assert cli.main(["fit"]) == 2
    assert text in capsys.readouterr().err


def test_a_defect_of_ours_is_not_dressed_as_the_machines():
    assert explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert explained(OSError(9, "Bad file descriptor")) is None


def test_memory_that_ends_in_the_middle_of_a_fit_tells_how_to_go_on(words, monkeypatch, capsys):
    assert cli.main([*words, "--wandb", "off", "--trainer.max_steps", "20"]) == 0

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(stepping.SteppedModule, "training_step", full)
    checkpoint = str(next(iter_checkpoints()))
    assert cli.main([*words, "--wandb", "off", "--ckpt_path", checkpoint]) == 2
    said = capsys.readouterr().err
    assert "Out of memory: CUDA out of memory.\nKept: " in said and "(step 20). Go on with:" in said


def iter_checkpoints():
    return Path("runs").glob("*/*/*/last.ckpt")


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_where_wandb_does_not_answer_the_fit_ends_and_is_kept_offline(words, monkeypatch, capsys, tmp_path, mode):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert cli.main([*words, "--wandb", mode]) == 0
    said = capsys.readouterr().err
    assert "W&B cannot be reached: http://127.0.0.1:9 does not answer (Connection refused). The run is kept" in said
    (path,) = tmp_path.glob("runs/*/*/*/wandb/offline-run-*/*.wandb")
    assert any(key.startswith("train/") for key in logged(path)[0])


def test_a_server_that_takes_the_call_and_says_nothing_is_left_for_the_disk(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tracking, "_ANSWER", 3.0)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        run = tracking.start_run("online", tmp_path)
        run.log({"loss": 1.0})
        run.finish()
    said = capsys.readouterr().err
    assert said.startswith("cdsa: W&B cannot be reached: ") and said.count("\n") == 1
    assert said.endswith(f" The run is kept offline in {tmp_path}.\n")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert "loss" in logged(path)[0]


@pytest.mark.slow
def test_a_second_process_that_is_killed_ends_the_first_with_a_sentence(words, tmp_path):
    more = ("--trainer.devices", "2", "--wandb", "off", "--trainer.max_steps", "1000000", "--checkpoint_every", "20")
    command = [sys.executable, "-m", "cdsa_lightning.cli", *words, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(iter_checkpoints()) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    (second,) = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(second), signal.SIGKILL)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 2
    assert "cdsa: error: Another process of this program was lost" in said and "Go on with:" in said
    assert "Traceback" not in said

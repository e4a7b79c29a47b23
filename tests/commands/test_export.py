"""`cdsa export`: what is found, where files land, what they compute, which mistakes are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cdsa_lightning.cli import main
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.export import read_metadata
from cdsa_lightning.registry import load_policy
from cdsa_lightning.runtime import NumpyPolicy
from cdsa_lightning.tasks import get_task
from evaluation_files import TASK, kept, leave, write_corrector


@pytest.fixture(autouse=True)
def workshop(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)
    monkeypatch.setattr("cdsa_lightning.export.latency._ROUNDS", 1)


def answers(path, *given):
    return torch.jit.load(path)(*given).numpy()


def test_the_newest_corrector_is_exported_alone_with_its_own_coefficients(capsys):
    kept("20260101-000000")
    newest = kept("20260102-000000")
    assert main(["export", "--format", "safetensors,torchscript", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert f"{newest} (the newest), seed 1" in said and "1000 observations within" in said
    (folder,) = Path(f"runs/{TASK}/export").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["corrector.pt", "corrector.safetensors"]
    obs, action = torch.rand(5, 4), torch.rand(5, 2) / 20
    same = load_corrector(newest).select(1)(obs[None], action[None])[0]
    np.testing.assert_allclose(answers(folder / "corrector.pt", obs, action), same, atol=1e-6)
    assert load_corrector(folder / "corrector.safetensors").num_seeds == 1
    assert main(["inspect", str(folder / "corrector.safetensors")]) == 0
    assert "corrector of 'cdsa fit'" in capsys.readouterr().out


def test_a_baseline_is_fused_with_given_coefficients_and_timed(capsys):
    path = kept("20260101-000000")
    words = ["--baseline", "shortest_path", "--task", TASK, "--k1", "2", "--num_steps", "3", "--seed", "mean"]
    assert main(["export", "--format", "torchscript", "--output", "here/safe.pt", *words, "--benchmark"]) == 0
    said = capsys.readouterr().out
    assert "fused         shortest_path, and the corrector, seed mean" in said
    assert "batch 1024" in said and "torchscript (torch.jit)" in said
    about = read_metadata("here/safe.pt")
    assert about["policy"] == {"name": "shortest_path", "seed": 0, "seeds_of_file": 1, "checkpoint": None}
    assert about["corrector"]["seed"] == "mean" and about["coefficients"]["num_steps"] == 3
    task, corrector = get_task(TASK), load_corrector(path).ensemble()
    safe = CorrectedPolicy(load_policy("shortest_path", None, task), corrector, coefficients(about))
    obs = torch.rand(9, 4)
    np.testing.assert_allclose(answers("here/safe.pt", obs), safe(obs), atol=1e-6)
    again = load_policy("torchscript", "here/safe.pt", task)
    np.testing.assert_allclose(again(obs).detach(), safe(obs), atol=1e-6)
    figures = json.loads(Path("here/benchmark.json").read_text())
    assert [row["name"] for row in figures["latency"]][0] == "PyTorch, CorrectedPolicy"
    assert all(set(row["microseconds"]) == {"1", "32", "1024"} for row in figures["latency"])


def test_a_baseline_is_fused_into_a_file_for_numpy_which_says_so_when_it_is_inspected(capsys):
    kept("20260101-000000")
    words = ["--baseline", "shortest_path", "--task", TASK, "--output", "safe.safetensors"]
    assert main(["export", "--format", "safetensors", *words, "--quiet", "--benchmark"]) == 0
    about, policy = read_metadata("safe.safetensors"), NumpyPolicy("safe.safetensors")
    assert about == policy.about and about["policy"]["name"] == "shortest_path" and about["runtime"] == "NumPy"
    corrector, obs = load_corrector("safe.safetensors"), torch.rand(9, 4)
    safe = CorrectedPolicy(load_policy("shortest_path", None, get_task(TASK)), corrector)
    np.testing.assert_allclose(policy.act(obs), safe(obs), atol=1e-6)
    timed = [row["name"] for row in json.loads(Path("benchmark.json").read_text())["latency"]]
    assert timed == ["PyTorch, CorrectedPolicy", "PyTorch, cdsa.correct", "safetensors (NumPy)"]
    assert main(["inspect", "safe.safetensors"]) == 0
    assert "inside, for cdsa_lightning.runtime.NumpyPolicy" in capsys.readouterr().out


@pytest.mark.slow
def test_all_formats_hold_a_corrector_alone_and_fused():
    kept("20260101-000000")
    words = ["--task", TASK, "--output", "out", "--quiet"]
    assert main(["export", "--format", "all", *words]) == 0
    assert main(["export", "--format", "all", "--baseline", "shortest_path", *words]) == 0
    endings = ("onnx", "pt", "pt2", "safetensors")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"{stem}.{ending}" for stem in ("corrector", "policy") for ending in endings
    ]


def coefficients(about):
    from cdsa_lightning.core.coefficients import Coefficients

    return Coefficients.from_dict(about["coefficients"])


def test_a_file_of_coefficients_is_taken_and_single_ones_override_it():
    path = write_corrector("c.safetensors")
    Path("mine.json").write_text(json.dumps({"k1": 0.25, "units": "sigma2", "a2": "off"}))
    words = ["--corrector", str(path), "--coefficients", "mine.json", "--max_shift", "0.02", "--quiet"]
    assert main(["export", "--format", "torchscript", "--output", "out", *words]) == 0
    said = read_metadata("out/corrector.pt")["coefficients"]
    assert (said["k1"], said["units"], said["max_shift"]) == (0.25, "sigma2", 0.02)


def test_coefficients_that_change_nothing_are_exported_with_a_remark(capsys):
    path = write_corrector("c.safetensors")
    assert main(["export", "--format", "torchscript", "--corrector", str(path), "--k1", "0", "--output", "out"]) == 0
    assert "the correction changes nothing: name others with --k1" in capsys.readouterr().out
    action = torch.rand(3, 2)
    assert np.array_equal(answers("out/corrector.pt", torch.rand(3, 4), action), action)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "tflite"], "Unknown format 'tflite'. Known: all, onnx, pt2, safetensors, torchscript"),
        (["--format", "torchscript", "--corrector", "none"], "nothing to export without a corrector"),
        (["--format", "torchscript", "--corrector", "gone.safetensors"], "There is no corrector file gone"),
        (["--format", "torchscript", "--task", "hopper-medium"], "no corrector of task 'hopper-medium' under runs/"),
        (["--format", "torchscript", "--seed", "5"], "There is no seed 5; the corrector holds 2"),
        (["--format", "torchscript", "--seed", "median"], "'mean', got 'median'"),
        (["--format", "torchscript", "--gate", "0.9"], "gate needs the data's noise"),
        (["--format", "torchscript", "--output", "c.onnx"], "--output c.onnx does not fit --format torchscript"),
        (["--format", "torchscript,pt2", "--output", "c.pt"], "does not fit --format torchscript,pt2"),
        (["--format", "torchscript", "--output", "/proc/no"], "Cannot write the exported file /proc/no/corrector.pt"),
        (["--format", "torchscript", "--policy_seed", "1"], "belong to a policy: name it with --baseline"),
        (["--format", "torchscript", "--baseline", "random", "--task", TASK], "random draws random numbers"),
        (["--format", "safetensors", "--baseline", "random", "--task", TASK], "random draws random numbers"),
        (["--format", "torchscript", "--baseline", "iqll"], "Unknown baseline 'iqll'. Did you mean 'iql'?"),
        ([], "format is missing"),
    ],
)
def test_mistakes_are_told(capsys, words, text):
    kept("20260101-000000")
    assert main(["export", *words]) == 2
    assert text in capsys.readouterr().err
    assert not list(Path().rglob("*.pt"))


def test_a_corrector_of_another_task_than_the_named_one_is_told(capsys):
    path = write_corrector("c.safetensors", "hopper-medium")
    assert main(["export", "--format", "torchscript", "--corrector", str(path), "--task", TASK]) == 2
    assert f"corrects task 'hopper-medium', not '{TASK}'" in capsys.readouterr().err

"""Every mistake in what `cdsa fit` is given: one sentence, exit status 2, nothing executed, nothing left behind."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cdsa_lightning.cli import main
from training_data import TASK, train, write_npz


@pytest.fixture(scope="module")
def npz(tmp_path_factory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz", 200)


@pytest.fixture(scope="module")
def checkpoint(npz) -> Path:
    from cdsa_lightning.training import CDSAModule

    train(CDSAModule("paper", seeds=[0]), npz, 10, npz.parent / "trained")
    return npz.parent / "trained" / "last.ckpt"


@pytest.fixture
def refused(npz, tmp_path, monkeypatch, capsys):
    """What the command says about `argv`, after the files of `tmp_path` were seen to be as before."""
    monkeypatch.chdir(tmp_path)

    def check(*argv: str) -> str:
        before = set(tmp_path.rglob("*"))
        base = ["fit", "--data.task", TASK, "--data.source", f"npz:{npz}", "--wandb", "off", "--trainer.max_steps", "5"]
        assert main([*base, *argv]) == 2
        assert set(tmp_path.rglob("*")) == before
        said = capsys.readouterr()
        assert "Traceback" not in said.err and said.err.startswith("cdsa: error: ")
        return said.err

    return check


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("--trainer.max_step", "3"), "Unknown key of trainer 'max_step'. Did you mean 'max_steps'?"),
        (("--data.taks", "x"), "Unknown argument of TransitionData 'taks'. Did you mean 'task'? Known: "),
        (("--mdel.preset", "paper"), "Unknown key 'mdel'. Did you mean 'model'?"),
        (("--model.presett", "paper"), "Unknown argument of CDSAModule 'presett'. Did you mean 'preset'?"),
        (("--model.preset", "robst"), "Unknown preset 'robst'. Did you mean 'robust'? Known: paper, robust."),
        (("--data.task", "risky-pointmas"), "Unknown task 'risky-pointmas'. Did you mean 'risky-pointmass'?"),
        (("--data.task", "gym:CartPole-v1"), "CartPole-v1 has Discrete actions; the method needs continuous ones"),
        (("--data.task", "hopper-random"), "does not fit the task 'hopper-random'"),
        (("--data.source", "npz:none.npz"), "There is no file 'none.npz'"),
        (("--data.source", "nzp:x"), "Unknown data source scheme 'nzp'. Did you mean 'npz'?"),
        (("--data.batch_size", "many"), "data.batch_size must be int, got 'many'."),
        (("--trainer.devices", "9999"), "trainer.devices 9999 would start as many processes"),
        (("--trainer.precision", "foo"), "bf16-mixed, 32-true, 64-true"),
        (("--data.batch_size", "0"), "batch_size must be at least 1, got 0."),
        (("--trainer.max_steps", "0"), "trainer.max_steps must be at least 1, got 0"),
        (("--model.lr_score", "fast"), "model.lr_score must be float, got 'fast'."),
        (("--model.state_sigma", "-1"), "sigma must be positive, got -1.0."),
        (("--model.action_sigmas", "[0.0]"), "sigma must be positive, got 0.0."),
        (("--model", "nowhere.Model"), "Cannot use the class_path 'nowhere.Model': No module named 'nowhere'."),
        (("--model", "json.JSONDecoder"), "'json.JSONDecoder': it is no SteppedModule."),
        (("--trainer.accelerator", "abacus"), "invalid accelerator name: `accelerator='abacus'`"),
        (("--trainer.gradient_clip_val", "1"), "gradient clipping is not supported for manual optimization"),
        (("--checkpoint_every", "0"), "checkpoint_every must be at least 1, got 0."),
        (("--wandb", "onlin"), "Unknown W&B mode 'onlin'. Did you mean 'online'?"),
        (("stray",), "'stray' is not an option"),
        (("--config", "none.yaml"), "Cannot read the configuration none.yaml: No such file or directory."),
    ],
)
def test_a_mistake_on_the_command_line_is_named(refused, argv, text):
    assert text in refused(*argv)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("model: {init_args: {presett: robust}}", "Unknown argument of CDSAModule 'presett'. Did you mean 'preset'?"),
        ("model: {class_path: CDSAModul}", "Cannot use the class_path 'CDSAModul'"),
        ("trainer: {max_step: 5}", "Unknown key of trainer 'max_step'. Did you mean 'max_steps'?"),
        ("data: {taks: x}", "Unknown argument of TransitionData 'taks'. Did you mean 'task'?"),
        ("modle: {init_args: {preset: robust}}", "Unknown key 'modle'. Did you mean 'model'?"),
        ("trainer: {max_steps: ten}", "trainer.max_steps must be int, got 'ten'."),
        ("trainer: 5", "trainer in the configuration broken.yaml must be a mapping, got 5."),
        ("just words", "broken.yaml must be a mapping with the sections model, data, trainer."),
        ("model: [1, 2\n x: : :", "The configuration broken.yaml is not valid YAML"),
        ("\0", "The configuration broken.yaml is not valid YAML"),
        (
            "trainer: {callbacks: [{class_path: cdsa_lightning.callbacks.EvaluationCallback,"
            " init_args: {every_n_step: 5}}]}",
            "Unknown argument of EvaluationCallback 'every_n_step'. Did you mean 'every_n_steps'?",
        ),
    ],
)
def test_a_mistake_in_a_configuration_is_named(refused, tmp_path, content, text):
    (tmp_path / "broken.yaml").write_text(content)
    assert text in refused("--config", "broken.yaml")


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "inf")])
def test_data_with_numbers_that_are_none_are_refused(refused, npz, tmp_path, value, name):
    arrays = dict(np.load(npz))
    arrays["rewards"][7] = value
    np.savez(tmp_path / "bad.npz", **arrays)
    text = refused("--data.source", "npz:bad.npz")
    assert "reward" in text and "7" in text and name.lower() in text.lower()


def test_damaged_data_are_refused(refused, npz, tmp_path):
    (tmp_path / "cut.npz").write_bytes(npz.read_bytes()[:3000])
    assert "cannot be read as an .npz file" in refused("--data.source", "npz:cut.npz")


def test_a_missing_damaged_or_foreign_checkpoint_is_refused(refused, checkpoint, tmp_path):
    assert "There is no checkpoint none.ckpt" in refused("--ckpt_path", "none.ckpt")
    file = tmp_path / "file.ckpt"
    for content in (checkpoint.read_bytes()[:5000], b"", b"text", checkpoint.read_bytes()[:-40]):
        file.write_bytes(content)
        assert "file.ckpt is not a checkpoint of 'cdsa fit', or it is damaged" in refused("--ckpt_path", str(file))
    torch.save({"state_dict": {}}, file)
    assert "it lacks data, hyper_parameters, run_name" in refused("--ckpt_path", str(file))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("nothing", "")
    assert "is not a checkpoint" in refused("--ckpt_path", str(file))


class Trap:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return os.mknod, ("sprung",)


@pytest.mark.parametrize("place", ["whole", "inside"])
def test_nothing_in_a_checkpoint_is_executed(refused, checkpoint, tmp_path, place):
    good = torch.load(checkpoint, weights_only=True)
    torch.save(Trap() if place == "whole" else {**good, "hyper_parameters": {"preset": Trap()}}, tmp_path / "evil.ckpt")
    assert "is not a checkpoint of 'cdsa fit', or it is damaged" in refused("--ckpt_path", "evil.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_task_or_algorithm_is_refused(refused, checkpoint):
    text = refused("--ckpt_path", str(checkpoint), "--data.task", "hopper-medium")
    assert "was trained on task 'risky-pointmass', not on 'hopper-medium': --data.task risky-pointmass." in text
    text = refused("--ckpt_path", str(checkpoint), "--model", "cdsa_baselines.iql.IQL")
    assert "is a checkpoint of 'cdsa', and this would train 'iql'" in text


@pytest.mark.parametrize(
    ("option", "wish", "found"),
    [
        ("preset", "robust", '"paper"'),
        ("seeds", "[3]", "[0]"),
        ("lr_score", "0.5", "null"),
        ("state_sigma", "2", "null"),
    ],
)
def test_other_settings_than_the_checkpoints_are_not_passed_over_in_silence(refused, checkpoint, option, wish, found):
    own = () if option in ("preset", "seeds") else ("--model.preset", "paper", "--model.seeds", "[0]")
    text = refused("--ckpt_path", str(checkpoint), *own, f"--model.{option}", wish)
    assert f"was trained with --model.{option} {found}, and goes on with it: leave --model.{option}" in text


def test_a_missing_task_is_asked_for(capsys):
    assert main(["fit"]) == 2
    assert "data.task is missing. Name it with --data.task VALUE" in capsys.readouterr().err

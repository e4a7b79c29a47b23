"""`cdsa fit` killed at twenty random moments: it ends with the weights of an undisturbed run."""

from __future__ import annotations

from itertools import count

import pytest
import torch
import yaml

from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.core.artifact import load_corrector
from faults.killing import survive, undisturbed
from training_data import TASK, write_npz

STEPS = 300
SETTINGS = ("--trainer.max_steps", str(STEPS), "--checkpoint_every", "30", "--model.inner_steps", "10")
SMALL = ("--data.batch_size", "32", "--model.seeds", "[0,1]", "--trainer.accelerator", "cpu", "--wandb", "off")
MODELS = {
    "cdsa": ("--model.preset", "robust"),
    "iql": ("--model", "cdsa_baselines.iql.IQL"),
}


def newest(root, name):
    return max(root.glob(f"runs/{TASK}/*/*/{name}"), key=lambda path: path.stat().st_mtime_ns, default=None)


def whole(root):
    for path in root.glob("runs/*/*/*/*"):
        if path.name == "last.ckpt":
            read_checkpoint(path)
        elif path.name == "corrector.safetensors":
            load_corrector(path)
        elif path.name == "config.yaml":
            assert yaml.safe_load(path.read_text())["model"]


def equal(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    return one == two


def same(one, two):
    """Weights, the optimiser's state and the corrector, bit by bit."""
    first, second = (read_checkpoint(newest(root, "last.ckpt")) for root in (one, two))
    assert first["global_step"] == second["global_step"] == STEPS
    assert equal(first["state_dict"], second["state_dict"])
    assert equal(first["optimizer_states"], second["optimizer_states"])
    if corrector := newest(one, "corrector.safetensors"):
        assert corrector.read_bytes() == newest(two, "corrector.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_killed_at_twenty_moments_a_fit_ends_with_the_undisturbed_weights(model, tmp_path):
    npz = write_npz(tmp_path / "data.npz")
    numbers = count()

    def fresh():
        root = tmp_path / f"run{next(numbers)}"
        root.mkdir()
        return root

    def words(root):
        last = newest(root, "last.ckpt")
        said = ["fit", "--data.task", TASK, "--data.source", f"npz:{npz}", *SMALL, *SETTINGS, *MODELS[model]]
        return [*said, *(["--ckpt_path", str(last)] if last else [])]

    root = fresh()
    assert survive(words, fresh, undisturbed(words(root), root), whole, same) >= 1

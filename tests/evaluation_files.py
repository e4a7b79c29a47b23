"""What earlier commands leave under runs/, made small: untrained correctors, empty checkpoints."""

import os
from pathlib import Path

import numpy as np

from cdsa_lightning import registry
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError

TASK = "risky-pointmass"
OWN = Coefficients(k1=0.5, units="sigma2")


def leave(tmp_path, monkeypatch):
    """Work in an empty folder, without this machine's data sets and what it says about W&B."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def write_corrector(path, task=TASK, preset="robust", dims=(4, 2), own=OWN, sees=None, bound=0.1, **facts):
    settings = NetworkSettings(predict="noise", action_sigmas=(0.7,))
    networks = Networks(*dims, settings, init_generators(range(2)), sees)
    low, high = [-bound] * dims[1], [bound] * dims[1]
    info = {"task": task, "env_id": "E", "preset": preset, **facts}
    return save_corrector(Corrector(networks, low, high, dims[0], own, info), path)


def kept(run, task=TASK, **values):
    return write_corrector(f"runs/{task}/cdsa/{run}/corrector.safetensors", task, **values)


def write_data(folder, rows=300, width=4):
    """Random rows in three episodes, by default as wide as those of risky-pointmass; the source that names them."""
    rng = np.random.default_rng(0)
    ends = np.arange(rows) % (rows // 3) == rows // 3 - 1
    arrays = {"obs": rng.uniform(0, 1, (rows, width)), "actions": rng.normal(0, 0.03, (rows, 2))}
    np.savez(
        folder / "data.npz",
        rewards=-np.ones(rows),
        terminals=ends,
        episode=np.cumsum(ends) - ends,
        next_obs=arrays["obs"] + 0.01,
        **arrays,
    )
    return f"npz:{folder / 'data.npz'}"


def checkpoint(name, run, task=TASK):
    path = Path(f"runs/{task}/{name}/{run}/last.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, ns=(int(run), int(run)))
    return path


def install_strangers(monkeypatch):
    """Two baselines that are restored from checkpoints; the list of the checkpoints that they are given."""
    given = []

    def load(name, checkpoint, task):
        if checkpoint is None:
            raise InputError(f"Baseline {name!r} is restored from a file.")
        given.append(str(checkpoint))
        return FunctionPolicy(lambda obs: obs[:, :2] * 0, task.low, task.high)

    monkeypatch.setattr(registry, "load_policy", load)
    monkeypatch.setattr(registry, "names", lambda: ["iql", "mine"])
    return given

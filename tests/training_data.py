"""Small data and short runs for the tests of training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer

from cdsa_lightning.data import TransitionData
from cdsa_lightning.stepping import SteppedModule

TASK = "risky-pointmass"


def write_npz(path: Path, rows: int = 2000, seed: int = 0) -> Path:
    """Transitions of Risky PointMass's shapes with next_obs = obs + action: the inverse dynamics are known."""
    rng = np.random.default_rng(seed)
    obs = rng.uniform(size=(rows, 4)).astype(np.float32)
    action = rng.uniform(-0.1, 0.1, size=(rows, 2)).astype(np.float32)
    next_obs = obs.copy()
    next_obs[:, :2] += action
    reward = rng.normal(size=rows).astype(np.float32)
    episode = np.arange(rows) // 20
    arrays = {"obs": obs, "actions": action, "rewards": reward, "next_obs": next_obs, "episode": episode}
    np.savez(path, terminals=np.zeros(rows, bool), **arrays)
    return path


def train(module: SteppedModule, npz: Path, steps: int, root: Path, ckpt_path=None, **options) -> Trainer:
    """One CPU run of `steps` gradient steps; ``root/last.ckpt`` is its checkpoint."""
    torch.set_num_threads(1)
    os.makedirs(root, exist_ok=True)
    chosen = {name: options.pop(name) for name in ("top_fraction", "weights", "memory_map") if name in options}
    data = TransitionData(TASK, f"npz:{npz}", batch_size=options.pop("batch_size", 32), **chosen)
    trainer = Trainer(
        max_steps=steps,
        accelerator=options.pop("accelerator", "cpu"),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        **options,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(root / "last.ckpt")
    return trainer

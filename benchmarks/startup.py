r"""What starting costs: CPU seconds (user + system) of whole processes, alternating, medians.

`cdsa --help` and `cdsa evaluate --help` against their limits; `cdsa fit` of one step against a bare LightningCLI script
of one step with the same module, data and CSV logger, and nothing else.

    python benchmarks/startup.py [--repeats 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from whole import COMMAND, seconds

BARE = """
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger
from cdsa_lightning.data import TransitionData
from cdsa_lightning.training import CDSAModule

logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "bare"}}
LightningCLI(CDSAModule, TransitionData, trainer_defaults={"logger": logger})
"""
LIMITS = {"cdsa --help": 0.1, "cdsa evaluate --help": 0.6}


def write_data(path: Path) -> None:
    """A thousand transitions of Risky PointMass's shapes."""
    rng = np.random.default_rng(0)
    obs, action = rng.uniform(size=(1000, 4)), rng.uniform(-0.1, 0.1, size=(1000, 2))
    np.savez(path, obs=obs, actions=action, rewards=np.zeros(1000), next_obs=obs, terminals=np.zeros(1000, bool))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data.npz")
        (folder / "bare.py").write_text(BARE)
        options = ["fit", "--data.task", "risky-pointmass", "--data.source", "npz:data.npz", "--trainer.max_steps", "1"]
        commands = {
            "cdsa --help": [*COMMAND, "--help"],
            "cdsa evaluate --help": [*COMMAND, "evaluate", "--help"],
            "cdsa fit, one step": [*COMMAND, *options, "--wandb", "off"],
            "bare LightningCLI, one step": [sys.executable, "bare.py", *options],
        }
        times: dict[str, list[float]] = {key: [] for key in commands}
        for repeat in range(repeats + 1):  # the first only fills the caches
            for key, command in commands.items():
                _, cpu = seconds(command, folder)
                (folder / "bare").exists() and (folder / "bare").rename(folder / f"bare-{repeat}")
                if repeat:
                    times[key].append(cpu)
    medians = {key: statistics.median(values) for key, values in times.items()}
    for key, median in medians.items():
        limit = f"  (limit {LIMITS[key]} s)" if key in LIMITS else ""
        print(f"{key:30} {median:.3f} s{limit}")
    ours, bare = (times[key] for key in list(commands)[2:])
    ratio = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
    print(f"bare LightningCLI / cdsa fit: {ratio:.2f}x (1 or more: cdsa fit starts no slower)")


if __name__ == "__main__":
    main()

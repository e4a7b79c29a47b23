r"""Speed of trained baselines against plain loops in the public single-file style (`plain.py`), in one run, as ratios.

On a CPU: CPU seconds per gradient step and seed. On a GPU (``--device cuda``): wall seconds, synchronised at the marks,
also against our own step without CUDA graphs. Ours goes through `cdsa fit` with logging on. Everything is timed from
its 100th step on; loops alternate, and the median is printed.

    python benchmarks/baselines.py [--names iql td3_bc] [--repeats 3] [--steps 300] [--compile] [--device cuda]
                                   [--precision bf16-mixed]

The precision is ours alone; plain loops stay in single precision.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from plain import ALGORITHMS

from cdsa_lightning.commands.fit import main as fit
from cdsa_lightning.stepping import PRECISIONS, SteppedModule

S, A, ROWS, BATCH, WARM = 11, 3, 100_000, 256, 100  # Hopper's shapes
CONFIGS = Path(__file__).parents[1] / "configs" / "baselines"
EXTRA = {
    "cql": ["--model.cloning_steps", "0"],
    "por": ["--model.variant", "por_r", "--model.layer_norm", "false"],
}


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def plain_step_time(name: str, data: list[torch.Tensor], steps: int, device: str) -> float:
    """Seconds per step of the plain loop."""
    algorithm = ALGORITHMS[name](S, A, device, WARM + steps)
    for done in range(WARM + steps):
        if done == WARM:
            start = clock(device)
        index = torch.from_numpy(np.random.randint(0, ROWS, BATCH)).to(device)
        algorithm.step([part[index] for part in data])
    return (clock(device) - start) / steps


def fit_step_time(name: str, npz: Path, root: Path, seeds: int, steps: int, device: str, **options: Any) -> float:
    """Seconds per step and seed of `cdsa fit`, read off at its chunks of steps."""
    marks: dict[int, float] = {}

    def mark(module: SteppedModule, *_: object) -> None:
        marks[module.trainer.global_step] = clock(device)

    SteppedModule.on_train_batch_end = mark  # the module's own hook, which nothing else uses
    SteppedModule.cuda_graph = options.get("graph", True)
    arguments = [
        *("--config", str(CONFIGS / f"{name}.yaml"), "--data.task", "hopper-medium", "--data.source", f"npz:{npz}"),
        *("--runs", str(root), "--wandb", "off", "--model.seeds", str(list(range(seeds)))),
        *("--trainer.max_steps", str(WARM + steps), "--compile", str(options.get("compiled", False)).lower()),
        *("--trainer.accelerator", "gpu" if device == "cuda" else "cpu", *EXTRA.get(name, [])),
        *(("--model.inner_steps", "50") if device == "cuda" else ()),
        *("--trainer.precision", options.get("precision", "32-true")),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        fit(arguments)
    first, last = min(step for step in marks if step >= WARM), max(marks)
    return (marks[last] - marks[first]) / (last - first) / seeds


def cases(device: str, compiled: bool) -> list[tuple[str, int, dict[str, Any]]]:
    found: list[tuple[str, int, dict[str, Any]]] = [("one seed", 1, {}), ("five seeds, per seed", 5, {})]
    if compiled:
        found += [("one seed, compiled", 1, {"compiled": True}), ("five, compiled", 5, {"compiled": True})]
    if device == "cuda":
        found += [("one seed, no graph", 1, {"graph": False})]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=list(ALGORITHMS), choices=list(ALGORITHMS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--compile", action="store_true", help="measure the compiled update too")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32-true", choices=PRECISIONS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(ROWS + 1, S)).astype(np.float32)
    action = rng.uniform(-1, 1, size=(ROWS, A)).astype(np.float32)
    reward, terminals = rng.normal(size=ROWS).astype(np.float32), np.zeros(ROWS, bool)
    parts = (obs[:-1], action, reward, obs[1:], terminals.astype(np.float32))
    tensors = [torch.from_numpy(part).to(options.device) for part in parts]
    with tempfile.TemporaryDirectory() as folder:
        npz = Path(folder) / "data.npz"
        arrays = {"obs": obs[:-1], "actions": action, "rewards": reward, "next_obs": obs[1:], "terminals": terminals}
        np.savez(npz, **arrays, episode=np.arange(ROWS) // 500)
        for name in options.names:
            ratios: dict[str, list[float]] = {}
            for _ in range(options.repeats):
                for case, seeds, how in cases(options.device, options.compile):
                    plain = plain_step_time(name, tensors, options.steps, options.device)
                    root = Path(folder) / "runs"
                    how["precision"] = options.precision
                    ours = fit_step_time(name, npz, root, seeds, options.steps, options.device, **how)
                    ratios.setdefault(case, []).append(plain / ours)
                    line = f"{name:8}{case:24} plain {1e3 * plain:7.2f} ms, ours {1e3 * ours:7.2f} ms"
                    print(f"{line}: {plain / ours:.2f}x", flush=True)
            for case, values in ratios.items():
                spread = f"(min {min(values):.2f}, max {max(values):.2f})"
                print(f"median {name:8}{case:24} {statistics.median(values):.2f}x  {spread}", flush=True)


if __name__ == "__main__":
    main()

r"""Speed of `cdsa fit` against the plain loop that peers write, in one run: CPU seconds per gradient step, as ratios.

The plain loop: a DataLoader over a TensorDataset, three networks of `nn.Linear`, three Adams, `.item()` of every loss.
Ours goes through the command itself, with logging and progress on. Both are timed from their 100th step to their last,
so that start-up and compilation stay out; the two alternate, and the median is printed.

    python benchmarks/fit.py [--repeats 3] [--steps 1000] [--inner_steps 20] [--compile]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cdsa_lightning.commands.fit import main as fit
from cdsa_lightning.stepping import SteppedModule

S, A, ROWS, BATCH = 11, 3, 200_000, 256  # Hopper's shapes


def plain_loop(data: dict[str, torch.Tensor], steps: int, mark: Callable[[int], object]) -> None:
    def mlp(sizes, slope):
        layers = []
        for i, o in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(i, o), nn.LeakyReLU(slope)]
        return nn.Sequential(*layers[:-1])

    g, h = mlp((S + A, 32, 128, 32, A), 0.1), mlp((S + A, 32, 128, 32, S), 0.1)
    inverse = mlp((2 * S, 128, 128, 128, A), 0.2)
    adams = [torch.optim.Adam(net.parameters(), lr) for net, lr in ((g, 3e-4), (h, 3e-4), (inverse, 1e-3))]
    table = TensorDataset(data["obs"], data["actions"], data["next_obs"])
    loader = DataLoader(table, BATCH, shuffle=True, drop_last=True)
    done, log = 0, []
    while done < steps:
        for s, a, s_next in loader:
            z, z_state = torch.randn_like(a), torch.randn_like(s)
            losses = (
                0.5 * (g(torch.cat((s, a + z), -1)) + z).square().sum(-1).mean(),
                0.5 * (h(torch.cat((s + z_state, a), -1)) + z_state).square().sum(-1).mean(),
                (inverse(torch.cat((s, s_next), -1)) - a).square().sum(-1).mean(),
            )
            for loss, adam in zip(losses, adams, strict=True):
                adam.zero_grad()
                loss.backward()
                adam.step()
            log.append([loss.item() for loss in losses])
            done += 1
            mark(done)
            if done == steps:
                return


WARM = 100


def plain_step_time(data: dict[str, torch.Tensor], steps: int) -> float:
    """CPU seconds per step of the plain loop."""
    marks = {}
    plain_loop(data, WARM + steps, lambda done: marks.setdefault(done, time.process_time()))
    return (marks[WARM + steps] - marks[WARM]) / steps


def fit_step_time(npz: Path, root: Path, seeds: int, steps: int, inner_steps: int, compiled: bool) -> float:
    """CPU seconds per step and seed of `cdsa fit`, read off at its chunks of steps."""
    marks = {}

    def mark(module: SteppedModule, *_: object) -> None:
        marks[module.trainer.global_step] = time.process_time()

    SteppedModule.on_train_batch_end = mark  # the module's own hook, which nothing else uses
    arguments = [
        *("--data.task", "hopper-random", "--data.source", f"npz:{npz}", "--runs", str(root), "--wandb", "off"),
        *("--trainer.max_steps", str(WARM + steps), "--model.seeds", str(list(range(seeds)))),
        *("--model.inner_steps", str(inner_steps), "--compile", str(compiled).lower()),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        fit(arguments)
    first, last = min(step for step in marks if step >= WARM), max(marks)
    return (marks[last] - marks[first]) / (last - first) / seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--inner_steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="measure the compiled update too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    arrays = {
        "obs": rng.normal(size=(ROWS, S)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(ROWS, A)).astype(np.float32),
        "next_obs": rng.normal(size=(ROWS, S)).astype(np.float32),
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    cases = [("one seed", 1, False), ("five seeds, per seed", 5, False)]
    cases += [("one seed, compiled", 1, True), ("five seeds, per seed, compiled", 5, True)] if options.compile else []
    ratios: dict[str, list[float]] = {name: [] for name, *_ in cases}
    with tempfile.TemporaryDirectory() as folder:
        npz, root = Path(folder) / "data.npz", Path(folder) / "runs"
        rest = {"rewards": np.zeros(ROWS, np.float32), "terminals": np.zeros(ROWS, bool)}
        np.savez(npz, **arrays, **rest, episode=np.arange(ROWS) // 500)
        for _ in range(options.repeats):
            for name, seeds, compiled in cases:
                base = plain_step_time(tensors, options.steps)
                ours = fit_step_time(npz, root, seeds, options.steps, options.inner_steps, compiled)
                ratios[name].append(base / ours)
                print(
                    f"{name:32} plain {1e6 * base:6.0f} us, ours {1e6 * ours:6.0f} us: {base / ours:.2f}x", flush=True
                )
    for name, values in ratios.items():
        print(f"median {name:32} {statistics.median(values):.2f}x  (min {min(values):.2f}, max {max(values):.2f})")


if __name__ == "__main__":
    main()

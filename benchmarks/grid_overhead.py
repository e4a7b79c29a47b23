r"""What `cdsa benchmark` costs beside the same commands by hand: seconds of whole process trees, as ratios.

Risky PointMass, its safe data collected on the spot: BC and a corrector are fitted, BC and the straight line
evaluated with all four arms, 200 episodes each, pictures included. By hand that is two `cdsa fit` and two `cdsa
evaluate`, one after the other; the grid does it with one worker, and adds its plan, its records, tables and pictures.
A command takes seconds to import what it needs; the grid's worker does so once. What is left of the comparison
without that advantage is told by a third way, a script that calls the four commands in one process. The three
alternate.

    python benchmarks/grid_overhead.py [--repeats 3] [--steps 2000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import yaml
from whole import COMMAND, seconds

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TASK, EPISODES, SEEDS = "risky-pointmass", 200, [0, 1]


def commands(steps: int) -> list[list[str]]:
    """Both fits and both evaluations."""
    fit = ["--trainer.max_steps", str(steps), "--model.seeds", str(SEEDS).replace(" ", ""), "--wandb", "off"]
    evaluate = ["--task", TASK, "--ablation", "true", "--episodes", str(EPISODES), "--wandb", "off"]
    return [
        ["fit", "--config", str(CONFIGS / "baselines" / "bc.yaml"), "--data.task", TASK, *fit],
        ["fit", "--config", str(CONFIGS / "risky_pointmass.yaml"), *fit],
        ["evaluate", "--baseline", "bc", *evaluate],
        ["evaluate", "--baseline", "shortest_path", *evaluate],
    ]


def by_hand(folder: Path, steps: int) -> tuple[float, float]:
    """One command after the other."""
    parts = [seconds([*COMMAND, *words], folder) for words in commands(steps)]
    return sum(wall for wall, _ in parts), sum(cpu for _, cpu in parts)


def as_script(folder: Path, steps: int) -> tuple[float, float]:
    """All commands in one process."""
    code = (
        f"import sys\nfrom cdsa_lightning.cli import main\nsys.exit(any([main(words) for words in {commands(steps)}]))"
    )
    return seconds([sys.executable, "-c", code], folder)


def as_grid(folder: Path, steps: int) -> tuple[float, float]:
    """The same as a grid."""
    grid = {
        "tasks": [TASK],
        "baselines": {
            "bc": {"config": str(CONFIGS / "baselines" / "bc.yaml"), "max_steps": steps},
            "shortest_path": {},
        },
        "corrector": {"config": str(CONFIGS / "risky_pointmass.yaml"), "max_steps": steps},
        **{"preset": "robust", "seeds": SEEDS, "episodes": EPISODES},
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    taken = seconds([*COMMAND, "benchmark", "--config", "grid.yaml", "--workers", "1"], folder)
    made = len(list(folder.glob("runs/benchmark/*/*/*/done.json")))
    if made != 4:
        sys.exit(f"The grid has {made} parts, expected 4.")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ways = {"by hand": by_hand, "script": as_script, "grid": as_grid}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        os.environ["MINARI_DATASETS_PATH"] = str(Path(name) / "data")
        seconds([*COMMAND, "collect", "--task", TASK], Path(name))
        for repeat in range(options.repeats):
            for way, run in ways.items():
                folder = Path(name) / f"{way.replace(' ', '-')}-{repeat}"
                folder.mkdir()
                taken[way].append(run(folder, options.steps))
                wall, cpu = taken[way][-1]
                print(f"{way:8} {wall:6.1f} s, {cpu:6.1f} s CPU", flush=True)
    for way in ("by hand", "script"):
        for kind, index in (("wall", 0), ("CPU", 1)):
            pairs = [(grid[index], other[index]) for grid, other in zip(taken["grid"], taken[way], strict=True)]
            ratios = [grid / other for grid, other in pairs]
            more = statistics.median(grid - other for grid, other in pairs)
            print(
                f"grid / {way:8} {kind:4}: median {statistics.median(ratios):.3f}, min {min(ratios):.3f}, "
                f"max {max(ratios):.3f}; grid - {way}: {more:+.1f} s"
            )


if __name__ == "__main__":
    main()

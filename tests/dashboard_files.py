"""Runs as `cdsa fit` and `cdsa evaluate` leave them, made small for the tests of `cdsa dashboard`."""

import json
import os

import numpy as np
from matplotlib.figure import Figure

from cdsa_lightning.evaluation import Report
from cdsa_lightning.records import save, write_figure
from cdsa_lightning.tasks import get_task
from drawn import episodes

RISKY, SCALED = "risky-pointmass", "hopper-medium"
HOSTILE = "</script><script>alert(1)</script>"
COEFFICIENTS = {"k1": 0.5, "k2": 0.25, "schedule": [0.7], "num_steps": 2, "state_step": 1.0, "a2": "residual"}
STEPS = range(100, 1100, 100)


def report_of(task, arms, **info):
    """A report with these mean returns, two seeds of ten episodes an arm."""
    rng = np.random.default_rng(0)
    return Report(
        get_task(task), {name: episodes(mean + rng.normal(0, 5, (2, 10)), **info) for name, mean in arms.items()}
    )


def ablated(baseline):
    whole = f"cdsa({baseline})"
    return {baseline: -40.0, whole: -10.0, f"{whole} without a1": -30.0, f"{whole} without a2": -20.0}


def leave_evaluation(root, report, run="1", age=0, pictures=(), **about):
    """An evaluation under `root`, `age` seconds after the first."""
    folder = root / report.task.name / "evaluate" / run
    save(report, folder, {"options": {"preset": None}, **about})
    for name in pictures:
        write_figure(Figure(figsize=(1, 1)), folder / f"{name}.png")
    os.utime(folder / "report.json", (1_700_000_000 + age,) * 2)
    return folder


def leave_fit(root, task=RISKY, name="cdsa", run="1", losses=("action_score_loss",), seeds=(0, 1)):
    """The curves of a fit, falling with the steps, those of higher seeds above."""
    folder = root / task / name / run
    folder.mkdir(parents=True)
    keys = [key for loss in losses for key in (f"train/{loss}", *(f"train/{loss}/seed_{seed}" for seed in seeds))]
    lines = [",".join(["step", *keys])]
    for step in STEPS:
        each = [100 / step + seed for seed in seeds]
        lines.append(",".join(map(str, [step, *([np.mean(each), *each] * len(losses))])))
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


def leave_runs(root):
    """A corrector's and a baseline's fits; an ablation, its repetition, and an evaluation on another task."""
    corrected = {"coefficients": COEFFICIENTS, "corrector_header": {"preset": "robust", "seeds": [0, 1]}}
    risky = {"in_risk_region": np.tile([0.0, 2.0], (2, 5)), "cost": np.full((2, 10), 0.3)}
    leave_evaluation(root, report_of(RISKY, ablated("shortest_path"), **risky), "1", **corrected)
    newer = report_of(RISKY, ablated("shortest_path"), **risky)
    leave_evaluation(root, newer, "2", age=10, pictures=("var_curve", "ablation", "trajectories"), **corrected)
    other = report_of(SCALED, {"iql": 1500.0, "cdsa(iql)": 2000.0})
    leave_evaluation(root, other, age=20, pictures=("var_curve",), **corrected)
    leave_fit(root)
    leave_fit(root, SCALED, "iql", losses=("critic_loss", "policy_loss"))
    return root


def rename(folder, old, new):
    """Call an arm of an evaluation otherwise, in both files."""
    import pyarrow.parquet as pq

    path = folder / "report.json"
    said = json.loads(path.read_text())
    said["arms"] = {new if name == old else name: values for name, values in said["arms"].items()}
    path.write_text(json.dumps(said))
    table = pq.read_table(folder / "episodes.parquet")
    names = [new if name == old else name for name in table["arm"].to_pylist()]
    pq.write_table(table.set_column(0, "arm", [names]), folder / "episodes.parquet")

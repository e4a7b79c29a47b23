"""Small grids and hand-made records for the tests of `cdsa benchmark`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from cdsa_lightning.grid.cells import COLUMNS, RECORD, RISK
from training_data import TASK, write_npz

CONFIGS = Path(__file__).parents[1] / "configs"


def grid_values(folder, **changes):
    """BC and the straight line on Risky PointMass with invented data; None leaves a key out."""
    npz = folder / "data.npz"
    if not npz.exists():
        write_npz(npz, rows=400)
    short = {"data.batch_size": 16, "checkpoint_every": 20}
    values = {
        "tasks": [TASK],
        "baselines": {
            "bc": {"config": str(CONFIGS / "baselines" / "bc.yaml"), "max_steps": 200, "options": short},
            "shortest_path": {},
        },
        "corrector": {"config": str(CONFIGS / "risky_pointmass.yaml"), "max_steps": 200, "options": short},
        "preset": "robust",
        "seeds": [0, 1],
        "episodes": 2,
        "sources": {TASK: f"npz:{npz}"},
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


def write_grid(folder, name="grid.yaml", **changes):
    path = folder / name
    path.write_text(yaml.safe_dump(grid_values(folder, **changes)))
    return path


def write_record(
    directory, task, baseline, arms, env_id="Hopper-v5", provenance="regenerated", first_seed=0, risk=None
):
    """A record with these scores, {arm: [seeds][episodes]}, and the steps inside a risk region, likewise."""
    rows, steps = [], []
    for arm, seeds in arms.items():
        for seed, episodes in enumerate(seeds, first_seed):
            for number, value in enumerate(episodes):
                said = (task, baseline, arm, seed, number, 10 * value, value, 100, env_id, provenance, "{}", "f", 1.0)
                rows.append(dict(zip(COLUMNS, said, strict=True)))
                steps.append(risk[arm][seed - first_seed][number] if risk else None)
    directory.mkdir(parents=True)
    table = pa.Table.from_pylist(rows).append_column(RISK, pa.array(steps, pa.float64()))
    pq.write_table(table, directory / RECORD)
    return directory


def same_records(one, two):
    """Whether the records of two outputs are equal in all but the time that they took."""
    paths = sorted(path.relative_to(one) for path in one.glob(f"cell/*/*/{RECORD}"))
    assert paths == sorted(path.relative_to(two) for path in two.glob(f"cell/*/*/{RECORD}"))
    tables = [(pq.read_table(one / path).to_pydict(), pq.read_table(two / path).to_pydict()) for path in paths]
    return bool(paths) and all(
        np.array_equal(first[key], second[key]) for first, second in tables for key in COLUMNS if key != "seconds"
    )

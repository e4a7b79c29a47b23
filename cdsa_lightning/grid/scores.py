r"""Records of cells as scores, each beside the paper's number, and what they say over all tasks.

A score is the mean over training seeds of each seed's mean normalised score (return where a task has no scale); +- is
the sample standard deviation over seeds. Aggregates are those of `metrics.aggregate` (Agarwal et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cdsa_lightning.comparison import ARMS
from cdsa_lightning.grid.cells import RECORD, RISK, read_record
from cdsa_lightning.metrics.aggregate import (
    interquartile_mean,
    mean_score,
    optimality_gap,
    stratified_improvement,
    stratified_interval,
)
from cdsa_lightning.metrics.bootstrap import Interval, bootstrap_difference, verdict
from cdsa_lightning.reference import read_table1
from cdsa_lightning.tasks import get_task

__all__ = ["Score", "aggregates", "read_scores", "score_table", "scores_of"]

_IN_PAPER = {"onestep": "one_step"}  # ours -> its column, where they differ


@dataclass(frozen=True, eq=False)
class Score:
    """One arm of one cell.

    Args:
        task, baseline, arm: Which.
        values: Of every episode, [E, n]: E training seeds.
        scaled: Whether it is a normalised score, not a return.
        env_id: Environment and its version.
        provenance: Of the data: d4rl-v2, minari, regenerated, npz; empty where there were none.
        paper: The paper's number; None where it has none.
        paper_std: Its standard deviation, where told.
        difference: From the base with a 95 % interval; None for the base, and where it was not evaluated.
        risk_steps: Steps inside a risk region, [E, n]; None where the world has none.
    """

    task: str
    baseline: str
    arm: str
    values: np.ndarray
    scaled: bool
    env_id: str
    provenance: str
    paper: float | None = None
    paper_std: float | None = None
    difference: Interval | None = None
    risk_steps: np.ndarray | None = None

    @property
    def per_seed(self) -> tuple[float, ...]:
        """The mean of each training seed."""
        return tuple(self.values.mean(1).tolist())

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.per_seed))

    @property
    def std(self) -> float | None:
        """Over seeds; None for one."""
        return float(np.std(self.per_seed, ddof=1)) if len(self.per_seed) > 1 else None

    @property
    def verdict(self) -> str | None:
        """Of the difference."""
        return verdict(self.difference) if self.difference else None


def read_scores(directories: Iterable[Path]) -> list[Score]:
    """The scores of cells, in their order.

    Raises:
        InputError: a record is damaged.
    """
    return [score for directory in directories for score in scores_of(read_record(directory / RECORD))]


def scores_of(record: pa.Table) -> list[Score]:
    """The scores of the cells whose rows `record` holds; all arms and seeds of a cell have as many episodes."""
    paper = {row["task"]: row for row in read_table1()}
    columns = {key: np.asarray(values) for key, values in record.to_pydict().items()}
    columns[RISK] = columns[RISK].astype(float)  # null is NaN
    found = []
    for task, baseline in dict.fromkeys(zip(columns["task"], columns["baseline"], strict=True)):
        mine = (columns["task"] == task) & (columns["baseline"] == baseline)
        rows = {key: values[mine] for key, values in columns.items()}
        arms = {arm: _of_arm(rows, arm) for arm in ARMS if arm in rows["arm"]}
        for arm, values in arms.items():
            number, spread = _paper(paper.get(task, {}), baseline, arm)
            found.append(
                Score(
                    *(str(task), str(baseline), arm, values),
                    scaled=get_task(task).score_max is not None,
                    env_id=str(rows["env_id"][0]),
                    provenance=str(rows["provenance"][0]),
                    paper=number,
                    paper_std=spread,
                    difference=_difference(values, arms["base"]) if "base" in arms and arm != "base" else None,
                    risk_steps=None if np.isnan(rows[RISK]).any() else _of_arm(rows, arm, RISK),
                )
            )
    return found


def _of_arm(rows: dict[str, np.ndarray], arm: str, column: str = "normalized") -> np.ndarray:
    """A column of an arm, [seeds, episodes], in the order of the seeds."""
    mine = rows["arm"] == arm
    seeds, values = rows["seed"][mine], rows[column][mine]
    return np.stack([values[seeds == seed] for seed in np.unique(seeds)])


def _difference(corrected: np.ndarray, base: np.ndarray) -> Interval:
    return bootstrap_difference(torch.as_tensor(corrected), torch.as_tensor(base))


def _paper(row: dict[str, Any], baseline: str, arm: str) -> tuple[float | None, float | None]:
    if arm == "base":
        return row.get(_IN_PAPER.get(baseline, baseline)), None
    if arm == "cdsa":
        return row.get(f"cdsa_{baseline}_mean"), row.get(f"cdsa_{baseline}_std")
    return None, None


def score_table(scores: Sequence[Score], baseline: str, arm: str) -> tuple[list[str], np.ndarray]:
    """Tasks and scores [tasks, seeds] of one arm; tasks of fewer seeds than the others are left out."""
    own = [score for score in scores if (score.baseline, score.arm) == (baseline, arm)]
    most = max((len(score.per_seed) for score in own), default=0)
    whole = [score for score in own if len(score.per_seed) == most]
    return [score.task for score in whole], np.array([score.per_seed for score in whole]).reshape(len(whole), most)


def aggregates(scores: Sequence[Score]) -> dict[str, Any]:
    """Plain values: per baseline and arm over its tasks with a scale; improvement of each arm over the base.

    An improvement compares ranks within a task, so that it takes tasks without a scale as well.
    """
    scaled = [score for score in scores if score.scaled]
    said: dict[str, Any] = {}
    for baseline in dict.fromkeys(score.baseline for score in scores):
        for arm in ARMS:
            entry: dict[str, Any] = {}
            tasks, table = score_table(scaled, baseline, arm)
            if tasks:
                entry = {"tasks": tasks, "seeds": table.shape[1]}
                for name, statistic in (
                    ("interquartile_mean", interquartile_mean),
                    ("mean", mean_score),
                    ("optimality_gap", optimality_gap),
                ):
                    entry[name] = stratified_interval(table, statistic).to_json()
            if arm != "base" and (improved := _improvement(scores, baseline, arm)):
                entry["probability_of_improvement"] = improved
            if entry:
                said.setdefault(baseline, {})[arm] = entry
    return said


def _improvement(scores: Sequence[Score], baseline: str, arm: str) -> dict[str, Any] | None:
    tasks, table = score_table(scores, baseline, arm)
    base_tasks, base = score_table(scores, baseline, "base")
    both = [task for task in tasks if task in base_tasks]
    if not both:
        return None
    first, second = table[[tasks.index(t) for t in both]], base[[base_tasks.index(t) for t in both]]
    return {"tasks": both, **stratified_improvement(first, second).to_json()}

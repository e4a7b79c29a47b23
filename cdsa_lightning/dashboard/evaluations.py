r"""An evaluation as charts need it: scores of every arm, pooled and per training seed, percentiles and intervals.

Scores are normalised where the task has a range, returns elsewhere. The tail of a score is the score of the tail, since
normalising is affine: CVaR_q(c R + d) = c CVaR_q(R) + d for c > 0. Neither the environment nor its task is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from cdsa_lightning.comparison import ARMS, arm_name, baseline_of
from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.bootstrap import bootstrap_interval
from cdsa_lightning.metrics.functional import conditional_value_at_risk
from cdsa_lightning.tables import read_parquet
from cdsa_lightning.untrusted import read_json

__all__ = ["Arm", "Evaluation", "read_evaluation"]

_SHARES = ("violation_rate", "cost", "risk_steps", "success_rate")
"""What else of a report's statistics is drawn, where the environment has it."""
_PERCENT = np.arange(101)
_RESAMPLES = 1000
_Values = dict[str, float | None]


@dataclass(frozen=True)
class Arm:
    """One arm of an evaluation.

    Args:
        part: One of `comparison.ARMS`, or ``other``.
        name: What the report calls it.
        statistics: score, its 95 % interval low and high, cvar_10, and where there are risk regions their shares.
        seeds: score, cvar_10 and shares of each training seed.
        curve: The percentiles 0 to 100 of the episodes' scores.
        curves: Those of each training seed.
        logged: The report's own statistics, under the names that a logger was given.
    """

    part: str
    name: str
    statistics: _Values
    seeds: list[_Values]
    curve: list[float | None]
    curves: list[list[float | None]]
    logged: list[str]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, or one cell of a grid.

    Args:
        run: Where it lies.
        task: On which.
        baseline: The arm that stands alone, for instance ``iql`` or ``iql+noise(0.3)``.
        preset: Of the corrector; empty where that is not known, or there is none.
        settings: Settings of the environment that differ from the task's, as text.
        scaled: Whether scores are normalised.
        seeds: The training seeds in order.
        arms: Each arm.
        coefficients: Of the correction; None where nothing was corrected.
        verdict: improved, no evidence or harmed; empty where nothing was corrected.
        sentence: The same in words.
        pictures: PNG files beside the report.
        time: When the report was written, in nanoseconds.
    """

    run: str
    task: str
    baseline: str
    preset: str
    settings: str
    scaled: bool
    seeds: list[int]
    arms: list[Arm]
    coefficients: dict[str, Any] | None
    verdict: str
    sentence: str
    pictures: list[Path]
    time: int


def read_evaluation(directory: Path) -> Evaluation:
    """The evaluation that `cdsa evaluate`, or a cell of `cdsa benchmark`, kept in `directory`.

    Raises:
        InputError: report.json or episodes.parquet is missing, damaged, or they do not belong together.
    """
    path = directory / "report.json"
    try:
        said = read_json(path)
        table = read_parquet(directory / "episodes.parquet")
        return _evaluation(directory, said, table, path.stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise InputError(f"{directory} lacks {Path(error.filename or 'a file').name}: evaluate again.") from None
    except OSError as error:
        raise InputError(f"Cannot read {directory}: {error.strerror or error}.") from None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise InputError(f"{directory} holds a damaged report: {reason}. Evaluate again.") from None


def _evaluation(directory: Path, said: dict[str, Any], table: pa.Table, time: int) -> Evaluation:
    about = said.get("about") or {}
    arms = [_arm(name, values, table) for name, values in said["arms"].items()]
    if not arms:
        raise ValueError("it names no arms")
    if table.num_rows != sum(pc.sum(pc.equal(table["arm"], arm.name)).as_py() or 0 for arm in arms):
        raise ValueError("episodes.parquet holds arms that report.json does not know")
    baseline = next((name for name in said["arms"] if baseline_of(name) is None), arms[0].name)
    whole = [gap for gap in said["differences"] if gap["arm"] == arm_name("cdsa", baseline)]
    header = about.get("corrector_header") or {}
    settings = about.get("settings") or {}
    number = max(len(arm.seeds) for arm in arms)
    known = settings.get("seeds") or header.get("seeds") or []
    values = np.asarray(table["normalized"].to_numpy(), dtype=float)
    environment = ", ".join(f"{key} {value}" for key, value in (said["env_kwargs"] or {}).items())
    return Evaluation(
        run=str(directory),
        task=str(said["task"]),
        baseline=baseline,
        preset=str(header.get("preset") or (about.get("options") or {}).get("preset") or ""),
        settings=environment,
        scaled=not np.allclose(values, np.asarray(table["return"].to_numpy(), dtype=float)),
        seeds=[int(seed) for seed in known] if len(known) == number else list(range(number)),
        arms=arms,
        coefficients=about.get("coefficients") or settings.get("coefficients"),
        verdict=str(whole[0]["verdict"]) if whole else "",
        sentence=str(said["sentence"]),
        # A link could name any file of ours, which the page would then show around.
        pictures=sorted(path for path in directory.glob("*.png") if not path.is_symlink()),
        time=time,
    )


def _arm(name: str, said: Mapping[str, Any], table: pa.Table) -> Arm:
    rows = table.filter(pc.equal(table["arm"], name))
    scores = np.array(rows["normalized"].to_numpy(), dtype=float).reshape(int(said["seeds"]), -1)
    if not math.isclose(float(np.mean(rows["return"].to_numpy())), said["return"], rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(f"the returns of {name!r} in episodes.parquet are not those of report.json")
    if len(said["per_seed"]) != len(scores):
        raise ValueError(f"{name!r} has {len(said['per_seed'])} seeds in report.json and {len(scores)} of episodes")
    baseline = baseline_of(name)
    parts = {arm_name(part, baseline or name): part for part in ARMS}
    interval = bootstrap_interval(torch.as_tensor(scores), count=_RESAMPLES)
    limits = {"low": _plain(interval.low), "high": _plain(interval.high)}
    return Arm(
        part=parts.get(name, "other"),
        name=name,
        statistics=_statistics(scores, said) | limits,
        seeds=[_statistics(row, of_seed) for row, of_seed in zip(scores, said["per_seed"], strict=True)],
        curve=_curve(scores),
        curves=[_curve(row) for row in scores],
        logged=[key for key, value in said.items() if isinstance(value, float)],
    )


def _statistics(scores: np.ndarray, said: Mapping[str, Any]) -> _Values:
    tail = conditional_value_at_risk(torch.as_tensor(scores.reshape(-1)), 0.1)
    found = {"score": _plain(scores.mean()), "cvar_10": _plain(float(tail))}
    return found | {key: _plain(said[key]) for key in _SHARES if said.get(key) is not None}


def _curve(scores: np.ndarray) -> list[float | None]:
    return [_plain(value) for value in np.percentile(scores, _PERCENT)]


def _plain(value: float) -> float | None:
    """Five digits, which no screen exceeds; None for what JSON has no word for."""
    return float(f"{value:.5g}") if math.isfinite(value) else None

r"""A cell of a grid: one baseline on one task, alone and corrected, and its record of all episodes.

record.parquet has one row an episode and arm: task, baseline, arm, seed (the training seed), episode, return,
normalized, length, env_id, provenance, coefficients (JSON, empty for the base), fingerprint, seconds (of the cell),
in_risk_region (steps inside, null where the world has no risk regions). Its digest is in the done.json beside it.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cdsa_lightning import records
from cdsa_lightning.comparison import arm_name, corrections
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Evaluator, Report, traced
from cdsa_lightning.files import clear_partials, digest_of, whole_file
from cdsa_lightning.grid.nodes import DONE, Node
from cdsa_lightning.registry import load_policy
from cdsa_lightning.tables import read_parquet
from cdsa_lightning.tasks import get_task
from cdsa_lightning.untrusted import read_json

__all__ = ["COLUMNS", "RECORD", "RISK", "evaluate_cell", "read_record"]

RECORD = "record.parquet"
COLUMNS = (
    *("task", "baseline", "arm", "seed", "episode", "return", "normalized", "length"),
    *("env_id", "provenance", "coefficients", "fingerprint", "seconds"),
)
RISK = "in_risk_region"


def evaluate_cell(node: Node, directory: Path, checkpoint: Path | None, corrector: Path | None) -> None:
    """Evaluate the arms of a cell, and write its report and its record.

    Args:
        node: Of kind cell.
        directory: Where to write.
        checkpoint: Of the baseline; None where it needs none.
        corrector: None where no arm needs one.

    Raises:
        InputError: what is loaded does not fit, or a return is NaN.
    """
    started = time.monotonic()
    clear_partials(directory)
    task = get_task(node.task)
    policy = load_policy(node.name, checkpoint, task)
    corrected = _corrected(node, policy, corrector) if corrector else {}
    known = {"base": policy} | corrected
    chosen = {arm_name(arm, node.name): known[arm] for arm in node.settings["arms"]}
    report = Evaluator(task, node.settings["episodes"], record=traced(task)).run(chosen)
    about = {"checkpoint": str(checkpoint or ""), "corrector": str(corrector or ""), "settings": node.settings}
    about |= {"options": {"baseline": node.name}, "data": node.about}
    records.save(report, directory, about)
    coefficients = {arm: json.dumps(corrected[arm].coefficients.to_dict(), sort_keys=True) for arm in corrected}
    table = _record(node, report, coefficients, time.monotonic() - started)
    with whole_file(directory / RECORD) as place:
        pq.write_table(table, place)


def read_record(path: Path) -> pa.Table:
    """The record of a cell: `COLUMNS` and `RISK`, which those of earlier versions lack and which is null then.

    Raises:
        InputError: missing, damaged, or without a column.
    """
    try:
        _verify(path)  # first: what is damaged can bring the library down that parses it
        table = read_parquet(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"Cannot read the record {path}: {reason}.") from None
    missing = [column for column in COLUMNS if column not in table.column_names]
    if missing:
        raise InputError(f"{path} is no record of a cell: it lacks {', '.join(missing)}.")
    if RISK not in table.column_names:
        table = table.append_column(RISK, pa.nulls(table.num_rows, pa.float64()))
    table = table.select([*COLUMNS, RISK])
    numbers = ("seed", "episode", "return", "normalized", "length", "seconds", RISK)
    for column in table.column_names:
        kind = table.schema.field(column).type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if number != (column in numbers) or not (number or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InputError(f"{path} is no record of a cell: its column {column!r} holds {kind}.")
    return table


def _verify(path: Path) -> None:
    """See that a record is what the done.json beside it says; those of earlier versions say nothing."""
    try:
        made = read_json(path.parent / DONE)["made"]
        expected = made.get("sha256") if made["file"] == path.name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if expected and digest_of(path) != expected:
        raise ValueError("it is not what was written, its digest is another")


def _corrected(node: Node, policy: Policy, path: Path) -> dict[str, CorrectedPolicy]:
    corrector = load_corrector(path)
    coefficients = Coefficients.from_dict(node.settings["coefficients"])
    return {arm: CorrectedPolicy(policy, corrector, part) for arm, part in corrections(coefficients).items()}


def _record(node: Node, report: Report, coefficients: dict[str, str], seconds: float) -> pa.Table:
    episodes = records.episode_table(report)
    names = {arm_name(arm, node.name): arm for arm in node.settings["arms"]}
    arms = [names[name] for name in episodes["arm"].to_pylist()]
    seeds, count = node.settings["seeds"], max(episodes["seed"].to_pylist()) + 1
    # A baseline that is not trained has no training seeds; what corrects it may have.
    numbers = [seeds[index] if count == len(seeds) else index for index in episodes["seed"].to_pylist()]
    rows = len(arms)
    constant: dict[str, Any] = {"task": node.task, "baseline": node.name, "env_id": report.task.env_id}
    constant |= {key: node.about.get(key, "") for key in ("provenance", "fingerprint")} | {"seconds": seconds}
    columns = {key: [value] * rows for key, value in constant.items()}
    columns |= {"arm": arms, "seed": numbers, "coefficients": [coefficients.get(arm, "") for arm in arms]}
    columns |= {key: episodes[key] for key in ("episode", "return", "normalized", "length")}
    known = RISK in episodes.column_names
    columns[RISK] = pa.array(episodes[RISK].to_numpy() if known else [None] * rows, pa.float64())
    return pa.table({key: columns[key] for key in (*COLUMNS, RISK)})

r"""Records of several grids as one: cells side by side, the training seeds of one cell one after the other.

A grid may be split over machines by tasks, by baselines or by seeds, or go on later with more of them. Rows of one
task and baseline become one cell only where everything that a record knows of them agrees: environment, data, episodes
per seed, arms and their coefficients. How long the baseline was trained a record does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import UNSEALED, digest_of, whole_file, write_json
from cdsa_lightning.grid.cells import COLUMNS, RECORD, read_record
from cdsa_lightning.grid.nodes import DONE, done_record

__all__ = ["gather", "keep"]

_WHAT = {"env_id": "environment", "provenance": "kind of data", "fingerprint": "data (their fingerprint)"}


def gather(places: Iterable[Path]) -> pa.Table:
    """The rows of all finished cells.

    Args:
        places: Outputs of `cdsa benchmark` or of `keep`, or records.

    Returns:
        With the columns of a record, cell by cell in the order of the places.

    Raises:
        InputError: a place holds no finished cell, a record is damaged, two hold the same seed of a cell, or they
            differ in more than their seeds.
    """
    cells: dict[tuple[str, str], list[tuple[Path, pa.Table]]] = {}
    for path in (path for place in places for path in _records(place)):
        record = read_record(path)
        for task, baseline in dict.fromkeys(zip(*(record[key].to_pylist() for key in COLUMNS[:2]), strict=True)):
            mine = pc.and_(pc.equal(record["task"], task), pc.equal(record["baseline"], baseline))
            cells.setdefault((task, baseline), []).append((path, record.filter(mine)))
    for cell, parts in cells.items():
        _require_one(cell, parts)
    return pa.concat_tables([rows for parts in cells.values() for _, rows in parts], promote_options="permissive")


def keep(record: pa.Table, root: Path) -> Path:
    """Write rows that `gather` gave into `root`, with a done.json that holds their digest; returns the record.

    Raises:
        InputError: `root` cannot be written.
    """
    remedy = "Choose another --output."
    with whole_file(root / RECORD, remedy=remedy) as place:
        pq.write_table(record, place)
        digest = digest_of(place)
    write_json({**UNSEALED, "made": {"file": RECORD, "sha256": digest}}, root / DONE, remedy)
    return root / RECORD


def _records(place: Path) -> list[Path]:
    for path in (place, place / RECORD):
        if path.is_file():
            return [path]
    finished = sorted(path.parent for path in place.glob(f"cell/*/*/{DONE}"))
    found = [cell / RECORD for cell in finished if done_record(place, cell.relative_to(place).as_posix())]
    if not found:
        raise InputError(
            f"There is no finished cell in {place}: name the --output of a 'cdsa benchmark' here, or a record."
        )
    return found


def _require_one(cell: tuple[str, str], parts: list[tuple[Path, pa.Table]]) -> None:
    """See that the parts of a cell are seeds of one cell."""
    name, (first, rows) = f"{cell[1]} on {cell[0]}", parts[0]
    expected = _facts(name, first, rows)
    seen: dict[int, Path] = {}
    for path, rows in parts:
        for what, value in _facts(name, path, rows).items():
            if value != expected[what]:
                raise InputError(
                    f"{first} and {path} both hold {name}, with another {what}: {expected[what]} and {value}. "
                    "These are no seeds of one cell; make a table of each."
                )
        for seed in pc.unique(rows["seed"]).to_pylist():
            if seed in seen:
                raise InputError(f"{seen[seed]} and {path} both hold training seed {seed} of {name}: leave one out.")
            seen[seed] = path


def _facts(name: str, path: Path, rows: pa.Table) -> dict[str, Any]:
    """What all seeds of a cell have in common."""
    keys = list(zip(*(rows[key].to_pylist() for key in ("arm", "seed", "episode")), strict=True))
    counts = {(arm, seed): 0 for arm, seed, _ in keys}
    for arm, seed, _ in keys:
        counts[arm, seed] += 1
    arms, seeds = ({pair[index] for pair in counts} for index in (0, 1))
    if len(set(keys)) != len(keys) or len(counts) != len(arms) * len(seeds) or len(set(counts.values())) > 1:
        raise InputError(f"{path} is no record of cells: not every arm and seed of {name} has the same episodes once.")
    known = {what: "/".join(sorted(set(rows[key].to_pylist()))) or "none" for key, what in _WHAT.items()}
    corrections = sorted(set(zip(rows["arm"].to_pylist(), rows["coefficients"].to_pylist(), strict=True)))
    return {
        **known,
        "number of episodes per seed": next(iter(counts.values())),
        "set of arms": ", ".join(sorted(arms)),
        "correction": "; ".join(f"{arm} {said}".strip() for arm, said in corrections),
    }

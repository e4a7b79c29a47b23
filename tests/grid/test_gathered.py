"""Records of several grids as one, and what is no part of one."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import write_json
from cdsa_lightning.grid.cells import RECORD, read_record
from cdsa_lightning.grid.gathered import gather, keep
from cdsa_lightning.grid.nodes import DONE
from cdsa_lightning.grid.scores import scores_of
from grid_files import write_record

BASE, CDSA = [[10.0, 30.0], [20.0, 40.0]], [[40.0, 40.0], [60.0, 60.0]]
ARMS = {"base": BASE, "cdsa": CDSA}
TASK = "hopper-medium"


def changed(path, column, change):
    """The record at `path` with one column passed through `change`."""
    table = pq.read_table(path)
    index = table.column_names.index(column)
    pq.write_table(
        table.set_column(index, column, pa.array([change(value) for value in table[column].to_pylist()])), path
    )


def cell(root, name, **record):
    """A finished cell of a grid."""
    path = f"cell/{TASK}/{name}"
    write_record(root / path, TASK, "iql", record.pop("arms", ARMS), **record)
    write_json({"path": path}, root / path / DONE)
    return root / path / RECORD


def test_finished_cells_alone_are_taken(tmp_path):
    made = cell(tmp_path / "grid", "iql-1")
    (cell(tmp_path / "grid", "iql-2", first_seed=2).parent / DONE).unlink()
    write_json({"path": "another"}, cell(tmp_path / "grid", "iql-3", first_seed=4).parent / DONE)
    assert gather([tmp_path / "grid"]).equals(read_record(made))


def test_seeds_of_a_cell_from_two_grids_are_one_cell(tmp_path):
    one = cell(tmp_path / "a", "iql-1", arms={arm: seeds[:1] for arm, seeds in ARMS.items()})
    two = cell(tmp_path / "b", "iql-2", arms={arm: seeds[1:] for arm, seeds in ARMS.items()}, first_seed=1)
    whole = write_record(tmp_path / "whole", TASK, "iql", ARMS)
    gathered, expected = scores_of(gather([tmp_path / "a", tmp_path / "b"])), scores_of(read_record(whole / RECORD))
    for found, right in zip(gathered, expected, strict=True):
        assert (found.arm, found.values.tolist()) == (right.arm, right.values.tolist())
        assert found.difference == right.difference
    assert gather([one, two]).equals(gather([tmp_path / "a", tmp_path / "b"]))


def test_what_was_gathered_can_be_gathered_again(tmp_path):
    cell(tmp_path / "a", "iql-1")
    other = write_record(tmp_path / "b", "hopper-random", "iql", {"base": BASE}) / RECORD
    both = gather([tmp_path / "a", other])
    assert keep(both, tmp_path / "both") == tmp_path / "both" / RECORD
    third = write_record(tmp_path / "c", TASK, "bc", {"base": BASE})
    again = gather([tmp_path / "both", third])
    assert again.num_rows == both.num_rows + 4
    assert [(score.task, score.baseline) for score in scores_of(again) if score.arm == "base"] == [
        *((TASK, "iql"), ("hopper-random", "iql"), (TASK, "bc"))
    ]


def test_columns_of_another_width_are_joined(tmp_path):
    one, two = cell(tmp_path / "a", "iql-1"), cell(tmp_path / "b", "iql-2", first_seed=2)
    as_written = gather([one, two]).to_pylist()
    table = pq.read_table(two)
    for name, kind in {"seed": pa.int32(), "normalized": pa.float32(), "task": pa.large_string()}.items():
        index = table.column_names.index(name)
        table = table.set_column(index, name, table[name].cast(kind))
    pq.write_table(table, two)
    assert gather([one, two]).to_pylist() == as_written


@pytest.mark.parametrize(
    ("column", "change", "says"),
    [
        ("env_id", lambda _: "Hopper-v4", "another environment: Hopper-v5 and Hopper-v4"),
        ("provenance", lambda _: "", "another kind of data: regenerated and none"),
        ("fingerprint", lambda _: "g", "another data (their fingerprint): f and g"),
        ("coefficients", lambda _: '{"k1": 2}', "another correction: "),
    ],
)
def test_cells_that_differ_in_more_than_seeds_are_refused(tmp_path, column, change, says):
    one, two = cell(tmp_path / "a", "iql-1"), cell(tmp_path / "b", "iql-1", first_seed=2)
    changed(two, column, change)
    with pytest.raises(InputError, match=re.escape(f"{one} and {two} both hold iql on {TASK}, with {says}")):
        gather([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({"base": [[1.0, 2.0, 3.0]], "cdsa": [[1.0, 2.0, 3.0]]}, "number of episodes per seed: 2 and 3"),
        ({"base": [[1.0, 2.0]]}, "set of arms: base, cdsa and base"),
    ],
)
def test_other_episodes_or_arms_are_refused(tmp_path, arms, says):
    cell(tmp_path / "a", "iql-1")
    cell(tmp_path / "b", "iql-1", arms=arms, first_seed=2)
    with pytest.raises(InputError, match=says):
        gather([tmp_path / "a", tmp_path / "b"])


def test_a_seed_that_comes_twice_is_refused(tmp_path):
    one, two = cell(tmp_path / "a", "iql-1"), cell(tmp_path / "b", "iql-2", first_seed=1)
    with pytest.raises(InputError, match=re.escape(f"{one} and {two} both hold training seed 1 of iql on {TASK}")):
        gather([one, two])


@pytest.mark.parametrize("lacking", [1, 2])
def test_rows_that_lack_or_come_twice_are_no_record(tmp_path, lacking):
    path = cell(tmp_path, "iql-1")
    table = pq.read_table(path)
    says = "not every arm and seed of iql on hopper-medium has the same episodes once"
    for rows in (table.slice(lacking), pa.concat_tables([table, table.slice(lacking)])):
        pq.write_table(rows, path)
        with pytest.raises(InputError, match=says):
            gather([path])


def test_places_without_cells_are_told(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=re.escape(f"There is no finished cell in {place}: name the --output")):
            gather([place])

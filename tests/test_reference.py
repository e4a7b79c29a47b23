"""The tables are the paper's, and a slip in one is a sentence."""

import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.reference import read_coefficients, read_table, read_table1, read_tasks
from cdsa_lightning.sources import SCHEMES, d4rl


def pick(task, baseline, preset):
    key = (task, baseline, preset)
    return next(row for row in read_coefficients() if (row["task"], row["baseline"], row["preset"]) == key)


def test_table_2_gives_two_rows_for_each_of_the_papers_tasks():
    paper = [row for row in read_coefficients() if row["preset"] == "paper"]
    assert {(row["task"], row["baseline"]) for row in paper} == {
        (row["task"], baseline) for row in read_table1() for baseline in ("iql", "por")
    }
    assert all(row["schedule"] == (1.0,) and row["units"] == "raw" and row["clip"] == "final" for row in paper)
    assert (pick("hopper-random", "iql", "paper")["k1"], pick("hopper-random", "iql", "paper")["k2"]) == (0.1, 1.0)
    assert (pick("walker2d-random", "por", "paper")["k1"], pick("walker2d-random", "por", "paper")["k2"]) == (0.0, 0.01)


def test_every_task_has_robust_coefficients():
    robust = {row["task"] for row in read_coefficients() if row["preset"] == "robust"}
    assert robust == {row["name"] for row in read_tasks()}
    hopper = pick("hopper-medium", "*", "robust")
    assert (hopper["schedule"], hopper["k1"], hopper["k2"], hopper["a2"]) == ((0.4, 0.2, 0.1), 1.0, 0.0, "off")
    point = pick("risky-pointmass", "*", "robust")
    assert (point["schedule"], point["num_steps"], point["k2"], point["units"]) == ((0.7,), 5, 1.0, "sigma2")


def test_table_1_holds_the_headline():
    row = next(row for row in read_table1() if row["task"] == "hopper-random")
    assert (row["iql"], row["cdsa_iql_mean"], row["cdsa_iql_std"]) == (10.8, 30.9, 0.19)
    assert len(read_table1()) == 15


def test_every_source_of_a_task_has_a_known_scheme_and_name():
    for row in read_tasks():
        for source in row["sources"]:
            scheme, _, name = source.partition(":")
            assert scheme in SCHEMES
            assert scheme != "d4rl" or name in d4rl.names()


COLUMNS = {"name": str, "value": float}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,other\na,1\n", r"t.csv: the columns are \['name', 'other'\]"),
        ("", "t.csv: the columns are"),
        ("name,value\na,one\n", "t.csv, line 2: value is 'one'"),
        ("name,value\na\n", "t.csv, line 2: expected 2 values"),
        ("name,value\na,1,2\n", "t.csv, line 2: expected 2 values"),
        ("name,value\na,1\na,2\n", "t.csv, line 3: a second row for a"),
    ],
)
def test_a_slip_in_a_table_names_file_line_and_column(text, message):
    with pytest.raises(InputError, match=message):
        read_table(text, COLUMNS, "t.csv", key=("name",))

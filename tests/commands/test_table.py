"""`cdsa table`: tables out of records, without data, checkpoints or environments."""

import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from cdsa_lightning import cli
from cdsa_lightning.grid.cells import RECORD, read_record
from grid_files import write_record

FILES = {"table.md", "table.tex", "table.parquet", "aggregates.json", RECORD, "done.json"}


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Two records of different cells, as paths from the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    arms = {"base": [[10.0, 11.0], [12.0, 13.0]], "cdsa": [[40.0, 41.0], [42.0, 43.0]]}
    made = {"a": "hopper-medium", "b": "walker2d-medium"}
    return [f"{write_record(tmp_path / name, task, 'iql', arms).name}/{RECORD}" for name, task in made.items()]


def test_records_become_a_table_and_one_record(records, tmp_path, capsys):
    assert cli.main(["table", *records, "--output", "out"]) == 0
    out = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == FILES
    assert all(f"out/{name}" in out.splitlines() for name in FILES - {"done.json"})
    assert "hopper-medium" in out and "walker2d-medium" in out and "Over all tasks" in out
    assert (tmp_path / "out" / "table.md").read_text().count("| improved |") == 2
    rows = [read_record(tmp_path / name) for name in (*records, f"out/{RECORD}")]
    assert rows[2].num_rows == rows[0].num_rows + rows[1].num_rows
    table = pq.read_table(tmp_path / "out" / "table.parquet")
    assert cli.main(["table", "out", "--output", "again"]) == 0
    assert pq.read_table(tmp_path / "again" / "table.parquet").equals(table)


def test_a_mistake_is_told_and_what_was_there_stays(records, tmp_path, capsys):
    assert cli.main(["table"]) == 2
    assert "GRID is missing" in capsys.readouterr().err
    assert cli.main(["table", *records, "--output", "out"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert cli.main(["table", records[0], records[0], "--output", "out"]) == 2
    assert "both hold training seed 0 of iql on hopper-medium: leave one out." in capsys.readouterr().err
    (tmp_path / records[1]).write_bytes((tmp_path / records[1]).read_bytes()[:-20])
    assert cli.main(["table", *records, "--output", "out"]) == 2
    assert f"Cannot read the record {records[1]}" in capsys.readouterr().err
    assert cli.main(["table", "nowhere"]) == 2
    assert "There is no finished cell in nowhere" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_its_help_is_light():
    script = (
        "import sys\nfrom cdsa_lightning.cli import main\n"
        "try: main(['table', '--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'pyarrow', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

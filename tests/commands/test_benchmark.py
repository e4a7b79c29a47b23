"""`cdsa benchmark`: whole grids in worker processes, stopped, broken and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from cdsa_lightning import cli
from cdsa_lightning.grid import tables
from cdsa_lightning.grid.cells import RECORD, read_record
from cdsa_lightning.grid.nodes import DONE
from grid_files import grid_values, same_records, write_grid
from training_data import TASK

FILES = {"table.md", "table.tex", "table.parquet", "aggregates.json"}
PICTURES = {f"{kind}-{TASK}-{name}" for kind in ("var", "ablation") for name in ("bc", "shortest_path")}


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures: the whole run looks at them, and they take longer than all else."""
    monkeypatch.setattr(tables, "pictures", lambda *_: {})


def start(grid, output, workers=2):
    command = [sys.executable, "-m", "cdsa_lightning.cli", "benchmark", "--config", str(grid), "--output", str(output)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--workers", str(workers)], env={**os.environ, "OMP_NUM_THREADS": "1"}, **piped)


def run(grid, output, workers=1):
    return cli.main(["benchmark", "--config", str(grid), "--output", str(output), "--workers", str(workers)])


def wait_for(output, pattern, process, before=frozenset()):
    """Until a file of that pattern is there that was not there before, or the program has ended."""
    while process.poll() is None and set(output.glob(pattern)) <= before:
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run: its grid, its output, and what it printed."""
    folder = tmp_path_factory.mktemp("grid")
    grid = write_grid(folder)
    process = start(grid, folder / "out")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    return grid, folder / "out", out


def test_a_whole_run_leaves_records_tables_and_pictures(whole):
    grid, output, out = whole
    assert "4 nodes: 0 done, 4 to do, 0 blocked. To do: 4 of unknown time." in out
    assert "2 of 2 cells are done." in out
    assert out.count("\nOn risky-pointmass, ") == 2  # verdicts
    assert "| verdict |" in (output / "table.md").read_text()
    assert FILES <= {path.name for path in output.iterdir()}
    assert {path.name for path in (output / "figures").iterdir()} == {
        f"{p}.{k}" for p in PICTURES for k in ("png", "svg")
    }
    (path,) = output.glob(f"cell/{TASK}/bc-*/{RECORD}")
    record = read_record(path).to_pydict()
    assert len(record["arm"]) == 4 * 2 * 2
    assert set(zip(record["arm"], record["seed"], record["episode"], strict=True)) == {
        (arm, seed, i) for arm in ("base", "without_a1", "without_a2", "cdsa") for seed in (0, 1) for i in (0, 1)
    }
    assert set(record["provenance"]) == {"npz"}
    assert len(set(record["fingerprint"])) == 1
    assert set(record["env_id"]) == {"cdsa/RiskyPointMass-v0"}
    k1 = {a: json.loads(c)["k1"] for a, c in zip(record["arm"], record["coefficients"], strict=True) if a != "base"}
    assert k1 == {"without_a1": 0.0, "without_a2": 1.0, "cdsa": 1.0}
    report = pq.read_table(path.parent / "episodes.parquet")
    assert np.array_equal(report["return"], record["return"])


def test_a_second_run_makes_nothing_again(whole, capsys, undrawn):
    grid, output, _ = whole
    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*/*/*")}
    assert run(grid, output) == 0
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/*/*/*")} == before
    assert "4 nodes: 4 done, 0 to do, 0 blocked.\n" in capsys.readouterr().out


def test_a_dry_run_shows_the_plan_with_times_and_makes_nothing(whole, capsys, tmp_path):
    _, output, _ = whole
    grid = write_grid(output.parent, "longer.yaml", episodes=4)
    before = sorted(output.rglob("*"))
    assert cli.main(["benchmark", "--config", str(grid), "--output", str(output), "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "4 nodes: 2 done, 2 to do, 0 blocked. To do: about " in out
    assert out.count("  to do  (about ") == 2
    assert sorted(output.rglob("*")) == before
    assert cli.main(["benchmark", "--config", str(grid), "--output", str(tmp_path / "none"), "--dry_run"]) == 0
    assert not (tmp_path / "none").exists()


def stop(grid, output, pattern, how, seconds=0.0):
    """Start the program and end it after it wrote a file of that pattern; its status and errors, and what was done."""
    before = set(output.glob(pattern)) if pattern else set()
    process = start(grid, output, workers=1)  # whose imports are paid once
    if pattern:
        wait_for(output, pattern, process, before)
    time.sleep(seconds)
    process.send_signal(how)
    _, err = process.communicate(timeout=100)
    return process.returncode, err, {path: path.stat().st_mtime_ns for path in output.glob(f"*/*/*/{DONE}")}


def test_killed_and_interrupted_a_grid_goes_on_and_ends_alike(whole, tmp_path, undrawn):
    grid, undisturbed, _ = whole
    output = tmp_path / "out"
    status, err, _ = stop(grid, output, "train/**/last.ckpt", signal.SIGINT)  # the first of four nodes is under way
    assert status == 130
    assert err.startswith("cdsa: interrupted") or "KeyboardInterrupt" in err  # a worker that was still starting says so
    checkpoint = list(output.glob("train/**/last.ckpt"))
    # Its workers notice that a killed program is gone; the next one comes seconds later.
    _, _, finished = stop(grid, output, f"*/*/*/{DONE}", signal.SIGKILL)
    assert finished
    assert run(grid, output) == 0
    assert list(output.glob("train/**/last.ckpt")) == checkpoint  # one run, gone on with
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # and nothing made twice
    assert same_records(undisturbed, output)


def test_a_cell_that_fails_stops_no_other(tmp_path, capsys, undrawn):
    cut = tmp_path / "cut.yaml"
    cut.write_text("model:\n  class_path: cdsa_baselines.bc.BC\n  init_args: {no_such_argument: 1}\n")
    baselines = {"bc": {"config": str(cut), "max_steps": 20}, "shortest_path": {}, "mlp": {}}
    grid, output = write_grid(tmp_path, baselines=baselines, arms=["base"], corrector=None), tmp_path / "out"
    assert run(grid, output) == 1
    out, err = capsys.readouterr()
    assert "1 of 3 cells are done." in out
    assert "no_such_argument" in err
    assert "blocked: train/risky-pointmass/bc-" in err
    (text,) = (path.read_text() for path in output.glob("cell/*/mlp-*/error.txt"))
    assert "checkpoint" in text
    assert "shortest_path" in (output / "table.md").read_text()


def test_what_lacks_data_is_told_with_the_command_and_the_rest_runs(tmp_path, capsys, monkeypatch, undrawn):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    values = {"arms": ["base"], "sources": None, "corrector": None}
    baselines = {**grid_values(tmp_path)["baselines"], "random": {}}
    grid = write_grid(tmp_path, baselines=baselines, **values)
    assert run(grid, tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert "2 of 3 cells are done." in out
    assert "cdsa collect --task risky-pointmass" in err


def test_a_damaged_record_is_told_and_made_again(whole, capsys, undrawn):
    grid, output, _ = whole
    (done,) = output.glob(f"cell/{TASK}/shortest_path-*/{DONE}")
    record = done.parent / RECORD
    expected = read_record(record).drop_columns(["seconds"])
    record.write_bytes(record.read_bytes()[:50])
    assert run(grid, output) == 1
    out, err = capsys.readouterr()
    assert "1 of 2 cells are done." in out
    assert f"damaged: Cannot read the record {record}" in err
    assert run(grid, output) == 0  # half-written, as after a power cut
    assert read_record(record).drop_columns(["seconds"]).equals(expected)
    assert done.exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--config", "none.yaml"], "Cannot read the grid none.yaml"),
        ([], "config is missing"),
        (["--config", "x", "--worker", "3"], "Did you mean 'workers'"),
        (["--config", "x", "--workers", "0"], "--workers must be at least 1, got 0"),
    ],
)
def test_bad_words_are_told(capsys, words, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", *words]) == 2
    assert text in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = """
import sys
from cdsa_lightning.cli import main
try:
    main(["benchmark", "--help"])
except SystemExit:
    print([name for name in "torch numpy ray".split() if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--gpus_per_training" in said
    assert said.splitlines()[-1] == "[]"

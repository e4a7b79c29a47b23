"""`cdsa dashboard`: its two files, what it tells, and what it refuses."""

import json
import shutil

import pytest

from cdsa_lightning import cli
from cdsa_lightning.dashboard import publish
from cdsa_lightning.grid.nodes import DONE
from dashboard_files import RISKY, SCALED, leave_evaluation, leave_fit, leave_runs, report_of
from evaluation_files import leave


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder, and no key."""
    leave(tmp_path, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def run(capsys, *words):
    status = cli.main(["dashboard", *words])
    return status, *capsys.readouterr()


def test_it_writes_a_page_and_a_specification_and_says_where(here, capsys):
    leave_runs(here / "runs")
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    paths = ["runs/dashboard/page.html", "runs/dashboard/specification.json"]
    assert out.splitlines()[:3] == ["3 evaluations and 2 fits.", *paths]
    assert "not published" in out and "wandb login" in out
    assert "<title>CDSA dashboard</title>" in (here / paths[0]).read_text()
    assert json.loads((here / paths[1]).read_text())["project"] == "cdsa"


def test_a_second_call_writes_the_same_files(here, capsys):
    leave_runs(here / "runs")
    files = [here / "runs/dashboard" / name for name in ("page.html", "specification.json")]
    before = [run(capsys) and path.read_bytes() for path in files]
    run(capsys)
    assert [path.read_bytes() for path in files] == before


def test_a_key_publishes_what_was_written(here, capsys, monkeypatch):
    leave_runs(here / "runs")
    given = []
    monkeypatch.setattr(publish, "publish", lambda *words: given.append(words) or ["https://a", "https://b"])
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    status, out, _ = run(capsys, "--project", "mine", "--entity", "team", "--name", "Board")
    assert status == 0 and out.splitlines()[-2:] == ["W&B: https://a", "W&B: https://b"]
    ((specification, entity),) = given
    assert (specification.project, specification.name, entity) == ("mine", "Board", "team")
    status, out, _ = run(capsys, "--wandb", "off")
    assert status == 0 and len(given) == 1 and "W&B" not in out


def test_a_refusal_of_wandb_leaves_the_files(here, capsys, monkeypatch):
    leave_runs(here / "runs")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    status, _, err = run(capsys, "--wandb", "online")
    assert status == 2 and "W&B cannot be used" in err and "Traceback" not in err
    assert (here / "runs/dashboard/page.html").exists()


def test_an_empty_folder_names_the_commands_that_fill_it(here, capsys):
    status, _, err = run(capsys)
    assert status == 2 and "nothing to show in runs/: 'cdsa fit' and 'cdsa evaluate'" in err
    assert not (here / "runs").exists()


def test_what_is_damaged_is_told_and_the_rest_is_drawn(here, capsys):
    leave_runs(here / "runs")
    damaged = here / "runs" / SCALED / "evaluate" / "1" / "report.json"
    damaged.write_text("{")
    (leave_fit(here / "runs", RISKY, "bc") / "metrics.csv").write_text("what\nis this\n")
    status, out, err = run(capsys)
    assert status == 0 and out.startswith("2 evaluations and 2 fits.")
    assert [line.startswith("Left out: ") for line in err.splitlines()] == [True, True]
    text = (here / "runs/dashboard/page.html").read_text()
    for place in (f"runs/{SCALED}/evaluate/1 holds a damaged report", f"runs/{RISKY}/bc/1/metrics.csv has no column"):
        assert place in err and place in text


def test_nothing_but_damage_is_an_error_that_names_it(here, capsys):
    folder = leave_evaluation(here / "runs", report_of(RISKY, {"iql": 1.0}))
    (folder / "report.json").write_text("{")
    status, _, err = run(capsys)
    assert status == 2 and f"{RISKY}/evaluate/1 holds a damaged report" in err


def test_an_output_that_cannot_be_written_is_named(here, capsys):
    leave_runs(here / "runs")
    (here / "file").write_text("")
    status, _, err = run(capsys, "--output", "file")
    assert status == 2 and "Cannot write file/specification.json" in err and "Choose another --output." in err


def leave_grid(root):
    """A done cell, an unfinished one, and a training."""
    leave_evaluation(root / "runs", report_of(RISKY, {"bc": -20.0, "cdsa(bc)": -10.0}))
    made = root / "runs" / RISKY / "evaluate" / "1"
    for name, files in (("bc-1", (DONE,)), ("bc-2", ())):
        cell = root / "cell" / RISKY / name
        shutil.copytree(made, cell)
        for file in files:
            (cell / file).write_text("{}")
    shutil.rmtree(root / "runs")
    leave_fit(root / "train" / RISKY / "bc-0", RISKY, "bc", losses=("bc_loss",))


def test_the_grid_beside_the_runs_is_shown_too(here, capsys):
    leave_runs(here / "runs")
    leave_grid(here / "runs" / "benchmark")
    status, out, _ = run(capsys)
    assert status == 0 and out.startswith("4 evaluations and 3 fits.")
    keys = (here / "runs/dashboard/specification.json").read_text()
    assert "bc_loss" not in keys and "cdsa(bc)" not in keys  # a grid logs nothing to W&B


def test_a_grid_elsewhere_is_enough(here, capsys):
    leave_grid(here / "grid")
    status, out, err = run(capsys, "--grid", "grid")
    assert (status, err) == (0, "") and out.startswith("1 evaluations and 1 fits.")


def test_a_grid_that_is_not_there_is_named(here, capsys):
    leave_runs(here / "runs")
    status, _, err = run(capsys, "--grid", "nowhere")
    assert status == 2 and "There is no grid nowhere: it is the --output of a 'cdsa benchmark'." in err


def test_a_misspelt_mode_costs_nothing(here, capsys):
    leave_runs(here / "runs")
    status, _, err = run(capsys, "--wandb", "ofline")
    assert status == 2 and "Did you mean 'offline'" in err
    assert not (here / "runs/dashboard").exists()

"""What is shown and what is kept agrees with the report."""

import json
from io import StringIO

import numpy as np
import pyarrow.parquet as pq
import pytest
import wandb
from matplotlib.figure import Figure
from rich.console import Console

from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.records import episode_table, save, save_figures
from cdsa_lightning.report import log_to_wandb, table
from cdsa_lightning.rollout import Episodes
from cdsa_lightning.tasks import Task

TASK = Task("hopper-fake", "Hopper-v5", score_min=0.0, score_max=200.0)


def episodes(returns, offset=0.0):
    returns = np.asarray(returns, dtype=np.float64)
    return Episodes(
        returns=returns,
        lengths=np.arange(returns.size).reshape(returns.shape),
        terminated=returns > 20,
        shift=np.full(returns.shape, offset),
        clip_fraction=np.zeros(returns.shape),
        info={"x_position": returns / 10, "in_risk_region": (returns > 30).astype(float)},
        traces=[],
    )


@pytest.fixture
def report():
    return Report(TASK, {"iql": episodes([[10, 20, 30]]), "cdsa(iql)": episodes([[11, 21], [31, 41]], 0.125)}, seed=3)


def shown(report, width=100):
    text = StringIO()
    Console(file=text, width=width).print(table(report))
    return text.getvalue()


def test_table_has_a_column_an_arm_and_a_row_a_statistic(report):
    text = shown(report)
    assert "hopper-fake: 3 episodes per training seed" in text
    rows = {line[:26].strip(): line[26:].split() for line in text.splitlines()}
    assert rows["training seeds"] == ["1", "2"]
    assert rows["normalised score"] == ["10.0", "13.0"]
    assert rows["forward distance"] == ["2.00", "2.60"]
    assert rows["episode length"] == ["1.0", "1.5"]
    assert rows["entered a risk region"] == ["0.0%", "50.0%"]
    assert "0.1250" in text
    assert "no evidence" in text
    assert "[-" in text  # the interval survives rich's markup


def test_table_leaves_out_what_nobody_has():
    bare = Episodes(**{**vars(episodes([[1, 2]])), "info": {}})
    plain = Report(Task("gym:X", "X"), {"iql": bare})
    assert "normalised score" not in shown(plain)
    assert "reached" not in shown(plain)
    assert "Difference" not in shown(plain)


def test_parquet_holds_every_episode_of_every_arm(report, tmp_path):
    save(report, tmp_path)
    back = pq.read_table(tmp_path / "episodes.parquet").to_pylist()
    assert len(back) == 3 + 4
    assert back[1] == {
        "arm": "iql",
        "seed": 0,
        "episode": 1,
        "return": 20.0,
        "normalized": 10.0,
        "length": 1,
        "terminated": False,
        "shift": 0.0,
        "clip_fraction": 0.0,
        "in_risk_region": 0.0,
        "x_position": 2.0,
    }
    for name, arm in report.arms.items():
        for row in (row for row in back if row["arm"] == name):
            assert row["return"] == arm.returns[row["seed"], row["episode"]]
            assert row["length"] == arm.lengths[row["seed"], row["episode"]]


def test_arms_with_different_infos_share_one_table(report):
    other = Episodes(**{**vars(report.arms["iql"]), "info": {}})
    columns = episode_table(Report(TASK, {"a": other, "b": report.arms["iql"]})).to_pydict()
    assert columns["x_position"] == [None, None, None, 1.0, 2.0, 3.0]


def test_json_says_what_made_the_numbers(report, tmp_path):
    paths = save(report, tmp_path / "new" / "folder", {"coefficients": {"k1": 0.1}})
    assert [path.name for path in paths] == ["report.json", "episodes.parquet", "traces.npz"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(path.name for path in paths)
    kept = json.loads(paths[0].read_text())
    assert kept["about"] == {"coefficients": {"k1": 0.1}}
    assert (kept["task"], kept["seed"], kept["arms"]["cdsa(iql)"]["seeds"]) == ("hopper-fake", 3, 2)
    assert kept["arms"]["cdsa(iql)"]["per_seed"][1]["normalized_score"] == 18.0
    assert kept["differences"][0]["verdict"] == "no evidence"
    assert {"python", "torch", "numpy", "gymnasium"} <= set(kept["versions"])


def test_every_figure_becomes_a_png_and_an_svg(tmp_path):
    paths = save_figures({"one": Figure(), "two": Figure()}, tmp_path / "new")
    assert [path.name for path in paths] == ["one.png", "one.svg", "two.png", "two.svg"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[::2])
    assert all(b"<svg" in path.read_bytes() for path in paths[1::2])


def test_a_second_save_replaces_the_first(report, tmp_path):
    save(report, tmp_path, {"run": 1})
    save(report, tmp_path, {"run": 2})
    assert json.loads((tmp_path / "report.json").read_text())["about"] == {"run": 2}


def test_save_refuses_what_it_cannot_write(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write .*episodes.parquet.*--output"):
        save(report, tmp_path / "file")
    with pytest.raises(InputError, match="plain, finite values"):
        save(report, tmp_path, {"x": float("nan")})
    with pytest.raises(InputError, match="plain, finite values"):
        save(report, tmp_path, {"x": object()})
    assert not list(tmp_path.glob("*.json"))


def test_a_failed_write_leaves_the_old_file(report, tmp_path, monkeypatch):
    save(report, tmp_path, {"run": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cdsa_lightning.files.os.replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        save(report, tmp_path, {"run": 2})
    assert json.loads((tmp_path / "report.json").read_text())["about"] == {"run": 1}
    assert not list(tmp_path.glob(".*"))


def test_wandb_offline_needs_no_account_and_keeps_scalars_tables_and_pictures(report, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    logged = {}
    start = wandb.init

    def watched(**kwargs):
        run = start(**kwargs)
        keep, run_log = logged.update, run.log
        run.log = lambda values: (keep(values), run_log(values))
        return run

    monkeypatch.setattr(wandb, "init", watched)
    paths = save(report, tmp_path) + save_figures({"var_curve": Figure(), "trajectories": Figure()}, tmp_path)
    (said,) = log_to_wandb(report, tmp_path, {"k1": 0.1}, paths, "offline")
    folder = said.rpartition(" ")[2]
    assert said.startswith("W&B: kept offline; send it with: wandb sync ")
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert folder.startswith(str(tmp_path))
    assert report.scalars().items() <= logged.items()
    assert logged["eval/arms"].columns[:2] == ["arm", "return"]
    assert len(logged["eval/episodes"].data) == 7
    pictures = {key for key, value in logged.items() if isinstance(value, wandb.Image)}
    assert pictures == {"eval/var_curve", "eval/trajectories"}


def test_wandb_off_writes_nothing(report, tmp_path):
    assert log_to_wandb(report, tmp_path, {}, [], "off") == []
    assert not list(tmp_path.iterdir())

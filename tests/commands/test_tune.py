"""`cdsa tune`: whole runs, what evaluate makes of their result, and what is refused."""

import json

import numpy as np
import pytest

from cdsa_lightning import cli
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.tasks import Task
from cdsa_lightning.tuning import read_choice
from evaluation_files import TASK, kept, leave, write_data

PATH = ["--baseline", "shortest_path"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


@pytest.fixture
def corrector(tmp_path):
    return kept("1", source=write_data(tmp_path))


def run(*words):
    assert cli.main([*words]) == 0


def tuned(tmp_path, *words):
    run("tune", *PATH, "--rows", "50", "--output", "out", *words)
    return json.loads((tmp_path / "out" / "coefficients.json").read_text())


def test_a_whole_run_prints_and_keeps_everything(capsys, tmp_path, corrector, monkeypatch):
    monkeypatch.setattr(Task, "make_env", None)  # the environment is not touched
    run("tune", *PATH, "--rows", "50")
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / TASK / "tune").iterdir()
    assert {path.name for path in folder.iterdir()} == {"coefficients.json", "tune.png", "tune.svg"}
    said = json.loads((folder / "coefficients.json").read_text())
    assert f"Chosen: {said['name']}. {said['reason']}" in shown
    assert said["selector"] == "data"
    assert list(said["candidates"]) == ["none", "ann3", "recommended", "residual"]
    assert (said["returns"], said["environment"]) == (None, None)
    assert set(said["measures"]) == {"r", "rho", "f90", "f99", "sigma", "rows", "spread", "kind"}
    chosen = said["candidates"][said["name"]]["coefficients"]
    assert read_choice(folder / "coefficients.json").coefficients == Coefficients.from_dict(chosen)


@pytest.mark.parametrize("returns, name", [("-1e9", "recommended"), ("1e9", "none")])
def test_returns_decide_where_they_are_given(tmp_path, corrector, returns, name):
    (tmp_path / "returns.txt").write_text(returns)
    said = tuned(tmp_path, "--returns", "returns.txt")
    assert (said["name"], said["selector"]) == (name, "returns")
    assert said["returns"] == {"mean": float(returns), "episodes": 1, "data_mean": -100.0}
    assert tuned(tmp_path, "--returns", "returns.txt", "--selector", "none")["selector"] == "none"
    assert tuned(tmp_path, "--returns", "returns.txt", "--selector", "data")["selector"] == "data"


def test_evaluate_takes_what_was_chosen_and_single_values_override_it(capsys, tmp_path, corrector):
    (tmp_path / "returns.txt").write_text("-1e9")
    said = tuned(tmp_path, "--returns", "returns.txt", "--quiet")
    command = ["evaluate", *PATH, "--coefficients", "out/coefficients.json", "--episodes", "1", "--no-wandb"]
    run(*command, "--output", "as_chosen")
    report = json.loads((tmp_path / "as_chosen" / "report.json").read_text())
    assert report["about"]["coefficients"] == said["coefficients"]
    assert "recommended, chosen by returns for shortest_path on risky-pointmass" in capsys.readouterr().out
    run(*command, "--output", "changed", "--k1", "0.25", "--max_shift", "0.5", "--quiet", "--k2=0", "--num_steps=2")
    report = json.loads((tmp_path / "changed" / "report.json").read_text())
    changed = {"k1": 0.25, "max_shift": 0.5, "k2": 0.0, "num_steps": 2}
    assert report["about"]["coefficients"] == said["coefficients"] | changed


def test_with_the_environment_every_candidate_is_measured(capsys, tmp_path, corrector):
    said = tuned(tmp_path, "--with_env", "--episodes", "2", "--action_noise", "0.02")
    found = said["environment"]
    assert list(found["mean_return"]) == list(said["candidates"])
    assert said["returns"]["mean"] == found["mean_return"]["none"]
    assert said["returns"]["episodes"] == 2
    assert found["regret"] == max(found["mean_return"].values()) - found["mean_return"][said["name"]] >= 0
    assert found["data_rule_regret"] == found["mean_return"][found["best"]] - found["mean_return"][found["data_rule"]]
    assert [gap["arm"].split(" ")[-1] for gap in found["differences"]] == ["ann3", "recommended", "residual"]
    assert f"Best in 2 episodes per seed: {found['best']}" in capsys.readouterr().out


def test_what_cannot_be_chosen_from_is_refused(capsys, tmp_path, corrector):
    def refused(*words):
        assert cli.main(["tune", *PATH, *words]) == 2
        return capsys.readouterr().err

    (tmp_path / "broken.txt").write_text("1 nan")
    assert "Unknown selector 'return'. Did you mean 'returns'?" in refused("--selector", "return")
    assert "1 of 2 returns are NaN" in refused("--returns", "broken.txt")
    assert "Cannot read the returns in gone.json" in refused("--returns", "gone.json")
    assert "name a file with --returns" in refused("--selector", "returns")
    assert "add --with_env" in refused("--episodes", "3")
    assert "give one of the two" in refused("--with_env", "--returns", "broken.txt")
    assert "leave --corrector out" in refused("--corrector", "none")
    assert "'k1'" in refused("--k1", "2")
    kept("2", source="npz:gone.npz")
    assert "npz:gone.npz, are not on this machine" in refused()


def test_evaluate_refuses_a_file_that_holds_no_coefficients(capsys, tmp_path, corrector):
    np.save(tmp_path / "c.npy", np.zeros(3))
    for name in ("c.npy", "gone.json"):
        assert cli.main(["evaluate", *PATH, "--coefficients", name, "--no-wandb"]) == 2
        assert name in capsys.readouterr().err


def test_returns_of_another_tasks_data_are_not_compared(capsys, tmp_path, monkeypatch):
    source = write_data(tmp_path, width=7)
    kept("1", "risky-transportation", dims=(7, 2), sees=[0, 1], bound=1.0, source=source)
    (tmp_path / "returns.txt").write_text("1")
    command = ["tune", "--baseline", "random", "--task", "risky-transportation-goods", "--rows", "9", "--output", "out"]
    assert cli.main([*command, "--returns", "returns.txt"]) == 2
    assert "say nothing about 'risky-transportation-goods'" in capsys.readouterr().err
    with monkeypatch.context() as without:
        without.setattr(Task, "make_env", None)  # refused before any episode
        assert cli.main([*command, "--with_env"]) == 2
    assert "say nothing about 'risky-transportation-goods'" in capsys.readouterr().err
    run(*command, "--quiet")
    assert (tmp_path / "out" / "coefficients.json").exists()

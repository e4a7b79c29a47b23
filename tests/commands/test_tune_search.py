"""`cdsa tune --with_env --trials`: the search from the command line, its storage, its report and what is refused."""

import json
import shutil
import sys

import pytest

from cdsa_lightning import cli
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.tasks import Task
from cdsa_lightning.tuning import read_choice
from evaluation_files import TASK, kept, leave, write_data

PATH = ["--baseline", "shortest_path"]
SEARCH = ["--with_env", "--episodes", "2", "--trials"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A folder with a corrector and, in out/, a search of six trials that has ended."""
    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        leave(folder, patch)
        kept("1", source=write_data(folder))
        tuned(folder, *SEARCH, "6")
    return folder


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(ended, tmp_path, monkeypatch):
    shutil.copytree(ended, tmp_path, dirs_exist_ok=True)
    leave(tmp_path, monkeypatch)


@pytest.fixture
def rollouts(monkeypatch):
    """The number of vector environments that were made, as a list of ones."""
    made, make = [], Task.make_env
    monkeypatch.setattr(Task, "make_env", lambda *words, **named: made.append(1) or make(*words, **named))
    return made


def tuned(tmp_path, *words, output="out"):
    assert cli.main(["tune", *PATH, "--rows", "50", "--output", output, *words]) == 0
    return json.loads((tmp_path / output / "coefficients.json").read_text())


def refused(capsys, *words):
    capsys.readouterr()
    assert cli.main(["tune", *PATH, "--rows", "50", "--output", "out", *words]) == 2
    return capsys.readouterr().err


def kept_in(folder):
    return json.loads((folder / "out" / "coefficients.json").read_text())


def test_a_search_keeps_everything(tmp_path):
    said, fixed = kept_in(tmp_path), ["none", "ann3", "recommended", "residual"]
    assert said["selector"] == "search"
    search = said["environment"]["search"]
    assert [trial["name"] for trial in search["trials"]] == [*fixed, "trial 5", "trial 6"]
    assert max(trial["value"] for trial in search["trials"]) == search["best"]["value"]
    best = search["best"]["name"]
    assert said["name"] in ("none", best)
    assert set(said["candidates"]) == set(said["environment"]["mean_return"]) == {*fixed, best}
    choice = read_choice(tmp_path / "out" / "coefficients.json")
    assert choice.coefficients == Coefficients.from_dict(said["candidates"][said["name"]]["coefficients"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("coefficients.json", "tune.png", "tune.svg", "trials.db")
    }


def test_the_best_trial_and_the_rules_are_measured_again_on_other_episodes(tmp_path):
    found = kept_in(tmp_path)["environment"]
    search, again = found["search"], found["search"]["again"]
    assert (again["episodes_per_seed"], found["episodes_per_seed"]) == (10, 2)
    assert again["seed"] != 0 and again["return"]["none"] != found["mean_return"]["none"]
    behind = {rule: again["return"][search["best"]["name"]] - again["return"][name] for rule, name in rules(search)}
    assert again["regret"] == behind and set(behind) == {"data", "returns"}


def rules(search):
    return search["rules"].items()


def test_evaluate_takes_a_trial(capsys, tmp_path):
    said = kept_in(tmp_path)
    trial = said["environment"]["search"]["trials"][-1]
    (tmp_path / "chosen.json").write_text(json.dumps({**said, **trial, "selector": "search"}))
    command = ["evaluate", *PATH, "--coefficients", "chosen.json", "--episodes", "1", "--no-wandb", "--output", "seen"]
    assert cli.main(command) == 0
    assert "trial 6, chosen by search for shortest_path on risky-pointmass" in capsys.readouterr().out
    assert json.loads((tmp_path / "seen" / "report.json").read_text())["about"]["coefficients"] == trial["coefficients"]


def test_the_same_command_goes_on_where_it_stopped(capsys, tmp_path, rollouts):
    first = kept_in(tmp_path)
    assert tuned(tmp_path, *SEARCH, "6") == first
    search = first["environment"]["search"]
    assert len(rollouts) == len({"none", search["best"]["name"], *search["rules"].values()})  # fresh episodes alone
    said = tuned(tmp_path, *SEARCH, "7", "--storage", "out/trials.db", output="more")
    trials = said["environment"]["search"]["trials"]
    assert trials[:6] == search["trials"] and len(trials) == 7
    shown = capsys.readouterr().out
    assert "out/trials.db, 6 trials are there" in shown and "trial 7 of 7: mean return" in shown
    assert f"Chosen: {said['name']}. {said['reason']}" in shown


def test_another_rule_may_choose_beside_the_search(tmp_path):
    said = tuned(tmp_path, *SEARCH, "6", "--selector", "data")
    assert said["selector"] == "data"
    found = said["environment"]["search"]
    assert said["name"] == found["rules"]["data"] and "data" in found["again"]["regret"]


def test_the_share_of_violations_can_be_searched_for(capsys, tmp_path):
    said = tuned(tmp_path, *SEARCH, "5", "--objective", "violation", output="other")
    search = said["environment"]["search"]
    assert min(trial["value"] for trial in search["trials"]) == search["best"]["value"]
    assert all(0 <= value <= 1 for value in search["values"].values())
    assert "violation" in capsys.readouterr().out
    assert "--objective from return, cvar_10" in hopeless(tmp_path, capsys)


def hopeless(tmp_path, capsys):
    """A task without risk regions."""
    kept("2", "gym:Pendulum-v1", dims=(3, 1), bound=2.0, source=write_pendulum(tmp_path))
    words = ["--baseline", "random", "--task", "gym:Pendulum-v1", "--rows", "9", "--output", "no", *SEARCH, "5"]
    assert cli.main(["tune", *words, "--objective", "violation"]) == 2
    return capsys.readouterr().err


def write_pendulum(tmp_path):
    import numpy as np

    rng, ends = np.random.default_rng(0), np.arange(60) % 20 == 19
    np.savez(
        tmp_path / "pendulum.npz",
        obs=rng.normal(0, 1, (60, 3)),
        next_obs=rng.normal(0, 1, (60, 3)),
        actions=rng.normal(0, 1, (60, 1)),
        rewards=-np.ones(60),
        terminals=ends,
        episode=np.cumsum(ends) - ends,
    )
    return f"npz:{tmp_path / 'pendulum.npz'}"


def test_a_task_whose_data_are_anothers_can_be_searched(tmp_path):
    source = write_data(tmp_path, width=7)
    kept("2", "risky-transportation", dims=(7, 2), sees=[0, 1], bound=1.0, source=source)
    words = ["--baseline", "random", "--task", "risky-transportation-goods", "--rows", "9", "--output", "goods"]
    assert cli.main(["tune", *words, "--quiet", "--with_env", "--episodes", "1", "--trials", "5"]) == 0
    said = json.loads((tmp_path / "goods" / "coefficients.json").read_text())
    assert said["returns"] is None and set(said["environment"]["search"]["rules"]) == {"data"}
    assert cli.main(["tune", *words, "--with_env", "--trials", "5", "--selector", "returns"]) == 2


def test_what_contradicts_itself_is_refused_before_any_episode(capsys, rollouts, monkeypatch):
    assert "--trials are run in the environment: add --with_env" in refused(capsys, "--trials", "9")
    assert "--storage is for a search" in refused(capsys, "--with_env", "--storage", "x.db")
    assert "--objective is for a search" in refused(capsys, "--with_env", "--objective", "return")
    assert "4 leave none to search with, give --trials 5 or more" in refused(capsys, *SEARCH, "4")
    assert "-1 leave none" in refused(capsys, *SEARCH, "-1")
    assert "trials must be int, got 'many'" in refused(capsys, *SEARCH, "many")
    assert "Did you mean 'cvar_10'?" in refused(capsys, *SEARCH, "5", "--objective", "cvar_1")
    assert "Cannot keep trials in nonsense://x" in refused(capsys, *SEARCH, "5", "--storage", "nonsense://x")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'cdsa-lightning[tune]'" in refused(capsys, *SEARCH, "5")
    assert not rollouts


def test_trials_of_something_else_are_refused_before_any_episode(capsys, ended, rollouts):
    assert "action_noise 0.0 there, 0.1 here" in refused(capsys, *SEARCH, "5", "--action_noise", "0.1")
    assert "episodes 2 there, 3 here" in refused(capsys, "--with_env", "--episodes", "3", "--trials", "5")
    assert "seed 0 there, 1 here" in refused(capsys, *SEARCH, "5", "--seed", "1")
    start = ("--env_kwargs.start", "corner")
    assert 'env_kwargs {} there, {"start": "corner"} here' in refused(capsys, *SEARCH, "5", *start)
    assert 'objective "return" there, "cvar_10" here' in refused(capsys, *SEARCH, "5", "--objective", "cvar_10")
    path = f"runs/{TASK}/cdsa/1/corrector.safetensors"
    assert "corrector_seed null there, 1 here" in refused(capsys, *SEARCH, "5", "--corrector_seed", "1")
    kept("1", source=f"npz:{ended / 'data.npz'}", own=Coefficients(k1=0.25, units="sigma2"))
    assert 'corrector "' in refused(capsys, *SEARCH, "5", "--corrector", path)
    assert not rollouts

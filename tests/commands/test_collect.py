"""`cdsa collect` from the outside: what it writes, says and refuses."""

import re

import numpy as np
import pytest

from cdsa_baselines.mlp import save_mlp
from cdsa_lightning import cli
from cdsa_lightning.commands.collect import _PlainProgress
from cdsa_lightning.sources import load_transitions, store


@pytest.fixture(autouse=True)
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))


def run(line):
    return cli.main(line.split())


def test_the_point_mass_needs_no_other_argument(capsys):
    assert run("collect --task risky-pointmass") == 0
    told = capsys.readouterr().out
    assert re.search(r"cdsa/risky-pointmass-v0: 3,000 episodes, 3\d,\d{3} transitions", told)
    assert "mean return -" in told
    assert "normalised" not in told
    assert str(store.root() / "cdsa/risky-pointmass-v0") in told
    assert store.metadata("cdsa/risky-pointmass-v0")["cdsa"]["command"] == "cdsa collect --task risky-pointmass"


def test_a_random_policy_in_any_environment_and_format(capsys):
    assert run("collect --task hopper-random --baseline random --steps 600 --lanes 3 --format arrow --seed 5") == 0
    data = load_transitions("minari:cdsa/hopper-random-v0")
    assert (len(data), data.obs_dim, data.action_dim) == (600, 11, 3)
    assert np.abs(data.action).max() <= 1
    assert "normalised score" in capsys.readouterr().out
    made = data.metadata["cdsa"]
    assert (made["seed"], made["lanes"], made["behaviour"]) == (5, 3, "random")
    assert run("collect --task gym:Pendulum-v1 --baseline random --steps 200") == 0
    assert len(load_transitions("minari:cdsa/pendulum-v1-v0")) == 200


def test_an_ant_is_led_through_a_maze_by_a_file(tmp_path):
    save_mlp(tmp_path / "ant.npz", [(np.zeros((8, 29)), np.zeros(8))])
    assert run(f"collect --task antmaze-umaze --checkpoint {tmp_path / 'ant.npz'} --noise 0.2 --steps 40") == 0
    data = load_transitions("minari:cdsa/antmaze-umaze-v0")
    assert (len(data), data.obs_dim, data.action_dim) == (40, 29, 8)
    assert data.metadata["cdsa"]["behaviour"] == "an ant led to the goal"
    assert data.metadata["cdsa"]["noise"] == 0.2


def test_two_data_sets_combine(capsys):
    assert run("collect --task hopper-random --baseline random --steps 100 --dataset cdsa/a-v0") == 0
    assert run("collect --task hopper-random --baseline random --steps 150 --dataset cdsa/b-v0") == 0
    assert run("collect --task hopper-medium-expert --combine cdsa/a-v0 cdsa/b-v0") == 0
    assert len(load_transitions("minari:cdsa/hopper-medium-expert-v0")) == 250


def test_an_existing_data_set_is_replaced_only_on_request(capsys):
    line = "collect --task hopper-random --baseline random --steps 50"
    assert run(line) == 0
    assert run(f"{line} --seed 1") == 2
    assert "exists already" in capsys.readouterr().err
    assert run(f"{line} --seed 1 --overwrite") == 0
    assert store.metadata("cdsa/hopper-random-v0")["cdsa"]["seed"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--task hoper-random --baseline random", "Did you mean 'hopper-random'"),
        ("--task hopper-random --baseline rando", "Did you mean 'random'"),
        ("--task hopper-medium", "--baseline mlp --checkpoint"),
        ("--task gym:Pendulum-v1", "For instance: --baseline random"),
        ("--task antmaze-umaze", "cdsa collect --task antmaze-umaze --checkpoint ant_walker.npz"),
        ("--task antmaze-umaze --checkpoint none.npz", "no checkpoint"),
        ("--task gym:CartPole-v1 --baseline random", "continuous"),
        ("--task hopper-random --baseline random --steps 0", "steps must be at least 1"),
        ("--task hopper-random --baseline random --noise -1", "must be 0 or more"),
        ("--task hopper-random --baseline random --dataset nonsense", "no data set id"),
        ("--task hopper-medium --baseline mlp --checkpoint none.npz", "no checkpoint"),
        ("--task hopper-medium --baseline random --combine cdsa/a-v0 cdsa/b-v0", "one of the two"),
        ("--task hopper-medium-expert --combine cdsa/hopper-medium-expert-v0", "from itself"),
    ],
)
def test_bad_input_is_one_clear_error(line, message, capsys):
    assert run(f"collect {line}") == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_word_that_is_no_option_is_named_with_the_nearest_one(capsys):
    assert run("collect --task hopper-random --bseline random") == 2
    assert "Did you mean 'baseline'?" in capsys.readouterr().err


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys):
    progress = _PlainProgress("cdsa/x-v0", 1000)
    progress(10)
    assert capsys.readouterr().err == ""
    progress.due = 0
    progress(20)
    assert re.match(r"cdsa/x-v0: 30 of 1,000 steps, [\d,]+ steps/s\n", capsys.readouterr().err)

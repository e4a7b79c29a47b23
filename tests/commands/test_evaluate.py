"""`cdsa evaluate`: whole runs on real environments, and what it refuses."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cdsa_lightning import cli
from cdsa_lightning.commands.options import Options
from evaluation_files import TASK, install_strangers, kept, leave, write_corrector

CONFIGS = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


@pytest.fixture
def stranger(monkeypatch):
    return install_strangers(monkeypatch)


def test_a_whole_run_prints_and_keeps_everything(capsys, tmp_path):
    kept("1")
    command = ["evaluate", "--baseline", "shortest_path", "--episodes", "3", "--ablation", "--k1", "0.25"]
    assert cli.main([*command, "--env_kwargs.start", "corner"]) == 0
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / TASK / "evaluate").iterdir()
    pictures = {
        f"{name}.{kind}" for name in ("var_curve", "ablation", "trajectories", "ood") for kind in ("png", "svg")
    }
    made = {"report.json", "episodes.parquet", "traces.npz", "wandb"} | pictures
    assert {path.name for path in folder.iterdir()} == made
    for text in ("corrector.safetensors (the newest; preset robust, 2 seeds)", "verdict", "entered a risk region"):
        assert text in shown
    assert "On risky-pointmass, " in shown
    assert "trajectories.png" in shown
    assert "wandb sync runs" in shown
    report = json.loads((folder / "report.json").read_text())
    names = ["shortest_path", *(f"cdsa(shortest_path){part}" for part in ("", " without a1", " without a2"))]
    assert list(report["arms"]) == names
    assert report["arms"]["shortest_path"]["violation_rate"] == 1
    assert report["about"]["coefficients"]["k1"] == 0.25
    assert report["about"]["corrector_header"]["preset"] == "robust"
    assert report["env_kwargs"] == {"start": "corner"}
    assert pq.read_table(folder / "episodes.parquet").num_rows == 3 * (1 + 2 + 2 + 2)


def test_output_quiet_and_no_wandb(capsys, tmp_path):
    path = write_corrector(tmp_path / "mine.safetensors")
    command = f"evaluate --baseline random --corrector {path} --episodes 1 --output out --no-wandb --quiet --seed 5"
    assert cli.main(command.split()) == 0
    assert capsys.readouterr().out == ""
    assert "wandb" not in [entry.name for entry in (tmp_path / "out").iterdir()]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["seed"] == 5
    assert not (tmp_path / "runs").exists()


def test_the_same_command_gives_the_same_numbers(tmp_path):
    kept("1")
    for name in ("one", "two"):
        command = f"evaluate --baseline random --episodes 2 --action_noise 0.02 --output {name} --no-wandb --quiet"
        assert cli.main(command.split()) == 0
    one, two = (pq.read_table(tmp_path / name / "episodes.parquet") for name in ("one", "two"))
    assert one.equals(two)
    assert set(one["arm"].to_pylist()) == {"random+noise(0.02)", "cdsa(random+noise(0.02))"}


def test_a_baseline_can_be_evaluated_alone(tmp_path):
    command = f"evaluate --baseline shortest_path --task {TASK} --corrector none --episodes 2 --output out --no-wandb"
    assert cli.main([*command.split(), "--quiet"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["arms"]) == ["shortest_path"]
    assert report["differences"] == []
    assert (tmp_path / "out" / "trajectories.png").exists()


@pytest.mark.parametrize("word", ["--env_kwargs.start=[0.8,0.1]", '--env_kwargs={"start": [0.8, 0.1]}'])
def test_the_environment_can_be_given_a_point(tmp_path, word):
    command = f"evaluate --baseline shortest_path --task {TASK} --corrector none --episodes 2 --output out --no-wandb"
    assert cli.main([*command.split(), "--quiet", word]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["env_kwargs"] == {"start": [0.8, 0.1]}
    assert report["arms"]["shortest_path"]["episode_length"] == 8  # seven moves of a tenth, and one step to see it


def test_hopper_reports_length_and_forward_distance(capsys):
    command = "evaluate --baseline random --task hopper-random --corrector none --episodes 2 --no-wandb --output out"
    assert cli.main(command.split()) == 0
    shown = capsys.readouterr().out
    assert "forward distance" in shown
    assert "episode length" in shown
    assert "normalised score" in shown


@pytest.fixture
def refused(capsys):
    def run(command):
        assert cli.main(["evaluate", *command.split(), "--no-wandb"]) == 2
        said = capsys.readouterr().err
        assert said.splitlines()[-1].startswith("cdsa: error: ")
        assert "Traceback" not in said
        return said

    return run


def test_unknown_names_get_the_nearest_one(refused):
    kept("1")
    assert "Did you mean 'shortest_path'?" in refused("--baseline shortest_pth")
    assert "Did you mean 'risky-pointmass'?" in refused("--baseline random --task risky-pointmas")
    assert "Did you mean 'robust'?" in refused("--baseline random --preset robus")
    assert "Did you mean 'residual'?" in refused("--baseline random --a2 residul")


def test_nothing_to_start_from_names_the_commands_that_make_it(refused, stranger):
    said = refused("--baseline iql")
    assert "cdsa fit --config configs/baselines/iql.yaml --data.task <task>" in said
    assert "--task" in said


def test_a_missing_checkpoint_names_the_command_that_makes_it(refused):
    kept("1")
    said = refused("--baseline iql")
    assert f"cdsa fit --config configs/baselines/iql.yaml --data.task {TASK}" in said


@pytest.mark.parametrize(
    "task",
    [
        *(TASK, "risky-pointmass-codac", "risky-transportation"),
        *("hopper-medium", "halfcheetah-random", "walker2d-medium", "antmaze-large-play"),
    ],
)
@pytest.mark.parametrize("preset", ["", "paper", "robust"])
def test_a_missing_corrector_names_the_command_that_makes_it(refused, task, preset):
    said = refused(f"--baseline random --task {task} {preset and '--preset ' + preset}")
    assert f"no corrector of task {task!r}{preset and f' with preset {preset!r}'} under runs/" in said
    config = re.search(r"cdsa fit --config (configs/\w+\.yaml) --data.task", said).group(1)
    assert (CONFIGS / config).is_file()


def test_a_corrector_of_another_task_is_refused_naming_both(refused, tmp_path):
    path = write_corrector(tmp_path / "other.safetensors", task="hopper-random")
    said = refused(f"--baseline random --task {TASK} --corrector {path}")
    assert "corrects task 'hopper-random', but the evaluation is on task 'risky-pointmass'" in said
    assert "--corrector" in said


def test_a_corrector_of_other_dimensions_is_refused(refused, tmp_path):
    path = write_corrector(tmp_path / "other.safetensors", dims=(11, 3))
    assert "takes 11 observation and 3 action entries" in refused(f"--baseline random --corrector {path}")


def test_a_broken_corrector_is_refused(refused, tmp_path):
    path = write_corrector(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    assert "cut.safetensors" in refused(f"--baseline random --corrector {path}")
    assert "no corrector file" in refused("--baseline random --corrector nowhere.safetensors")


def test_values_that_cannot_be_are_refused(refused):
    kept("1")
    assert "episodes=0" in refused("--baseline random --episodes 0")
    assert "--k2 2 does nothing while a2 is off" in refused("--baseline random --a2 off --k2 2")
    assert "No action score was trained at sigma 0.3" in refused("--baseline random --schedule [0.3]")
    assert "noise's standard deviation must be 0 or more" in refused("--baseline random --action_noise -1")


def test_an_unknown_wandb_mode_is_refused_before_the_evaluation(capsys):
    kept("1")
    assert cli.main("evaluate --baseline random --wandb ofline".split()) == 2
    assert "Did you mean 'offline'?" in capsys.readouterr().err
    assert not Path(f"runs/{TASK}/evaluate").exists()


def test_an_unknown_option_ends_with_2(capsys):
    assert cli.main(["evaluate", "--baseline", "random", "--episoeds", "3"]) == 2
    assert "'episoeds'. Did you mean 'episodes'?" in capsys.readouterr().err


def test_help_loads_no_torch():
    program = (
        "import sys\nfrom cdsa_lightning.cli import main\n"
        "try: main(['evaluate', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'wandb', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--baseline" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_option_is_explained():
    explained = {line.strip().partition(":")[0] for line in Options.__doc__.splitlines()}
    assert {option.name for option in fields(Options)} <= explained

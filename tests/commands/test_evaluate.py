"""`cdsa evaluate`: what it finds, what it refuses, and one whole run on a real environment."""

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cdsa_lightning import cli, registry
from cdsa_lightning.commands.arms import find_subject, make_arms
from cdsa_lightning.commands.options import Options
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import NoisyPolicy

TASK = "risky-pointmass"
OWN = Coefficients(k1=0.5, units="sigma2")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def write_corrector(path, task=TASK, preset="robust", dims=(4, 2), own=OWN):
    networks = Networks(*dims, NetworkSettings(predict="noise", action_sigmas=(0.7,)), init_generators(range(2)))
    low, high = [-0.1] * dims[1], [0.1] * dims[1]
    info = {"task": task, "env_id": "E", "preset": preset}
    return save_corrector(Corrector(networks, low, high, dims[0], own, info), path)


def kept(run, task=TASK, **values):
    return write_corrector(f"runs/{task}/cdsa/{run}/corrector.safetensors", task, **values)


@pytest.fixture
def stranger(monkeypatch):
    """A baseline that is restored from a checkpoint; returns the checkpoints it was given."""
    given = []

    def load(name, checkpoint, task):
        if checkpoint is None:
            raise InputError(f"Baseline {name!r} is restored from a file.")
        given.append(str(checkpoint))
        return FunctionPolicy(lambda obs: obs[:, :2] * 0, task.low, task.high)

    monkeypatch.setattr(registry, "load_policy", load)
    monkeypatch.setattr(registry, "names", lambda: ["iql", "mine"])
    return given


def checkpoint(name, run, task=TASK):
    path = Path(f"runs/{task}/{name}/{run}/last.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, ns=(int(run), int(run)))
    return path


def arms(**values):
    options = Options(**values)
    subject = find_subject(options)
    made, about = make_arms(options, subject)
    return made, about, "\n".join(subject.notes)


# ---- a whole run ---------------------------------------------------------------------------------------------------


def test_a_whole_run_prints_and_keeps_everything(capsys, tmp_path):
    kept("1")
    command = ["evaluate", "--baseline", "shortest_path", "--episodes", "3", "--ablation", "--k1", "0.25"]
    assert cli.main([*command, "--env_kwargs.start", "corner"]) == 0
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / TASK / "evaluate").iterdir()
    made = {"report.json", "episodes.parquet", "var_curve.png", "var_curve.svg", "figure3.png", "wandb"}
    assert {path.name for path in folder.iterdir()} == made
    for text in ("corrector.safetensors (the newest; preset robust, 2 seeds)", "verdict", "entered a risk region"):
        assert text in shown
    assert "On risky-pointmass, " in shown
    assert "figure3.png" in shown
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
    assert (tmp_path / "out" / "figure3.png").exists()


def test_hopper_reports_length_and_forward_distance(capsys):
    command = "evaluate --baseline random --task hopper-random --corrector none --episodes 2 --no-wandb --output out"
    assert cli.main(command.split()) == 0
    shown = capsys.readouterr().out
    assert "forward distance" in shown
    assert "episode length" in shown
    assert "normalised score" in shown


# ---- what is found -------------------------------------------------------------------------------------------------


def test_the_newest_checkpoint_names_the_task_and_the_newest_corrector_follows(stranger):
    checkpoint("iql", "1", "hopper-random")
    newest = checkpoint("iql", "2")
    kept("1")
    made, about, notes = arms(baseline="iql")
    assert stranger == [str(newest)]
    assert list(made) == ["iql", "cdsa(iql)"]
    assert isinstance(made["cdsa(iql)"], CorrectedPolicy)
    assert f"baseline      iql from {newest} (the newest)" in notes
    assert about["checkpoint"] == str(newest)


def test_a_named_task_wants_a_checkpoint_of_that_task(stranger):
    older = checkpoint("iql", "1")
    checkpoint("iql", "2", "hopper-random")
    kept("1")
    arms(baseline="iql", task=TASK)
    assert stranger == [str(older)]


def test_a_named_checkpoint_in_a_run_says_its_task(stranger):
    older = checkpoint("iql", "1")
    checkpoint("iql", "2", "hopper-random")
    kept("1")
    _, _, notes = arms(baseline="iql", checkpoint=str(older))
    assert f"task          {TASK}" in notes
    assert f"iql from {older}\n" in notes


def test_the_corrector_of_the_wanted_preset_is_taken():
    robust = kept("1")
    kept("2", preset="paper")
    _, about, _ = arms(baseline="shortest_path", preset="robust")
    assert about["corrector"] == str(robust)


def test_recommended_coefficients_are_taken_and_single_ones_replaced():
    kept("1")
    _, about, notes = arms(baseline="shortest_path")
    assert about["coefficients"]["num_steps"] == 5  # reference/coefficients.csv
    assert "recommended for shortest_path on risky-pointmass with preset robust" in notes
    _, about, notes = arms(baseline="shortest_path", k1=0.5, num_steps=2, schedule=[0.7, 0.7])
    assert about["coefficients"]["k1"] == 0.5
    assert about["coefficients"]["k2"] == 1
    assert about["coefficients"]["schedule"] == [0.7, 0.7]
    assert "k1, num_steps, schedule as given" in notes


def test_without_a_recommendation_the_correctors_own_coefficients_serve():
    kept("1", preset="paper")
    _, about, notes = arms(baseline="shortest_path")
    assert about["coefficients"] == OWN.to_dict()
    assert "the corrector's own: none are recommended for shortest_path with preset paper" in notes


def test_coefficients_that_change_nothing_are_called_so():
    kept("1", preset="paper", own=Coefficients.none())
    assert "the correction changes nothing: name others with --k1 and --k2" in arms(baseline="shortest_path")[2]


def test_noise_is_part_of_the_baseline_that_is_corrected():
    kept("1")
    made, _, _ = arms(baseline="shortest_path", action_noise=0.3)
    assert list(made) == ["shortest_path+noise(0.3)", "cdsa(shortest_path+noise(0.3))"]
    assert isinstance(made["cdsa(shortest_path+noise(0.3))"].policy, NoisyPolicy)


def test_ablation_leaves_out_what_is_zero_already():
    kept("1")
    made, _, _ = arms(baseline="shortest_path", ablation=True, k2=0.0)
    assert list(made) == ["shortest_path", "cdsa(shortest_path)", "cdsa(shortest_path) without a1"]


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.fixture
def refused(capsys):
    def run(command):
        assert cli.main(["evaluate", *command.split(), "--no-wandb"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
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


def test_a_missing_corrector_names_the_command_that_makes_it(refused):
    said = refused(f"--baseline shortest_path --task {TASK} --preset paper")
    assert "no corrector of task 'risky-pointmass' with preset 'paper' under runs/" in said
    assert "cdsa fit --config" in said


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
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", "--baseline", "random", "--episoeds", "3"])
    assert ended.value.code == 2
    assert "--episoeds" in capsys.readouterr().err


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
    for option in fields(Options):
        assert f"        {option.name}: " in Options.__doc__

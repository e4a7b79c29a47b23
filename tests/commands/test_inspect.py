"""`cdsa inspect`: what a checkpoint is, who reads it, which task it fits, and what to do next."""

import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch

from cdsa_baselines.mlp import save_mlp
from cdsa_lightning import cli, registry, tasks
from cdsa_lightning.core.artifact import load_corrector, save_corrector
from cdsa_lightning.inspection import Inspection
from evaluation_files import TASK, write_corrector


def layers(*sizes):
    return [(np.ones((out, into)), np.ones(out)) for into, out in zip(sizes, sizes[1:], strict=False)]


@pytest.fixture
def policy(tmp_path):
    """A perceptron for Hopper, named after one of its tasks."""
    return save_mlp(
        tmp_path / "my_hopper_medium_expert.npz", layers(11, 8, 3), obs_mean=np.ones(11), obs_std=np.ones(11)
    )


@pytest.fixture
def told(capsys):
    """A function that inspects: the lines by the name in front of them, the last of each."""

    def run(*argv):
        assert cli.main(["inspect", *map(str, argv)]) == 0
        return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip())

    return run


@pytest.fixture
def refused(capsys):
    def run(*argv):
        assert cli.main(["inspect", *map(str, argv)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("cdsa: error: ") and "Traceback" not in said
        return said

    return run


def test_a_policy_is_told_with_its_reader_shapes_and_statistics(told, policy):
    lines = told(policy)
    assert lines["file"] == f"{policy} (0.0 MB)"
    assert lines["format"] == "perceptron in .npz with a JSON sidecar"
    assert lines["read"] == "by       --baseline mlp"
    assert lines["dimensions"] == "11 observation and 3 action entries"
    assert lines["statistics"] == "mean and std of 11 entries, inside the file"
    assert lines["network"] == "11 - 8 - 3, relu, tanh output in environment units"


def test_tasks_fit_by_their_dimensions_and_the_likeliest_is_proposed(told, policy):
    lines = told(policy)
    fits = "hopper-random, hopper-medium, hopper-medium-expert, hopper-medium-replay, hopper-expert"
    assert lines["fits"] == f"by its dimensions {fits}"
    assert lines["next"] == f"cdsa evaluate --baseline mlp --checkpoint {policy} --task hopper-medium-expert"


def test_the_next_command_can_be_copied(told, tmp_path, monkeypatch):
    path = save_mlp(tmp_path / "two words.npz", layers(4, 2))
    words = shlex.split(told(path)["next"])
    assert words[words.index("--checkpoint") + 1] == str(path)
    assert (
        cli.main([*words[1:], "--corrector", "none", "--episodes", "1", "--no-wandb", "--output", str(tmp_path)]) == 0
    )


def test_a_named_task_is_tried(told, policy):
    lines = told(policy, "--task", "hopper-random")
    assert lines["fits"] == "hopper-random: yes"
    assert lines["next"].endswith("--task hopper-random")


def test_a_task_that_does_not_fit_is_refused_after_the_facts(capsys, policy):
    assert cli.main(["inspect", str(policy), "--task", TASK]) == 2
    out, said = capsys.readouterr()
    assert "11 observation and 3 action entries" in out and f"{TASK}: no" in out and "next" not in out
    assert f"made for S=11 observation and A=3 action entries, task '{TASK}' has 4 and 2" in said


def test_a_policy_for_no_task_of_the_table_may_have_any_environment(told, tmp_path):
    lines = told(save_mlp(tmp_path / "a.npz", layers(3, 1)))
    assert lines["fits"] == "by its dimensions no task of the table; others are named gym:<EnvId>"
    assert lines["next"].endswith("--task TASK")
    assert told(tmp_path / "a.npz", "--task", "gym:Pendulum-v1")["fits"] == "gym:Pendulum-v1: yes"


def answering(monkeypatch, **claims):
    """Baselines that claim every file."""
    findings = registry.Findings(claims=claims, readers=dict.fromkeys(claims, "All."))
    monkeypatch.setattr(registry, "inspect_checkpoint", lambda path: findings)
    return findings


def test_dimensions_that_a_file_does_not_tell_are_not_guessed(told, monkeypatch, tmp_path):
    answering(monkeypatch, net=Inspection("graph", "unknown", None, None, "inside"))
    lines = told(tmp_path)
    assert lines["dimensions"] == "an unknown number of observation and an unknown number of action entries"
    assert lines["fits"] == "not told by the file: name a task with --task, and it is tried"
    answering(monkeypatch, net=Inspection("graph", "unknown", None, 2, "inside"))
    fits = told(tmp_path)["fits"]  # the worlds in the plane, and no robot
    assert fits.startswith(f"by its dimensions {TASK}") and "hopper" not in fits


def test_of_two_readers_both_are_told_and_one_that_fits_is_enough(capsys, monkeypatch, policy):
    two = {"mlp": Inspection("A", "a", 11, 3, "none"), "sb3": Inspection("B", "b", 11, 3, "none", notes=("Careful.",))}
    answering(monkeypatch, **two)
    assert cli.main(["inspect", str(policy), "--task", "hopper-random"]) == 0
    out = capsys.readouterr().out
    assert out.count("--baseline mlp") == 2 and "2 readers know it" in out
    assert out.index("hopper-random: yes") < out.index("\nor:\n") < out.index("Careful.") < out.index("random: no")


def test_who_knows_the_kind_but_cannot_read_it_is_told_beside_who_can(told, monkeypatch, policy):
    findings = answering(monkeypatch, mlp=Inspection("A", "a", 11, 3, "none"))
    findings.refusals["other"] = ValueError("half of it is missing")
    assert told(policy)["note"] == "other knows the kind, but: half of it is missing"


def test_a_corrector_is_told_and_fits_its_task_alone(told, refused, tmp_path):
    path = write_corrector(tmp_path / "mine.safetensors")
    lines = told(path)
    assert lines["format"] == "corrector of 'cdsa fit'"
    assert lines["algorithm"] == "CDSA, preset robust"
    assert lines["seeds"] == "2"
    assert lines["fits"] == f"{TASK}, which it was trained on"
    assert lines["next"] == f"cdsa evaluate --baseline NAME --corrector {path} --task {TASK}"
    assert told(path, "--task", TASK)["fits"] == f"{TASK}: yes"
    assert f"belongs to task '{TASK}', not to 'hopper-random'" in refused(path, "--task", "hopper-random")
    wide = write_corrector(tmp_path / "wide.safetensors", dims=(5, 2))
    assert f"takes 5 observation and 2 action entries, task '{TASK}' has 4 and 2" in refused(wide, "--task", TASK)


def test_the_mean_of_seeds_is_told_as_such_and_a_shared_corrector_fits_all_that_it_serves(told, tmp_path):
    path = write_corrector(tmp_path / "shared.safetensors", "risky-transportation", dims=(7, 2), seeds=[3, 4])
    mean = save_corrector(load_corrector(path).ensemble(), tmp_path / "mean.safetensors")
    assert "ensemble" not in told(path)
    lines = told(mean, "--task", "risky-transportation-goods")
    assert (lines["seeds"], lines["ensemble"]) == ("2 (3, 4)", "the mean of its seeds, as one corrector")
    assert lines["fits"] == "risky-transportation-goods: yes"


def test_a_damaged_corrector_is_refused(refused, tmp_path):
    path = write_corrector(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut.safetensors is damaged" in refused(path)


def write_run(folder, name="cdsa"):
    folder.mkdir(parents=True)
    data = {"task": TASK, "obs_mean": [0.0] * 4, "action_mean": [0.0] * 2, "source": "npz:a", "transitions": 9}
    settings = {"seeds": [0, 1], "preset": "robust"}
    checkpoint = {"run_name": name, "data": data, "hyper_parameters": settings, "state_dict": {}, "global_step": 10}
    torch.save(checkpoint, folder / "last.ckpt")
    return folder / "last.ckpt"


def test_the_checkpoint_of_a_corrector_points_to_the_corrector_beside_it(told, tmp_path):
    path = write_run(tmp_path / "run")
    lines = told(path)
    assert "there is no corrector.safetensors beside it yet" in lines["note"]
    assert lines["next"] == f"cdsa fit --config {path.parent / 'config.yaml'} --ckpt_path {path}"
    beside = write_corrector(path.parent / "corrector.safetensors")
    lines = told(path)
    assert lines["seeds"] == "2 (0, 1)" and lines["trained"] == "10 steps"
    assert lines["next"] == f"cdsa evaluate --baseline NAME --corrector {beside} --task {TASK}"


def test_the_folder_of_a_run_stands_for_what_is_in_it(told, tmp_path):
    path = write_run(tmp_path / "run")
    assert told(path.parent)["file"].startswith(str(path))
    beside = write_corrector(path.parent / "corrector.safetensors")
    assert told(path.parent)["file"].startswith(str(beside))


def test_what_nobody_reads_is_described_with_what_can_be_read(refused, tmp_path):
    (tmp_path / "notes.txt").write_text("hello there\n")
    said = refused(tmp_path / "notes.txt")
    assert "No installed baseline reads" in said and "text that begins with 'hello there'" in said
    assert all(text in said for text in ("  mlp ", "  sb3 ", "A corrector.safetensors of `cdsa fit`"))
    assert "a checkpoint of 'cdsa fit' for the baseline 'stranger'" in refused(write_run(tmp_path / "run", "stranger"))


def test_a_baseline_that_could_not_be_asked_is_named(refused, monkeypatch, tmp_path):
    answering(monkeypatch).unable.append(ValueError("It needs the package 'absent'."))
    assert "Not asked: It needs the package 'absent'." in refused(tmp_path)


def test_the_reason_of_who_knows_the_kind_is_the_error(refused, policy):
    policy.with_suffix(".json").unlink()
    said = refused(policy)
    assert "needs 'my_hopper_medium_expert.json' beside it" in said and "No installed" not in said


def test_mistakes_of_the_command_line_are_one_sentence(refused, policy):
    assert refused() == "cdsa: error: PATH is missing. Write cdsa inspect PATH [--task TASK].\n"
    assert "Unknown key 'tsk'. Did you mean 'task'?" in refused(policy, "--tsk", TASK)
    assert "'more' is not an option" in refused(policy, "more")
    assert "Did you mean 'hopper-medium'?" in refused(policy, "--task", "hoper-medium")
    assert "no checkpoint 'my_hopper.npz'" in refused(policy.with_name("my_hopper.npz"))


def test_measuring_tasks_leaves_nothing_in_the_folder_and_says_nothing(policy, tmp_path, monkeypatch, capfd):
    tasks._spaces.cache_clear()  # which tasks have been measured is remembered
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli.main(["inspect", str(policy)]) == 0
    out, said = capfd.readouterr()
    assert said == "" and "WARNING" not in out
    assert not list((tmp_path / "here").iterdir())


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom cdsa_lightning.cli import main\n"
        "try: main(['inspect', '--help'])\nexcept SystemExit: pass\n"
        "print([name for name in 'torch lightning numpy gymnasium'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--task" in done.stdout and done.stdout.splitlines()[-1] == "[]"


def test_no_command_is_proposed_for_what_is_no_policy(told, tmp_path):
    path, widths = tmp_path / "hopper-medium-v2-behavior_goal_network.pt", (11, 16, 11)
    state = {"log_std": torch.zeros(11)}
    for number, (into, out) in enumerate(zip(widths, widths[1:], strict=False)):
        state |= {f"net.{2 * number}.weight": torch.ones(out, into), f"net.{2 * number}.bias": torch.ones(out)}
    torch.save(state, path)
    lines = told(path)
    assert lines["algorithm"] == "POR behaviour goal network" and lines["note"].startswith("Not a policy")
    assert "next" not in lines

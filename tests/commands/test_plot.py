"""`cdsa plot`: what it finds, what it draws where, and what it refuses."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cdsa_lightning import cli
from cdsa_lightning.commands.found import corrector_in, evaluation_in
from cdsa_lightning.commands.plot import PlotOptions, plot
from cdsa_lightning.evaluation import Report
from cdsa_lightning.records import load_about, save
from cdsa_lightning.tasks import get_task
from drawn import episodes, trace
from evaluation_files import TASK, kept, leave, write_corrector

GOODS = "risky-transportation-goods"
TRANSPORTATION = ("risky-transportation", GOODS, "risky-transportation-airport")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


def evaluated(run, baseline="shortest_path", task=TASK, parts=("",), corrector=None, **about):
    """An evaluation as `cdsa evaluate` keeps it, without running anything."""
    dims = get_task(task).obs_dim
    names = [baseline, *(f"cdsa({baseline}){part}" for part in parts)]
    arms = {
        name: episodes(np.zeros((2, 3)) + index, [trace([0.8, 0.8], bend=0.02 * index, width=dims, step=0.25)])
        for index, name in enumerate(names)
    }
    folder = Path(f"runs/{task}/evaluate/{run}")
    made = {"options": {"baseline": baseline, "corrector_seed": None}, "corrector": corrector and str(corrector)}
    save(Report(get_task(task), arms), folder, {**made, "coefficients": {"k1": 0.5}, **about})
    return folder


def own_data(monkeypatch, task=TASK):
    """A corrector of `task` and the data it was fitted on, in a file."""
    dims = get_task(task).obs_dim
    rng = np.random.default_rng(0)
    obs, flat = rng.uniform(0, 1, (200, dims)), np.zeros(200)
    flags = {"terminals": flat > 0, "timeouts": flat > 0}
    npz = {"observations": obs, "next_observations": obs, "actions": rng.uniform(-0.1, 0.1, (200, 2))}
    np.savez("own.npz", rewards=flat, **npz, **flags)
    return kept("1", task, dims=(dims, 2), source="npz:own.npz")


def written(folder, name):
    return sorted(path.name for path in Path(folder).iterdir() if path.name.startswith(name))


@pytest.mark.parametrize("kind", ["var", "trajectories"])
def test_the_newest_evaluation_is_drawn_beside_it(kind, capsys):
    evaluated("1")
    newest = evaluated("2", task="risky-transportation")
    assert cli.main(["plot", kind]) == 0
    name = {"var": "var_curve"}.get(kind, kind)
    assert written(newest, name) == [f"{name}.png", f"{name}.svg"]
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"evaluation    {newest} (the newest)"
    assert shown[-2:] == [str(newest / f"{name}.png"), str(newest / f"{name}.svg")]


def test_a_task_a_report_and_an_output_can_be_named():
    folder = evaluated("1")
    evaluated("2", task="risky-transportation")
    assert plot(PlotOptions("var", task=TASK))[0].parent == folder
    assert plot(PlotOptions("var", report=[str(folder)], output="a.svg")) == [Path("a.png"), Path("a.svg")]
    assert plot(PlotOptions("var", report=[str(folder)], output="new/b"))[0] == Path("new/b.png")
    assert plot(PlotOptions("var", report=[str(folder)], output="new"))[0] == Path("new/var_curve.png")


def test_ablation_draws_what_was_left_out_and_else_names_the_command(capsys):
    folder = evaluated("1", parts=("", " without a1", " without a2"))
    assert cli.main(["plot", "ablation"]) == 0
    assert written(folder, "ablation") == ["ablation.png", "ablation.svg"]
    evaluated("2", baseline="cql")
    assert cli.main(["plot", "ablation"]) == 2
    assert f"cdsa evaluate --baseline cql --task {TASK} --ablation" in capsys.readouterr().err


def test_ood_asks_the_corrector_that_the_evaluation_recorded(capsys):
    folder = evaluated("1", corrector=kept("1"))
    assert cli.main(["plot", "ood"]) == 0
    assert written(folder, "ood") == ["ood.png", "ood.svg"]
    assert f"corrector     {load_about(folder)['corrector']} (recorded there)" in capsys.readouterr().out


def test_the_field_is_that_of_the_data_it_was_fitted_on(monkeypatch, capsys):
    path = own_data(monkeypatch)
    assert cli.main(["plot", "field", "--corrector", str(path), "--dims", "y", "2"]) == 0
    assert written(path.parent, "field") == ["field.png", "field.svg"]
    assert "data          npz:own.npz" in capsys.readouterr().out
    assert cli.main(["plot", "field"]) == 0  # without an evaluation the newest corrector
    folder = evaluated("1", corrector=path)
    assert cli.main(["plot", "field", "--output", str(folder)]) == 0
    assert written(folder, "field") == ["field.png", "field.svg"]
    assert "(recorded there)" in capsys.readouterr().out


def test_figure3_is_made_of_the_newest_of_both_baselines(capsys):
    evaluated("1", "cql")
    evaluated("2")
    newest = evaluated("3", "cql", corrector="c")
    other = evaluated("4", corrector="c")
    assert cli.main(["plot", "figure3"]) == 0
    assert written("runs", "figure3") == ["figure3.png", "figure3.svg"]
    shown = capsys.readouterr().out
    assert f"{newest} (the newest of cql)" in shown and f"{other} (the newest of shortest_path)" in shown
    assert cli.main(["plot", "figure3", "--report", str(newest), str(other), "--output", "mine"]) == 0
    assert Path("mine.png").exists()


def test_figure3_names_the_command_that_makes_what_is_missing(capsys):
    evaluated("1", corrector="c")
    assert cli.main(["plot", "figure3"]) == 2
    said = capsys.readouterr().err
    assert f"no corrected evaluation of 'cql' on task '{TASK}'" in said
    assert f"cdsa evaluate --baseline cql --task {TASK}" in said


def test_figure5_is_made_of_the_three_tasks(monkeypatch, capsys):
    path = own_data(monkeypatch, TRANSPORTATION[0])
    evaluated("1", "sac", TRANSPORTATION[0], corrector=path)
    evaluated("1", "sac", TRANSPORTATION[1], corrector=path)
    assert cli.main(["plot", "figure5"]) == 2
    assert f"cdsa evaluate --baseline NAME --task {TRANSPORTATION[2]}" in capsys.readouterr().err
    evaluated("1", "sac", TRANSPORTATION[2], corrector=path)
    assert cli.main(["plot", "figure5"]) == 0
    assert written("runs", "figure5") == ["figure5.png", "figure5.svg"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("", "KIND is missing: field, trajectories, var"),
        ("trajectory", "Did you mean 'trajectories'?"),
        ("var --task risky-pointmas", "Did you mean 'risky-pointmass'?"),
        ("var --task hopper-medium", "no evaluation on task 'hopper-medium' under runs/"),
        ("var --runs elsewhere", "under elsewhere/. Make one: cdsa evaluate --baseline NAME"),
        ("var --report nowhere", "There is no nowhere/report.json"),
        ("var --report runs/risky-pointmass/evaluate/1 --task hopper-medium", "evaluates task 'risky-pointmass', not"),
        ("var --report a b", "draws 1 evaluation, got 2"),
        ("figure3 --report a", "draws 2 evaluations, got 1"),
        ("figure5 --task risky-pointmass", "leave --task out"),
        ("var --dims x y", "--dims belongs to field"),
        ("var --corrector c", "--corrector belongs to field, ood, figure5"),
        ("var --output a.pdf", "PNG and SVG, not as .pdf"),
        ("var --reprot a", "Did you mean 'report'"),
        ("ood", "corrected nothing: name a corrector.safetensors with --corrector"),
        ("ood --corrector nowhere.safetensors", "no corrector file nowhere.safetensors"),
        ("field --corrector nowhere.safetensors", "no corrector file nowhere.safetensors"),
        ("field", "neither an evaluation nor a corrector under runs/"),
    ],
)
def test_what_cannot_be_drawn_is_told(command, says, capsys):
    evaluated("1")
    assert cli.main(["plot", *command.split()]) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and said.startswith("cdsa: error: ")


def test_a_recorded_corrector_that_is_gone_is_told(capsys):
    evaluated("1", corrector="gone.safetensors")
    assert cli.main(["plot", "ood"]) == 2
    assert "gone.safetensors, is not here: name it with --corrector" in capsys.readouterr().err


def test_a_field_without_its_data_says_where_they_come_from(capsys):
    path = kept("1", source="npz:gone.npz")
    assert cli.main(["plot", "field", "--corrector", str(path)]) == 2
    said = capsys.readouterr().err
    assert "fitted on, npz:gone.npz, are not on this machine: 'cdsa datasets' tells" in said


def test_entries_that_do_not_exist_are_told_by_name(monkeypatch, capsys):
    path = own_data(monkeypatch)
    for dims, says in (("goalx y", "Did you mean 'goal_x'?"), ("x 4", "0 to 3"), ("x 0", "two different entries")):
        assert cli.main(["plot", "field", "--corrector", str(path), "--dims", *dims.split()]) == 2
        assert says in capsys.readouterr().err


def test_a_corrector_of_other_dimensions_is_told(capsys, tmp_path):
    path = write_corrector(tmp_path / "other.safetensors", dims=(11, 3))
    assert cli.main(["plot", "field", "--corrector", str(path)]) == 2
    assert "takes 11 observation entries, task 'risky-pointmass' has 4" in capsys.readouterr().err
    evaluated("1")
    assert cli.main(["plot", "ood", "--corrector", str(path)]) == 2
    assert "belong to different tasks" in capsys.readouterr().err


def test_a_leftover_does_not_hide_a_whole_evaluation():
    folder = evaluated("1")
    leftover = Path(f"runs/{TASK}/evaluate/2/report.json")
    leftover.parent.mkdir(parents=True)
    for text in ("", "[]", json.dumps({"about": {"options": None}})):
        leftover.write_text(text)
        assert plot(PlotOptions("var"))[0].parent == folder


def test_what_corrected_is_what_is_asked():
    path = kept("1")
    one = evaluated("1", corrector=path, options={"baseline": "x", "corrector_seed": 1})
    mean, both = evaluated("2", corrector=path, ensemble=True), evaluated("3", corrector=path)
    asked = [corrector_in(evaluation_in(folder)) for folder in (one, mean, both)]
    assert [corrector.num_seeds for corrector in asked] == [1, 1, 2]
    assert [corrector.networks.ensemble for corrector in asked] == [False, True, False]
    for folder in (one, mean, both):
        assert plot(PlotOptions("ood", report=[str(folder)]))[0].exists()


def test_the_field_of_a_task_that_another_corrects_is_that_correctors(monkeypatch, capsys):
    path = own_data(monkeypatch, TRANSPORTATION[0])
    assert cli.main(["plot", "field", "--task", GOODS]) == 0
    assert f"corrector     {path} (the newest)" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    program = (
        "import sys\nfrom cdsa_lightning.cli import main\n"
        "try: main(['plot', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--report" in done.stdout and "figure5" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_option_can_be_given():
    assert {entry.name for entry in dataclasses.fields(PlotOptions)} == {
        "kind", "report", "task", "corrector", "dims", "output", "runs"
    }  # fmt: skip


def test_evaluate_draws_the_field_where_the_data_are_at_hand(monkeypatch):
    path = own_data(monkeypatch)
    command = f"evaluate --baseline random --corrector {path} --episodes 1 --output out --no-wandb --quiet --k1 0.1"
    assert cli.main(command.split()) == 0
    assert written("out", "field") == ["field.png", "field.svg"]
    Path("own.npz").unlink()
    assert cli.main(command.replace("--output out", "--output without").split()) == 0
    assert written("without", "field") == [] and written("without", "ood") == ["ood.png", "ood.svg"]

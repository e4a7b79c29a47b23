"""Every door of docs/extending.md, gone through as a stranger would: the text's own code, then a name."""

from __future__ import annotations

import csv
import re
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from cdsa_lightning import FunctionPolicy, cli, envs, evaluation, presets, recipes, sources, tasks
from cdsa_lightning.cli import main
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Evaluator
from cdsa_lightning.tasks import get_task
from known_networks import gaussian_corrector, random_corrector
from training_data import TASK, train, write_npz

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
POINTS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def run(name: str, module: str = "stranger") -> types.ModuleType:
    """The module that a block of the page is."""
    made = types.ModuleType(module)
    exec(compile(BLOCKS[name], f"docs/extending.md, {name}", "exec"), made.__dict__)  # noqa: S102
    return made


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a module of the page with the entry point that is written below it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(name: str, point: str) -> None:
        module = re.search(r'"(\w+):', point)[1]
        (tmp_path / f"{module}.py").write_text(BLOCKS[name])
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        group = re.search(r'entry-points\."([\w.]+)"', point)[1]
        line = re.search(r'^(\w+) = "(.*)"', point, re.MULTILINE)
        (info / "entry_points.txt").write_text(f"[{group}]\n{line[1]} = {line[2]}\n")

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("stranger_"):
            del sys.modules[module]


@pytest.fixture
def report():
    """Two arms of four short episodes."""
    task = get_task(TASK)
    arms = {
        name: FunctionPolicy(lambda obs, k=k: k * obs[:, :2], task.low, task.high) for name, k in (("a", 1), ("b", -1))
    }
    return Evaluator(task, 4).run(arms)


def test_every_block_of_the_page_is_run():
    mine = Path(__file__).read_text(encoding="utf-8")
    assert set(BLOCKS) == set(re.findall(r'(?:run|install)\("(\w+)"', mine)) | {"task"}
    assert len(re.findall(r"^```(?!toml)\w", PAGE, re.MULTILINE)) == len(BLOCKS)


def test_a_trained_baseline_trains_and_is_restored(tmp_path):
    clone = run("clone").Clone
    npz = write_npz(tmp_path / "clone.npz")
    train(clone(), npz, 20, tmp_path / "clone")
    policy = clone.load(tmp_path / "clone" / "last.ckpt", get_task(TASK))
    assert policy(torch.rand(2, 5, 4)).shape == (2, 5, 2)


def test_a_reader_of_foreign_checkpoints_is_found_by_its_name_and_by_the_file(install, tmp_path, capsys):
    install("reader", POINTS[0])
    path = tmp_path / "policy.json"
    path.write_text('{"kind": "linear", "weight": [[1, 0, 0, 0], [0, 1, 0, 0]], "bias": [0.01, 0.0]}')
    assert main(["inspect", str(path), "--task", TASK]) == 0
    said = capsys.readouterr().out
    assert "json" in said and "linear" in said
    from cdsa_lightning.registry import load_policy

    policy = load_policy("json", path, get_task(TASK))
    torch.testing.assert_close(policy(torch.tensor([[0.05, -0.02, 0.5, 0.5]])), torch.tensor([[0.06, -0.02]]))


def test_an_environment_of_an_installed_package_is_a_task(install):
    install("environment", POINTS[1])
    envs.register_installed.cache_clear()
    try:
        task = get_task("gym:Line-v0")
        assert (task.obs_dim, task.action_dim) == (2, 1)
        push = FunctionPolicy(lambda obs: torch.ones(len(obs), 1), task.low, task.high)
        brake = FunctionPolicy(lambda obs: -obs.sum(1, keepdim=True), task.low, task.high)
        found = Evaluator(task, 20).run({"push": push, "brake": brake}).statistics
    finally:
        del gym.registry["Line-v0"]
    assert found["push"]["episode_length"] == 50
    assert found["push"]["violation_rate"] == 1.0 > found["brake"]["violation_rate"]


def test_an_environment_that_cannot_be_registered_is_told(install):
    install("environment", POINTS[1].replace(":register", ":nothing"))
    envs.register_installed.cache_clear()
    with pytest.raises(
        InputError, match=r"environments 'line' \(stranger_line:nothing\) cannot be registered: Attribute"
    ):
        get_task("gym:Line-v0")


def test_a_row_of_the_table_is_a_task(tmp_path, monkeypatch):
    from cdsa_lightning import reference

    given = list(csv.DictReader(BLOCKS["task"].splitlines()))
    assert list(given[0]) == list(reference._TASKS)
    rows = reference.read_table(BLOCKS["task"], reference._TASKS, "the page", key=("name",))
    monkeypatch.setattr(tasks, "read_tasks", lambda: rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "_tasks", tasks._tasks.__wrapped__)
    task = get_task("pendulum")
    obs, action = np.random.default_rng(0).normal(size=(40, 3)), np.zeros((40, 1))
    ends = {"terminals": np.zeros(40, bool), "episode": np.arange(40) // 10}
    assert task.local_source() is None
    np.savez("pendulum.npz", obs=obs, next_obs=obs + 1, actions=action, rewards=np.ones(40), **ends)
    assert task.transitions().source == "npz:pendulum.npz"
    assert task.normalized_score([-1600.0, 0.0]).tolist() == [0.0, 100.0]


def test_a_recipe_is_followed_where_no_baseline_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(recipes, "RECIPES", dict(recipes.RECIPES))
    run("recipe")
    assert main(["collect", "--task", TASK, "--dataset", "me/edge-v0"]) == 0, capsys.readouterr()
    data = get_task(TASK).transitions("minari:me/edge-v0")
    assert (len(data), data.num_episodes) == (400, 40)
    assert bool((data.obs[:, 0] < 0.3).all())


def test_a_data_source_is_read_by_its_scheme(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SCHEMES", dict(sources.SCHEMES))
    run("source")
    lines = ["o1,o2,o3,o4,a1,a2,reward,terminal,episode"]
    lines += [f"{i},0,0,1,.01,-.02,{i},0,{i // 3}" for i in range(6)]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    data = get_task(TASK).transitions(f"csv:{tmp_path / 'rows.csv'}")
    assert data.obs[:, 0].tolist() == [0, 1, 3, 4]  # of each episode the last row has no next observation
    assert data.next_obs[:, 0].tolist() == [1, 2, 4, 5]
    assert data.action[0].tolist() == pytest.approx([0.01, -0.02])


def test_a_preset_trains_under_its_name(tmp_path, monkeypatch):
    from cdsa_lightning.core.artifact import load_corrector
    from cdsa_lightning.training import CDSAModule

    monkeypatch.setattr(presets, "PRESETS", dict(presets.PRESETS))
    run("preset")
    train(CDSAModule("far", seeds=(0,)), write_npz(tmp_path / "rows.npz"), 20, tmp_path)
    corrector = load_corrector(tmp_path / "corrector.safetensors")
    assert corrector.info["preset"] == "far"
    assert corrector.networks.settings.action_sigmas == (0.8, 0.4, 0.2, 0.1)
    assert corrector.networks.settings.standardize and corrector.coefficients.units == "sigma2"


def test_a_metric_is_in_every_report(report, monkeypatch):
    monkeypatch.setattr(evaluation, "STATISTICS", dict(evaluation.STATISTICS))
    page = run("metric")
    assert float(page.semideviation(torch.tensor([0.0, 2.0]))) == pytest.approx(0.5**0.5)
    fresh = evaluation.Report(report.task, report.arms)
    wanted = float(page.semideviation(torch.as_tensor(report.arms["a"].returns).reshape(-1)))
    assert fresh.statistics["a"]["semideviation"] == pytest.approx(wanted)
    assert "eval/b/semideviation" in fresh.scalars()


def test_a_picture_is_drawn_and_kept(report, tmp_path):
    from cdsa_lightning.records import load, save, save_figures

    save(report, tmp_path)
    paths = save_figures({"histogram": run("picture").histogram(load(tmp_path))}, tmp_path)
    assert {path.name for path in paths} == {"histogram.png", "histogram.svg"}
    assert all(path.stat().st_size > 1000 for path in paths)


def test_an_export_format_is_written_and_compared(tmp_path, monkeypatch):
    from cdsa_lightning import export
    from cdsa_lightning.export import files

    monkeypatch.setattr(files, "FORMATS", dict(files.FORMATS))
    monkeypatch.setitem(sys.modules, "cdsa_lightning.export.wrapped", run("format"))
    exported = export.export(
        export.subject(gaussian_corrector(0.0, 1.0, (0.4, 0.2))), "json", tmp_path / "corrector.json"
    )
    assert exported.parity.max_error < 1e-5
    assert export.read_metadata(exported.path)["runtime"] == "NumPy"


def test_a_command_is_listed_and_runs(tmp_path, monkeypatch, capsys):
    from cdsa_lightning.core.artifact import save_corrector

    monkeypatch.setitem(sys.modules, "cdsa_lightning.commands.seeds", run("command"))
    line = re.search(r'`("seeds": \(.*?\))`', PAGE)[1]
    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, **eval(f"{{{line}}}")})  # noqa: S307  our own page
    save_corrector(random_corrector(), tmp_path / "corrector.safetensors")
    assert main(["seeds", str(tmp_path / "corrector.safetensors")]) == 0
    assert capsys.readouterr().out == "1\n"
    assert main(["seeds"]) == 2
    assert main(["--help"]) == 0 and "  seeds " in capsys.readouterr().out


def test_an_executor_makes_a_grid(tmp_path, monkeypatch):
    from cdsa_lightning.grid.nodes import Node, finish
    from cdsa_lightning.grid.schedule import make

    monkeypatch.setattr(Node, "amount", 1)
    first, second, alone = (Node("fit", "t", name, {}, needs={}, problem="") for name in "abc")
    second.needs["fit"] = first.path

    def work(node):
        if node.name == "c":
            raise InputError("c does not work")
        finish(tmp_path, node, 1.0, {})

    final = make([first, second, alone], tmp_path, work, run("executor").Here(), lambda *_: None)
    assert [state.what for state in final.values()] == ["done", "done", "failed"]

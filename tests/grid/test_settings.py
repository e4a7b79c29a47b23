"""Grids as YAML: what they say, what is wrong with them, and those that come along."""

from collections import Counter

import pytest
import yaml

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.facts import DataFacts
from cdsa_lightning.grid.nodes import expand
from cdsa_lightning.grid.settings import read_grid
from grid_files import CONFIGS, grid_values, write_grid

GRIDS = [path for path in sorted(CONFIGS.glob("*.yaml")) if "tasks" in yaml.safe_load(path.read_text())]


def there(task):
    return DataFacts(f"npz:{task}", "regenerated", f"fingerprint of {task}")


def test_a_grid_says_what_its_yaml_says(tmp_path):
    grid = read_grid(write_grid(tmp_path, arms=["base", "cdsa"]))
    assert (grid.tasks, grid.arms, grid.seeds, grid.episodes) == (("risky-pointmass",), ("base", "cdsa"), (0, 1), 2)
    assert grid.baselines["bc"].max_steps == 200
    assert grid.baselines["shortest_path"].config is None
    assert grid.corrector.config == CONFIGS / "risky_pointmass.yaml"


def test_paths_are_relative_to_the_grid(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bc.yaml").write_text("trainer: {max_steps: 5}\n")
    path = write_grid(tmp_path, baselines={"bc": {"config": "mine/bc.yaml"}})
    monkeypatch.chdir("/")
    assert read_grid(path).baselines["bc"].config == tmp_path / "mine" / "bc.yaml"


def test_the_longest_beginning_of_a_task_wins(tmp_path):
    parts = {"hopper": {"max_steps": 2}, "hopper-medium": {"max_steps": 3, "options": {"model.tau": 1}}}
    bc = {"config": str(CONFIGS / "baselines" / "bc.yaml"), "max_steps": 1, "by_task": parts, "tasks": ["hopper"]}
    tasks = ["walker2d-random", "hopper-random", "hopper-medium-expert"]
    training = read_grid(write_grid(tmp_path, tasks=tasks, baselines={"bc": bc}, sources=None)).baselines["bc"]
    assert [training.at(task).max_steps for task in tasks] == [1, 2, 3]
    assert [training.serves(task) for task in tasks] == [False, True, True]
    assert training.at(tasks[2]).options == {"model.tau": 1}
    assert training.at(tasks[2]).config == CONFIGS / "baselines" / "bc.yaml"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tasks": None}, "tasks is missing or empty"),
        ({"baselines": {}}, "baselines is missing or empty"),
        ({"tasks": "risky-pointmass"}, r"tasks must be a list.*got 'risky-pointmass'"),
        ({"tasks": ["risky-pointmas"]}, "Unknown task 'risky-pointmas'. Did you mean 'risky-pointmass'"),
        ({"tasks": ["risky-pointmass"] * 2}, "tasks names 'risky-pointmass' more than once"),
        ({"baselines": {"iqn": {}}}, "Unknown baseline 'iqn'"),
        ({"baselines": ["bc"]}, r"baselines must be a mapping, got \['bc'\]"),
        ({"baselines": {"bc": {"confg": "x"}}}, "Unknown key of baselines.bc 'confg'. Did you mean 'config'"),
        ({"baselines": {"bc": {"config": "x.yaml"}}}, "baselines.bc.config is 'x.yaml', and there is no file"),
        (
            {"baselines": {"bc": {"config": "x.yaml", "checkpoint": "x"}}},
            "bc names a config, which trains, and a checkpoint",
        ),
        ({"corrector": {"checkpoint": "x"}}, "Unknown key of corrector 'checkpoint'"),
        ({"baselines": {"bc": {"max_steps": 0}}}, "baselines.bc.max_steps must be a whole number of at least 1, got 0"),
        ({"baselines": {"bc": {"tasks": ["hopper"]}}}, r"baselines.bc.tasks\[0\] names 'hopper', and none of the grid"),
        (
            {"baselines": {"bc": {"by_task": {"hop": {}}}}},
            "baselines.bc.by_task names 'hop', and none of the grid's tasks begins so: risky-pointmass.",
        ),
        ({"corrector": None}, "corrector is missing: the arms base, without_a1"),
        ({"preset": "robst"}, "Unknown preset 'robst'. Did you mean 'robust'"),
        ({"arms": ["base", "without_a3"]}, "Unknown arm 'without_a3'. Did you mean 'without_a"),
        ({"arms": []}, "arms must be a list with at least one entry"),
        ({"seeds": [0, -1]}, r"seeds\[1\] must be a whole number of at least 0, got -1"),
        ({"seeds": 5}, "seeds must be a list"),
        ({"episodes": True}, "episodes must be a whole number of at least 1, got True"),
        ({"sources": {"hopper-medium": "npz:x"}}, "Unknown key of sources 'hopper-medium'"),
        ({"taks": ["x"]}, "Unknown key of the grid 'taks'. Did you mean 'tasks'"),
    ],
)
def test_a_malformed_grid_is_told_by_key_value_and_remedy(tmp_path, changes, text):
    with pytest.raises(InputError, match=text) as told:
        read_grid(write_grid(tmp_path, **changes))
    assert str(told.value).startswith(str(tmp_path / "grid.yaml"))


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "not valid YAML"), ("- 1", "must be a mapping"), ("", "must be a mapping")]
)
def test_what_is_no_grid_is_refused(tmp_path, text, said):
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_grid(tmp_path / "grid.yaml")
    with pytest.raises(InputError, match="Cannot read the grid"):
        read_grid(tmp_path / "other.yaml")


def test_a_corrector_needs_a_configuration_for_each_task(tmp_path):
    values = grid_values(tmp_path, tasks=["hopper-medium", "risky-pointmass"])
    values["corrector"] = {"by_task": {"hopper": {"config": str(CONFIGS / "hopper.yaml")}}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match="corrector has no config for the task 'risky-pointmass'"):
        expand(read_grid(tmp_path / "grid.yaml"), there)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "no plain YAML"), ("a: 2020-01-01", "no plain YAML"), ("a: .nan", "no plain"), ("5", "map")],
)
def test_a_damaged_configuration_is_told(tmp_path, text, said):
    (tmp_path / "bc.yaml").write_text(text)
    grid = read_grid(write_grid(tmp_path, baselines={"bc": {"config": "bc.yaml"}}))
    with pytest.raises(InputError, match=f"bc.yaml .*{said}"):
        expand(grid, there)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("risky", {"train": 4, "fit": 2, "cell": 5}),
        ("table1", {"train": 15 * 7, "fit": 15, "cell": 15 * 7}),
        ("table1-mujoco-short", {"train": 6 * 4, "fit": 6, "cell": 6 * 4}),
    ],
)
def test_a_grid_that_comes_along_expands(name, counts):
    nodes = expand(read_grid(CONFIGS / f"{name}.yaml"), there)
    assert Counter(node.kind for node in nodes) == counts
    assert len({node.path for node in nodes}) == len(nodes)


def test_all_grids_that_come_along_are_tested():
    assert {path.stem for path in GRIDS} == {"risky", "table1", "table1-mujoco-short"}


def test_the_papers_grid_corrects_what_the_paper_corrects():
    nodes = expand(read_grid(CONFIGS / "table1.yaml"), there)
    arms = {(node.task, node.name): node.settings["arms"] for node in nodes if node.kind == "cell"}
    assert {name for (_, name), found in arms.items() if "cdsa" in found} == {"iql", "por"}
    assert arms["hopper-medium", "iql"] == ["base", "without_a1", "without_a2", "cdsa"]
    assert arms["walker2d-random", "por"] == ["base", "cdsa"]  # its k1 is 0

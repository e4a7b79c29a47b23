"""Expansion: what is shared, what a node's place depends on, and which data are there."""

import json
import os

import numpy as np
import pytest

from cdsa_baselines.bc import BC
from cdsa_lightning.grid.facts import DataFacts, Facts
from cdsa_lightning.grid.nodes import DONE, done_record, expand, finish
from cdsa_lightning.grid.schedule import estimate, states
from cdsa_lightning.grid.settings import read_grid
from grid_files import CONFIGS, write_grid
from training_data import TASK, train, write_npz


def nodes_of(tmp_path, fingerprint="f", **changes):
    grid = read_grid(write_grid(tmp_path, **changes))
    return expand(grid, lambda task: DataFacts("npz:x", "npz", fingerprint))


def paths(nodes):
    return {(node.kind, node.task, node.name): node.path for node in nodes}


def test_what_cells_need_comes_first_and_once(tmp_path):
    train, fit, bc, straight = nodes_of(tmp_path)
    assert (train.kind, fit.kind, bc.kind, straight.kind) == ("train", "fit", "cell", "cell")
    assert bc.needs == {"train": train.path, "fit": fit.path}
    assert straight.needs == {"fit": fit.path}
    assert fit.path.startswith("fit/risky-pointmass/cdsa-robust-")


def test_tasks_on_one_map_share_their_corrector(tmp_path):
    tasks = ["risky-transportation", "risky-transportation-goods"]
    nodes = nodes_of(tmp_path, tasks=tasks, sources=None)
    assert [node.task for node in nodes if node.kind == "fit"] == ["risky-transportation"]
    assert [node.task for node in nodes if node.kind == "train"] == tasks


def test_nobody_fits_a_corrector_for_the_base_alone(tmp_path):
    assert [node.kind for node in nodes_of(tmp_path, arms=["base"], corrector=None)] == ["train", "cell", "cell"]


def test_the_order_of_arms_does_not_matter_and_repeated_ones_are_left_out(tmp_path):
    first, second = nodes_of(tmp_path, arms=["base", "cdsa"]), nodes_of(tmp_path, arms=["cdsa", "base"])
    assert paths(first) == paths(second)
    hopper = {"tasks": ["hopper-medium"], "sources": None, "baselines": {"random": {}}}  # its k2 is 0
    assert nodes_of(tmp_path, **hopper)[-1].settings["arms"] == ["base", "cdsa"]
    assert nodes_of(tmp_path, **hopper, arms=["without_a2"])[-1].settings["arms"] == ["cdsa"]


def test_what_is_trained_already_is_taken_and_its_content_decides(tmp_path):
    trained = {"bc": {"checkpoint": "runs/{task}/*/last.ckpt"}, "shortest_path": {}}

    def cell():
        nodes = nodes_of(tmp_path, baselines=trained)
        assert [node.kind for node in nodes] == ["fit", "cell", "cell"]
        return nodes[1]

    missing = cell()
    assert f"there is no checkpoint {tmp_path / 'runs' / TASK / '*' / 'last.ckpt'}" in missing.problem
    for number in range(2):
        file = tmp_path / "runs" / TASK / str(number) / "last.ckpt"
        file.parent.mkdir(parents=True)
        file.write_text(str(number))
        os.utime(file, ns=(number, number))
        assert (cell().problem, cell().about["checkpoint"]) == ("", str(file))  # the newest
    before = cell().path
    file.write_text("changed")
    assert cell().path != before
    assert set(cell().needs) == {"fit"}


def test_what_no_corrector_of_the_grid_can_correct_is_told_by_the_plan(tmp_path):
    train(BC(seeds=(0, 1, 2)), write_npz(tmp_path / "some.npz"), 2, tmp_path / "trained")
    given = {"bc": {"checkpoint": "trained/last.ckpt"}}

    def problem(**settings):
        return nodes_of(tmp_path, baselines=given, **settings)[-1].problem

    assert "holds 3 training seeds and the grid names 2 for its corrector" in problem(seeds=[0, 1])
    assert [problem(seeds=[7]), problem(seeds=[0, 1, 2])] == ["", ""]
    assert problem(seeds=[0, 1], arms=["base"], corrector=None) == ""


def test_a_task_may_be_trained_where_others_are_not_and_the_other_way_round(tmp_path):
    (tmp_path / "bc.ckpt").touch()
    how = {"checkpoint": "bc.ckpt", "by_task": {TASK: {"config": str(CONFIGS / "baselines" / "bc.yaml")}}}
    assert [node.kind for node in nodes_of(tmp_path, baselines={"bc": how})] == ["train", "fit", "cell"]
    how = {"config": str(CONFIGS / "baselines" / "bc.yaml"), "by_task": {TASK: {"checkpoint": "bc.ckpt"}}}
    assert [node.kind for node in nodes_of(tmp_path, baselines={"bc": how})] == ["fit", "cell"]


def test_other_settings_are_another_node_and_the_same_are_the_same(tmp_path):
    first = paths(nodes_of(tmp_path))
    assert paths(nodes_of(tmp_path)) == first
    changed = {
        "data": ({"fingerprint": "g"}, 4),
        "seeds": ({"seeds": [0]}, 4),
        "episodes": ({"episodes": 3}, 2),  # trainings stay
        "arms": ({"arms": ["base", "cdsa"]}, 2),
    }
    for name, (settings, count) in changed.items():
        others = paths(nodes_of(tmp_path, **settings))
        assert sum(others[key] != first[key] for key in first) == count, name


def test_a_configuration_elsewhere_with_the_same_content_is_the_same(tmp_path):
    first = nodes_of(tmp_path)
    original = first[0].about["config"]
    copy = tmp_path / "copy.yaml"
    copy.write_text("# a remark\n" + open(original).read())
    bc = {"config": str(copy), "max_steps": 200, "options": {"data.batch_size": 16, "checkpoint_every": 20}}
    assert nodes_of(tmp_path, baselines={"bc": bc})[0].path == first[0].path


def test_a_node_is_done_when_its_last_file_says_so(tmp_path):
    nodes = nodes_of(tmp_path)
    assert {state.what for state in states(nodes, tmp_path).values()} == {"to do"}
    finish(tmp_path, nodes[0], 2.0, {"file": "x"})
    said = done_record(tmp_path, nodes[0].path)
    assert (said["settings"], said["seconds"]) == (nodes[0].settings, 2.0)
    assert "torch" in said["versions"]
    assert [str(states(nodes, tmp_path)[node.path]) for node in nodes] == ["done", "to do", "to do", "to do"]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"path": "train/other"})])
def test_a_damaged_last_file_is_none(tmp_path, text):
    node = nodes_of(tmp_path)[0]
    finish(tmp_path, node, 2.0, {})
    (tmp_path / node.path / DONE).write_text(text)
    assert str(states([node], tmp_path)[node.path]) == "to do"


def test_without_data_only_what_needs_them_is_blocked(tmp_path):
    sac = {"config": str(tmp_path / "online.yaml")}
    (tmp_path / "online.yaml").write_text("data: {class_path: cdsa_lightning.replay.ReplayData}\n")
    grid = read_grid(write_grid(tmp_path, baselines={"bc": sac, "sac": sac}, arms=["base"], sources=None))
    (tmp_path / "online.yaml").write_text("model: {class_path: x}\n")
    offline = expand(grid, lambda task: DataFacts(problem="collect them"))
    assert [str(state) for state in states(offline, tmp_path).values()] == ["blocked: collect them"] * 4
    (tmp_path / "online.yaml").write_text("data: {class_path: cdsa_lightning.replay.ReplayData}\n")
    online = expand(grid, lambda task: DataFacts(problem="collect them"))
    assert [str(state) for state in states(online, tmp_path).values()] == ["to do"] * 4


def test_time_is_estimated_from_what_is_like_it(tmp_path):
    nodes = nodes_of(tmp_path)
    assert set(estimate(nodes, tmp_path).values()) == {None}
    finish(tmp_path, nodes[0], 4.0, {})  # 200 steps
    (longer, *others) = nodes_of(tmp_path, fingerprint="other", seeds=[3, 4])
    guesses = estimate([longer, *others], tmp_path)
    assert guesses[longer.path] == pytest.approx(4.0)
    assert [guesses[node.path] for node in others] == [None] * 3


def test_facts_are_those_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "none"))
    npz = write_npz(tmp_path / "data.npz", rows=100)
    found = Facts({TASK: f"npz:{npz}"})(TASK)
    assert (found.source, found.provenance, len(found.fingerprint), found.problem) == (f"npz:{npz}", "npz", 64, "")
    assert "cdsa collect --task risky-pointmass" in Facts()(TASK).problem
    assert "is not on this machine" in Facts({TASK: "minari:some/where-v0"})(TASK).problem
    missing = Facts({TASK: "npz:none.npz"})(TASK).problem
    assert "none.npz" in missing
    assert "download" not in missing


def test_a_fingerprint_is_kept_until_the_data_change(tmp_path, monkeypatch):
    npz, kept = write_npz(tmp_path / "data.npz", rows=100), tmp_path / "out" / "fingerprints.json"
    first = Facts({TASK: f"npz:{npz}"}, kept)
    facts = first(TASK)
    first.keep()
    again = Facts({TASK: f"npz:{npz}"}, kept)
    with monkeypatch.context() as patched:
        patched.setattr(np, "load", lambda *a, **k: pytest.fail("the data were read again"))
        assert again(TASK) == facts
    write_npz(npz, rows=120)
    assert Facts({TASK: f"npz:{npz}"}, kept)(TASK).fingerprint != facts.fingerprint
    kept.write_text("{")
    assert Facts({TASK: f"npz:{npz}"}, kept)(TASK).fingerprint != facts.fingerprint

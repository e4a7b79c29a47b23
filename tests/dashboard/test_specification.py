"""Every panel shows keys that fits and evaluations log; a specification survives its file."""

from dataclasses import asdict

import pytest

from cdsa_lightning.cli import main
from cdsa_lightning.dashboard.local import read_local
from cdsa_lightning.dashboard.specification import read_specification, specify, write_specification
from cdsa_lightning.errors import InputError
from dashboard_files import leave_runs
from evaluation_files import leave
from offline_runs import logged
from training_data import TASK, write_npz


def panels(specification):
    return [panel for section in specification.sections for panel in section.panels]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A tiny fit and an ablation, logged to W&B offline."""
    leave(tmp_path, monkeypatch)
    source = ["--data.task", TASK, "--data.source", f"npz:{write_npz(tmp_path / 'data.npz', rows=400)}"]
    model = ["--model.preset", "robust", "--model.action_sigmas", "[0.7]", "--model.seeds", "[0,1]"]
    length = ["--trainer.max_steps", "40", "--trainer.log_every_n_steps", "20"]
    assert main(["fit", *source, *model, *length, "--wandb", "offline"]) == 0
    words = ["--baseline", "shortest_path", "--task", TASK, "--episodes", "2", "--ablation", "--quiet"]
    assert main(["evaluate", *words, "--k1", "0.5", "--k2", "0.1", "--a2", "residual", "--wandb", "offline"]) == 0
    return tmp_path / "runs"


def test_every_key_of_every_panel_was_logged(runs):
    keys, config = set(), {}
    for path in runs.glob("**/*.wandb"):
        of_run = logged(path)
        keys |= of_run[0]
        config |= of_run[1]
    specification = specify(read_local(runs), "cdsa", "Dashboard")
    titles = [section.name for section in specification.sections]
    assert len(titles) == 8, titles  # nothing was left out for want of keys
    for panel in panels(specification):
        assert panel.keys and set(panel.keys) <= keys, (panel, set(panel.keys) - keys)
        for name in panel.config:
            section, _, key = name.partition(".")
            assert key in config[section], name
    assert "trainer/global_step" in keys
    shown = {key for panel in panels(specification) for key in panel.keys}
    assert {f"train/state_score_loss/seed_{seed}" for seed in (0, 1)} <= shown
    assert "eval/cdsa(shortest_path) without a1/violation_rate" in shown and "eval/trajectories" in shown


def test_only_what_the_runs_have_is_shown(tmp_path):
    specification = specify(read_local(leave_runs(tmp_path)), "cdsa", "Dashboard")
    keys = {key for panel in panels(specification) for key in panel.keys}
    assert "eval/shortest_path/cost" in keys and "eval/iql/cost" not in keys
    assert "eval/iql/normalized_score" in keys and "eval/cdsa(iql) without a1/return" not in keys
    assert "train/critic_loss/seed_1" in keys and "eval/field" not in keys
    (bars,) = [panel for panel in panels(specification) if panel.title == "shortest_path: normalised score"]
    assert bars.keys == [f"eval/{arm}/normalized_score" for arm in ("shortest_path", "cdsa(shortest_path)")]


def test_a_specification_survives_its_file(tmp_path):
    specification = specify(read_local(leave_runs(tmp_path / "runs")), "mine", "Name")
    back = read_specification(write_specification(specification, tmp_path / "specification.json"))
    assert back == specification and asdict(back)["project"] == "mine"


@pytest.mark.parametrize("text", ["{", "[]", '{"project": "a", "name": "b", "sections": [{"name": "c"}]}'])
def test_another_file_is_no_specification(tmp_path, text):
    path = tmp_path / "specification.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no specification of 'cdsa dashboard'"):
        read_specification(path)


def test_a_missing_specification_is_named(tmp_path):
    with pytest.raises(InputError, match="Cannot read the specification"):
        read_specification(tmp_path / "nowhere.json")

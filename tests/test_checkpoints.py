"""What a run's checkpoint tells of itself, to those alone who know its name."""

import pytest
import torch

from cdsa_lightning.checkpoints import inspect_run
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection

DATA = {"task": "box", "obs_mean": [0.0, 1.0, 2.0], "action_mean": [0.0, 0.0], "source": "npz:a", "transitions": 2000}
SETTINGS = {"_class_path": "mine.Clone", "lr": 0.1, "seeds": [3, 5], "inner_steps": 10, "compile": False, "decay": None}


def write(path, **changed):
    torch.save(
        {
            "run_name": "clone",
            "data": DATA,
            "hyper_parameters": SETTINGS,
            "state_dict": {"weight": torch.ones(2)},
            "global_step": 12_000,
            **changed,
        },
        path,
    )
    return path


def test_a_checkpoint_tells_its_shapes_task_seeds_and_settings(tmp_path):
    found = inspect_run(write(tmp_path / "last.ckpt"), "clone")
    assert found == Inspection(
        format="checkpoint of 'cdsa fit'",
        algorithm="Clone",
        obs_dim=3,
        action_dim=2,
        statistics="none: raw observations",
        num_seeds=2,
        task="box",
        details={
            "seeds": "3, 5",
            "trained": "12,000 steps",
            "data": "npz:a, 2,000 transitions",
            "settings": "lr 0.1",
        },
    )


def test_statistics_are_told_where_the_baseline_uses_them(tmp_path):
    found = inspect_run(write(tmp_path / "last.ckpt"), "clone", standardised=True)
    assert found.statistics == "mean and std of 3 entries, inside the file"


def test_what_the_command_line_did_not_make_is_called_by_its_run_name(tmp_path):
    found = inspect_run(write(tmp_path / "last.ckpt", hyper_parameters={"seeds": [0]}, global_step=None), "clone")
    assert (found.algorithm, found.details["trained"]) == ("clone", "steps not recorded")


def test_any_other_file_is_passed_over(tmp_path):
    text, other = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    text.write_text("no archive")
    torch.save({"state_dict": {}}, other)
    # A zip archive that says it spans five disks: even asking whether it is one raises.
    (tmp_path / "c.ckpt").write_bytes(b"PK\6\7" + bytes(12) + b"\5\0\0\0" + b"PK\5\6" + bytes(18))
    paths = [text, other, tmp_path / "c.ckpt", tmp_path, tmp_path / "absent.ckpt"]
    assert [inspect_run(path, "clone") for path in paths] == [None] * 5
    assert inspect_run(write(tmp_path / "last.ckpt"), "iql") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {}},
        {"data": None},
        {"data": {**DATA, "obs_mean": 3}},
        {"data": {**DATA, "transitions": "many"}},
        {"hyper_parameters": {}},
        {"hyper_parameters": {"seeds": ["first"]}},
        {"hyper_parameters": []},
        {"global_step": "last"},
    ],
)
def test_a_damaged_record_is_refused_naming_the_file(tmp_path, changed):
    with pytest.raises(InputError, match="last.ckpt is a checkpoint of 'clone' with a damaged record"):
        inspect_run(write(tmp_path / "last.ckpt", **changed), "clone")

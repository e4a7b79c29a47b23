"""`cdsa datasets`: every task with the state of its data."""

import json

import h5py
import minari
import numpy as np
import pytest

from cdsa_lightning import cli
from cdsa_lightning.recipes.pointmass import safe_pointmass
from cdsa_lightning.shards import Output
from cdsa_lightning.sources import d4rl, store
from cdsa_lightning.tasks import get_task, task_names


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))


def listed(capsys):
    assert cli.main(["datasets", "--json"]) == 0
    return {row["task"]: row for row in json.loads(capsys.readouterr().out)}


def test_every_task_is_listed_with_how_to_get_its_data(capsys):
    rows = listed(capsys)
    assert list(rows) == task_names()
    assert rows["antmaze-umaze"]["state"] == "downloadable"
    assert rows["hopper-medium"]["download"] == "cdsa datasets --download hopper-medium"
    assert rows["hopper-medium"]["collect"].startswith("cdsa collect --task hopper-medium")
    assert rows["risky-pointmass"]["state"] == "collectable"
    assert rows["risky-pointmass"]["download"] == ""


def test_data_that_are_here_show_their_size_and_return(capsys):
    done = safe_pointmass(get_task("risky-pointmass"), Output("cdsa/risky-pointmass-v0"), episodes=20)
    row = listed(capsys)["risky-pointmass"]
    assert (row["state"], row["source"]) == ("here", "minari:cdsa/risky-pointmass-v0")
    assert (row["episodes"], row["transitions"]) == (20, done.steps)
    assert row["mean_return"] == pytest.approx(done.mean_return)
    assert row["bytes"] > 10_000


def test_the_table_never_cuts_an_id_or_a_command(capsys):
    safe_pointmass(get_task("risky-pointmass"), Output("cdsa/risky-pointmass-v0"), episodes=20)
    assert cli.main(["datasets"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in task_names())
    assert "minari:cdsa/risky-pointmass-v0" in told
    assert "cdsa collect --task hopper-medium-expert --combine cdsa/hopper-medium-v0 cdsa/hopper-expert-v0" in told


def test_a_local_d4rl_file_counts_as_here_and_download_converts_it(capsys, tmp_path):
    path = tmp_path / "d4rl" / "hopper_medium-v2.hdf5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((6, 11), np.float32)
        file["next_observations"] = np.zeros((6, 11), np.float32)
        file["actions"] = np.zeros((6, 3), np.float32)
        file["rewards"] = np.ones(6, np.float32)
        file["terminals"] = np.array([0, 0, 1, 0, 0, 1], bool)
        file["timeouts"] = np.zeros(6, bool)
    row = listed(capsys)["hopper-medium"]
    assert (row["state"], row["source"], row["episodes"]) == ("here", "d4rl:hopper-medium-v2", None)
    assert cli.main(["datasets", "--download", "hopper-medium"]) == 0
    assert store.stored_ids() == ["d4rl/hopper-medium-v2"]
    capsys.readouterr()
    row = listed(capsys)["hopper-medium"]
    assert (row["episodes"], row["transitions"], row["mean_return"]) == (2, 6, 3.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hoper-medium", "Did you mean 'hopper-medium'"),
        ("risky-pointmass", "nowhere to download. Collect them: cdsa collect --task risky-pointmass"),
        ("hopper-medium", "Cannot download http://127.0.0.1:9/gym_mujoco_v2/hopper_medium-v2.hdf5"),
    ],
)
def test_a_download_that_cannot_be_is_one_clear_error(name, message, capsys, monkeypatch):
    monkeypatch.setattr(d4rl, "URL", "http://127.0.0.1:9")
    assert cli.main(["datasets", "--download", name]) == 2
    assert message in capsys.readouterr().err
    assert list(minari.list_local_datasets()) == []


def test_a_damaged_data_set_is_marked_and_hides_no_other(capsys):
    safe_pointmass(get_task("risky-pointmass"), Output("cdsa/risky-pointmass-v0"), episodes=20)
    (store.root() / "cdsa/risky-pointmass-v0/data/metadata.json").write_text("{")
    assert listed(capsys)["risky-pointmass"]["state"] == "damaged"
    assert cli.main(["datasets"]) == 0
    assert "damaged: minari:cdsa/risky-pointmass-v0" in capsys.readouterr().out


def collected():
    safe_pointmass(get_task("risky-pointmass"), Output("cdsa/risky-pointmass-v0"), episodes=20)
    return store.root() / "cdsa/risky-pointmass-v0/data/main_data.hdf5"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: b"",
        lambda whole: b"not HDF5" + whole[8:],
    ],
    ids=["half", "one byte less", "empty", "another signature"],
)
def test_a_file_that_is_cut_off_or_of_another_kind_is_damaged(spoil, capsys):
    file = collected()
    file.write_bytes(spoil(file.read_bytes()))
    row = listed(capsys)["risky-pointmass"]
    assert (row["state"], row["episodes"]) == ("damaged", 20)
    assert row["collect"] == "cdsa collect --task risky-pointmass"


def test_data_that_lack_the_file_or_its_last_episode_are_damaged(capsys):
    file = collected()
    with h5py.File(file, "a") as opened:
        del opened["episode_19"]
    assert listed(capsys)["risky-pointmass"]["state"] == "damaged"
    file.unlink()
    assert listed(capsys)["risky-pointmass"]["state"] == "damaged"


def test_a_cut_off_d4rl_file_is_damaged(capsys, tmp_path):
    path = tmp_path / "d4rl" / "hopper_medium-v2.hdf5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((600, 11), np.float32)
    assert listed(capsys)["hopper-medium"]["state"] == "here"
    path.write_bytes(path.read_bytes()[:-1000])
    assert listed(capsys)["hopper-medium"]["state"] == "damaged"

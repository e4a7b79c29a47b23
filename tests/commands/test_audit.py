"""`cdsa audit`: whole runs, with and without the environment, and what it refuses."""

import json

import pytest

from cdsa_lightning import cli
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.tasks import get_task
from evaluation_files import TASK, kept, leave, write_data


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


def test_a_whole_run_prints_and_keeps_everything(capsys, tmp_path):
    kept("1", source=write_data(tmp_path))
    assert cli.main(["audit", "--baseline", "shortest_path", "--episodes", "2", "--rows", "50"]) == 0
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "runs" / TASK / "audit").iterdir()
    assert {path.name for path in folder.iterdir()} == {"audit.json", "audit.png", "audit.svg"}
    for text in ("corrector.safetensors (the newest;", "quantiles are in-sample", "beyond 99 %", "Density drift"):
        assert text in shown
    said = json.loads((folder / "audit.json").read_text())
    assert said["measures"]["rho"] == pytest.approx(1)
    assert said["measures"]["rows"] == 50
    assert said["sentence"] in shown
    assert list(said["episodes"]) == ["shortest_path", "cdsa(shortest_path)"]
    assert len(said["episodes"]["shortest_path"]["worst"][0]["obs"]) == 4
    assert said["about"]["options"]["baseline"] == "shortest_path"


def test_without_episodes_no_environment_is_stepped(tmp_path, monkeypatch):
    path = kept("1", source=write_data(tmp_path))
    monkeypatch.setattr(type(get_task(TASK)), "make_env", None)
    command = f"audit --baseline shortest_path --corrector {path} --episodes 0 --output out --quiet --action_noise 0.05"
    assert cli.main(command.split()) == 0
    said = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert said["episodes"] == {}
    assert said["baseline"] == "shortest_path+noise(0.05)"
    assert said["measures"]["rho"] < 1


def test_what_cannot_be_audited_is_refused(capsys, tmp_path):
    def refused(command):
        assert cli.main(["audit", "--baseline", *command.split()]) == 2
        return capsys.readouterr().err

    kept("1", source="npz:gone.npz")
    assert "The data that the corrector was fitted on, npz:gone.npz, are not on this machine" in refused("random")
    assert "This command asks a corrector's score networks" in refused("random --corrector none")
    assert "Did you mean 'episodes'?" in refused("random --episoeds 3")
    assert "'ablation'" in refused("random --ablation")
    kept("2", source=write_data(tmp_path))
    assert "rows=0" in refused("random --rows 0")
    assert "at least one episode per seed, got episodes=-1" in refused("random --episodes -1")


def test_a_mean_over_seeds_is_audited_as_one(tmp_path):
    from cdsa_lightning.core.artifact import load_corrector

    mean = load_corrector(kept("1", source=write_data(tmp_path))).ensemble()
    save_corrector(mean, "mean.safetensors")
    for words in ("--corrector mean.safetensors", "--ensemble"):
        command = f"audit --baseline shortest_path {words} --episodes 1 --rows 20 --output {words[2:5]} --quiet"
        assert cli.main(command.split()) == 0
    one, two = (json.loads((tmp_path / name / "audit.json").read_text())["measures"] for name in ("cor", "ens"))
    assert one == two

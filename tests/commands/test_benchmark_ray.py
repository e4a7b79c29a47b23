"""`cdsa benchmark --executor ray`: a grid on the machines of a Ray cluster, one of which is lost in the middle."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import yaml
from ray.cluster_utils import Cluster

from cdsa_lightning import cli
from cdsa_lightning.grid.cells import RECORD
from cdsa_lightning.grid.nodes import DONE
from grid_files import same_records, write_grid

HEAD = {"num_cpus": 1, "include_dashboard": False}


def start(grid, output, *words):
    command = [sys.executable, "-m", "cdsa_lightning.cli", "benchmark", "--config", str(grid), "--output", str(output)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, **piped)


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_a_grid_on_a_cluster_meets_in_a_storage(tmp_path, capsys):
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        values = {"baselines": {"shortest_path": {}, "mlp": {}}, "corrector": None, "arms": ["base"]}
        grid, url = write_grid(tmp_path, **values), f"file://{tmp_path / 'out'}"
        status, out, err = ended(start(grid, url, "--executor", "ray", "--address", cluster.address))
    finally:
        cluster.shutdown()
    assert status == 1
    assert "Ray: 1 machines with 1 CPUs and 0 GPUs." in out
    assert "1 of 2 cells are done." in out
    assert f"{url}/table.md\n" in out
    assert f"see {url}/cell/risky-pointmass/mlp-" in err  # it names no checkpoint
    (text,) = (path.read_text() for path in (tmp_path / "out").glob("cell/*/mlp-*/error.txt"))
    assert "checkpoint" in text
    files = {path.name for path in (tmp_path / "out").glob("cell/*/shortest_path-*/*")}
    assert files == {RECORD, DONE, "report.json", "episodes.parquet", "traces.npz", "log.txt"}
    assert "shortest_path" in (tmp_path / "out" / "table.md").read_text()
    # What was made there is known here: a plan needs no cluster.
    assert cli.main(["benchmark", "--config", str(grid), "--output", url, "--executor", "ray", "--dry_run"]) == 0
    assert "2 nodes: 1 done, 1 to do, 0 blocked." in (out := capsys.readouterr().out)
    assert "to do: failed before, " in out


def longer(folder):
    """The grid of `write_grid` with trainings of some seconds."""
    values = yaml.safe_load(write_grid(folder).read_text())
    training = {"max_steps": 2000, "options": {"data.batch_size": 64, "checkpoint_every": 100}}
    baselines = {**values["baselines"], "bc": values["baselines"]["bc"] | training}
    return write_grid(folder, baselines=baselines, corrector=values["corrector"] | training)


@contextmanager
def two_nodes(folder):
    """A cluster of two, the second with a scratch folder of its own."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        yield cluster, cluster.add_node(num_cpus=1, env_vars={"TMPDIR": str(scratch)}), scratch
    finally:
        cluster.shutdown()


def wait_for_a_checkpoint(scratch, process):
    while not list(scratch.glob("cdsa-*/*/*/*/**/last.ckpt")):  # it is in the middle of a training
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["", "file://"])
def test_a_machine_is_lost_and_every_cell_is_there_once(tmp_path, url):
    grid, undisturbed, output = longer(tmp_path), tmp_path / "undisturbed", tmp_path / "out"
    assert ended(start(grid, undisturbed))[0] == 0
    with two_nodes(tmp_path) as (cluster, lost, scratch):
        process = start(grid, url + str(output), "--executor", "ray", "--address", cluster.address)
        wait_for_a_checkpoint(scratch, process)
        cluster.remove_node(lost, allow_graceful=False)
        status, out, err = ended(process)
    assert (status, err) == (0, "")
    assert "Ray: 2 machines with 2 CPUs" in out
    assert "2 of 2 cells are done." in out
    assert out.count("\ndone ") == 4  # each node, once
    assert len(list(output.glob(f"cell/*/*/{RECORD}"))) == 2
    assert same_records(undisturbed, output)


@pytest.mark.slow
def test_interrupted_a_grid_keeps_checkpoints_in_the_storage_and_goes_on(tmp_path):
    grid, output = longer(tmp_path), tmp_path / "out"
    with two_nodes(tmp_path) as (cluster, _, scratch):
        words = ("--executor", "ray", "--address", cluster.address)
        process = start(grid, f"file://{output}", *words)
        wait_for_a_checkpoint(scratch, process)
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
        kept = list(output.glob("*/*/*/**/last.ckpt"))
        assert kept
        assert ended(start(grid, f"file://{output}", *words))[0] == 0
    assert set(kept) <= set(output.glob("*/*/*/**/last.ckpt"))  # the same runs, gone on with
    assert len(list(output.glob("*/*/*/**/last.ckpt"))) == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--executor", "rya"], "Unknown executor 'rya'. Did you mean 'ray'? Known: local, ray."),
        (["--executor", "ray", "--workers", "3"], "--workers is for --executor local"),
        (["--address", "host:6379"], "--address is for --executor ray"),
        (["--gpus_per_training", "0.5"], "--gpus_per_training is for --executor ray"),
        (["--executor", "ray", "--gpus_per_training", "-1"], "--gpus_per_training must lie between 0 and 64"),
        (["--output", "s3://bucket/out"], "--output s3://bucket/out is a URL, which --executor ray takes"),
        (["--executor", "ray", "--output", "teapot://out"], "Cannot open 'teapot://out'"),
        (["--executor", "ray", "--address", "127.0.0.1:9"], "No Ray cluster at 127.0.0.1:9: Connection refused"),
    ],
)
def test_bad_words_are_told(capsys, words, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", "--config", str(write_grid(tmp_path)), *words]) == 2
    assert text in capsys.readouterr().err


def test_without_ray_nothing_is_made_and_the_remedy_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["--config", str(write_grid(tmp_path)), "--executor", "ray", "--output", str(tmp_path / "out")]
    assert cli.main(["benchmark", *words]) == 2
    assert "pip install 'cdsa-lightning[ray]'" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*/*"))

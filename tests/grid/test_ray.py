"""A Ray cluster as an executor: calls, what they raise, machines and processes that are lost, no Ray, no cluster."""

import os
import socket
import sys
import time

import pytest
import ray
from ray.cluster_utils import Cluster

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.local import WorkError
from cdsa_lightning.grid.ray import RayExecutor, _join

KILL_ONCE = "import os, pathlib; p = pathlib.Path({!r}); p.exists() or (p.touch(), os.kill(os.getpid(), 9))"
TELL = "import os, pathlib; pathlib.Path({!r}).write_text(str([os.environ.get(k) for k in {!r}]))"
SLEEP = """
import pathlib, time
try:
    pathlib.Path({0!r}).touch()
    for _ in range(6000):
        time.sleep(0.1)
except KeyboardInterrupt:
    pathlib.Path({0!r}).write_text("interrupted")
    raise
"""


@pytest.fixture(scope="module")
def address():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()


def wait_for(path):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_calls_answer_and_what_fails_is_told(address, tmp_path):
    with RayExecutor(address) as executor:
        assert (executor.machines, executor.cpus, executor.gpus) == (1, 2, 1.0)
        assert executor.submit(os.getpid).result() != os.getpid()
        with pytest.raises(WorkError, match="^TypeError: .*has no len") as told:
            executor.submit(len, 5).result()
        assert "Traceback" in told.value.detail
        executor.submit(exec, KILL_ONCE.format(str(tmp_path / "killed"))).result()  # and called again
        assert (tmp_path / "killed").exists()
        assert not executor._running


def test_calls_get_what_they_need_and_where_the_data_lie(address, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    names = ["CUDA_VISIBLE_DEVICES", "MINARI_DATASETS_PATH"]
    with RayExecutor(address, needs=lambda code, values: {"num_gpus": 0.5 * values["share"]}) as executor:
        for share in (0, 1):
            executor.submit(exec, TELL.format(str(tmp_path / str(share)), names), {"share": share}).result()
    assert (tmp_path / "0").read_text() == str(["", str(tmp_path)])
    assert (tmp_path / "1").read_text() == str(["0", str(tmp_path)])


def test_leaving_interrupts_what_is_running(address, tmp_path):
    executor = RayExecutor(address, needs=lambda *_: {"num_cpus": 2})
    running, waiting = executor.submit(exec, SLEEP.format(str(tmp_path / "here"))), executor.submit(os.getpid)
    wait_for(tmp_path / "here")
    executor.close()
    assert (tmp_path / "here").read_text() == "interrupted"
    for one in (running, waiting):
        with pytest.raises(WorkError, match="Cancelled"):
            one.result(timeout=0)


def test_without_ray_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'cdsa-lightning\[ray\]'"):
        RayExecutor()


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch):
    with socket.socket() as held:  # a port that nobody listens on
        held.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{held.getsockname()[1]}"
        for given in (nobody, f"ray://{nobody}"):
            with pytest.raises(InputError, match=f"No Ray cluster at {given}: Connection refused.*ray start --head"):
                RayExecutor(given)
        monkeypatch.setenv("RAY_ADDRESS", nobody)
        with pytest.raises(InputError, match=f"No Ray cluster at {nobody}"):
            RayExecutor()


def test_a_cluster_that_ended_without_a_word_is_not_waited_for(monkeypatch, tmp_path):
    """Ray keeps the address of the last cluster of a machine, and would call there for minutes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    asked = []
    monkeypatch.setattr(ray, "init", lambda given, **_: asked.append(given))
    (tmp_path / "ray").mkdir()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{held.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(nobody)
        with pytest.raises(InputError, match=f"No Ray cluster at {nobody}, which ray_current_cluster names"):
            _join(ray, "auto")
        _join(ray, None)
        held.listen()
        _join(ray, None)
        _join(ray, "auto")
    assert asked == ["local", None, "auto"]


@pytest.mark.parametrize("given", ["somewhere", "host:", ":6379", "host:http", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_told(given):
    with pytest.raises(InputError, match="HOST:PORT"):
        RayExecutor(given)

"""Making a grid: order, failures that stay where they are, workers that die, one program at a time."""

import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.local import LocalExecutor, WorkError
from cdsa_lightning.grid.nodes import Node, finish
from cdsa_lightning.grid.schedule import ERROR, alone, make, states


class AtOnce:
    """Calls what is submitted, here and now."""

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except InputError as error:
            future.set_exception(WorkError(str(error), "in detail"))
        return future


def node(kind, name, needs=(), problem=""):
    return Node(kind, "t", name, {}, needs={n.kind: n.path for n in needs}, problem=problem)


TRAIN, FIT = node("train", "a"), node("fit", "b")
BOTH, ALONE, LAST = node("cell", "c", (TRAIN, FIT)), node("cell", "d", (FIT,)), node("cell", "e", (TRAIN,))
NODES = [TRAIN, FIT, BOTH, ALONE, LAST]


@pytest.fixture(autouse=True)
def amounts(monkeypatch):
    monkeypatch.setattr(Node, "amount", 1)


def worker(root, calls, failing=()):
    def work(node):
        calls.append(node.name)
        if node.name in failing:
            raise InputError(f"{node.name} does not work")
        finish(root, node, 1.0, {})

    return work


def test_every_node_is_made_once_after_what_it_needs(tmp_path):
    calls, said = [], []
    final = make(
        NODES, tmp_path, worker(tmp_path, calls), AtOnce(), lambda one, state: said.append((one.name, str(state)))
    )
    assert {str(state) for state in final.values()} == {"done"}
    assert sorted(calls) == ["a", "b", "c", "d", "e"]
    assert calls.index("c") > max(calls.index("a"), calls.index("b"))
    assert sorted(said) == [(name, "done") for name in "abcde"]
    make(NODES, tmp_path, worker(tmp_path, calls), AtOnce(), lambda *_: pytest.fail("nothing is left to do"))
    assert len(calls) == 5


def test_a_failure_blocks_what_needs_it_and_nothing_else(tmp_path):
    calls = []
    final = make(NODES, tmp_path, worker(tmp_path, calls, failing="a"), AtOnce(), lambda *_: None)
    assert [final[n.path].what for n in NODES] == ["failed", "done", "blocked", "done", "blocked"]
    assert str(final[BOTH.path]) == f"blocked: {TRAIN.path} failed"
    assert (tmp_path / TRAIN.path / ERROR).read_text() == "a does not work\n\nin detail\n"
    assert str(states(NODES, tmp_path)[TRAIN.path]) == "to do: failed before, a does not work"
    calls.clear()
    final = make(NODES, tmp_path, worker(tmp_path, calls), AtOnce(), lambda *_: None)  # a second run tries again
    assert {state.what for state in final.values()} == {"done"}
    assert sorted(calls) == ["a", "c", "e"]
    assert not (tmp_path / TRAIN.path / ERROR).exists()


def test_what_lacks_data_blocks_what_needs_it(tmp_path):
    lacking = node("train", "x", problem="collect them")
    cell, calls = node("cell", "y", (lacking,)), []
    final = make([lacking, cell, FIT], tmp_path, worker(tmp_path, calls), AtOnce(), lambda *_: None)
    assert [str(final[n.path]) for n in (lacking, cell, FIT)] == ["blocked: collect them"] * 2 + ["done"]
    assert calls == ["b"]


def test_a_worker_that_dies_takes_one_call_along(tmp_path):
    with LocalExecutor(1) as executor:
        process = executor.submit(os.getpid).result()
        assert executor.submit(os.getpid).result() == process != os.getpid()
        killed = executor.submit(os.kill, process, signal.SIGKILL)
        with pytest.raises(WorkError, match="ended with status -9"):
            killed.result()
        assert executor.submit(os.getpid).result() != process
        with pytest.raises(WorkError, match="TypeError: ") as told:
            executor.submit(len, 5).result()
        assert "Traceback" in told.value.detail


def test_closing_ends_all_workers():
    executor = LocalExecutor(2)
    idle = executor.submit(os.getpid).result()
    busy = executor.submit(time.sleep, 600)
    waiting = [executor.submit(time.sleep, 600) for _ in range(3)]
    while not busy.running():
        time.sleep(0.01)
    executor.close()
    with pytest.raises(WorkError):
        busy.result(timeout=10)
    assert all(one.cancelled() or isinstance(one.exception(timeout=10), WorkError) for one in waiting)
    with pytest.raises(ProcessLookupError):
        os.kill(idle, 0)


def test_a_grid_needs_a_worker():
    with pytest.raises(InputError, match="workers must be at least 1, got 0"):
        LocalExecutor(0)


def test_one_program_at_a_time(tmp_path):
    with alone(tmp_path / "out"):
        with pytest.raises(InputError, match="Another 'cdsa benchmark' is at work"), alone(tmp_path / "out"):
            pass
    with alone(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()
    with pytest.raises(InputError, match="Choose another --output"), alone(Path("/proc/none")):
        pass

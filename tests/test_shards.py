"""Real kills and a real limit on file sizes: the finished shards stay, the result is the undisturbed one."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from cdsa_lightning import cli, collection, shards
from cdsa_lightning.shards import Output
from cdsa_lightning.sources import load_transitions, store
from cdsa_lightning.sources.transitions import Episode
from cdsa_lightning.tasks import get_task


@pytest.fixture(autouse=True)
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))


@pytest.fixture
def task():
    return get_task("risky-pointmass")


def fingerprint(dataset_id):
    return load_transitions(f"minari:{dataset_id}").fingerprint


def test_a_shard_that_cannot_be_written_names_what_is_kept():
    """A real limit on file sizes, in a process of its own: the second shard does not fit."""
    program = """
        import resource, sys
        import numpy as np
        from cdsa_lightning.errors import InputError
        from cdsa_lightning.shards import Output, Piece, make_dataset
        from cdsa_lightning.sources.transitions import Episode
        from cdsa_lightning.tasks import get_task

        def produce(shard):
            steps = (100, 100_000)[shard]
            yield Piece(Episode(np.zeros((steps + 1, 4)), np.zeros((steps, 2)), np.zeros(steps), True, False))

        limit = int(sys.argv[1])
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            make_dataset(get_task("risky-pointmass"), produce, 2, {"seed": 0}, Output("cdsa/big-v0"))
        except InputError as error:
            print(error)
            sys.exit(2)
    """
    stopped = python(program, "1000000")
    assert stopped.returncode == 2, stopped.stderr
    assert "100 transitions are kept" in stopped.stdout
    assert "run the same command again" in stopped.stdout
    assert store.stored_ids() == []
    # Enough for the shards, not for the finished file.
    stopped = python(program, "2900000")
    assert stopped.returncode == 2, stopped.stderr
    assert "100,100 transitions are kept" in stopped.stdout
    assert store.stored_ids() == []
    assert python(program, "0").returncode == 0
    assert len(load_transitions("minari:cdsa/big-v0")) == 100_100


KILLED = "collect --task hopper-random --baseline random --steps 40000 --lanes 4".split()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The fingerprint of the collection that nobody kills."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("undisturbed")))
        patch.setitem(collection.collect.__kwdefaults__, "shard_steps", 1000)
        assert cli.main(KILLED) == 0
        return fingerprint("cdsa/hopper-random-v0")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_one_shard_at_most(how, undisturbed, monkeypatch):
    program = f"""
        import sys
        from cdsa_lightning import cli, collection
        collection.collect.__kwdefaults__["shard_steps"] = 1000
        sys.exit(cli.main({KILLED!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) as run:
        partial = store.partial_path("cdsa/hopper-random-v0")
        deadline = time.monotonic() + 300
        while len(list(partial.glob("shard-*.npz"))) < 2 and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        run.send_signal(how)
        told = run.stderr.read().decode()
    finished = len(list(partial.glob("shard-*.npz")))
    assert 2 <= finished < 40
    assert not store.is_stored("cdsa/hopper-random-v0")
    if how == signal.SIGINT:
        assert run.returncode == 130
        assert f"interrupted. {finished},000 transitions are kept" in told
        assert "Traceback" not in told
    monkeypatch.setitem(collection.collect.__kwdefaults__, "shard_steps", 1000)
    assert cli.main(KILLED) == 0
    assert fingerprint("cdsa/hopper-random-v0") == undisturbed


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def python(program, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)


def test_episodes_survive_the_shard_format(task):
    rng = np.random.default_rng(0)
    given = [
        Episode(
            rng.uniform(size=(n + 1, 4)).astype("f4"), rng.uniform(size=(n, 2)).astype("f4"), np.ones(n, "f4"), e, not e
        )
        for n, e in ((3, True), (1, False), (2, True))
    ]
    shards.make_dataset(task, lambda shard: [shards.Piece(given[shard])] * 2, 3, {"seed": 0}, Output("cdsa/given-v0"))
    read = list(load_transitions("minari:cdsa/given-v0").episodes())
    for episode, expected in zip(read, [one for one in given for _ in range(2)], strict=True):
        assert all(np.array_equal(got, want) for got, want in zip(episode, expected, strict=True))

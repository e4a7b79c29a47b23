"""Loading a Minari data set of a million Hopper transitions, in bulk against Minari's own iterator.

    python benchmarks/loading.py [--transitions 1000000] [--repeats 3]

For each format, in this one run: the best time of `load_transitions` (checks of every number included), the best time
of a loop over `MinariDataset.iterate_episodes` that only touches every array, and their ratio (targets: HDF5 1.5, Arrow
5). The loop that also builds the same arrays (append, then concatenate) is shown beside it. Then the peak memory of one
load in a fresh process, less what it held before, relative to the arrays (target: at most 1.6).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

from cdsa_lightning.sources import load_transitions, store  # noqa: E402
from cdsa_lightning.sources.transitions import Episode  # noqa: E402

STEPS, OBS_DIM, ACTION_DIM = 1000, 11, 3
TARGETS = {"hdf5": 1.5, "arrow": 5.0}


def episodes(transitions):
    rng = np.random.default_rng(0)
    for _ in range(transitions // STEPS):
        obs = rng.normal(size=(STEPS + 1, OBS_DIM)).astype(np.float32)
        action = rng.uniform(-1, 1, size=(STEPS, ACTION_DIM)).astype(np.float32)
        yield Episode(obs, action, rng.normal(size=STEPS).astype(np.float32), False, True)


def write_as_minari_does(dataset_id, transitions, data_format):
    """Minari's own writer, so that the file is the one that peers have."""
    import gymnasium
    import minari
    from minari.data_collector import EpisodeBuffer

    flags = np.zeros(STEPS, bool)
    last = np.arange(STEPS) == STEPS - 1
    buffers = [
        EpisodeBuffer(observations=e.obs, actions=e.action, rewards=e.reward, terminations=flags, truncations=last)
        for e in episodes(transitions)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32),
            action_space=gymnasium.spaces.Box(-1, 1, (ACTION_DIM,), np.float32),
            data_format=data_format,
        )


def iterate(dataset_id):
    import minari

    for episode in minari.load_dataset(dataset_id).iterate_episodes():
        _ = episode.observations, episode.actions, episode.rewards, episode.terminations


def iterate_and_build(dataset_id):
    import minari

    columns = [[] for _ in range(5)]
    for e in minari.load_dataset(dataset_id).iterate_episodes():
        rows = (e.observations[:-1], e.actions, e.rewards, e.observations[1:], e.terminations)
        for column, values in zip(columns, rows, strict=True):
            column.append(values)
    return [np.concatenate(column) for column in columns]


def best(function, repeats):
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return min(times)


def peak_ratio(dataset_id):
    """Peak resident memory of a load in a fresh process, less what it held before, relative to the arrays."""
    # VmHWM rather than getrusage: the latter remembers the size of the process that started this one.
    program = f"""
import json
import pyarrow
from cdsa_lightning.sources import load_transitions
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
before = status("VmRSS")
data = load_transitions("minari:{dataset_id}")
arrays = sum(getattr(data, name).nbytes for name in ("obs", "action", "reward", "next_obs", "terminated", "episode"))
print(json.dumps([(status("VmHWM") - before) / arrays, arrays]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transitions", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        for data_format, target in TARGETS.items():
            dataset_id = f"bench/{data_format}-v0"
            write_as_minari_does(dataset_id, options.transitions, data_format)
            report(dataset_id, f"{data_format}, written by Minari", options.repeats, target)
        bound = np.ones(ACTION_DIM, np.float32)
        store.write_dataset("bench/own-v0", episodes(options.transitions), -bound, bound, {}, obs_dim=OBS_DIM)
        report("bench/own-v0", "hdf5, written by cdsa collect", options.repeats, TARGETS["hdf5"])


def report(dataset_id, title, repeats, target):
    bulk = best(lambda: load_transitions(f"minari:{dataset_id}"), repeats)
    loop = best(lambda: iterate(dataset_id), repeats)
    build = best(lambda: iterate_and_build(dataset_id), repeats)
    memory, arrays = peak_ratio(dataset_id)
    print(f"{title}: load {bulk:.2f} s, iterate_episodes {loop:.2f} s, the same into arrays {build:.2f} s")
    print(f"  ratio {loop / bulk:.1f} (target {target}), into arrays {build / bulk:.1f}")
    print(f"  peak memory {memory:.2f} x the arrays' {arrays / 1e6:.0f} MB (target 1.6)", flush=True)


if __name__ == "__main__":
    main()

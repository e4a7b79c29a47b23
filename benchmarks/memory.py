r"""Data of ten million transitions: how much memory reading them takes, and what training from a file costs.

    OMP_NUM_THREADS=1 python benchmarks/memory.py load [--transitions 10000000] [--folder SCRATCH]
    OMP_NUM_THREADS=1 python benchmarks/memory.py train [--transitions 10000000] [--ways held warm short] [--seeds 1 5]

`load`: for each kind of source, in a process of its own, the largest resident memory less what was held before, over
the table's float32 size: of `load_transitions`, and of `TransitionData` until the table stands (target: 1.6), held and
mapped (twice: the second run finds the file). Pages of a mapped file go back to the system when it needs them; "own" is
what does not.

`train`: wall and CPU time of a gradient step of the corrector (robust preset), each in a process of its own, in turns;
medians. `held`: from memory. `warm`: from a file in the page cache. `short`: from a file larger than what is left of
memory: another process locks so much of it that `--leave` of the table's size remains, needs no right but `ulimit -l`,
and gives way to others. `cold`: from a file that is thrown out of the cache before every chunk of 20 steps, as if it
were many times larger than memory. "in cache" is the share of the file that lies in memory at the end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

S, A, STEPS = 11, 3, 1000  # Hopper's shapes, whole episodes of 1,000 steps
ROW = 4 * (2 * S + A + 2)


def write_source(kind, transitions, folder):
    """Synthetic data as one kind of source; returns how it is named."""
    from loading import episodes

    from cdsa_lightning.sources import store

    if kind in ("hdf5", "arrow"):
        bound = np.ones(A, np.float32)
        store.write_dataset(f"bench/{kind}-v0", episodes(transitions), -bound, bound, {}, obs_dim=S, data_format=kind)
        return f"minari:bench/{kind}-v0"
    whole = list(episodes(transitions))
    names = ("observations", "actions", "rewards", "next_observations")
    parts = [[e.obs[:-1] for e in whole], [e.action for e in whole], [e.reward for e in whole]]
    arrays = dict(zip(names, map(np.concatenate, [*parts, [e.obs[1:] for e in whole]]), strict=True))
    arrays["terminals"] = np.zeros(len(arrays["rewards"]), bool)
    arrays["timeouts"] = np.arange(len(arrays["rewards"])) % STEPS == STEPS - 1
    if kind == "npz":
        np.savez(folder / "data.npz", **arrays)
        return f"npz:{folder / 'data.npz'}"
    import h5py

    with h5py.File(folder / "data.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return f"d4rl:{folder / 'data.hdf5'}"


LOAD = """
import json, sys, threading, time
import pyarrow, h5py, torch
from cdsa_lightning.data import TransitionData
from cdsa_lightning.sources import load_transitions
def status():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return [int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "RssAnon")]
stage, source, folder = sys.argv[1:]
data = TransitionData("gym:Hopper-v5", source, memory_map=folder if stage == "mapped" else None)
_ = data.task.low  # makes the world once
before = status()
most, over = list(before), threading.Event()
def watch():
    while not over.wait(0.005):
        most[:] = map(max, most, status())
thread = threading.Thread(target=watch, daemon=True)
thread.start()
begun = time.perf_counter()
if stage == "load":
    kept = load_transitions(source)
else:
    data.setup("fit")
seconds = time.perf_counter() - begun
over.set()
thread.join()
most[:] = map(max, most, status())
print(json.dumps([*(peak - start for peak, start in zip(most, before)), seconds]))
"""


def load(options):
    size = options.transitions * ROW
    print(f"{options.transitions:,} transitions, table {size / 1e9:.2f} GB; peak over the table's size")
    for kind in options.sources:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            os.environ["MINARI_DATASETS_PATH"] = name
            # Written by another process: an allocator keeps what it was given.
            write = [sys.executable, __file__, "write", "--sources", kind, "--folder", name]
            program = [*write, "--transitions", str(options.transitions)]
            source = subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip()
            stages = ["load", "table", "mapped", "mapped"]
            if kind == "d4rl":  # the first reading converts
                stages = ["load", *stages]
            for stage in stages:
                done = subprocess.run(
                    [sys.executable, "-c", LOAD, stage, source, f"{name}/maps"], capture_output=True, text=True
                )
                if done.returncode:
                    sys.exit(done.stderr)
                peak, own, seconds = json.loads(done.stdout)
                print(f"{kind:>6} {stage:<7} {peak / size:5.2f}x, own {own / size:5.2f}x, {seconds:6.1f} s", flush=True)


BALLAST = """
import ctypes, mmap, select, sys
leave, block, held = int(sys.argv[1]), 64 << 20, []
open("/proc/self/oom_score_adj", "w").write("1000")  # the first to go, should memory end
libc = ctypes.CDLL(None, use_errno=True)
def available():
    lines = dict(line.split(":", 1) for line in open("/proc/meminfo"))
    return int(lines["MemAvailable"].split()[0]) * 1024
def lock():
    area = mmap.mmap(-1, block, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    if libc.mlock(ctypes.c_void_p(start), ctypes.c_size_t(block)):
        sys.exit(f"Cannot lock memory (error {ctypes.get_errno()}): raise `ulimit -l`, or leave `short` out.")
    held.append(area)
def settle():
    while available() > leave + block:
        lock()
    while held and available() < leave - 2 * block:
        held.pop().close()
settle()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:  # until who asked for it ends
    settle()
"""

FIT = """
import ctypes, json, os, subprocess, sys, time
import numpy as np, torch
from lightning import Callback, Trainer
from cdsa_lightning.data import TransitionData
from cdsa_lightning.training import CDSAModule
how, source, folder, steps, seeds, leave, ballast = sys.argv[1:]
torch.set_num_threads(1)
data = TransitionData("gym:Hopper-v5", source, memory_map=folder)
data.setup("fit")
if how == "held":
    data.rows, data.memory_map = data.rows.clone(), None
address, size = data.rows.data_ptr() // 4096 * 4096, data.rows.nbytes
libc = ctypes.CDLL(None, use_errno=True)
def cached():
    pages = np.zeros(-(-size // 4096), np.uint8)
    libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data))
    return float((pages & 1).mean())
def drop():  # out of this program's map, then out of the page cache
    libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), 4)
    (name,) = [name for name in os.listdir(folder) if name.endswith(".rows")]
    with open(os.path.join(folder, name), "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
class Watch(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if how == "short" and trainer.global_step == 0:
            given = [sys.executable, "-c", ballast, leave]
            self.ballast = subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if not self.ballast.stdout.readline():
                sys.exit(1)
        if how == "cold":
            drop()
        if trainer.global_step == 100:
            self.begun = time.perf_counter(), time.process_time()
    def on_train_end(self, trainer, module):
        passed = trainer.global_step - 100
        wall, cpu = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]
        self.found = [wall / passed, cpu / passed, cached()]
        if how == "short":
            self.ballast.communicate()
watch, module = Watch(), CDSAModule("robust", seeds=range(int(seeds)))
module.on_train_end = lambda: None
options = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
trainer = Trainer(max_steps=int(steps), callbacks=[watch], enable_model_summary=False, **options)
trainer.fit(module, data)
print(json.dumps(watch.found))
"""


def train(options):
    size = options.transitions * ROW
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        os.environ["MINARI_DATASETS_PATH"] = name
        write = [sys.executable, __file__, "write", "--sources", "hdf5", "--folder", name]
        program = [*write, "--transitions", str(options.transitions)]
        source = subprocess.run(program, capture_output=True, text=True, check=True).stdout.strip()
        given = [source, f"{name}/maps", str(options.steps)]

        def run(how, seeds):
            last = [str(seeds), str(int(options.leave * size)), BALLAST]
            done = subprocess.run(
                [sys.executable, "-c", FIT, how, *given, *last], capture_output=True, text=True, cwd=name
            )
            if done.returncode:
                sys.exit(done.stderr)
            return json.loads(done.stdout.splitlines()[-1])

        run("warm", 1)  # makes the file
        print(f"{options.transitions:,} transitions, table {size / 1e9:.2f} GB", flush=True)
        for seeds in options.seeds:
            found = {how: [] for how in options.ways}
            for how in options.ways * options.repeats:
                wall, cpu, cached = run(how, seeds)
                found[how].append((wall, cpu, cached))
                print(f"{how}: {wall * 1e3:.1f} ms a step, CPU {cpu * 1e3:.1f}, in cache {cached:.0%}", flush=True)
            tell(seeds, found)


def tell(seeds, found):
    medians = {how: [statistics.median(column) for column in zip(*rows, strict=True)] for how, rows in found.items()}
    first = next(iter(medians))
    print(f"{seeds} seeds; medians of {len(found[first])}; ratios to {first}")
    for how, (wall, cpu, cached) in medians.items():
        ratios = f"{wall / medians[first][0]:.2f}x, CPU {cpu / medians[first][1]:.2f}x"
        print(
            f"{how:>8} {wall * 1e3:6.1f} ms a step, CPU {cpu * 1e3:6.1f}; {ratios}; in cache {cached:.0%}", flush=True
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "train", "write"])
    parser.add_argument("--transitions", type=int, default=10_000_000)
    parser.add_argument("--sources", nargs="+", default=["hdf5", "arrow", "npz", "d4rl"])
    parser.add_argument("--folder", type=Path, help="scratch; needs three times the table's size")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 5])
    parser.add_argument(
        "--ways", nargs="+", choices=["held", "warm", "short", "cold"], default=["held", "warm", "cold"]
    )
    parser.add_argument("--leave", type=float, default=1 / 3, help="memory left by `short`, over the table's size")
    options = parser.parse_args()
    if options.what == "write":
        print(write_source(options.sources[0], options.transitions, options.folder))
    elif options.what == "load":
        load(options)
    else:
        train(options)


if __name__ == "__main__":
    main()

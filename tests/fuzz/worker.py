"""Feeds a reader with inputs, in processes that may die, and tells what came of each: python -m fuzz.worker READER ...

An input is a number: it says which attack, or which damage, is done to which file of a valid set. A child process works
through the numbers, under a limit on its memory and with an ear on what Python reports of itself (audit events); this
process watches it. A child that dies or hangs is told by the number that it was at, and the next one goes on after it.
"""

import argparse
import contextlib
import io
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from fuzz.mutations import generator, mutated

CONSTANT = 512 << 20
"""Bytes that a child may take beyond what it had before, however small its input."""
FACTOR = 64
"""Bytes that it may take besides, for each byte of its input."""
CPU_SECONDS, IDLE_SECONDS = 30, 15
"""A child hangs that takes more of the processor for one input, or sleeps for longer."""
BATCH = 500
SUSPECT = (
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen"),
    *("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request", "webbrowser.open"),
)
NO_MEMORY = ("unable to allocate", "can't allocate", "cannot allocate", "bad_alloc", "not enough memory",
             "malloc of size", "memory allocation", "std::length_error", "realloc of size")  # fmt: skip


class Events:
    """What Python said that it was about to do, while somebody listens."""

    def __init__(self):
        self.listening, self.heard = False, []

    def __call__(self, event, args):
        if not self.listening:
            return
        opened = str(args[0]) if event == "open" else ""
        if event in SUSPECT or opened.startswith("/etc/passwd"):
            self.heard.append(f"{event} {str(args)[:120]}")


EVENTS = Events()


class Shared:
    """Numbers that a child and its parent both see: at which input, how many read, refused, peak memory, microseconds.

    The microseconds are those of the processor that damage took; attacks are not counted.
    """

    def __init__(self):
        self.memory = mmap.mmap(-1, 4096)

    def __getitem__(self, place):
        return struct.unpack_from("<q", self.memory, 8 * place)[0]

    def __setitem__(self, place, value):
        struct.pack_into("<q", self.memory, 8 * place, value)


AT, READ, REFUSED, PEAK, SPENT = range(5)


def memory(field):
    """VmSize, VmRSS or VmHWM of this process in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) << 10


def prepare(reader, folder, seed, index):
    """Do to `folder` what input `index` stands for; returns its name and how many bytes are there."""
    attacks = reader.attack_list()
    main = reader.path(folder)
    if index < len(attacks):
        column, attack = attacks[index]
        name = f"{column}: {attack.__name__}"
        attack(folder, main)
    else:
        rng = generator(reader.name, seed, index)
        names = reader.files(folder)
        for victim in rng.sample(names, min(len(names), rng.choice((1, 1, 1, 2)))):
            other = (folder / rng.choice(names)).read_bytes()
            content = mutated(victim, (folder / victim).read_bytes(), rng, other)
            (folder / victim).write_bytes(content)
        name = "damage"
    return name, sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def attempt(reader, path, home, size):
    """Read one input; (outcome, what is wrong)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, EVENTS.heard = memory("VmRSS"), []
    room = CONSTANT + FACTOR * size
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + room, resource.RLIM_INFINITY))
    EVENTS.listening = True
    wrong, outcome = "", "read"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reader.read(path)
    except BaseException as error:  # whatever comes is what is asked for
        outcome, wrong = judge(error, reader.asks)
    finally:
        EVENTS.listening = False
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    grown = memory("VmHWM") - before
    if EVENTS.heard:
        wrong = f"event: {EVENTS.heard[0]}"
    elif (home / "marker").exists():
        wrong = "code was executed"
        (home / "marker").unlink()
    elif grown > room:
        wrong = f"memory: {grown >> 20} MiB for {size} bytes"
    return outcome, wrong, grown


def judge(error, asks):
    """(outcome, what is wrong) of an exception, where `asks` is in what may be said of memory."""
    from cdsa_lightning.errors import InputError

    chain, link = [], error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if isinstance(error, MemoryError) or any(_memory(link) and asks not in str(link) for link in chain):
        return "error", f"memory: {type(chain[-1]).__name__} {str(chain[-1])[:80]} {where(chain[-1])}"
    if isinstance(error, InputError):
        return "refused", ""
    return "error", f"{type(error).__name__} {where(error)}: {str(error)[:160]}"


def _memory(link):
    trace = traceback.extract_tb(link.__traceback__)
    if isinstance(link, MemoryError) and trace and trace[-1].filename.endswith("/ast.py"):
        return False  # Python's parser says so of text that is nested beyond its stack
    return isinstance(link, MemoryError) or any(words in str(link).lower() for words in NO_MEMORY)


def where(error):
    """The innermost line of the project that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "cdsa_" in frame.filename]
    return f"at {Path(own[-1].filename).name}:{own[-1].name}" if own else ""


def work(reader, home, seed, first, last, seconds, shared, told):
    """In the child: the inputs from `first` on, damage for as long as `seconds` of the processor are left."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    attacks = len(reader.attack_list())
    for index in range(first, last):
        if seconds and index >= attacks and shared[SPENT] > seconds * 1e6:
            break
        shared[AT], began = index, time.process_time()
        folder = home / "work"
        shutil.copytree(home / "seed", folder)
        name, size = prepare(reader, folder, seed, index)
        outcome, wrong, grown = attempt(reader, reader.path(folder), home, size)
        shutil.rmtree(folder)
        shared[PEAK] = max(shared[PEAK], grown)
        if outcome != "error":
            shared[READ if outcome == "read" else REFUSED] += 1
        shared[SPENT] += int((time.process_time() - began) * 1e6) if index >= attacks else 0
        if wrong or index < attacks:
            told.write(json.dumps({"index": index, "input": name, "outcome": outcome, "wrong": wrong}) + "\n")
            told.flush()
    else:
        shared[AT] = last
        return
    shared[AT] = -1


def state(pid):
    """Seconds of the processor that a process took, and whether it waits for something besides its turn."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, False
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), fields[0] not in "RD"


def watch(pid, shared):
    """Wait for the child; why it ended: "" where it did by itself."""
    at, awake, start, last = -2, 0.0, 0.0, 0.0
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            if os.WIFSIGNALED(status):
                return f"crash: {signal.Signals(os.WTERMSIG(status)).name}"
            return "it ended" if os.WEXITSTATUS(status) else ""
        (taken, waits), now = state(pid), time.monotonic()
        if shared[AT] != at:
            at, awake, start = shared[AT], now, taken
        if taken != last or not waits:
            last, awake = taken, now
        if taken - start > CPU_SECONDS or now - awake > IDLE_SECONDS:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hang"
        time.sleep(0.01)


def fuzz(reader, home, seed, first, count, seconds):
    """All inputs from `first` on: `count` of them, or the attacks and damage for `seconds` of the processor."""
    shared, told, before = Shared(), home / "told", _children()
    end = first + count if count else sys.maxsize
    deaths, index = [], first
    while index < end:
        last = min(index + BATCH, end)
        pid = os.fork()
        if not pid:
            with told.open("a") as file:
                try:
                    work(reader, home, seed, index, last, seconds, shared, file)
                except BaseException:  # the harness itself
                    file.write(json.dumps({"index": shared[AT], "wrong": "harness: " + traceback.format_exc()}) + "\n")
                    file.flush()
                    os._exit(1)
            os._exit(0)
        why = watch(pid, shared)
        if why:
            deaths.append({"index": shared[AT], "input": "", "outcome": "died", "wrong": why})
            shared[SPENT] += int(CPU_SECONDS * 1e6) if why == "hang" and shared[AT] >= len(reader.attack_list()) else 0
            shutil.rmtree(home / "work", ignore_errors=True)
        if shared[AT] < 0:
            break
        index = shared[AT] + 1 if why else last
    lines = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
    counts = {"read": shared[READ], "refused": shared[REFUSED], "died": len(deaths), "peak": shared[PEAK]}
    return {"reader": reader.name, **counts, "cpu": _children() - before, "told": lines + deaths}


def _children():
    """Seconds of the processor that all children took that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ.update(FUZZ_MARKER=str(home / "marker"), MINARI_DATASETS_PATH=str(home / "work" / "store"))
        from fuzz.readers import READERS

        sys.addaudithook(EVENTS)
        for name in options.readers:
            reader = READERS[name]
            (home / "seed").mkdir()
            reader.make(home / "seed")
            shutil.copytree(home / "seed", home / "work")
            reader.read(reader.path(home / "work"))  # what is damaged below is good, and all is imported
            shutil.rmtree(home / "work")
            print(json.dumps(fuzz(reader, home, options.seed, options.first, options.count, options.seconds)))
            shutil.rmtree(home / "seed")
            (home / "told").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

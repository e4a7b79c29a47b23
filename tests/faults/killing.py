"""Programs that are killed at random moments until they have had enough of it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from cdsa_lightning import cli, collection

HERE = Path(__file__).parent
PATIENCE = 300.0
SHARD_STEPS = 2000  # so that a short collection has many
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["cdsa_lightning.commands.fit", "cdsa_lightning.commands.work", "cdsa_baselines.iql"])


@dataclass(frozen=True)
class Undisturbed:
    """How long a run takes that nobody kills, and in how many steps it writes."""

    root: Path
    seconds: float
    steps: int


def environment(root: Path, **fault: object) -> dict[str, str]:
    """What a program that works under `root` alone finds in its environment beside this one's."""
    fault |= {"root": root, "count": root.with_suffix(".count")}
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    own = {"MINARI_DATASETS_PATH": str(root / "store"), "PYTHONPATH": path, "WANDB_MODE": "disabled"}
    return {**own, **{f"FAULT_{key.upper()}": str(value) for key, value in fault.items()}}


def _live(words: list[str], root: Path, variables: dict[str, str]) -> None:
    """The life of a program: a session of its own, its words in a file, its steps counted."""
    os.setsid()
    os.chdir(root)
    os.environ |= variables
    log = os.open(root.with_suffix(".log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    runpy.run_path(str(HERE / "sitecustomize.py"))
    collection.collect.__kwdefaults__["shard_steps"] = SHARD_STEPS
    sys.exit(cli.main(words))


def start(words: list[str], root: Path, **fault: object) -> BaseProcess:
    """`cdsa` with these words; forked from a process that has imported it, since a kill before that harms nothing."""
    root.with_suffix(".count").unlink(missing_ok=True)
    process = _FORKS.Process(target=_live, args=(words, root, environment(root, **fault)))
    process.start()
    return process


def log(root: Path) -> str:
    """What the programs in `root` have said."""
    return root.with_suffix(".log").read_text(errors="replace")


def finish(words: list[str], root: Path) -> None:
    """One run to its end."""
    process = start(words, root)
    process.join(PATIENCE)
    assert process.exitcode == 0, log(root)


def undisturbed(words: list[str], root: Path) -> Undisturbed:
    """A run that nobody kills."""
    imports = _FORKS.Process(target=int)
    imports.start()
    imports.join()
    begun = time.monotonic()
    finish(words, root)
    return Undisturbed(root, time.monotonic() - begun, root.with_suffix(".count").stat().st_size)


def killed(process: BaseProcess, root: Path, after: float) -> bool:
    """Kill the program's group at that moment, unless it ends before; whether it was killed."""
    process.join(after)
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # before it has a group of its own
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL), log(root)
    return process.exitcode != 0


def survive(
    words: Callable[[Path], list[str]],
    fresh: Callable[[], Path],
    model: Undisturbed,
    whole: Callable[[Path], None],
    same: Callable[[Path, Path], None],
    kills: int = 20,
    seed: int = 0,
) -> int:
    """Kill runs until `kills` have been, going on with each until it ends; compare every end with the undisturbed one.

    Every second kill comes at a random time of the undisturbed run's duration, the others at one of its steps of
    writing, or some milliseconds later.

    Args:
        words: The command that starts or goes on with the run in a folder.
        fresh: A new folder.
        model: The undisturbed run.
        whole: Raises where a file under its final name is not whole.
        same: Raises where the two folders hold other results.
        kills: How many.
        seed: Of the moments.

    Returns:
        How many runs came to their end.
    """
    rng, root, done, ended = np.random.default_rng(seed), fresh(), 0, 0
    while done < kills:
        if done % 2:
            process, after = start(words(root), root), rng.uniform(0, model.seconds)
        else:
            step, delay = rng.integers(1, model.steps + 1), rng.choice([0, rng.uniform(0, 0.02)])
            process, after = start(words(root), root, step=step, delay=delay), PATIENCE
        if killed(process, root, after):
            done += 1
            whole(root)
        else:  # it was faster than its killer
            same(model.root, root)
            root, ended = fresh(), ended + 1
    finish(words(root), root)
    whole(root)
    same(model.root, root)
    print(f"{done} kills survived of {done} in {ended + 1} runs, each {model.seconds:.1f} s where undisturbed.")
    return ended + 1

"""What a worker of `cdsa benchmark` does with one node of the grid: train with `cdsa fit`, or evaluate a cell.

All output goes to the node's log.txt. A training that was stopped goes on from its last.ckpt. A worker far away takes
what it needs from the storage, works on its own disk, and sends what it made, done.json last.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from cdsa_lightning.collection import checkpoint_sha256
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import digest_of, seal, whole_file
from cdsa_lightning.grid.facts import Facts
from cdsa_lightning.grid.nodes import DONE, Node, done_record, finish, steps_taken
from cdsa_lightning.grid.storage import Mirror, Storage
from cdsa_lightning.runs import CHECKPOINT, newest_checkpoint, newest_corrector

__all__ = ["FINGERPRINTS", "do", "do_far"]

FINGERPRINTS = "fingerprints.json"
_EVERY = 60.0  # seconds between two looks for a new checkpoint


def do(node: Node, root: Path) -> None:
    """Make `node` in its directory under `root`; done.json is written last.

    Raises:
        InputError: what `cdsa fit` or an evaluation refuses, or other data here than those of the plan.
    """
    import torch

    torch.set_num_threads(1)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]  # Lightning would take them for the training's own: it is one process, whatever started it
    directory = root / node.path
    directory.mkdir(parents=True, exist_ok=True)
    started, taken = time.monotonic(), steps_taken(directory)
    with _logged(directory / "log.txt"):
        made = _evaluate(node, root) if node.kind == "cell" else _train(node, root)
    finish(root, node, time.monotonic() - started, made, taken)


def do_far(node: Node, url: str, mark: str, every: float = _EVERY) -> None:
    """Make `node` on this machine's disk, out of the storage at `url` and into it.

    Args:
        node: What to make.
        url: A path or URL of fsspec's.
        mark: That of the storage.
        every: Seconds between two looks for a new checkpoint to send.

    Raises:
        InputError: as `do`, or the storage is another or cannot be reached.
    """
    storage = Storage(url)
    storage.expect(mark)
    with tempfile.TemporaryDirectory(prefix="cdsa-") as folder:
        mirror = Mirror(storage, Path(folder).resolve(), last=(CHECKPOINT, DONE))
        if not _fetch(node, mirror):
            with _sending(mirror, None if node.kind == "cell" else every):
                do(node, mirror.root)
                if node.kind == "cell":
                    _name_in_storage(mirror.root / node.path / "report.json", mirror)


def _fetch(node: Node, mirror: Mirror) -> bool:
    """Take what `node` needs, or the last state of its training; whether it is done already."""
    names = mirror.storage.names(node.path)
    if f"{node.path}/{DONE}" in names:  # by a machine that was lost after it had finished
        mirror.take([f"{node.path}/{DONE}"])
        if done_record(mirror.root, node.path):
            return True
    if f"{node.path}/log.txt" in names:
        mirror.take([f"{node.path}/log.txt"])
    for path in node.needs.values():
        mirror.take([f"{path}/{DONE}"])
        if said := done_record(mirror.root, path):
            mirror.take([f"{path}/{said['made']['file']}"])
    # Runs are named by their times; an older one was given up.
    runs = (name.removesuffix(f"/{CHECKPOINT}") for name in names if name.endswith(f"/{CHECKPOINT}"))
    if newest := max(runs, key=lambda run: run.rpartition("/")[2], default=None):
        mirror.take(name for name in names if name.startswith(f"{newest}/"))
        _drop_if_damaged(mirror.root / newest, mirror.root / node.path / "log.txt")
    return False


def _drop_if_damaged(run: Path, log: Path) -> None:
    from cdsa_lightning.checkpoints import read_checkpoint

    try:
        read_checkpoint(run / CHECKPOINT)
    except InputError as error:  # not every file system shows files whole or not at all
        with log.open("a", encoding="utf-8") as file:
            file.write(f"Starts anew: {error}\n")
        shutil.rmtree(run)


@contextmanager
def _sending(mirror: Mirror, every: float | None) -> Iterator[None]:
    """Send all at the end, however it ends, and checkpoints as they are written where `every` is a time."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(every):
            try:
                mirror.send()
            except (InputError, OSError) as error:  # the next time, or at the end
                print(f"Not sent: {error}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=follow, daemon=True)
    if every is not None:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if every is not None:
            thread.join()
        mirror.send()


def _name_in_storage(report: Path, mirror: Mirror) -> None:
    """The files that a report names lie in the storage, not in a folder that is about to go."""
    text = report.read_text(encoding="utf-8").replace(f'"{mirror.root}/', f'"{mirror.storage.url}/')
    with whole_file(report) as place:
        place.write_bytes(seal(text.encode()))


def _check_data(node: Node, root: Path) -> None:
    """See that this machine's data are those of the plan."""
    wanted = node.settings["fingerprint"]
    if not wanted:  # it learns from its own experience
        return
    here = Facts({node.task: node.about["source"]}, root / FINGERPRINTS)(node.task)
    if here.problem:
        raise InputError(f"On {platform.node()}: {here.problem}")
    if here.fingerprint != wanted:
        raise InputError(
            f"The data of {node.task!r} on {platform.node()} are others than those of the plan: {here.source} has the "
            f"fingerprint {here.fingerprint[:12]}, expected {wanted[:12]}. Bring the same files to every machine."
        )


def _train(node: Node, root: Path) -> dict[str, Any]:
    from cdsa_lightning.commands.fit import main

    _check_data(node, root)
    directory = root / node.path
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(node.settings["config"], sort_keys=False), encoding="utf-8")
    before = newest_checkpoint(root=directory)
    main([*_options(node, config, directory), *(["--ckpt_path", str(before)] if before else [])])
    found = newest_corrector(root=directory) if node.kind == "fit" else newest_checkpoint(root=directory)
    if found is None:
        what = f"The training of {node.name!r} on {node.task!r} left no result in {directory}"
        raise InputError(f"{what}. Delete that folder to train anew.")
    return {"file": str(found.relative_to(directory))}


def _options(node: Node, config: Path, directory: Path) -> list[str]:
    settings = node.settings
    given: dict[str, Any] = {
        "data.task": node.task,
        **({"data.source": node.about["source"]} if node.about["source"] else {}),
        "model.seeds": str(settings["seeds"]).replace(" ", ""),
        **({"trainer.max_steps": settings["max_steps"]} if settings["max_steps"] else {}),
        "wandb": "off",
        "runs": directory,
        **settings["options"],
    }
    return ["--config", str(config), *(word for key, value in given.items() for word in (f"--{key}", _word(value)))]


def _word(value: Any) -> str:
    return (
        str(value) if isinstance(value, str | Path) else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]
    )


def _evaluate(node: Node, root: Path) -> dict[str, Any]:
    from cdsa_lightning.grid.cells import RECORD, evaluate_cell

    files: dict[str, Path | None] = {"train": None, "fit": None}
    for kind, path in node.needs.items():
        said = done_record(root, path)
        if said is None:
            raise InputError(f"{path} is needed and not done.")
        files[kind] = root / path / said["made"]["file"]
    evaluate_cell(node, root / node.path, _given_checkpoint(node) or files["train"], files["fit"])
    return {"file": RECORD, "sha256": digest_of(root / node.path / RECORD)}


def _given_checkpoint(node: Node) -> Path | None:
    """The file that a grid names instead of training; seen to be that of the plan."""
    if not node.about.get("checkpoint"):
        return None
    path = Path(node.about["checkpoint"])
    if not path.exists():
        raise InputError(f"On {platform.node()} there is no checkpoint {path}. Bring it there, to every machine.")
    if checkpoint_sha256(path) != node.settings["checkpoint"]:
        raise InputError(f"The checkpoint {path} on {platform.node()} is another than that of the plan.")
    return path


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append what this process and its libraries print to `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)

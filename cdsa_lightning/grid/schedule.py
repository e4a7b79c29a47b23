r"""Making what is missing of a grid, in the order of its needs.

done      its done.json is there            to do     everything that it needs is done, or will be
failed    it was tried; error.txt says why  blocked   data are missing, or something that it needs failed
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.local import Executor, WorkError
from cdsa_lightning.grid.nodes import DONE, Node, done_record, steps_taken

__all__ = ["ERROR", "State", "alone", "estimate", "make", "states"]

ERROR = "error.txt"


@dataclass(frozen=True)
class State:
    """How far a node is: done, to do, blocked or failed; and why, or what happened before."""

    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


def states(nodes: Sequence[Node], root: Path) -> dict[str, State]:
    """How far each node is, by path."""
    found: dict[str, State] = {}
    for node in nodes:
        blocked = next((path for path in node.needs.values() if found[path].what == "blocked"), None)
        if done_record(root, node.path):
            found[node.path] = State("done")
        elif node.problem or blocked:
            found[node.path] = State("blocked", node.problem or found[str(blocked)].why)
        else:
            found[node.path] = State("to do", _failed_before(root / node.path / ERROR))
    return found


def estimate(nodes: Sequence[Node], root: Path) -> dict[str, float | None]:
    """Seconds that what is left of each node will take, judged by those of its kind and name that are done, on the same
    task if there are any; None where there is none."""
    records = [done_record(root, str(path.parent.relative_to(root))) for path in sorted(root.glob(f"*/*/*/{DONE}"))]
    known: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for said in filter(None, records):
        for key in ((said["kind"], said["name"], said["task"]), (said["kind"], said["name"])):
            known.setdefault(key, []).append((said["seconds"], said["amount"]))
    guesses: dict[str, float | None] = {}
    for node in nodes:
        alike = known.get((node.kind, node.name, node.task)) or known.get((node.kind, node.name)) or []
        seconds, amount = map(sum, zip(*alike, strict=True)) if alike else (0, 0)
        guesses[node.path] = seconds / amount * (node.amount - steps_taken(root / node.path)) if amount else None
    return guesses


def make(
    nodes: Sequence[Node],
    root: Path,
    work: Callable[[Node], Any],
    executor: Executor,
    say: Callable[[Node, State], None],
) -> dict[str, State]:
    """Make every node that is to do, each as soon as what it needs is done.

    Args:
        nodes: Those of `expand`.
        root: The output directory, or this machine's copy of it.
        work: Makes one node; called in a worker.
        executor: Where.
        say: Told of every change.

    Returns:
        The final state of each node, by path: done, failed or blocked.
    """
    found = states(nodes, root)
    waiting = [node for node in nodes if found[node.path].what == "to do"]
    running: dict[Future[Any], Node] = {}

    def settle(node: Node, state: State) -> None:
        found[node.path] = state
        say(node, state)

    while waiting or running:
        for node in list(waiting):
            needed = [found[path] for path in node.needs.values()]
            bad = next((path for path in node.needs.values() if found[path].what in ("failed", "blocked")), None)
            if bad is not None:
                settle(node, State("blocked", f"{bad} {found[bad].what}"))
                waiting.remove(node)
            elif all(state.what == "done" for state in needed):
                running[executor.submit(work, node)] = node
                waiting.remove(node)
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            node = running.pop(future)
            settle(node, _outcome(future, root / node.path))
    return found


def _outcome(future: Future[Any], directory: Path) -> State:
    try:
        future.result()
    except WorkError as error:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ERROR).write_text(f"{error}\n\n{error.detail}\n", encoding="utf-8")
        return State("failed", " ".join(str(error).split()))
    (directory / ERROR).unlink(missing_ok=True)
    return State("done")


def _failed_before(path: Path) -> str:
    try:
        return f"failed before, {path.read_text(encoding='utf-8').partition(chr(10))[0]}"
    except OSError:
        return ""


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep other programs from making the same grid at the same time; the lock ends with the process.

    Raises:
        InputError: another program is at it, or the directory cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / ".lock").open("w")
    except OSError as error:
        raise InputError(f"Cannot write {root}: {error.strerror or error}. Choose another --output.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Another 'cdsa benchmark' is at work in {root}: wait for it, or choose another --output."
            ) from None
        yield

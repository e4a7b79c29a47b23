r"""Which data a task has on this machine: source, provenance, fingerprint, or why there are none.

The fingerprint (SHA-256 of all arrays) needs the whole data set; it is kept with size and time of its files, so that a
plan for data that did not change reads none of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import write_json
from cdsa_lightning.sources import locate, stamp
from cdsa_lightning.tasks import get_task
from cdsa_lightning.untrusted import read_json

__all__ = ["DataFacts", "Facts"]


@dataclass(frozen=True)
class DataFacts:
    """What training on a task's data depends on; `problem` says why there are none."""

    source: str = ""
    provenance: str = ""
    fingerprint: str = ""
    problem: str = ""


class Facts:
    """The data of tasks, each looked at once.

    Args:
        sources: Task -> source instead of its own.
        kept: A file of fingerprints that were computed before; need not exist.
    """

    def __init__(self, sources: dict[str, str] | None = None, kept: Path | None = None) -> None:
        self.sources, self.kept = sources or {}, kept
        self.known: dict[str, DataFacts] = {}
        self.table = _read(kept)

    def __call__(self, task: str) -> DataFacts:
        """What is known about the data of `task`."""
        if task not in self.known:
            self.known[task] = self._look(task)
        return self.known[task]

    def keep(self) -> None:
        """Write the fingerprints for the next plan."""
        if self.kept is not None and self.table != _read(self.kept):
            write_json(self.table, self.kept, "Choose another --output.")

    def _look(self, name: str) -> DataFacts:
        task = get_task(name)
        try:
            source = self.sources.get(name) or task.local_source()
            place = locate(source) if source else None
            if source and place is None and not source.startswith("npz:"):  # a file is not downloaded
                command = f"cdsa fit --data.task {name} --data.source {source}"
                return DataFacts(source, problem=f"{source} is not on this machine; '{command}' would download it")
            mark = stamp(place) if place else []
            entry = self.table.get(str(source))
            if entry and mark and entry["stamp"] == mark:
                return DataFacts(**entry["facts"])
            data = task.transitions(source)  # says what to do where there are none
        except InputError as error:
            return DataFacts(problem=str(error))
        facts = DataFacts(str(source), data.provenance, data.fingerprint)
        self.table[str(source)] = {"stamp": mark, "facts": asdict(facts)}
        return facts


def _read(path: Path | None) -> dict[str, Any]:
    try:
        table = {} if path is None else read_json(path)
        return {key: entry for key, entry in table.items() if set(entry) == {"stamp", "facts"}}
    except (OSError, ValueError, AttributeError, TypeError):  # computed again where it is missing or damaged
        return {}

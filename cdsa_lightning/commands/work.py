"""What a worker of `cdsa benchmark` does with one node of the grid: train with `cdsa fit`, or evaluate a cell.

All output goes to the node's log.txt. A training that was stopped goes on from its last.ckpt.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.nodes import Node, done_record, finish
from cdsa_lightning.runs import CHECKPOINT, CORRECTOR

__all__ = ["do"]


def do(node: Node, root: Path) -> None:
    """Make `node` in its directory under `root`; done.json is written last.

    Raises:
        InputError: what `cdsa fit` or an evaluation refuses.
    """
    import torch

    torch.set_num_threads(1)
    directory = root / node.path
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with _logged(directory / "log.txt"):
        made = _evaluate(node, root) if node.kind == "cell" else _train(node, directory)
    finish(root, node, time.monotonic() - started, made)


def _train(node: Node, directory: Path) -> dict[str, Any]:
    from cdsa_lightning.commands.fit import main

    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(node.settings["config"], sort_keys=False), encoding="utf-8")
    result = CORRECTOR if node.kind == "fit" else CHECKPOINT
    before = _newest(directory, CHECKPOINT)
    main([*_options(node, config, directory), *(["--ckpt_path", str(before)] if before else [])])
    found = _newest(directory, result)
    if found is None and before:
        # Stopped after its last step, before the corrector was written: there is no step left to take.
        shutil.rmtree(before.parent)
        main(_options(node, config, directory))
        found = _newest(directory, result)
    if found is None:
        raise InputError(f"The training of {node.name!r} on {node.task!r} left no {result} in {directory}.")
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


def _newest(directory: Path, name: str) -> Path | None:
    found = sorted(directory.glob(f"*/*/*/{name}"), key=lambda path: path.stat().st_mtime_ns)
    return found[-1] if found else None


def _evaluate(node: Node, root: Path) -> dict[str, Any]:
    from cdsa_lightning.grid.cells import RECORD, evaluate_cell

    files: dict[str, Path | None] = {"train": None, "fit": None}
    for kind, path in node.needs.items():
        said = done_record(root, path)
        if said is None:
            raise InputError(f"{path} is needed and not done.")
        files[kind] = root / path / said["made"]["file"]
    evaluate_cell(node, root / node.path, files["train"], files["fit"])
    return {"file": RECORD}


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

r"""Where runs live on disk, and how later commands find them.

    runs/<task>/<name>/<run id>/{last.ckpt, config.yaml, metrics.csv, corrector.safetensors}
    runs/<task>/evaluate/<run id>/{report.json, ...}

`name` is ``cdsa`` or a baseline's. Run ids are times, so that they sort; newest means the newest file.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cdsa_lightning.core.artifact import read_header
from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import read_json

__all__ = ["CHECKPOINT", "CORRECTOR", "new_run", "newest_checkpoint", "newest_corrector", "newest_evaluation"]

CHECKPOINT = "last.ckpt"
CORRECTOR = "corrector.safetensors"


def new_run(task: str, name: str, root: str | Path = "runs") -> Path:
    """A new, empty directory for one run.

    Raises:
        InputError: it cannot be made there.
    """
    parent = Path(root) / task / name
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        path = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            path.mkdir(parents=True)
        except OSError as error:
            if not path.is_dir():
                raise InputError(
                    f"Cannot make the run directory {path}: {error.strerror}. Name another root."
                ) from None
            number += 1
        else:
            return path


def _newest(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.parent.name), reverse=True)


def newest_checkpoint(name: str | None = None, task: str | None = None, root: str | Path = "runs") -> Path | None:
    """The newest checkpoint, of one baseline or any, on one task or on any; None where there is none."""
    return next(iter(_newest(Path(root).glob(f"{task or '*'}/{name or '*'}/*/{CHECKPOINT}"))), None)


def newest_corrector(task: str | None = None, preset: str | None = None, root: str | Path = "runs") -> Path | None:
    """The newest corrector, of one task or any, of one preset or any; None where there is none."""
    for path in _newest(Path(root).glob(f"{task or '*'}/cdsa/*/{CORRECTOR}")):
        try:
            header = read_header(path)
        except InputError:  # another format's leftover must not hide a good one
            continue
        if preset is None or header.get("preset") == preset:
            return path
    return None


def newest_evaluation(
    task: str | None = None, baseline: str | None = None, root: str | Path = "runs", corrected: bool = False
) -> Path | None:
    """The directory of the newest evaluation, of one task or any, of one baseline or any; None where there is none.

    Args:
        task: Its name.
        baseline: What was evaluated.
        root: Where runs are kept.
        corrected: Only one that also ran the corrected baseline.
    """
    for path in _newest(Path(root).glob(f"{task or '*'}/evaluate/*/report.json")):
        try:
            about = read_json(path)["about"]
            chosen = baseline in (None, about["options"]["baseline"]) and not (corrected and not about.get("corrector"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a leftover must not hide a good one
            continue
        if chosen:
            return path.parent
    return None

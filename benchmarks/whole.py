"""The time of whole commands: what benchmarks of processes share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["COMMAND", "seconds"]

COMMAND = [sys.executable, "-m", "cdsa_lightning.cli"]


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds (user and system) of one command with its children, run in `folder`."""
    started = time.monotonic()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{(folder / 'output.txt').read_text()[-2000:]}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime

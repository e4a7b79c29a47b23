r"""What the machine can give: memory, asked for before it is taken, and a sentence for what it could not give.

A kernel that overcommits grants every allocation and kills the program when the pages are used; so what a number that
a user chose will take is estimated and compared with what is available, before anything is made. Standard library only.
"""

from __future__ import annotations

import errno
from pathlib import Path

from cdsa_lightning.errors import InputError

__all__ = ["available_memory", "explained", "require_memory"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def available_memory() -> int | None:
    """Bytes that can be taken on this machine, within the limit of its container; None where nothing says."""
    try:
        facts = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = 1024 * int(facts["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # no Linux
        return None
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return free


def require_memory(needed: int, what: str, remedy: str, available: int | None) -> None:
    """See that there is room.

    Args:
        needed: Bytes.
        what: What takes them, the start of the error.
        remedy: A sentence for its end.
        available: Bytes; None where it is not known, which allows everything.

    Raises:
        InputError: there is not.
    """
    if available is not None and needed > available:
        raise InputError(f"{what} would take {_size(needed)} of memory, and {_size(available)} are free. {remedy}")


def explained(error: BaseException) -> str | None:
    """One sentence for an error that the machine caused: memory, disk, a process that was lost; None for any other."""
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"Cannot write or read {error.filename or 'a file'}: {error.strerror}."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return f"Out of memory: {text or 'an allocation failed'}"[:200].rstrip(". ") + "."
    if isinstance(error, RuntimeError) and any(word in text.lower() for word in ("gloo", "nccl", "c10d")):
        reason = text.split("] ", 1)[-1].partition(". ")[0]  # without the place in the library
        return f"Another process of this program was lost: {reason[:160]}."
    return None


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"

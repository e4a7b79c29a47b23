"""Python imports this by itself in every program that `killing` starts: it ends them at their n-th step of writing.

A step is an opening for writing, a renaming, a removal or a new folder under FAULT_ROOT; the kernel's own kill comes
FAULT_DELAY seconds later, or at once. Without FAULT_STEP the steps are only counted, a byte each in FAULT_COUNT. Where
FAULT_ERRNO is set, the disk answers that from the n-th step on, and the program lives.
"""

import os
import signal
import sys
import threading
import time

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STEPS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
_root, _count = os.environ.get("FAULT_ROOT"), os.environ.get("FAULT_COUNT")
_step, _delay = int(os.environ.get("FAULT_STEP", "0")), float(os.environ.get("FAULT_DELAY", "0"))
_errno = int(os.environ.get("FAULT_ERRNO", "0"))
# The first program leads the group; its workers have sessions of their own.
_group = int(os.environ.setdefault("FAULT_GROUP", str(os.getpid())))


def _writes(event, args):
    if event == "open":
        return isinstance(args[2], int) and bool(args[2] & _WRITES)
    return event in _STEPS


def _kill():
    time.sleep(_delay)
    os.killpg(_group, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(event, args):
    if not _writes(event, args) or not isinstance(args[0], str | bytes | os.PathLike):
        return
    path = os.path.abspath(os.fsdecode(args[0]))
    if not path.startswith(_root + os.sep) or path == _count:
        return
    file = os.open(_count, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b".")
    os.close(file)
    if _errno and os.path.getsize(_count) >= _step and event != "os.remove":
        raise OSError(_errno, os.strerror(_errno), path)
    if _step and not _errno and os.path.getsize(_count) == _step:
        threading.Thread(target=_kill).start() if _delay else _kill()


if _root and _count:
    sys.addaudithook(_watch)

r"""Worker processes on this machine. An executor is anything with ``submit(function, *args) -> Future``.

A worker serves one call after another, so that imports are paid once. One that dies takes its call along and nothing
else: the call fails, and the next one gets a new worker. Workers have a session of their own, so that Ctrl-C on a
terminal reaches them once, through `close`; they end by themselves when their parent is gone, however it went.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from cdsa_lightning.errors import InputError

__all__ = ["Executor", "LocalExecutor", "WorkError", "answer"]

_PATIENCE = 60.0  # seconds for a worker to write its checkpoint after Ctrl-C


class Executor(Protocol):
    """Where the nodes of a grid are made."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call `function`, which can be imported by name, with plain arguments; the future raises `WorkError`."""


class WorkError(Exception):
    """A call that failed in its worker: one sentence, and `detail` for whoever looks into it."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail or text


class LocalExecutor:
    """`workers` processes; use it as a context, which ends them.

    Raises:
        InputError: fewer than one worker.
    """

    def __init__(self, workers: int = 2) -> None:
        if workers < 1:
            raise InputError(f"workers must be at least 1, got {workers}.")
        self._threads = ThreadPoolExecutor(workers)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._closing = False
        self._lock = threading.Lock()

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call `function` in the next worker that is free."""
        return self._threads.submit(self._call, function, args)

    def close(self) -> None:
        """Interrupt what is running, as Ctrl-C would, and end all workers."""
        with self._lock:
            self._closing = True
            busy, idle = list(self._busy), list(self._idle)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in busy:
            worker.interrupt()
        for worker in idle:
            worker.pipe.close()
        deadline = time.monotonic() + _PATIENCE
        try:
            for worker in busy + idle:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for worker in busy + idle:
                worker.process.kill()
                worker.process.join()

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._closing:
                raise WorkError("interrupted")
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.append(worker)
        try:
            worker.pipe.send((function, args))
            good, *said = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            raise WorkError(f"The worker ended with status {worker.process.exitcode}.") from None
        finally:
            with self._lock:
                self._busy.remove(worker)
                if worker.process.is_alive() and not self._closing:
                    self._idle.append(worker)
        if good:
            return said[0]
        raise WorkError(*said)


class _Worker:
    """A process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,))
        self.process.start()
        other.close()  # so that its end is noticed

    def interrupt(self) -> None:
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, signal.SIGINT)


def _serve(pipe: Connection) -> None:
    """The life of a worker."""
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while True:
            function, args = pipe.recv()
            pipe.send(answer(function, args))
    except (EOFError, OSError, KeyboardInterrupt):  # nobody asks any more
        return


def answer(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a worker says of a call: True and its result, or False with the text and detail of a `WorkError`."""
    try:
        return True, function(*args)
    except InputError as error:
        return False, str(error), traceback.format_exc()
    except (Exception, SystemExit) as error:  # A stranger's baseline may raise anything; other calls go on.
        return False, f"{type(error).__name__}: {error}", traceback.format_exc()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # two programs must not write the same run

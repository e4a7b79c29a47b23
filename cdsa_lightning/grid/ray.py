r"""The machines of a Ray cluster as an executor: one Ray task a call, with what it needs of CPUs and GPUs.

Ray calls again what was under way on a machine that is lost; what a call raises by itself is told at once. Calls answer
as those of local workers do, so that no exception has to travel.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType
from typing import Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.grid.local import WorkError, answer

__all__ = ["RayExecutor"]

_RETRIES = 5  # of a call whose machine or process was lost
_PATIENCE = 60.0  # seconds for calls to write their checkpoints after Ctrl-C
_PASSED = ("MINARI_DATASETS_PATH", "D4RL_DATASET_DIR")  # where data lie
_RECORD = "ray_current_cluster"
_REMEDY = (
    "Start one with 'ray start --head' here and 'ray start --address HOST:6379' on the other machines, name another "
    "with --address HOST:PORT, or leave --address out."
)


class RayExecutor:
    """The cluster at `address`; use it as a context, which leaves the cluster.

    Args:
        address: ``HOST:PORT`` or ``auto``; None for the cluster of the variable RAY_ADDRESS, else one that runs on this
            machine, else one of this machine alone that ends with the program.
        needs: The resources of a call by its arguments, as ``{"num_gpus": 0.25}``; one CPU where nothing is said.

    Raises:
        InputError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, address: str | None = None, needs: Callable[..., dict[str, float]] | None = None) -> None:
        self._ray, self._needs = _import_ray(), needs or (lambda *args: {})
        _join(self._ray, address)
        self._call = self._ray.remote(max_retries=_RETRIES)(answer)
        self._running: dict[Any, Future[Any]] = {}
        found = self._ray.cluster_resources()
        self.machines = sum(node["Alive"] for node in self._ray.nodes())
        self.cpus, self.gpus = int(found.get("CPU", 0)), float(found.get("GPU", 0))

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call `function` on a machine that has what it needs free."""
        needs = {"num_cpus": 1, **self._needs(*args)}
        variables = {name: os.path.abspath(os.environ[name]) for name in _PASSED if os.environ.get(name)}
        if self.gpus and not needs.get("num_gpus"):
            variables["CUDA_VISIBLE_DEVICES"] = ""  # what asked for none shall not crowd the first one
        environment = {"runtime_env": {"env_vars": variables}} if variables else {}
        reference = self._call.options(**needs, **environment).remote(function, args)
        told: Future[Any] = Future()
        self._running[reference] = told
        reference.future().add_done_callback(lambda done: self._settle(reference, done, told))
        return told

    def close(self) -> None:
        """Interrupt what is running, as Ctrl-C would, and leave the cluster."""
        left = list(self._running)
        for reference in left:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference)
        deadline = time.monotonic() + _PATIENCE
        try:
            while self._running and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            self._ray.shutdown()

    def _settle(self, reference: Any, done: Future[Any], told: Future[Any]) -> None:
        try:
            good, *rest = done.result()
            failed = None if good else WorkError(*rest)
        except Exception as error:  # All that Ray tells of lost machines, dead processes and what cannot be imported.
            first = next((line for line in str(error).splitlines() if line.strip()), "")
            failed = WorkError(f"{type(error).__name__}: {first.strip()}", str(error))
        self._running.pop(reference, None)
        told.set_exception(failed) if failed else told.set_result(rest[0])


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"--executor ray needs Ray, on every machine: pip install 'cdsa-lightning[ray]' ({error})."
        ) from None
    return ray


def _join(ray: ModuleType, address: str | None) -> None:
    given = address or os.environ.get("RAY_ADDRESS")
    if given in (None, "auto"):
        left = _recorded()
        if left and _silence(left):  # of a cluster that ended without 'ray stop'
            if given:
                raise InputError(f"No Ray cluster at {left}, which {_RECORD} names: {_silence(left)}. {_REMEDY}")
            given = "local"
    elif given != "local" and (reason := _silence(given)):
        raise InputError(f"No Ray cluster at {given}: {reason}. {_REMEDY}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that starts here: nobody was asked
    try:
        ray.init(given, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, ImportError, SystemExit, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"No Ray cluster at {given or 'hand'}: {reason}. {_REMEDY}") from None


def _recorded() -> str | None:
    """The cluster that 'ray start' began last on this machine."""
    try:
        return Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", _RECORD).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _silence(address: str) -> str:
    """Why nobody answers at `address`; empty where somebody does. Ray would try for minutes, and end the program."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return "an address is HOST:PORT or auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""

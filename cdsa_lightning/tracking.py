r"""Weights & Biases without surprises: with a key it is online, without one offline, and nothing ever asks or waits.

Offline runs are files beside the results; ``wandb sync DIR`` uploads them later. Where nobody answers, what was to be
online is kept offline, and that is said.
"""

from __future__ import annotations

import netrc
import os
import socket
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from cdsa_lightning.errors import InputError, unknown_name

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger
    from wandb.sdk.wandb_run import Run

__all__ = ["MODES", "PROJECT", "start_run", "wandb_logger", "wandb_mode"]

MODES = ("auto", "online", "offline", "off")
PROJECT = "cdsa"
_PATIENCE = 5.0  # seconds for somebody to take the call
_ANSWER = 30.0  # seconds for an answer that begins a run; W&B's own patience is a minute and a half


def _has_key() -> bool:
    # Asked of the files, not of wandb: once asked, it fixes its settings and an offline run then demands a login.
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(Path.home() / ".netrc").authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_mode(mode: str) -> str:
    """``online``, ``offline`` or ``off`` for what a user chose.

    Args:
        mode: One of `MODES`; ``auto`` is WANDB_MODE where set, else online with a key and offline without.

    Raises:
        UnknownNameError: another word.
    """
    if mode not in MODES:
        raise unknown_name("W&B mode", mode, MODES)
    os.environ.setdefault("WANDB_SILENT", "true")
    if mode != "auto":
        return mode
    chosen = os.environ.get("WANDB_MODE", "")
    if chosen in ("online", "offline"):
        return chosen
    if chosen == "disabled":
        return "off"
    return "online" if _has_key() else "offline"


def _silence() -> str:
    """Why W&B cannot be reached; empty where somebody answers."""
    url = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    scheme = urlsplit(url).scheme
    try:
        at = urlsplit(urllib.request.getproxies().get(scheme, url))
        address = at.hostname or "", at.port or (443 if at.scheme == "https" else 80)
        socket.create_connection(address, timeout=_PATIENCE).close()
    except (OSError, ValueError, OverflowError) as error:
        return f"{url} does not answer ({getattr(error, 'strerror', None) or error})"
    return ""


def start_run(mode: str, directory: Path, **about: Any) -> Run:
    """A quiet W&B run that is kept under `directory`, for `mode` ``online`` or ``offline``.

    Args:
        mode: What `wandb_mode` answered; an online run is kept offline, which is told, where nobody answers.
        directory: The run directory.
        about: Further keywords of wandb.init, such as name and group.

    Raises:
        wandb.Error: W&B refuses the key.
    """
    import wandb

    def begin(mode: Literal["online", "offline"]) -> Run:
        # Lightning's own call passes what wandb warns about, and leaves its background threads at work.
        return wandb.init(mode=mode, **settings, **about)

    settings: dict[str, Any] = dict(
        project=PROJECT,
        dir=str(directory.resolve()),  # its service may have been started in another folder
        # An end of the network in the middle of a run must not keep the program for ever: the files are here.
        settings=wandb.Settings(
            silent=True, console="off", x_disable_stats=True, init_timeout=_ANSWER, finish_timeout=60.0
        ),
    )
    if mode != "online":
        return begin("offline")
    reason = _silence()
    if not reason:
        try:
            return begin("online")
        except wandb.errors.AuthenticationError:
            raise
        except wandb.Error as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]  # what follows is advice about W&B's code
    print(f"cdsa: W&B cannot be reached: {reason}. The run is kept offline in {directory}.", file=sys.stderr)
    return begin("offline")


def wandb_logger(mode: str, directory: Path, group: str, name: str) -> WandbLogger:
    """A logger whose run is kept under `directory`, for `mode` ``online`` or ``offline``.

    Raises:
        InputError: W&B refuses the key.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    class Logger(WandbLogger):
        def finalize(self, status: str) -> None:
            """End the run, so that the next of this process gets one of its own."""
            super().finalize(status)
            run.finish(0 if status == "success" else 1)

    try:
        run = start_run(mode, directory, group=group, name=name)
    except wandb.Error as error:
        raise InputError(f"W&B cannot be used: {error}. Keep the run here with --wandb offline.") from None
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return Logger(experiment=run, save_dir=directory)

r"""Weights & Biases without surprises: with a key it is online, without one offline, and nothing ever asks or waits.

Offline runs are files beside the results; ``wandb sync DIR`` uploads them later.
"""

from __future__ import annotations

import netrc
import os
from pathlib import Path

from cdsa_lightning.errors import unknown_name

__all__ = ["MODES", "PROJECT", "wandb_mode"]

MODES = ("auto", "online", "offline", "off")
PROJECT = "cdsa"


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

r"""One HTML file with all data, all drawing and no network: its policy allows its own script and pictures alone.

Names come from files that anyone may have written. They enter the page as JSON whose <, > and & are spelled \u003c,
\u003e, \u0026, so that none of them ends the script element, and the script puts them into the page as text alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from cdsa_lightning.dashboard.evaluations import Evaluation
from cdsa_lightning.dashboard.fits import Fit
from cdsa_lightning.dashboard.local import Local, newest
from cdsa_lightning.dashboard.panels import PANELS
from cdsa_lightning.errors import InputError
from cdsa_lightning.untrusted import regular_file

__all__ = ["page", "page_data"]

ROOM = 12_000_000
"""Bytes of pictures that a page may hold."""
_DRAWN = ("var_curve", "ablation")
"""Pictures whose content the page draws itself."""
_HARMLESS = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def page_data(local: Local, title: str) -> dict[str, Any]:
    """Everything that the page shows, as plain values.

    Args:
        local: What was found on disk.
        title: Of the page.

    Returns:
        title, panels, evaluations, fits, pictures and problems.
    """
    evaluations = [*local.evaluations, *local.cells]
    cells = {cell.run for cell in local.cells}
    last = newest(evaluations, lambda one: (one.task, one.baseline, one.preset, one.settings, str(one.run in cells)))
    fits = [*local.fits, *local.trainings]
    last_fits = newest(fits, lambda fit: (fit.task, fit.name))
    pictures, left_out = _pictures(evaluations, last)
    problems = list(local.problems)
    if left_out:
        problems.append(
            f"{left_out} pictures were left out: together they exceed {ROOM // 1_000_000} MB. They are in the runs."
        )
    return {
        "title": title,
        "panels": [{"id": name, "title": text, "about": about} for name, (text, about) in PANELS.items()],
        "evaluations": [_plain(one, one.run in last, one.run in cells) for one in evaluations],
        "fits": [_plain_fit(fit, fit.run in last_fits) for fit in fits],
        "pictures": pictures,
        "problems": problems,
    }


def page(data: dict[str, Any]) -> str:
    """The whole HTML file for what `page_data` returned."""
    style, script = _part("page.css"), "".join(_part(f"{name}.js") for name in ("charts", "panels", "page"))
    # One pass: what is put in is not looked at again, so a run may be called $script.
    return Template(_part("page.html")).substitute(
        title=html.escape(data["title"]),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_HARMLESS),
    )


def _part(name: str) -> str:
    return (files("cdsa_lightning.dashboard") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls a script or a style that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _plain(one: Evaluation, last: bool, cell: bool) -> dict[str, Any]:
    plain = asdict(one)
    for key in ("pictures", "time"):
        del plain[key]
    for arm in plain["arms"]:
        del arm["logged"]
    details = ", ".join(filter(None, (one.preset, one.settings, "grid" if cell else "")))
    return plain | {"newest": last, "details": details}


def _plain_fit(fit: Fit, last: bool) -> dict[str, Any]:
    return asdict(fit) | {"newest": last}


def _pictures(evaluations: list[Evaluation], last: set[str]) -> tuple[list[dict[str, str]], int]:
    """The pictures of the newest evaluations, newest first while there is room; how many there was no room for."""
    shown: list[dict[str, str]] = []
    room, left_out = ROOM, 0
    for one in reversed([one for one in evaluations if one.run in last]):
        for path in (path for path in one.pictures if path.stem not in _DRAWN):
            content = _read(path)
            if len(content) > room:
                left_out += 1
                continue
            room -= len(content)
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            shown.append(
                {"task": one.task, "baseline": one.baseline, "run": one.run, "name": path.stem, "source": source}
            )
    return shown, left_out


def _read(path: Path) -> bytes:
    try:
        with regular_file(path) as file:
            return file.read(ROOM + 1)
    except OSError as error:
        raise InputError(f"Cannot read the picture {path}: {error.strerror or error}.") from None

"""How a report is shown and kept: a table on the terminal, and files that outlive it.

A directory gets report.json (all numbers, with what made them), episodes.parquet (one row an episode) and
var_curve.png and .svg. Every file appears whole or not at all: it is written beside its place and moved there.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Difference, Report
from cdsa_lightning.metrics.bootstrap import Interval
from cdsa_lightning.plots import var_curve
from cdsa_lightning.tracking import start_run

__all__ = ["episode_table", "log_to_wandb", "save", "table", "versions", "write_figure"]

_PACKAGES = ("cdsa-lightning", "torch", "lightning", "numpy", "gymnasium", "mujoco")

# Rows of the table: statistic, label, format. A row appears where an arm has the statistic.
_ROWS = (
    ("normalized_score", "normalised score", "{:.1f}"),
    ("var_5", "VaR 5 %", "{:.1f}"),
    ("var_10", "VaR 10 %", "{:.1f}"),
    ("var_25", "VaR 25 %", "{:.1f}"),
    ("cvar_5", "CVaR 5 %", "{:.1f}"),
    ("cvar_10", "CVaR 10 %", "{:.1f}"),
    ("cvar_25", "CVaR 25 %", "{:.1f}"),
    ("violation_rate", "entered a risk region", "{:.1%}"),
    ("cost", "cost per episode", "{:.2f}"),
    ("success_rate", "reached the goal", "{:.1%}"),
    ("episode_length", "episode length", "{:.1f}"),
    ("forward_distance", "forward distance", "{:.2f}"),
    ("shift", "mean |delta a|", "{:.4f}"),
    ("clip_fraction", "clipped actions", "{:.1%}"),
)


def table(report: Report) -> Group:
    """The report for a terminal: a column an arm, and below it every corrected arm against its baseline."""
    shape = next(iter(report.arms.values())).returns.shape
    title = f"{report.task.name}: {shape[1]} episodes per training seed"
    arms = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    arms.add_column("", no_wrap=True)
    for name in report.arms:
        arms.add_column(name, justify="right", overflow="fold")
    values = list(report.statistics.values())
    arms.add_row("training seeds", *(str(episodes.returns.shape[0]) for episodes in report.arms.values()))
    arms.add_row("mean return +- se", *(f"{v['return']:.1f} +- {v['standard_error']:.1f}" for v in values))
    for key, label, form in _ROWS:
        if key == "normalized_score" and report.task.score_max is None:
            continue
        if any(key in v for v in values):
            arms.add_row(label, *(form.format(v[key]) if key in v else "" for v in values))
    if not report.differences:
        return Group(arms)
    gaps = Table(title="Difference to the baseline \\[95 % interval]", title_justify="left", box=SIMPLE_HEAD)
    for column in ("", "mean return", "CVaR 10 %", "verdict"):
        gaps.add_column(column, overflow="fold")
    for difference in report.differences:
        gaps.add_row(*_difference_row(difference))
    return Group(arms, gaps)


def _difference_row(difference: Difference) -> tuple[str, str, str, str]:
    colour = {"improved": "green", "harmed": "red", "no evidence": "yellow"}[difference.verdict]

    def text(interval: Interval) -> str:
        return f"{interval.estimate:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]".replace("[", "\\[")

    said = f"[{colour}]{difference.verdict}[/{colour}]"
    return difference.arm, text(difference.mean), text(difference.cvar_10), said


def episode_table(report: Report) -> pa.Table:
    """One row an episode: arm, seed, episode, return, normalized, length, terminated, shift, clip_fraction, infos."""
    keys = sorted({key for episodes in report.arms.values() for key in episodes.info})
    parts = []
    for name, episodes in report.arms.items():
        seeds, count = episodes.returns.shape
        columns: dict[str, Any] = {
            "arm": [name] * (seeds * count),
            "seed": np.repeat(np.arange(seeds), count),
            "episode": np.tile(np.arange(count), seeds),
            "return": episodes.returns.reshape(-1),
            "normalized": np.asarray(report.task.normalized_score(episodes.returns)).reshape(-1),
            "length": episodes.lengths.reshape(-1),
            "terminated": episodes.terminated.reshape(-1),
            "shift": episodes.shift.reshape(-1),
            "clip_fraction": episodes.clip_fraction.reshape(-1),
        }
        columns |= {key: np.asarray(episodes.info[key]).reshape(-1) for key in keys if key in episodes.info}
        parts.append(pa.table(columns))
    return pa.concat_tables(parts, promote_options="permissive")


def save(report: Report, directory: Path | str, about: dict[str, Any] | None = None) -> list[Path]:
    """Write report.json, episodes.parquet, var_curve.png and var_curve.svg into `directory`.

    Args:
        report: What to keep.
        directory: Made where it does not exist.
        about: Plain values that say what made the report: checkpoints, coefficients, the corrector's header.

    Returns:
        The files, in that order.

    Raises:
        InputError: the directory cannot be written, or `about` holds something that is no plain value.
    """
    directory = Path(directory)
    try:
        text = json.dumps({**report.to_json(), "about": about or {}, "versions": versions()}, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"`about` may hold plain, finite values only: {error}.") from None
    curve = var_curve(report)
    return [
        _write(directory / "report.json", lambda path: path.write_text(text + "\n", encoding="utf-8")),
        _write(directory / "episodes.parquet", lambda path: pq.write_table(episode_table(report), path)),
        write_figure(curve, directory / "var_curve.png"),
        write_figure(curve, directory / "var_curve.svg"),
    ]


def write_figure(figure: Figure, path: Path) -> Path:
    """Save `figure` in the format of `path`'s suffix, whole or not at all; returns `path`."""
    return _write(path, lambda place: figure.savefig(place, format=path.suffix[1:], dpi=150))


def log_to_wandb(report: Report, directory: Path, about: dict[str, Any], paths: list[Path], mode: str) -> list[str]:
    """One W&B run with the scalars, the tables and the pictures.

    Args:
        report: What to log.
        directory: Where W&B keeps its files.
        about: The run's configuration.
        paths: Files of `save`; the PNGs among them are logged as images.
        mode: online, offline or off.

    Returns:
        What a user should know, line by line: where the run is, or how to send it later.
    """
    if mode == "off":
        return []
    import wandb  # a second of import that only this function needs

    try:
        run = start_run(
            mode,
            directory,
            name=f"{report.task.name}/evaluate/{directory.name}",
            group=report.task.name,
            job_type="evaluate",
            config={"task": report.task.name, "seed": report.seed, **about},
        )
    except wandb.Error as error:  # a wrong key or no network: the files are written, only this copy is missing
        return [f"W&B: not logged, {error}. --wandb offline keeps it here."]
    statistics = report.statistics
    keys = list(dict.fromkeys(key for values in statistics.values() for key in values))
    arms = wandb.Table(columns=["arm", *keys], data=[[n, *(v.get(k) for k in keys)] for n, v in statistics.items()])
    episodes = episode_table(report).to_pydict()
    rows = [list(row) for row in zip(*episodes.values(), strict=True)]
    run.log(
        report.scalars()
        | {"eval/arms": arms, "eval/episodes": wandb.Table(columns=list(episodes), data=rows)}
        | {f"eval/{path.stem}": wandb.Image(str(path)) for path in paths if path.suffix == ".png"}
    )
    folder, url = directory / "wandb" / Path(run.dir).parent.name, run.url
    run.finish()
    return [f"W&B: {url}" if mode == "online" else f"W&B: kept offline; send it with: wandb sync {folder}"]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide about numbers, where they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a checkout that is not installed
    return found


def _write(path: Path, write: Callable[[Path], Any]) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}. Choose another --output.") from error
    return path

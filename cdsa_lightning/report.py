"""How a report is shown: a table on the terminal and a W&B run; `records` keeps it as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from cdsa_lightning.evaluation import Difference, Report
from cdsa_lightning.metrics.bootstrap import Interval
from cdsa_lightning.records import episode_table
from cdsa_lightning.tracking import start_run

__all__ = ["log_to_wandb", "table"]

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
    ("risk_steps", "steps in a risk region", "{:.2f}"),
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


def log_to_wandb(report: Report, directory: Path, about: dict[str, Any], paths: list[Path], mode: str) -> list[str]:
    """One W&B run with the scalars, the tables and the pictures.

    Args:
        report: What to log.
        directory: Where W&B keeps its files.
        about: The run's configuration.
        paths: Files of the run; the PNGs among them are logged as images.
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
    folder, url, offline = directory / "wandb" / Path(run.dir).parent.name, run.url, run.offline
    run.finish()
    return [f"W&B: kept offline; send it with: wandb sync {folder}" if offline else f"W&B: {url}"]

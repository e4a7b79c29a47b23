r"""Table 1 out of records: on the terminal, as Markdown, LaTeX and parquet, with aggregates and pictures beside it.

One row a task and baseline; every arm with its mean +- standard deviation over seeds, and in brackets the paper's; then
what the whole correction changed, with its 95 % interval, and the verdict. Aggregates over all tasks have a table of
their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from rich.console import Group
from rich.table import Table
from rich.text import Text

from cdsa_lightning import records
from cdsa_lightning.comparison import ARMS, arm_name
from cdsa_lightning.files import whole_file, write_json
from cdsa_lightning.grid.scores import Score, score_table
from cdsa_lightning.metrics.bootstrap import Interval
from cdsa_lightning.plots.ablation import ablated, ablation_of
from cdsa_lightning.plots.profile import profile
from cdsa_lightning.plots.var import var_curve_of
from cdsa_lightning.tasks import get_task

__all__ = ["latex", "markdown", "pictures", "render", "terminal"]

_TITLES = {"base": "base", "without_a1": "without a1", "without_a2": "without a2", "cdsa": "CDSA"}
_DIFFERENCE = ("CDSA - base [95 %]", "verdict")
_AGGREGATES = {"interquartile_mean": "interquartile mean", "mean": "mean", "optimality_gap": "optimality gap"}
_ABOUT = "mean ± standard deviation over training seeds, in brackets the paper's; returns where marked *"
_INTERVALS = "[95 % interval], widened for few seeds"


def terminal(scores: Sequence[Score], overall: Mapping[str, Any]) -> Group:
    """Table 1 for a terminal, and the `aggregates` over its tasks where they have a scale."""
    header, rows = _cells(scores, "±")
    table = _shown("Table 1", _ABOUT, _stacked(header, header), [_stacked(header, row) for row in rows])
    rows = _over_tasks(overall)
    header = ["baseline", "arm", "tasks", *_AGGREGATES.values(), "P(better than base)"]
    return Group(table, *([_shown("Over all tasks", _INTERVALS, header, rows)] if rows else []))


def _stacked(header: Sequence[str], row: Sequence[str]) -> list[str]:
    """A row for a terminal: task, environment and data above each other, and so the difference and its verdict."""
    tail = len(row) - len(_DIFFERENCE) if header[-1] == _DIFFERENCE[-1] else len(row)
    return ["\n".join(row[:3]), *row[3:tail], *(["\n".join(row[tail:])] if row[tail:] else [])]


def _over_tasks(said: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for baseline, arms in said.items():
        for arm, entry in arms.items():
            if "mean" in entry:
                better = _bounded(entry.get("probability_of_improvement"), ".2f")
                parts = (_bounded(entry[name], ".1f") for name in _AGGREGATES)
                rows.append([baseline, _TITLES[arm], str(len(entry["tasks"])), *parts, better])
    return rows


def _shown(title: str, about: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, caption=Text(about))
    for name in header:
        table.add_column(Text(name), overflow="fold")  # a narrow terminal must not hide a digit
    for row in rows:
        table.add_row(*map(Text, row))  # an interval is no markup
    return table


def _bounded(said: Mapping[str, Any] | None, form: str) -> str:
    """An estimate and its interval, which one seed does not have."""
    if said is None:
        return ""
    text = f"{said['estimate']:{form}}"
    return text if said["low"] is None else f"{text} [{said['low']:{form}}, {said['high']:{form}}]"


def markdown(scores: Sequence[Score]) -> str:
    """The table as Markdown."""
    header, rows = _cells(scores, "±")
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{_ABOUT[0].upper()}{_ABOUT[1:]}.\n"


def latex(scores: Sequence[Score]) -> str:
    """The table as LaTeX, for the package booktabs."""
    header, rows = _cells(scores, r"$\pm$")
    body = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in (header, *rows)]
    lines = [rf"\begin{{tabular}}{{{'l' * 4 + 'r' * (len(header) - 4)}}}", r"\toprule", body[0], r"\midrule"]
    return "\n".join([f"% {_ABOUT.replace('±', '+-')}", *lines, *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def render(scores: Sequence[Score], overall: Mapping[str, Any], root: Path) -> list[Path]:
    """Write table.md, table.tex, table.parquet, aggregates.json and figures/ into `root`.

    Args:
        scores: Those of `read_scores`.
        overall: Their `aggregates`.
        root: Where to.

    Returns:
        The files.

    Raises:
        InputError: `root` cannot be written.
    """
    made: dict[str, Callable[[Path], object]] = {
        "table.md": lambda path: path.write_text(markdown(scores), encoding="utf-8"),
        "table.tex": lambda path: path.write_text(latex(scores), encoding="utf-8"),
        "table.parquet": lambda path: pq.write_table(_columns(scores), path),
        "aggregates.json": lambda path: write_json(overall, path),
    }
    for name, write in made.items():
        with whole_file(root / name) as place:
            write(place)
    return [*(root / name for name in made), *records.save_figures(pictures(scores), root / "figures")]


def pictures(scores: Sequence[Score]) -> dict[str, Figure]:
    """Of each cell the VaR curve (Figures 4 and 6) and the ablation (Figure 7); of all the performance profile."""
    drawn: dict[str, Figure] = {}
    for name, baseline in dict.fromkeys((score.task, score.baseline) for score in scores):
        cell = [score for score in scores if (score.task, score.baseline) == (name, baseline)]
        task, arms = get_task(name), {arm_name(score.arm, baseline): score for score in cell}
        whole = {arm: score.values for arm, score in arms.items() if score.arm in ("base", "cdsa")}
        if whole:
            drawn[f"var-{name}-{baseline}"] = var_curve_of(whole, task)
        if ablated(arms):
            values = {arm: score.values for arm, score in arms.items()}
            steps = {arm: score.risk_steps for arm, score in arms.items() if score.risk_steps is not None}
            drawn[f"ablation-{name}-{baseline}"] = ablation_of(values, task, steps)
    tables = {}
    for baseline in dict.fromkeys(score.baseline for score in scores):
        for arm, title in (("base", baseline), ("cdsa", f"cdsa({baseline})")):
            tasks, table = score_table([score for score in scores if score.scaled], baseline, arm)
            if tasks:
                tables[title] = table
    return drawn | ({"profile": profile(tables)} if tables else {})


def _cells(scores: Sequence[Score], pm: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of text; columns of arms that no cell has are left out."""
    arms = [arm for arm in ARMS if any(score.arm == arm for score in scores)]
    told = _DIFFERENCE if any(score.difference and score.arm == "cdsa" for score in scores) else ()
    header = ["task", "environment", "data", "baseline", *(_TITLES[arm] for arm in arms), *told]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for score in scores:
        key = (score.task, score.env_id, score.provenance or "none", score.baseline)
        row = rows.setdefault(key, {})
        row[score.arm] = _text(score, pm)
        if score.arm == "cdsa" and score.difference:
            row |= dict(zip(_DIFFERENCE, (_change(score.difference), score.verdict or ""), strict=True))
    return header, [[*key, *(row.get(name, "") for name in (*arms, *told))] for key, row in rows.items()]


def _change(gap: Interval) -> str:
    """A difference and its interval, which a single episode does not have."""
    return f"{gap.estimate:+z.1f}" + (f" [{gap.low:+z.1f}, {gap.high:+z.1f}]" if math.isfinite(gap.low) else "")


def _text(score: Score, pm: str) -> str:
    text = f"{score.mean:.1f}" + ("" if score.std is None else f" {pm} {score.std:.1f}") + ("" if score.scaled else "*")
    if score.paper is None:
        return text
    return f"{text} ({score.paper:.1f}" + ("" if score.paper_std is None else f" {pm} {score.paper_std:.1f}") + ")"


def _escaped(cell: str) -> str:
    return cell.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")


def _columns(scores: Sequence[Score]) -> pa.Table:
    names = ("task", "env_id", "provenance", "baseline", "arm", "mean", "std", "per_seed", "scaled")
    columns = {name: [getattr(score, name) for score in scores] for name in (*names, "paper", "paper_std")}
    columns["episodes"] = [score.values.shape[1] for score in scores]
    gaps = [score.difference.to_json() if score.difference else {} for score in scores]
    bounds = {"difference": "estimate", "difference_low": "low", "difference_high": "high"}
    columns |= {name: [gap.get(key) for gap in gaps] for name, key in bounds.items()}
    columns["verdict"] = [score.verdict for score in scores]
    return pa.table(columns)

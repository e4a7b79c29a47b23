r"""Table 1 out of records: on the terminal, as Markdown, LaTeX and parquet, with aggregates and pictures beside it.

One row a task and baseline; every arm with its mean +- standard deviation over seeds, and in brackets the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from rich.table import Table

from cdsa_lightning import records
from cdsa_lightning.comparison import ARMS
from cdsa_lightning.evaluation import Report
from cdsa_lightning.files import whole_file, write_json
from cdsa_lightning.grid.scores import Score, aggregates, score_table
from cdsa_lightning.plots.ablation import ablated, ablation
from cdsa_lightning.plots.profile import profile
from cdsa_lightning.plots.var import var_curve

__all__ = ["latex", "markdown", "pictures", "render", "terminal"]

_TITLES = {"base": "base", "without_a1": "without a1", "without_a2": "without a2", "cdsa": "CDSA"}
_ABOUT = "mean ± standard deviation over training seeds, in brackets the paper's; returns where marked *"


def terminal(scores: Sequence[Score]) -> Table:
    """The table for a terminal."""
    header, rows = _cells(scores, "±")
    table = Table(title="Table 1", caption=_ABOUT)
    for name in header:
        table.add_column(name, overflow="fold")  # a narrow terminal must not hide a digit
    for row in rows:
        table.add_row(*row)
    return table


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


def render(scores: Sequence[Score], reports: Sequence[Report], root: Path) -> list[Path]:
    """Write table.md, table.tex, table.parquet, aggregates.json and figures/ into `root`.

    Args:
        scores: Those of `read_scores`.
        reports: Of the same cells, for verdicts and pictures.
        root: Where to.

    Returns:
        The files.

    Raises:
        InputError: `root` cannot be written.
    """
    verdicts = "".join(f"\n- {report.sentence()}" for report in reports) + "\n"
    made: dict[str, Callable[[Path], object]] = {
        "table.md": lambda path: path.write_text(markdown(scores) + verdicts, encoding="utf-8"),
        "table.tex": lambda path: path.write_text(latex(scores), encoding="utf-8"),
        "table.parquet": lambda path: pq.write_table(_columns(scores), path),
        "aggregates.json": lambda path: write_json(aggregates(scores), path),
    }
    for name, write in made.items():
        with whole_file(root / name) as place:
            write(place)
    return [*(root / name for name in made), *records.save_figures(pictures(scores, reports), root / "figures")]


def pictures(scores: Sequence[Score], reports: Sequence[Report]) -> dict[str, Figure]:
    """Of each cell the VaR curve (Figures 4 and 6) and the ablation (Figure 7); of all the performance profile."""
    drawn: dict[str, Figure] = {}
    for report in reports:
        whole = {name: episodes for name, episodes in report.arms.items() if " without " not in name}
        cell = f"{report.task.name}-{next(iter(report.arms))}"
        if whole:
            drawn[f"var-{cell}"] = var_curve(Report(report.task, whole))
        if ablated(report):
            drawn[f"ablation-{cell}"] = ablation(report)
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
    header = ["task", "environment", "data", "baseline", *(_TITLES[arm] for arm in arms)]
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for score in scores:
        key = (score.task, score.env_id, score.provenance or "none", score.baseline)
        rows.setdefault(key, {})[score.arm] = _text(score, pm)
    return header, [[*key, *(row.get(arm, "") for arm in arms)] for key, row in rows.items()]


def _text(score: Score, pm: str) -> str:
    text = f"{score.mean:.1f}" + ("" if score.std is None else f" {pm} {score.std:.1f}") + ("" if score.scaled else "*")
    if score.paper is None:
        return text
    return f"{text} ({score.paper:.1f}" + ("" if score.paper_std is None else f" {pm} {score.paper_std:.1f}") + ")"


def _escaped(cell: str) -> str:
    return cell.replace("_", r"\_").replace("%", r"\%").replace("&", r"\&")


def _columns(scores: Sequence[Score]) -> pa.Table:
    names = ("task", "env_id", "provenance", "baseline", "arm", "mean", "std", "per_seed", "episodes", "scaled")
    return pa.table({name: [getattr(score, name) for score in scores] for name in (*names, "paper", "paper_std")})

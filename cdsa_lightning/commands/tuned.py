"""What `cdsa tune` keeps and prints: coefficients.json, the picture, the table and the sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from cdsa_lightning.audit import Measures
    from cdsa_lightning.tuning import Returns

__all__ = ["keep"]


def keep(said: dict[str, Any], directory: Path, measures: Measures, returns: Returns | None, quiet: bool) -> None:
    """Write all to `directory`, and to the terminal unless `quiet`."""
    from rich.console import Console

    from cdsa_lightning.files import write_json
    from cdsa_lightning.plots.tuning import tuning_figure
    from cdsa_lightning.records import save_figures

    name, measured = said["name"], said["environment"]
    paths = [write_json(said, directory / "coefficients.json")]
    numbers = measured["mean_return"] if measured else {key: e["r"] for key, e in said["candidates"].items()}
    limit = ("mean return of the data", returns.data_mean) if measured and returns else None
    title, label = f"{said['baseline']} on {said['task']}", "mean return" if measured else "r of the corrected actions"
    paths += save_figures({"tune": tuning_figure(measures, numbers, name, label, limit, title)}, directory)
    if not quiet:
        Console().print(_table(said))
        print("\n".join([f"Chosen: {name}. {said['reason']}", *_sentences(measured), *map(str, paths)]))


def _table(said: dict[str, Any]) -> Table:
    """A row for every candidate, the chosen one starred."""
    from cdsa_lightning.commands.output import table

    measured = said["environment"]
    search = measured.get("search", {}) if measured else {}
    goal = search.get("objective", "return")
    columns = ["", "r", "f99", "mean drift", "drift below 0", *(["mean return"] if measured else [])]
    shown = table("Candidates, in states of the data", *columns, *([goal] if goal != "return" else []))
    for key, effect in said["candidates"].items():
        drift = effect["drift"]
        drifts = (f"{drift['mean']:+.3f}", f"{drift['negative_share']:.1%}") if drift["corrections"] else ("", "")
        cells = (f"{key} *" if key == said["name"] else key, f"{effect['r']:.3f}", f"{effect['f99']:.1%}", *drifts)
        numbers = [f"{measured['mean_return'][key]:.1f}"] if measured else []
        shown.add_row(*cells, *numbers, *([f"{search['values'][key]:.4g}"] if goal != "return" else []))
    return shown


def _sentences(measured: dict[str, Any] | None) -> list[str]:
    """How far the choice and the rules are from the best that was measured."""
    if measured is None:
        return []
    said = [
        f"Best in {measured['episodes_per_seed']} episodes per seed: {measured['best']}; the choice is "
        f"{measured['regret']:.1f} below it, the data rule's ({measured['data_rule']}) "
        f"{measured['data_rule_regret']:.1f}."
    ]
    if search := measured.get("search"):
        again, rules = search["again"], search["rules"]
        regrets = ", ".join(f"{rule} rule ({rules[rule]}) {gap:.4g}" for rule, gap in again["regret"].items())
        said.append(
            f"On {again['episodes_per_seed']} fresh episodes per seed, behind {search['best']['name']} in "
            f"{search['objective']}: {regrets}. Trials: {search['storage']}"
        )
    return said

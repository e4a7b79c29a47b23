"""Every picture that a report gives, for `cdsa evaluate`, for `cdsa plot` and for whoever holds a report."""

from __future__ import annotations

from matplotlib.figure import Figure

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.envs.names import observation_names
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.plots.ablation import ablated, ablation
from cdsa_lightning.plots.arms import map_of, needed_map, pair, paths_of
from cdsa_lightning.plots.field import field
from cdsa_lightning.plots.ood import ood
from cdsa_lightning.plots.trajectories import trajectories
from cdsa_lightning.plots.var import var_curve
from cdsa_lightning.sources import Transitions

__all__ = ["figures", "ood_of", "trajectories_of"]


def figures(
    report: Report,
    corrector: Corrector | None = None,
    coefficients: Coefficients | None = None,
    data: Transitions | None = None,
) -> dict[str, Figure]:
    """All pictures that apply, by name.

    var_curve always; trajectories where the world has a map and traces were kept; ablation where parts were left out;
    ood with a corrector and a corrected trace; field with a corrector and its data, in a world with a map.

    Args:
        report: What was evaluated.
        corrector: What corrected.
        coefficients: With which.
        data: What the corrector was fitted on.
    """
    drawn = {"var_curve": var_curve(report)}
    world, (baseline, corrected) = map_of(report), pair(report)
    if world is not None and report.arms[baseline].traces:
        drawn["trajectories"] = trajectories_of(report)
    if ablated(report.arms):
        drawn["ablation"] = ablation(report)
    if corrector is not None and corrected and report.arms[corrected].traces:
        drawn["ood"] = ood_of(report, corrector, coefficients)
    if corrector is not None and world is not None and data is not None:
        names = observation_names(report.task.env_id, corrector.obs_dim)
        drawn["field"] = field(corrector, data, (0, 1), names, world, title=f"State scores, {report.task.name}")
    return drawn


def trajectories_of(report: Report) -> Figure:
    """The paths of a report's first training seed.

    Raises:
        InputError: the world has no map, or no trace was kept.
    """
    world = needed_map(report)
    names, baseline, corrected = paths_of(report)
    return trajectories(world, baseline, corrected, names=names, title=report.task.name)


def ood_of(report: Report, corrector: Corrector, coefficients: Coefficients | None = None) -> Figure:
    """The first corrected episode of a report, beside the baseline's own from the same start.

    Raises:
        InputError: there is no corrected trace.
    """
    names, baseline, corrected = paths_of(report)
    if not corrected:
        raise InputError(f"The evaluation on {report.task.name!r} has no corrected arm whose noise could be drawn.")
    alone = baseline[0] if baseline else None
    title = f"Predicted noise along an episode, {report.task.name}"
    return ood(corrector, alone, corrected[0], names=names, coefficients=coefficients, title=title)

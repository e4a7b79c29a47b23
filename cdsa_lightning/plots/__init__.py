"""Pictures: of an evaluation (`figures`), of a corrector's field, of sweeps, and the paper's composed figures.

Every function returns a `matplotlib.figure.Figure` that no global state knows; its `draw_` twin draws into axes that
are given. Colours are told apart by every kind of colour vision, dashes and markers tell them apart in grey print, and
legends stand below the axes.
"""

from cdsa_lightning.plots.ablation import ablation
from cdsa_lightning.plots.field import field
from cdsa_lightning.plots.heatmap import heatmap
from cdsa_lightning.plots.ood import ood
from cdsa_lightning.plots.panels import figure3, figure5
from cdsa_lightning.plots.pictures import figures, ood_of, trajectories_of
from cdsa_lightning.plots.sweep import sweep_curve
from cdsa_lightning.plots.trajectories import trajectories
from cdsa_lightning.plots.var import var_curve

__all__ = [
    "ablation",
    "field",
    "figure3",
    "figure5",
    "figures",
    "heatmap",
    "ood",
    "ood_of",
    "sweep_curve",
    "trajectories",
    "trajectories_of",
    "var_curve",
]

r"""Two named ways to train and use the networks, and the coefficients recommended for each task.

`paper` is the paper literally: raw units, sigma = 1, the output is the score, constant learning rates. `robust` sees
standardised values, predicts noise at a schedule of sigmas, decays its learning rate and averages its weights
(docs/results.md says what each part is worth). Coefficients live in reference/coefficients.csv.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.networks import NetworkSettings
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.reference import read_coefficients

__all__ = ["PRESETS", "Preset", "coefficients_for", "default_coefficients", "get_preset"]


@dataclass(frozen=True)
class Preset:
    """How the networks are trained; the defaults are the paper's (Table 3).

    Args:
        networks: What they see and predict.
        lr_score: Adam's learning rate for g and h.
        lr_inverse: Adam's learning rate for I.
        lr_schedule: ``constant`` or ``cosine``.
        ema_decay: Decay of the moving average of the weights that is used afterwards; 0 for none.
    """

    networks: NetworkSettings = NetworkSettings()
    lr_score: float = 3e-4
    lr_inverse: float = 1e-3
    lr_schedule: str = "constant"
    ema_decay: float = 0.0

    def override(self, **values: Any) -> Preset:
        """This preset with some values replaced; None keeps the preset's."""
        given = {key: value for key, value in values.items() if value is not None}
        inner = {key: given.pop(key) for key in list(given) if key in NetworkSettings.__dataclass_fields__}
        return replace(self, networks=replace(self.networks, **inner), **given)


PRESETS: dict[str, Preset] = {
    "paper": Preset(),
    "robust": Preset(
        NetworkSettings(standardize=True, predict="noise", action_sigmas=(0.4, 0.2, 0.1), state_sigma=0.1),
        lr_score=1e-3,
        lr_schedule="cosine",
        ema_decay=0.999,
    ),
}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def coefficients_for(task: str, baseline: str, preset: str) -> Coefficients:
    """The recommended coefficients of a task: the baseline's own row, else the row for any baseline.

    Raises:
        UnknownNameError: no such preset.
        InputError: no row for this task and preset.
    """
    get_preset(preset)
    rows = {row["baseline"]: row for row in read_coefficients() if row["task"] == task and row["preset"] == preset}
    row = rows.get(baseline) or rows.get("*")
    if row is None:
        known = f" There are rows for the baselines {', '.join(sorted(rows))}." if rows else ""
        raise InputError(
            f"No recommended coefficients for baseline {baseline!r} on task {task!r} with preset {preset!r}.{known} "
            "Name your own with --k1 and --k2."
        )
    fields = Coefficients.__dataclass_fields__
    return Coefficients(**{key: value for key, value in row.items() if key in fields})


def default_coefficients(task: str, preset: str) -> Coefficients:
    """What a fitted corrector carries along: the task's row for any baseline, else one denoising step per sigma.

    The paper's preset has rows per baseline alone; a corrector fitted with it carries no correction of its own.
    """
    try:
        return coefficients_for(task, "*", preset)
    except InputError:
        if preset == "paper":
            return Coefficients.none()
        return Coefficients(k1=1.0, units="sigma2", clip="every_step", a2="off")

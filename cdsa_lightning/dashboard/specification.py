r"""What W&B shows: sections of panels, each naming the keys that `cdsa fit` and `cdsa evaluate` logged.

    train/<loss>/seed_<k>   eval/<arm>/<statistic>   eval/<picture>   and coefficients.<name> of a run's configuration

A specification is plain values: it is kept as JSON, read back, and published by `publish`, now or later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from cdsa_lightning.comparison import arm_name
from cdsa_lightning.dashboard.evaluations import Evaluation
from cdsa_lightning.dashboard.local import Local
from cdsa_lightning.dashboard.panels import PANELS
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import write_json
from cdsa_lightning.untrusted import read_json

__all__ = ["STEP", "Panel", "Section", "Specification", "read_specification", "specify", "write_specification"]

STEP = "trainer/global_step"
"""The axis of curves: gradient steps."""
Kind = Literal["lines", "bars", "coordinates", "media"]
_LOGGED = ("trajectories", "field", "ood")
"""Pictures that `cdsa evaluate` logs, beside var_curve and ablation."""
_COEFFICIENTS = ("k1", "k2", "num_steps", "state_step")
"""Those that are numbers."""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        kind: lines over gradient steps; bars, one a run; coordinates, one line a run across its values; media.
        title: Above it.
        keys: Logged keys.
        config: Keys of the configuration, dotted; of coordinates alone.
    """

    kind: Kind
    title: str
    keys: list[str]
    config: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """Panels under a heading.

    Args:
        name: The heading.
        about: What they show.
        panels: In order.
    """

    name: str
    about: str
    panels: list[Panel]


@dataclass(frozen=True)
class Specification:
    """A workspace and a report, which show the same.

    Args:
        project: The W&B project whose runs are shown.
        name: Of the workspace and of the report; what a second call finds them by.
        sections: In order; those without panels are left out.
    """

    project: str
    name: str
    sections: list[Section]


def specify(local: Local, project: str, name: str) -> Specification:
    """The panels for what the runs of `local` logged; cells of a grid are not in W&B."""
    pairs = _pairs(local.evaluations)
    panels = {
        "scores": [_bars("normalised score", names, "normalized_score", pairs, _whole(names)) for names in pairs],
        "var": [_media("var_curve", local), *(_tails("VaR", names, pairs) for names in pairs)],
        "cvar": [_tails("CVaR", names, pairs) for names in pairs],
        "violations": [
            _bars(title, names, key, pairs)
            for key, title in (("violation_rate", "episodes in a risk region"), ("cost", "cost per episode"))
            for names in pairs
        ],
        "ablation": [
            _media("ablation", local),
            *(_bars("mean return", names, "return", pairs) for names in pairs if len(names) > 2),
        ],
        "coefficients": [_coordinates(names, pairs, local) for names in pairs],
        "losses": [
            Panel("lines", f"{loss.replace('_', ' ')}, each seed", keys) for loss, keys in _losses(local).items()
        ],
        "pictures": [_media(picture, local) for picture in _LOGGED],
    }
    sections = []
    for key, (title, about) in PANELS.items():
        if kept := [panel for panel in panels[key] if panel.keys]:
            sections.append(Section(title, about, kept))
    return Specification(project, name, sections)


def write_specification(specification: Specification, path: Path) -> Path:
    """Keep it as JSON; returns `path`.

    Raises:
        InputError: the file cannot be written.
    """
    return write_json(asdict(specification), path, "Choose another --output.")


def read_specification(path: Path) -> Specification:
    """What `write_specification` wrote.

    Raises:
        InputError: missing, damaged, or no specification.
    """
    try:
        said = read_json(path)
        sections = [
            Section(one["name"], one["about"], [Panel(**panel) for panel in one["panels"]]) for one in said["sections"]
        ]
        return Specification(said["project"], said["name"], sections)
    except OSError as error:
        raise InputError(f"Cannot read the specification {path}: {error.strerror or error}.") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no specification of 'cdsa dashboard': {reason}.") from None


_Pairs = dict[tuple[str, ...], dict[str, set[str]]]


def _pairs(evaluations: Iterable[Evaluation]) -> _Pairs:
    """A baseline's arms, itself first -> arm -> the statistics that were logged of it."""
    arms: dict[str, dict[str, set[str]]] = {}
    for one in evaluations:
        of_baseline = arms.setdefault(one.baseline, {})
        for arm in one.arms:
            of_baseline.setdefault(arm.name, set()).update(arm.logged)
    return {tuple(of_baseline): of_baseline for of_baseline in arms.values()}


def _whole(names: tuple[str, ...]) -> list[str]:
    """The baseline and its whole correction, as far as they are among `names`."""
    return [name for name in (names[0], arm_name("cdsa", names[0])) if name in names]


def _bars(
    title: str, names: tuple[str, ...], statistic: str, pairs: _Pairs, shown: Sequence[str] | None = None
) -> Panel:
    keys = [f"eval/{name}/{statistic}" for name in shown or names if statistic in pairs[names][name]]
    return Panel("bars", f"{names[0]}: {title}", keys)


def _tails(title: str, names: tuple[str, ...], pairs: _Pairs) -> Panel:
    statistics = [f"{title.lower()}_{percent}" for percent in (5, 10, 25)]
    keys = [f"eval/{name}/{key}" for key in statistics for name in _whole(names) if key in pairs[names][name]]
    return Panel("bars", f"{names[0]}: {title} of 5, 10 and 25 %", keys)


def _coordinates(names: tuple[str, ...], pairs: _Pairs, local: Local) -> Panel:
    whole = arm_name("cdsa", names[0])
    told = any(one.baseline == names[0] and one.coefficients for one in local.evaluations)
    keys = [f"eval/{whole}/return"] if told and whole in pairs[names] else []
    config = [f"coefficients.{name}" for name in _COEFFICIENTS]
    return Panel("coordinates", f"{names[0]}: coefficients and mean return", keys, config)


def _media(picture: str, local: Local) -> Panel:
    drawn = any(path.stem == picture for one in local.evaluations for path in one.pictures)
    return Panel("media", picture.replace("_", " "), [f"eval/{picture}"] if drawn else [])


def _losses(local: Local) -> dict[str, list[str]]:
    """What was logged over gradient steps: each seed where that was told, the mean elsewhere."""
    found: dict[str, dict[str, None]] = {}
    for fit in local.fits:
        for name, curve in fit.curves.items():
            seeds = [f"train/{name}/seed_{seed}" for seed in curve.lines if seed != "mean"]
            found.setdefault(name, {}).update(dict.fromkeys(seeds or [f"train/{name}"]))
    return {name: list(keys) for name, keys in found.items()}

r"""Observation statistics that checkpoints lack: mean and std + .001 of the data that the network was trained on.

    u = (obs - mean) / std,     over the observations that D4RL's ``qlearning_dataset`` gives

That function needs the observation after each row, so it leaves out the last row of every episode that a time limit
ended, and the very last row. The numbers come from ``NAME.stats.npz`` beside the checkpoint (`obs_mean`, `obs_std`, the
latter as it divides) or are computed from the data that the checkpoint names, and the log says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_baselines._files import read_npz
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import Task, get_task, task_names

__all__ = [
    "EPSILON",
    "Moments",
    "best_rows",
    "computed_moments",
    "qlearning_rows",
    "stored_moments",
    "task_name",
    "training_task",
]

EPSILON = 1e-3
"""Added to the standard deviation."""

TRAJECTORY = 1000
"""Rows after which CORL takes a trajectory as over."""

Moments = tuple[np.ndarray, np.ndarray]
"""Mean [S] and divisor [S]."""

_log = logging.getLogger(__name__)


def stored_moments(sidecar: Path, obs_dim: int) -> Moments | None:
    """What `sidecar` holds; None where there is no such file.

    Args:
        sidecar: An ``.npz`` file with `obs_mean` and `obs_std`.
        obs_dim: S.

    Raises:
        InputError: it is damaged, incomplete, or made for other observations.
    """
    if not sidecar.is_file():
        return None
    arrays = read_npz(sidecar)
    for name in ("obs_mean", "obs_std"):
        if name not in arrays:
            raise InputError(f"{str(sidecar)!r} has no {name!r}; it needs obs_mean and obs_std, got {sorted(arrays)}.")
        array = arrays[name]
        if array.shape != (obs_dim,) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise InputError(
                f"{str(sidecar)!r}: {name} must hold {obs_dim} finite numbers, got {array.dtype} {array.shape}."
            )
    if not (arrays["obs_std"] > 0).all():
        raise InputError(f"{str(sidecar)!r}: obs_std divides, so every entry must be positive.")
    return arrays["obs_mean"], arrays["obs_std"]


def computed_moments(
    checkpoint: str,
    sidecar: Path,
    task: Task,
    obs_dim: int,
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Moments:
    """Mean and std + `EPSILON` of the task's observations, in float32 like those who trained on them.

    Args:
        checkpoint: What lacks the statistics, for texts.
        sidecar: Where they could be stored, for texts.
        task: Whose data; see `training_task`.
        obs_dim: S.
        choose: Rewards [N] and terminals [N] of the rows to the indices of those that count; None for all.

    Raises:
        InputError: the data are not on this machine, or made of other observations.
    """
    remedy = f"Or store them as obs_mean and obs_std in {str(sidecar)!r}."
    try:
        data = task.transitions()
    except InputError as error:
        raise InputError(
            f"{checkpoint} was trained on standardised observations, but their mean and std are missing: they are "
            f"not in the file, and cannot be computed. {str(error).rstrip('.')}. {remedy}"
        ) from error
    rows = qlearning_rows(data)
    if choose is not None:
        rows = rows[choose(data.reward[rows], data.terminated[rows])]
    if data.obs_dim != obs_dim or not len(rows):
        raise InputError(
            f"{checkpoint} sees {obs_dim} observation entries; {data.source} has {len(rows)} usable rows of "
            f"{data.obs_dim}, which give no statistics for it. {remedy}"
        )
    obs = data.obs[rows]
    others = f"provenance {data.provenance}: not D4RL's own rows, so they may differ from those of training"
    _log.warning(
        "%s lacks its observation statistics: computed from %d observations of %s%s.",
        *(checkpoint, len(rows), data.source),
        "" if data.provenance == "d4rl-v2" else f" ({others})",
    )
    # float32 sums, as in training: their rounding is part of what the network got used to.
    return obs.mean(0), obs.std(0) + np.float32(EPSILON)


def qlearning_rows(data: Any) -> np.ndarray:
    """The rows of `data` (`Transitions`) that ``qlearning_dataset`` keeps, as indices."""
    keep = data.terminated.copy()
    keep[:-1] |= data.episode[1:] == data.episode[:-1]
    if data.provenance == "d4rl-v2" and "antmaze" in data.source:
        keep[:] = True  # These files hold no next observations, so the rows in question were dropped on reading.
    else:
        keep[-1] = False
    return np.flatnonzero(keep)


def training_task(checkpoint: str, sidecar: Path, trained_on: str | None, task: Task) -> Task:
    """The task whose data a checkpoint was trained on.

    Args:
        checkpoint: The checkpoint, for texts.
        sidecar: Where its statistics could be stored, for texts.
        trained_on: The data set it names, for instance ``hopper-medium-v2``; None where it names none.
        task: The task it is to act in; the answer where no other is named.

    Raises:
        InputError: the data set belongs to no known task.
    """
    if trained_on is None or _unversioned(trained_on) == task.name:
        return task
    name = task_name(trained_on)
    if name is not None:
        return get_task(name)
    raise InputError(
        f"{checkpoint} was trained on {trained_on!r}, which belongs to no task here (known: {', '.join(task_names())}),"
        f" so its observation statistics cannot be computed. Store them as obs_mean and obs_std in {str(sidecar)!r}."
    )


def task_name(data_set: str) -> str | None:
    """The task that a D4RL data set, for instance ``hopper-medium-v2``, belongs to; None where there is none."""
    name = _unversioned(data_set)
    return name if name in task_names() else None


def _unversioned(data_set: str) -> str:
    return re.sub(r"-v\d+$", "", data_set)


def best_rows(reward: np.ndarray, terminated: np.ndarray, frac: float, discount: float) -> np.ndarray:
    """The rows that CORL's percentage BC learns from: its best trajectories, as it cuts them.

    Args:
        reward: [N].
        terminated: [N].
        frac: Share of the trajectories that count.
        discount: Of the returns by which they are compared.
    """
    trajectories = list(_trajectories(terminated))
    if not trajectories:
        return np.empty(0, np.int64)
    weights = discount ** np.arange(TRAJECTORY)
    returns = [float(weights[: len(rows)] @ reward[rows].astype(np.float64)) for rows in trajectories]
    best = np.argsort(returns)[::-1][: max(1, int(frac * len(returns)))]
    return np.concatenate([trajectories[index] for index in best])


def _trajectories(terminated: np.ndarray) -> Iterator[np.ndarray]:
    """Rows up to a terminal or `TRAJECTORY` of them, across time limits, which CORL does not see; no unfinished one."""
    start = 0
    for end in [*(np.flatnonzero(terminated) + 1), len(terminated)]:
        while end - start >= TRAJECTORY:
            yield np.arange(start, start + TRAJECTORY)
            start += TRAJECTORY
        if start < end and terminated[end - 1]:
            yield np.arange(start, end)
            start = end

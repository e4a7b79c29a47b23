r"""How likely each transition is to be drawn: all alike, by its episode's return, or by how safe its states are.

    return:  w = exp((R - max R) / std R),                     R: the return of the transition's episode
    safety:  w = exp(-20 max(risk(s), risk(s')) / std r),      risk(s) = mean of (m - r)^+ over the rows near s

where m is the median reward near each of those rows: what is usually earned there. A rare penalty leaves the median
where it is, so that the risk is what a step near s costs in accidents, told of the lucky steps as well. Near are the 64
nearest rows in what a corrector sees, each entry in units of its deviation; the risk is averaged over them once more,
since a penalty of probability .1 spares 64 rows in one of 850 places. Rewards that depend on the state alone and change
little from row to row make no risk: such data are drawn nearly uniformly.

A penalty of probability p in a share f of the data weighs exp(-20 sqrt(p / f)), whatever its size.
"""

from __future__ import annotations

import numpy as np

from cdsa_lightning.errors import unknown_name
from cdsa_lightning.sources import Transitions

__all__ = ["WEIGHTS", "local_risk", "transition_weights"]

WEIGHTS = ("uniform", "return", "safety")
NEAR = 64
REFERENCES = 50_000
"""Larger data are gathered around so many of their rows: a tree of all rows takes hours in many dimensions."""
STEEPNESS = 20.0


def transition_weights(data: Transitions, how: str, states: np.ndarray, next_states: np.ndarray) -> np.ndarray:
    """How likely each transition is to be drawn beside the others, [N] float64, at most 1.

    Args:
        data: N transitions.
        how: ``uniform``, ``return`` or ``safety``.
        states, next_states: Where a transition starts and leads to, [N, D]; distances are taken between them as given.

    Raises:
        UnknownNameError: no such way to weigh.
    """
    if how not in WEIGHTS:
        raise unknown_name("value of weights", how, WEIGHTS)
    if how == "uniform":
        return np.ones(len(data))
    if how == "return":
        returns = data.episode_returns()
        return np.exp((returns - returns.max()) / _spread(returns))[data.episode]
    reward = data.reward.astype(np.float64)
    here, there = local_risk(states, reward, states, next_states)
    risk = np.maximum(here, there)
    return np.exp(-STEEPNESS * (risk - risk.min()) / _spread(reward))


def local_risk(states: np.ndarray, reward: np.ndarray, *wanted: np.ndarray) -> list[np.ndarray]:
    """How far below their usual reward the rows near a state fall on average.

    Data of more than `REFERENCES` rows are gathered around that many of them, drawn at random: every row counts where
    its nearest reference lies, and neighbours are found within a factor of two of the shortest distance.

    Args:
        states: [N, D].
        reward: What was earned in them, [N].
        wanted: Where to look, each [M, D].

    Returns:
        For each of `wanted` the risk, [M], in units of reward.
    """
    from scipy.spatial import cKDTree  # here: takes .2 s to import

    count = len(states)
    chosen = np.arange(count)
    if count > REFERENCES:
        chosen = np.sort(np.random.default_rng(0).choice(count, REFERENCES, replace=False))
    slack = 0.0 if count == len(chosen) else 1.0
    tree = cKDTree(states[chosen])
    # [references, k]; k >= 2 keeps SciPy's last axis.
    near = tree.query(states[chosen], min(NEAR, len(chosen)), eps=slack)[1].reshape(len(chosen), -1)
    usual = np.median(reward[chosen][near], axis=1)
    home = np.arange(count) if slack == 0 else tree.query(states, eps=slack)[1]
    home[chosen] = np.arange(len(chosen))  # where references lie upon each other, none is left without rows
    shortfall = np.bincount(home, np.maximum(usual[home] - reward, 0.0), len(chosen))
    risk = shortfall[near].sum(1) / np.bincount(home, minlength=len(chosen))[near].sum(1)
    risk = risk[near].mean(1)
    return [risk[home] if points is states else risk[tree.query(points, eps=slack)[1]] for points in wanted]


def _spread(values: np.ndarray) -> float:
    deviation = float(values.std())
    return deviation if deviation > 1e-12 else 1.0

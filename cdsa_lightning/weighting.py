r"""How likely each transition is to be drawn: all alike, by its episode's return, or by how safe its states are.

    return:  w = exp((R - max R) / std R),                     R: the return of the transition's episode
    safety:  w = exp(-20 max(risk(s), risk(s')) / std r),      risk(s) = mean of (m - r)^+ over the rows near s

where m is the median reward near each of those rows: what is usually earned there. A rare penalty leaves the median
where it is, so that the risk is what a step near s costs in accidents, told of the lucky steps as well. Near are the 64
nearest rows in what a corrector sees, each entry in units of its deviation; the risk is averaged over them once more,
since a penalty of probability .1 spares 64 rows in one of 850 places. Rewards that depend on the state alone and change
little from row to row make no risk: such data are drawn nearly uniformly.

A penalty of probability p in a share f of the data weighs exp(-20 sqrt(p / f)), whatever its size.

States are looked at block after block, so that the table may lie in a file: what is held is 8 bytes a transition for
the weights themselves, and up to 16 more while those of ``safety`` are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cdsa_lightning.errors import unknown_name
from cdsa_lightning.table import Moments, Table, spans

__all__ = ["WEIGHTS", "local_risk", "transition_weights"]

WEIGHTS = ("uniform", "return", "safety")
NEAR = 64
REFERENCES = 50_000
"""Larger data are gathered around so many of their rows: a tree of all rows takes hours in many dimensions."""
STEEPNESS = 20.0


class Scaled:
    """Rows of some columns in units of their deviations, made where they are asked for: (x[:, index] - mean) / std.

    Args:
        rows: [N, S].
        index: Which columns, [D].
        mean, std: Of these, [D] float32.
    """

    def __init__(self, rows: np.ndarray, index: list[int], mean: np.ndarray, std: np.ndarray) -> None:
        self.rows, self.index, self.mean, self.std = rows, index, mean, std

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        return (self.rows[which][:, self.index] - self.mean) / self.std


States = np.ndarray | Scaled


def transition_weights(table: Table, how: str, states: States, next_states: States) -> np.ndarray:
    """How likely each transition is to be drawn beside the others, [N] float64, at most 1.

    Args:
        table: N transitions.
        how: ``uniform``, ``return`` or ``safety``.
        states, next_states: Where a transition starts and leads to, [N, D]; distances are taken between them as given.

    Raises:
        UnknownNameError: no such way to weigh.
    """
    if how not in WEIGHTS:
        raise unknown_name("value of weights", how, WEIGHTS)
    if how == "uniform":
        return np.ones(len(table))
    if how == "return":
        returns = table.returns
        return np.repeat(np.exp((returns - returns.max()) / _spread(returns)), table.lengths)
    risk, there = local_risk(states, table.reward, states, next_states)
    np.maximum(risk, there, out=risk)
    del there
    risk -= risk.min()
    risk *= -STEEPNESS / _spread(table.reward)
    return np.exp(risk, out=risk)


def local_risk(states: States, reward: np.ndarray, *wanted: States) -> list[np.ndarray]:
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
    chosen = np.arange(min(count, REFERENCES))
    if count > REFERENCES:
        chosen = np.sort(np.random.default_rng(0).choice(count, REFERENCES, replace=False))
    slack = 0.0 if count == len(chosen) else 1.0
    references = states[chosen]
    tree = cKDTree(references)
    # [references, k]; k >= 2 keeps SciPy's last axis.
    near = tree.query(references, min(NEAR, len(chosen)), eps=slack)[1].reshape(len(chosen), -1)
    usual = np.median(reward[chosen].astype(np.float64)[near], axis=1)
    home = chosen if slack == 0 else _nearest(tree, states, slack)
    home[chosen] = np.arange(len(chosen))  # where references lie upon each other, none is left without rows
    shortfall, members = np.zeros(len(chosen)), np.zeros(len(chosen), np.int64)
    for span in spans(count):
        np.add.at(shortfall, home[span], np.maximum(usual[home[span]] - reward[span], 0.0))
        members += np.bincount(home[span], minlength=len(chosen))
    risk = shortfall[near].sum(1) / members[near].sum(1)
    risk = risk[near].mean(1)
    return [risk[home] if points is states else risk[_nearest(tree, points, slack)] for points in wanted]


def _nearest(tree: Any, points: States, slack: float) -> np.ndarray:
    """The nearest reference of each point, [M] int32."""
    found = np.empty(len(points), np.int32)
    for span in spans(len(points)):
        found[span] = tree.query(points[span], eps=slack)[1]
    return found


def _spread(values: np.ndarray) -> float:
    moments = Moments()
    for span in spans(len(values)):
        moments.add(values[span])
    deviation = float(moments.std)
    return deviation if deviation > 1e-12 else 1.0

r"""Shortest ways around the regions of a map: Dijkstra on a grid, then the string pulled tight.

Free is what lies at least `margin` from every region. The grid's way has kinks of 45 degrees; pulling the string keeps
of it the farthest point in sight, again and again, so that what is left bends at the regions alone.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.errors import InputError

__all__ = ["Planner"]

GRID = 0.2  # between the nodes of the graph
FINE = 0.05  # between the points at which a line of sight is looked at
_NEIGHBOURS = ((1, 0), (0, 1), (1, 1), (1, -1))


class Planner:
    """Ways on one map.

    Args:
        world: The map.
        margin: How far a way stays from every region.
    """

    def __init__(self, world: WorldMap, margin: float) -> None:
        self.low, self.high = np.asarray(world.low, dtype=float), np.asarray(world.high, dtype=float)
        self._free = world.distance(self._lattice(FINE)) >= margin  # [nx, ny]
        nodes = self._lattice(GRID)
        open_ = self.is_free(nodes)
        # SciPy 1.13 searches graphs of 32-bit indices alone.
        number = np.where(open_, np.cumsum(open_).reshape(open_.shape) - 1, -1).astype(np.int32)
        width, height = number.shape
        self.nodes = nodes[open_]
        rows, columns, lengths = [], [], []
        for dx, dy in _NEIGHBOURS:
            here = number[: width - dx, max(0, -dy) : height - max(0, dy)]
            there = number[dx:, max(0, dy) : height + min(0, dy)]
            both = (here >= 0) & (there >= 0)
            rows.append(here[both])
            columns.append(there[both])
            lengths.append(np.full(both.sum(), GRID * np.hypot(dx, dy)))
        shape = (len(self.nodes), len(self.nodes))
        entries = (np.concatenate(rows), np.concatenate(columns))
        graph = coo_array((np.concatenate(lengths), entries), shape=shape)
        self._before = dijkstra(graph.tocsr(), directed=False, return_predecessors=True)[1]

    def _lattice(self, spacing: float) -> np.ndarray:
        counts = np.round((self.high - self.low) / spacing).astype(int) + 1
        axes = [np.linspace(self.low[i], self.high[i], counts[i]) for i in (0, 1)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def is_free(self, points: np.ndarray) -> np.ndarray:
        """Whether points [..., 2] keep the margin, bool [...], to the fine spacing; what is off the map does not."""
        index = np.round((points - self.low) / FINE).astype(int)
        inside = ((index >= 0) & (index < self._free.shape)).all(-1)
        index = np.clip(index, 0, np.array(self._free.shape) - 1)
        return inside & self._free[index[..., 0], index[..., 1]]

    def sees(self, point: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether the straight way from `point` [2] to each of `others` [n, 2] is free, bool [n]."""
        way = others - point
        count = 2 + int(np.linalg.norm(way, axis=1).max(initial=0) / FINE)
        return np.asarray(self.is_free(point + np.linspace(0, 1, count)[:, None, None] * way).all(0))

    def way(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The corners [k, 2] of a short way from `start` [2], itself left out, to `end` [2].

        Args:
            start, end: Free points.

        Raises:
            InputError: there is no way that keeps the margin.
        """
        if self.sees(start, end[None]).item():
            return end[None]
        first, last = self._nearest(start), self._nearest(end)
        path = [last]
        while path[-1] != first:
            path.append(int(self._before[first, path[-1]]))
            if path[-1] < 0:
                raise _no_way(start, end)
        return self._pull(start, np.concatenate((self.nodes[path[::-1]], end[None])))

    def _nearest(self, point: np.ndarray) -> int:
        """The nearest node in sight."""
        order = np.argsort(np.linalg.norm(self.nodes - point, axis=1))[:16]
        seen = np.flatnonzero(self.sees(point, self.nodes[order]))
        if not len(seen):
            raise _no_way(point, point)
        return int(order[seen[0]])

    def _pull(self, at: np.ndarray, path: np.ndarray) -> np.ndarray:
        corners, begin = [], 0
        while begin < len(path):
            begin += int(np.flatnonzero(self.sees(at, path[begin:]))[-1])
            at = path[begin]
            corners.append(at)
            begin += 1
        return np.array(corners)


def _no_way(start: np.ndarray, end: np.ndarray) -> InputError:
    return InputError(f"There is no way from {start.tolist()} to {end.tolist()} around the regions: lessen the margin.")

r"""Maps of the plane: regions where accidents happen, and what else a world's picture shows.

A region is everything within `radius` of a segment (a disc where its ends are one point), or an ellipse:

    capsule: min_t |p - a - t (b - a)| < r, 0 <= t <= 1          ellipse: ((x - cx) / rx)^2 + ((y - cy) / ry)^2 < 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cdsa_lightning.errors import InputError

__all__ = ["Capsule", "Disc", "Ellipse", "Place", "Region", "WorldMap"]

Point = tuple[float, float]
OUTLINE = 256


@dataclass(frozen=True)
class Region:
    """A part of the plane with a name; a subclass says which part."""

    name: str

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether points [..., 2] lie inside, bool [...]; the edge is outside."""
        raise NotImplementedError  # abstract: every shape writes its own

    def outline(self, count: int = OUTLINE) -> np.ndarray:
        """`count` points along the edge, counter-clockwise, [count, 2]."""
        raise NotImplementedError  # abstract: every shape writes its own

    def distance(self, points: np.ndarray) -> np.ndarray:
        """How far points [..., 2] are from the region, [...]; 0 inside. Exact to the spacing of the outline."""
        way = points[..., None, :] - self._edge
        return np.where(self.contains(points), 0.0, np.sqrt((way**2).sum(-1).min(-1)))

    @cached_property
    def _edge(self) -> np.ndarray:
        return self.outline()


@dataclass(frozen=True)
class Capsule(Region):
    """Everything within `radius` of the segment from `start` to `end`."""

    start: Point
    end: Point
    radius: float

    def _from_axis(self, points: np.ndarray) -> np.ndarray:
        first = np.asarray(self.start)
        axis = np.asarray(self.end) - first
        share = np.clip(((points - first) @ axis) / max(float(axis @ axis), 1e-300), 0.0, 1.0)
        return np.linalg.norm(points - first - share[..., None] * axis, axis=-1)

    def contains(self, points: np.ndarray) -> np.ndarray:
        return self._from_axis(points) < self.radius

    def distance(self, points: np.ndarray) -> np.ndarray:
        return np.maximum(self._from_axis(points) - self.radius, 0.0)

    def outline(self, count: int = OUTLINE) -> np.ndarray:
        first, last = np.asarray(self.start), np.asarray(self.end)
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        round_ = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        forward = round_ @ (last - first) > 0  # this half of the circle caps the far end
        return np.where(forward[:, None], last, first) + self.radius * round_


class Disc(Capsule):
    """Everything within `radius` of `centre`."""

    def __init__(self, name: str, centre: Point, radius: float) -> None:
        super().__init__(name, centre, centre, radius)


@dataclass(frozen=True)
class Ellipse(Region):
    """An ellipse around `centre` whose semi-axes lie along x and y."""

    centre: Point
    semi_axes: Point

    def contains(self, points: np.ndarray) -> np.ndarray:
        return (((points - np.asarray(self.centre)) / np.asarray(self.semi_axes)) ** 2).sum(-1) < 1

    def outline(self, count: int = OUTLINE) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        return np.asarray(self.centre) + np.asarray(self.semi_axes) * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataclass(frozen=True)
class Place:
    """A disc that matters to a task: its goal, something to pick up, an airport."""

    name: str
    centre: Point
    radius: float


@dataclass(frozen=True)
class WorldMap:
    """What a picture of a world shows; the first two entries of its observations are the position.

    Attributes:
        low, high: Corners of the map.
        regions: Where accidents happen.
        places: Everything else, the goal first.
        step: Length of the displacement that a unit action asks for.
    """

    low: Point
    high: Point
    regions: tuple[Region, ...]
    places: tuple[Place, ...]
    step: float = 1.0

    def region_of(self, points: np.ndarray) -> np.ndarray:
        """The number of the region that holds each of points [..., 2], int [...]; -1 outside all."""
        found = np.full(points.shape[:-1], -1)
        for index, region in enumerate(self.regions):
            found = np.where(region.contains(points), index, found)
        return found

    def distance(self, points: np.ndarray) -> np.ndarray:
        """How far points [..., 2] are from the nearest region, [...]; infinite where there is none."""
        away = [region.distance(points) for region in self.regions]
        return np.min(away, axis=0) if away else np.full(points.shape[:-1], np.inf)

    def check_free(self, what: str, point: Sequence[float] | str) -> None:
        """See that `point`, called `what` in the error, can be stood on.

        Raises:
            InputError: it is no point of the map, or lies in a region.
        """
        try:
            place = np.asarray(point, dtype=float)
        except (TypeError, ValueError):
            place = np.empty(0)
        x, y = (f"{self.low[axis]:g} to {self.high[axis]:g}" for axis in (0, 1))
        if place.shape != (2,) or not np.isfinite(place).all():
            raise InputError(f"{what} is a point (x, y), got {point!r}: x in {x}, y in {y}.")
        if (place < self.low).any() or (place > self.high).any():
            raise InputError(f"{what} {place.tolist()} lies outside the map: x in {x}, y in {y}.")
        index = int(self.region_of(place))
        if index >= 0:
            raise InputError(
                f"{what} {place.tolist()} lies in the risk region {self.regions[index].name!r}: choose a point outside "
                f"{', '.join(region.name for region in self.regions)}."
            )

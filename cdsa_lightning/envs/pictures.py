"""A world with a map as pixels: what `render` shows of it."""

from __future__ import annotations

import numpy as np

from cdsa_lightning.envs.maps import WorldMap

__all__ = ["draw_map"]

PIXELS = 320
_PAPER = (250, 250, 250)
_REGIONS = ((244, 190, 190), (176, 208, 240), (214, 205, 236))
_PLACES = ((120, 200, 120), (240, 200, 110), (190, 190, 190))
_TRAVELLER = (40, 70, 200)


def draw_map(world: WorldMap, position: np.ndarray) -> np.ndarray:
    """Regions, places (the goal green) and someone at `position` [2] (blue), uint8 [320, 320, 3]; north is up."""
    low, high = np.asarray(world.low), np.asarray(world.high)
    share = (np.arange(PIXELS) + 0.5) / PIXELS
    x, y = (low[axis] + share * (high[axis] - low[axis]) for axis in (0, 1))
    pixel = np.stack(np.meshgrid(x, y[::-1]), axis=-1)
    frame = np.full((PIXELS, PIXELS, 3), _PAPER, dtype=np.uint8)
    for index, region in enumerate(world.regions):
        frame[region.contains(pixel)] = _REGIONS[index % len(_REGIONS)]
    for index, place in enumerate(world.places):
        frame[np.linalg.norm(pixel - place.centre, axis=-1) < place.radius] = _PLACES[index % len(_PLACES)]
    dot = 0.015 * (high - low).max()
    frame[np.linalg.norm(pixel - position, axis=-1) < dot] = _TRAVELLER
    return frame

"""Regions and maps against geometry done by hand."""

import numpy as np
import pytest

from cdsa_lightning.envs.maps import Capsule, Disc, Ellipse, Place, WorldMap
from cdsa_lightning.envs.pictures import draw_map
from cdsa_lightning.errors import InputError

DISC = Disc("hill", (1.0, 2.0), 0.5)
CAPSULE = Capsule("river", (0.0, 0.0), (0.0, 3.0), 1.0)
ELLIPSE = Ellipse("ice", (5.0, 5.0), (2.0, 1.0))
WORLD = WorldMap((0, 0), (10, 8), (DISC, ELLIPSE), (Place("goal", (9.0, 1.0), 0.3),))


def at(*points):
    return np.array(points, dtype=float)


@pytest.mark.parametrize("region", [DISC, CAPSULE, ELLIPSE])
def test_the_outline_parts_inside_from_outside(region):
    edge = region.outline(64)
    middle = edge.mean(0)
    assert edge.shape == (64, 2)
    assert region.contains(middle + 0.999 * (edge - middle)).all()
    assert not region.contains(middle + 1.001 * (edge - middle)).any()


def test_distances_are_those_of_a_ruler():
    assert np.allclose(DISC.distance(at((1.0, 4.0), (1.0, 2.1))), (1.5, 0.0))
    assert np.allclose(CAPSULE.distance(at((3.0, 1.5), (0.0, 6.0), (3.0, 7.0))), (2.0, 2.0, 4.0))
    # Beyond the tips of an ellipse the nearest point is the tip.
    assert np.allclose(ELLIPSE.distance(at((8.0, 5.0), (5.0, 7.5))), (1.0, 1.5), atol=1e-3)


def test_a_map_knows_which_region_holds_a_point_and_how_far_the_nearest_is():
    points = at((1.0, 2.0), (5.0, 5.5), (9.0, 7.0))
    assert WORLD.region_of(points).tolist() == [0, 1, -1]
    assert WORLD.distance(points)[:2].tolist() == [0.0, 0.0]
    assert WORLD.distance(points)[2] == pytest.approx(min(r.distance(points[2:])[0] for r in WORLD.regions))
    assert np.isinf(WorldMap((0, 0), (1, 1), (), ()).distance(points)).all()


@pytest.mark.parametrize(
    ("point", "said"),
    [((1.0, 2.2), "risk region 'hill'"), ((11.0, 1.0), "outside the map: x in 0 to 10"), ((1.0,), "a point (x, y)")],
)
def test_a_place_that_nobody_can_stand_on_is_refused_by_name(point, said):
    with pytest.raises(InputError, match="The start") as error:
        WORLD.check_free("The start", point)
    assert said in str(error.value)


def test_a_picture_shows_regions_goal_and_traveller_where_they_are():
    frame = draw_map(WORLD, np.array([3.0, 7.0]))
    assert frame.shape == (320, 320, 3)

    def colour(x, y):
        return tuple(frame[319 - int(y / 8 * 320), int(x / 10 * 320)])

    plain = colour(0.1, 0.1)
    assert len({plain, colour(1, 2), colour(5, 5), colour(9, 1), colour(3, 7)}) == 5
    assert colour(9, 7) == plain

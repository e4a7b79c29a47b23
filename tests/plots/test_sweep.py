"""A sweep's curves lie where the shares are, coloured by the setting."""

import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.plots.sweep import sweep_curve

CURVES = {"path": [(0.0, 1.0, 1.0), (1.0, 0.5, 0.9), (2.0, 0.0, 0.4)], "goods": [(0.0, 0.9, 1.0), (2.0, 0.1, 1.0)]}


def test_points_lie_at_their_shares_with_the_colour_of_their_setting():
    axes = sweep_curve(CURVES, "touch", "reach", parameter="K2").axes[0]
    for points, (name, table) in zip(axes.collections, CURVES.items(), strict=True):
        assert np.allclose(points.get_offsets(), np.array(table)[:, 1:]), name
        assert np.allclose(points.get_array(), np.array(table)[:, 0])
        assert (points.norm.vmin, points.norm.vmax) == (0.0, 2.0)
    assert [axes.get_xlabel(), axes.get_ylabel()] == ["touch", "reach"]


@pytest.mark.parametrize("curves", [{}, {"path": [(0.0, 1.0)]}, {"path": []}])
def test_what_is_no_sweep_is_refused(curves):
    with pytest.raises(InputError, match=r"shape \(points, 3\)"):
        sweep_curve(curves, "touch", "reach", parameter="K2")

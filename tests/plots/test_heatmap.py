"""A heat map's cells say their values, in a colour that can be read on them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from cdsa_lightning.errors import InputError
from cdsa_lightning.plots import heatmap
from drawn import assert_readable

VALUES = np.array([[0.1, 0.5, 0.9], [0.2, np.nan, 0.75]])


@pytest.fixture
def figure():
    about = {"title": "in the disc", "row_title": "sigma", "column_title": "n", "label": "share", "format": "{:.0%}"}
    return heatmap(VALUES, ["0.1", "0.2"], ["1", "2", "4"], **about)


def luminance(colour):
    return np.dot([0.2126, 0.7152, 0.0722], to_rgb(colour))


def test_every_cell_says_its_value(figure):
    cells = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert cells == {(0, 0): "10%", (1, 0): "50%", (2, 0): "90%", (0, 1): "20%", (1, 1): "none", (2, 1): "75%"}
    assert_readable(figure)


def test_text_stands_out_from_its_cell(figure):
    axes = figure.axes[0]
    (image,) = axes.images
    for text in axes.texts:
        column, row = text.get_position()
        shade = image.cmap(image.norm(VALUES[row, column]))[:3] if np.isfinite(VALUES[row, column]) else (1, 1, 1)
        assert abs(luminance(text.get_color()) - luminance(shade)) > 0.4


def test_greater_is_lighter_in_grey_print(figure):
    (image,) = figure.axes[0].images
    greys = [luminance(image.cmap(image.norm(value))[:3]) for value in np.linspace(0.1, 0.9, 9)]
    assert np.all(np.diff(greys) > 0.03)


def test_labels_must_fit_the_values():
    with pytest.raises(InputError, match=r"2 rows and 2 columns needs a value each, got \(2, 3\)"):
        heatmap(VALUES, ["a", "b"], ["c", "d"])
    with pytest.raises(InputError, match="0 rows"):
        heatmap(np.zeros((0, 0)), [], [])

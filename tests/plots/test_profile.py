"""The performance profile as a picture."""

import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.plots.profile import profile


def test_a_profile_falls_from_one_to_none_within_its_band():
    scores = np.random.default_rng(0).uniform(20, 90, size=(5, 4))
    (axes,) = profile({"better": scores + 10, "worse": scores}).axes
    (x, better), (_, worse) = (line.get_data() for line in axes.lines)
    assert (x[0], x[-1], better[0], better[-1]) == (0, 100, 1, 0)
    assert np.all(np.diff(better) <= 0)
    assert np.all(better >= worse)
    assert len(axes.collections) == 2  # bands
    assert [line.get_label() for line in axes.lines] == ["better", "worse"]


def test_a_profile_reaches_scores_below_nothing_and_above_an_expert():
    (axes,) = profile({"one": np.array([[-20.0, 120.0]])}).axes
    assert axes.get_xlim() == (-20, 120)


def test_a_profile_needs_scores():
    with pytest.raises(InputError, match="at least one arm"):
        profile({})

"""The arms of a comparison and their names."""

import pytest

from cdsa_lightning.comparison import ARMS, arm_name, baseline_of, corrections
from cdsa_lightning.core.coefficients import Coefficients


def test_each_part_sets_one_weight_to_zero_and_nothing_else():
    whole = Coefficients(k1=1.5, k2=0.5, a2="residual", num_steps=3)
    assert corrections(whole) == {
        "cdsa": whole,
        "without_a1": Coefficients(k1=0.0, k2=0.5, a2="residual", num_steps=3),
        "without_a2": Coefficients(k1=1.5, k2=0.0, a2="residual", num_steps=3),
    }


@pytest.mark.parametrize("k1, k2, a2", [(1.0, 0.0, "paper"), (0.0, 1.0, "residual"), (1.0, 1.0, "off")])
def test_where_one_term_is_off_nothing_can_be_left_out(k1, k2, a2):
    assert list(corrections(Coefficients(k1=k1, k2=k2, a2=a2))) == ["cdsa"]


@pytest.mark.parametrize("baseline", ["iql", "iql+noise(0.3)", "a(b)"])
def test_a_corrected_arms_name_tells_its_baseline(baseline):
    assert [baseline_of(arm_name(arm, baseline)) for arm in ARMS] == [None, baseline, baseline, baseline]

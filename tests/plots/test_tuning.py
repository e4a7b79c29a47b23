"""The picture of a choice."""

from cdsa_lightning.audit import Measures
from cdsa_lightning.plots.tuning import tuning_figure
from drawn import assert_readable, texts


def test_it_is_readable_and_marks_the_chosen_candidate():
    measures = Measures(2.2, 1.0, 0.6, 0.341, 0.4, 100, 0.3)
    numbers = {"none": -13.3, "ann3": -15.4, "gate90": -14.6, "recommended": -4.6}
    for limit in (None, ("mean return of the data", -6.9)):
        figure = tuning_figure(
            measures, numbers, "recommended", "mean return", limit, "shortest_path on risky-pointmass"
        )
        assert_readable(figure)
        shown = {text for text, _ in texts(figure)}
        assert {"recommended (chosen)", "none", "r = 2.20", "rho = 1.00", "f99 = 0.34"} <= shown
        assert ("dashed: mean return of the data, -6.9" in shown) == (limit is not None)


def test_the_candidates_and_the_measures_lie_at_their_values():
    figure = tuning_figure(Measures(2.2, 1.0, 0.6, 0.12, 0.4, 100, 0.3), {"none": 1.0, "ann3": 2.0}, "none", "r")
    left, right = figure.axes
    assert [line.get_xdata()[-1] for line in left.lines[:4]] == [1.0, 0.0, 1 / 0.5, 2.2 / 1.1]
    assert [line.get_xdata()[0] for line in right.lines] == [2.0, 1.0]

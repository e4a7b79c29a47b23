"""The picture of an audit."""

import numpy as np

from cdsa_lightning.audit import Audit, Drift, Measures, Walk
from cdsa_lightning.plots.audit import audit_figure
from drawn import assert_readable, texts


def found(walks):
    rng = np.random.default_rng(0)
    noise = [rng.exponential(size=50)]
    one = Walk(noise, [rng.uniform(0.01, 1, 50)], 0.1, 0.01, [], 1.0)
    measures = Measures(1.5, 1.0, 0.4, 0.2, 0.4, 100, 0.3)
    return Audit(measures, noise[0] * 2, noise[0], {name: one for name in walks}, {"here": Drift(np.zeros(0))})


def test_it_is_readable_with_and_without_episodes():
    for walks, panels in (((), 1), (("iql", "cdsa(iql)"), 2)):
        figure = audit_figure(found(walks), "iql", "Audit of iql, hopper-medium")
        assert len(figure.axes) == panels
        assert_readable(figure)
        assert {"the data", "iql", *walks} <= {text for text, _ in texts(figure)}


def test_the_curves_are_the_shares_of_what_was_found():
    audit = found(["iql"])
    left, right = audit_figure(audit, "iql").axes
    data, policy = left.lines[:2]
    assert data.get_xdata()[100] == np.median(audit.reference)
    assert policy.get_xdata()[100] == np.median(audit.noise)
    uniform = right.lines[0]
    assert list(uniform.get_xdata()) == list(uniform.get_ydata())
    assert right.lines[1].get_xdata()[-1] == audit.walks["iql"].p_values[0].max()

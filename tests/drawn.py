"""What tests of pictures share: reports and traces made by hand, and where the texts of a figure lie."""

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from cdsa_lightning.envs.maps import Capsule, Disc, Place, WorldMap
from cdsa_lightning.evaluation import Report
from cdsa_lightning.rollout import Episodes, Trace
from cdsa_lightning.sources import Transitions
from cdsa_lightning.tasks import get_task

WORLD = WorldMap(
    (0.0, 0.0),
    (1.0, 1.0),
    (Disc("risky disc", (0.5, 0.5), 0.3), Capsule("river", (0.9, 0.0), (0.9, 0.2), 0.05)),
    (Place("goal", (0.1, 0.1), 0.05), Place("goods", (0.2, 0.9), 0.05)),
)


def episodes(returns, traces=(), **info):
    """Episodes of these returns, [E, n]."""
    returns = np.asarray(returns, dtype=float)
    flat = np.zeros(returns.shape)
    return Episodes(returns, flat.astype(int) + 1, flat > 0, flat, flat, info, list(traces))


def trace(start, steps=12, bend=0.0, width=4, seed=0, move=(-0.05, -0.05), step=1.0):
    """A walk whose baseline asks for `move`, to which the correction adds (bend, -bend), times `step`; else s is .1."""
    base = np.tile(np.asarray(move, dtype=np.float32), (steps, 1))
    action = base + np.array([bend, -bend], dtype=np.float32)
    walk = np.concatenate([[np.asarray(start)], start + np.cumsum(step * action, axis=0)])
    obs = np.concatenate([walk, np.full((steps + 1, width - 2), 0.1)], axis=1).astype(np.float32)
    return Trace(seed, 0, obs, action, base, np.zeros(steps))


def report(names=("iql", "cdsa(iql)"), task="risky-pointmass", traces=True, width=4, **info):
    """A report whose arms' returns differ; two seeds of four episodes each."""
    rng = np.random.default_rng(0)
    arms = {}
    for index, name in enumerate(names):
        walks = [trace([0.8, 0.8], bend=0.02 * index, width=width, seed=seed) for seed in (0, 1)] if traces else []
        arms[name] = episodes(rng.normal(10 * index, 1, (2, 4)), walks, **info)
    return Report(get_task(task), arms)


def data(obs, action=None):
    """Transitions through these observations, [N, S]."""
    obs = np.asarray(obs, dtype=np.float32)
    action = np.zeros((len(obs), 2), np.float32) if action is None else np.asarray(action, np.float32)
    zeros = np.zeros(len(obs), np.float32)
    return Transitions(obs, action, zeros, obs, zeros > 0, zeros.astype(np.int64))


def texts(figure):
    """(text, box) of all that is written in a figure, once it is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {id(label) for axes in figure.findobj(Axes) for label in _out_of_view(axes)}
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown if id(text) not in hidden]


def _out_of_view(axes):
    """Labels of ticks that lie outside the axes' limits, and labels that are switched off: never painted."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            inside = low <= tick.get_loc() <= high
            yield from [label for label in (tick.label1, tick.label2) if not (inside and label.get_visible())]


def assert_readable(figure):
    """No text lies over another or leaves the figure, and no legend lies over axes."""
    written = texts(figure)
    for (one, box), (other, place) in itertools.combinations(written, 2):
        assert not box.padded(-1).overlaps(place.padded(-1)), f"{one!r} lies over {other!r}"
    for text, box in written:
        assert box.x0 >= 0 and box.y0 >= 0, f"{text!r} leaves the figure"
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, f"{text!r} leaves the figure"
    for legend, axes in itertools.product(figure.legends, figure.axes):
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox()), "a legend lies over axes"

"""Paths, regions and arrows lie where the traces and the map say."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.quiver import Quiver

from cdsa_lightning.envs.maps import Place, WorldMap
from cdsa_lightning.errors import InputError
from cdsa_lightning.plots import trajectories
from cdsa_lightning.rollout import Trace
from drawn import WORLD, assert_readable, trace


def paths(axes):
    return [entry for entry in axes.collections if isinstance(entry, LineCollection)]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_pieces_of_a_path_are_the_trace_end_to_end():
    walks = [trace([0.8, 0.8], steps=100, move=(-0.005, -0.005)), trace([0.7, 0.8], steps=3)]
    lines = paths(trajectories(WORLD, walks).axes[0])
    for line, walk in zip(lines, walks, strict=True):
        pieces = line.get_segments()
        for one, following in zip(pieces[:-1], pieces[1:], strict=True):
            np.testing.assert_array_equal(one[-1], following[0])
        joined = np.concatenate([pieces[0][:1], *(piece[1:] for piece in pieces)])
        np.testing.assert_array_equal(joined, walk.obs[:, :2])


def test_paths_darken_with_time():
    (line,) = paths(trajectories(WORLD, [trace([0.8, 0.8])]).axes[0])
    grey = line.get_colors()[:, :3].mean(axis=1)
    assert np.all(np.diff(grey) < 0)
    assert grey[0] > 0.75


def test_baseline_and_corrected_differ_in_colour_and_dash():
    axes = trajectories(WORLD, [trace([0.8, 0.8])], [trace([0.8, 0.8], bend=0.02)], arrows=0).axes[0]
    one, two = paths(axes)
    assert not np.allclose(one.get_colors()[-1], two.get_colors()[-1])
    assert one.get_linestyles() != two.get_linestyles()


def test_regions_are_drawn_where_they_are_and_named():
    figure = trajectories(WORLD, [trace([0.8, 0.8])], names=("iql", ""))
    disc, river = figure.axes[0].patches[:2]
    np.testing.assert_allclose(np.linalg.norm(disc.get_xy() - 0.5, axis=1), 0.3)
    np.testing.assert_allclose(WORLD.regions[1].distance(river.get_xy()), 0, atol=1e-9)
    assert disc.get_hatch() != river.get_hatch()  # told apart in grey
    assert labels(figure) == ["iql", "start", "risky disc", "river (risky)", "goal", "goods"]


def test_arrows_are_what_the_baseline_wanted_and_what_the_correction_added():
    corrected = [trace([0.8, 0.8], bend=0.02), trace([0.8, 0.4], bend=0.02, steps=3)]
    axes = trajectories(WORLD, [], corrected, arrows=4).axes[0]
    wanted, added = (entry for entry in axes.collections if isinstance(entry, Quiver))
    assert len(wanted.U) == len(added.U) == 4 + 3
    np.testing.assert_allclose(np.stack([wanted.U, wanted.V], axis=1), np.tile([-0.05, -0.05], (7, 1)), atol=1e-7)
    np.testing.assert_allclose(np.stack([added.U, added.V], axis=1), np.tile([0.02, -0.02], (7, 1)), atol=1e-7)
    assert wanted.scale == added.scale == 1  # true lengths
    starts = {tuple(point) for walk in corrected for point in walk.obs[:, :2].tolist()}
    assert {tuple(point) for point in wanted.XY.tolist()} <= starts


def test_arrows_too_short_to_see_are_enlarged_and_say_so():
    big = WorldMap((0.0, 0.0), (10.0, 10.0), (), (Place("goal", (9.0, 9.0), 0.3),), step=0.25)
    figure = trajectories(big, [], [trace([5.0, 5.0], move=(0.8, 0.6), steps=1)])
    wanted = next(entry for entry in figure.axes[0].collections if isinstance(entry, Quiver))
    np.testing.assert_allclose([wanted.U[0], wanted.V[0]], [0.8, 0.6], rtol=1e-6)  # four times .25 (.8, .6)
    assert "baseline's action, 4 x" in labels(figure)


def test_arrows_keep_their_distance():
    near = [trace([0.8, 0.8 + 0.001 * k], bend=0.02) for k in range(5)]
    wanted = next(e for e in trajectories(WORLD, [], near).axes[0].collections if isinstance(e, Quiver))
    gaps = np.linalg.norm(wanted.XY[:, None] - wanted.XY[None], axis=-1) + np.eye(len(wanted.XY))
    assert gaps.min() >= 0.06


def test_a_step_longer_than_its_action_is_a_flight():
    walk = trace([0.2, 0.2], steps=4, move=(0.05, 0.0))
    obs = walk.obs.copy()
    obs[2:, 0] += 0.4
    figure = trajectories(WORLD, [Trace(0, 0, obs, walk.action, walk.base_action, walk.reward)])
    line, flight = paths(figure.axes[0])
    np.testing.assert_array_equal(flight.get_segments(), [obs[1:3, :2]])
    assert not any(np.allclose(piece[-2:], obs[1:3, :2]) for piece in line.get_segments())
    assert "flight" in labels(figure)


def test_a_correction_of_nothing_is_drawn():
    still = trace([0.5, 0.1], steps=2, move=(0.0, 0.0))
    assert_readable(trajectories(WORLD, [still], [still]))


def test_everything_can_be_read():
    for names in (("iql", "cdsa(iql)"), ("shortest_path+noise(0.3)", "cdsa(shortest_path+noise(0.3))")):
        walks = [trace([0.8, 0.8])], [trace([0.8, 0.8], bend=0.02)]
        assert_readable(trajectories(WORLD, *walks, names=names, title="risky-pointmass"))


def test_the_baseline_alone_is_named_alone():
    figure = trajectories(WORLD, [trace([0.8, 0.8])], names=("shortest_path", ""))
    assert labels(figure)[:2] == ["shortest_path", "start"]
    assert to_rgb(paths(figure.axes[0])[0].get_colors()[-1]) == pytest.approx(to_rgb("#D55E00"))


def test_trajectories_need_a_trace():
    with pytest.raises(InputError, match="no trace to draw"):
        trajectories(WORLD, [], [])

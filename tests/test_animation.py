"""Moving pictures: what is shown is what happened, who has ended stands still, and the file is whole or absent."""

import sys
from types import SimpleNamespace

import gymnasium
import mujoco
import numpy as np
import pytest
from PIL import Image

from cdsa_lightning import animation
from cdsa_lightning.animation import Film, choose_renderer, film, find_ffmpeg, side_by_side, write_film
from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import rollout
from cdsa_lightning.tasks import get_task

POINT = get_task("risky-pointmass")
LOW, HIGH = [-0.1, -0.1], [0.1, 0.1]


def straight(speed=1.0):
    return FunctionPolicy(lambda obs: (obs[:, 2:4] - obs[:, :2]) * speed, LOW, HIGH)


def corner(policy, name="p", **settings):
    return film(policy, name, POINT, env_kwargs={"start": "corner"}, **settings)


def test_an_episode_is_the_start_and_a_picture_after_each_step():
    made = film(straight(), "p", POINT, seed=3, episode=2)
    episodes = rollout(straight(), POINT, 3, seed=3)
    assert (made.length, made.finished) == (episodes.lengths[0, 2], True)
    assert list(made.pictures) == list(made.captions) == list(range(made.length + 1))
    assert made.captions[made.length][0].startswith(f"step {made.length}   return {episodes.returns[0, 2]:.1f}")
    frames = list(side_by_side([made]))
    assert len(frames) == made.length + 1
    assert all((one != other).any() for one, other in zip(frames, frames[1:], strict=False))


def test_who_has_ended_stands_still_beside_who_goes_on():
    fast, slow = corner(straight(), "fast"), corner(straight(0.05), "slow", max_steps=30)
    assert fast.length < slow.length == 30 and not slow.finished
    frames = np.stack(list(side_by_side([fast, slow])))
    assert frames.shape == (31, 372, 646, 3)
    left, right = frames[:, 28:348, :320], frames[:, 28:348, 326:646]
    assert (left[fast.length :] == left[-1]).all() and (left[fast.length - 1] != left[-1]).any()
    assert (right[-2] != right[-1]).any()
    assert (left[0] == right[0]).all()  # one start


def test_skipped_steps_are_run_but_not_shown():
    made = corner(straight(0.05), skip=7, max_steps=30)
    assert list(made.pictures) == [0, 7, 14, 21, 28, 30]
    assert made.captions[30] == corner(straight(0.05), max_steps=30).captions[30]
    short = corner(straight(), skip=7)
    frames = list(side_by_side([short, made]))
    assert list(short.pictures) == [0, 7, short.length] and len(frames) == 6
    assert np.array_equal(frames[2][28:348, :320], np.asarray(short.pictures[short.length]))


def test_steps_in_a_risk_region_are_told():
    through = corner(straight())
    alarms = [alarm for _, alarm in through.captions.values()]
    assert any(alarms) and not alarms[0] and not alarms[-1]
    assert all(("in a risk region" in text) == alarm for text, alarm in through.captions.values())
    along = film(straight(), "p", POINT, env_kwargs={"start": [0.9, 0.1]})
    assert not any(alarm for _, alarm in along.captions.values())


def test_the_way_so_far_is_drawn_over_the_map():
    made = film(straight(), "p", POINT, env_kwargs={"start": [0.9, 0.1]})
    blue = [(np.asarray(image) == animation._TRAIL).all(-1) for image in made.pictures.values()]
    assert not blue[0].any() and blue[4].sum() < blue[6].sum()
    rows, columns = np.nonzero(blue[-1])
    assert abs(rows - 0.9 * 320).max() < 3  # y = .1, counted from above
    assert columns.max() > 0.85 * 320


class Seeds(Policy):
    """Seed 0 goes left, the others stand."""

    num_seeds = 3

    def forward(self, obs):
        action = obs[..., :2] * 0
        action[0, :, 0] = -0.05
        return action


def test_of_several_training_seeds_the_first_acts():
    made = corner(Seeds(LOW, HIGH), max_steps=5)
    alone = corner(FunctionPolicy(lambda obs: obs[:, :2] * 0 + obs.new_tensor([-0.05, 0.0]), LOW, HIGH), max_steps=5)
    assert made.captions == alone.captions


def test_a_gif_holds_every_frame_and_runs_at_its_speed(tmp_path):
    frames = list(side_by_side([corner(straight(), "one"), corner(straight(0.05), "two", max_steps=20)]))
    path = tmp_path / "new" / "episode.gif"
    assert write_film(iter(frames), path, 20.0) == 21
    with Image.open(path) as image:
        assert (image.n_frames, image.size) == (21, (646, 372))
        assert image.info["duration"] == 50
        for index in (0, 20):
            image.seek(index)
            shown = np.asarray(image.convert("RGB")).astype(float)
            assert abs(shown - frames[index]).mean() < 3  # but for the palette
    assert [found.name for found in path.parent.iterdir()] == ["episode.gif"]


def stub(tmp_path, monkeypatch, code):
    """An ffmpeg that runs `code`."""
    path = tmp_path / "ffmpeg"
    path.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    path.chmod(0o755)
    monkeypatch.setattr(animation.shutil, "which", lambda name: str(path))


def test_an_mp4_is_what_ffmpeg_makes_of_the_frames(tmp_path, monkeypatch):
    stub(tmp_path, monkeypatch, "open(sys.argv[-1], 'wb').write(' '.join(sys.argv).encode() + sys.stdin.buffer.read())")
    frames = [np.full((4, 6, 3), shade, dtype=np.uint8) for shade in (50, 100, 150)]
    path = tmp_path / "e.mp4"
    assert write_film(iter(frames), path, 12.5) == 3
    content = path.read_bytes()
    assert content.endswith(np.stack(frames).tobytes())
    assert b"-s 6x4 -r 12.5 -i -" in content and b"-f mp4" in content


def test_a_failing_ffmpeg_is_told_and_leaves_the_old_file(tmp_path, monkeypatch):
    stub(tmp_path, monkeypatch, "sys.exit('Unknown encoder')")
    path = tmp_path / "e.mp4"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="ffmpeg could not write the animation: Unknown encoder"):
        write_film(iter([np.zeros((2, 2, 3), dtype=np.uint8)] * 2), path, 10)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


def test_without_ffmpeg_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(animation.shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match="apt-get install ffmpeg, or pip install imageio-ffmpeg. A .gif needs neither"):
        find_ffmpeg()
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(get_ffmpeg_exe=lambda: "/its/own"))
    assert find_ffmpeg() == "/its/own"


@pytest.mark.parametrize(
    "error",
    [
        mujoco.FatalError("an OpenGL platform library has not been loaded"),
        AttributeError("'NoneType' object has no attribute 'eglQueryString'"),
        ImportError("Cannot initialize a EGL device display"),
        RuntimeError("No OpenGL backend could be imported"),
    ],
)
def test_without_a_renderer_the_error_says_what_to_set_and_to_install(monkeypatch, error):
    def fails(self):
        raise error

    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_env.MujocoEnv.render", fails)
    policy = FunctionPolicy(lambda obs: obs[:, :3] * 0, [-1.0] * 3, [1.0] * 3)
    text = "Cannot draw Hopper-v5: .*MUJOCO_GL=egl.*apt-get install libegl1 libgl1-mesa-dri"
    with pytest.raises(InputError, match=text) as told:
        film(policy, "p", get_task("hopper-medium"), max_steps=2)
    assert str(error) in str(told.value)


def test_the_robots_are_followed_by_the_camera(monkeypatch):
    made, blank = [], np.zeros((480, 480, 3), dtype=np.uint8)
    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_env.MujocoEnv.render", lambda self: made.append(self) or blank)
    policy = FunctionPolicy(lambda obs: obs[:, :3] * 0, [-1.0] * 3, [1.0] * 3)
    shown = film(policy, "p", get_task("hopper-medium"), max_steps=12)
    assert made[0].camera_name == "track"
    assert list(shown.pictures) == [0, 5, 10, 12]  # 125 steps a second, 25 pictures
    assert shown.pictures[0].size == (320, 320)


def test_a_renderer_without_a_display_is_chosen_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(animation.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    for before, after in ((None, "egl"), ("osmesa", "osmesa")):
        monkeypatch.delenv("MUJOCO_GL", raising=False)
        if before:
            monkeypatch.setenv("MUJOCO_GL", before)
        choose_renderer()
        assert animation.os.environ["MUJOCO_GL"] == after
    monkeypatch.setitem(sys.modules, "mujoco", None)  # as where MUJOCO_GL names what is not installed
    with pytest.raises(InputError, match="MUJOCO_GL=egl and install its libraries"):
        choose_renderer()


def test_what_the_world_itself_lacks_is_told(monkeypatch):
    def lacking(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    monkeypatch.setattr("cdsa_lightning.envs.risky_pointmass.RiskyPointMass.render", lacking)
    with pytest.raises(InputError, match="Cannot draw cdsa/RiskyPointMass-v0: pygame is not installed"):
        corner(straight())
    monkeypatch.setattr("cdsa_lightning.envs.risky_pointmass.RiskyPointMass.render", lambda self: None)
    with pytest.raises(InputError, match="does not draw pictures"):
        corner(straight())


@pytest.mark.parametrize("settings", [{"max_steps": 0}, {"skip": 0}, {"episode": -1}])
def test_numbers_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=f"{next(iter(settings))} must be at least"):
        corner(straight(), **settings)


def test_an_action_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="'bad' returned a NaN or infinite action at step 0"):
        corner(FunctionPolicy(lambda obs: obs[:, :2] * float("nan"), LOW, HIGH), "bad")


def test_files_that_cannot_be_written_are_refused(tmp_path):
    frames = [np.zeros((2, 2, 3), dtype=np.uint8)]
    with pytest.raises(InputError, match=r"written as .gif or .mp4, not as '.avi'"):
        write_film(iter(frames), tmp_path / "e.avi", 10)
    for fps in (0, -1, 1000, float("nan")):
        with pytest.raises(InputError, match="fps must be above 0 and at most 100"):
            write_film(iter(frames), tmp_path / "e.gif", fps)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write the animation"):
        write_film(iter(frames), tmp_path / "file" / "e.gif", 10)


def test_a_long_name_is_written_smaller():
    image = Image.new("RGB", (40, 30))
    made = Film("cdsa(some_baseline+noise(0.3)) without a1", 10, {0: image}, {0: ("step 0", False)})
    (frame,) = side_by_side([made])
    assert frame.shape == (30 + 28 + 24, 40, 3)

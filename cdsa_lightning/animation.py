r"""An episode as a moving picture: a policy and its corrected self side by side, from the same start.

    frame t = [ picture of arm 1 after min(t, T_1) steps | picture of arm 2 after min(t, T_2) steps ],   t = 0, ..., T

with T the longer of the two lengths: who has ended stands still. The pictures are the environment's own; in a world
with a map the way so far is drawn over them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import gymnasium
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cdsa_lightning.acting import decide, episode_seed, float32
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import whole_file
from cdsa_lightning.tasks import Task

__all__ = ["Film", "check_fps", "choose_renderer", "film", "find_ffmpeg", "side_by_side", "write_film"]

_HEIGHT = 320  # of one picture, in pixels; larger ones are shrunk
_TOP, _BOTTOM, _GAP = 28, 24, 6
_INK, _ALARM, _PAPER, _TRAIL = (20, 20, 20), (180, 30, 30), (255, 255, 255), (95, 125, 225)
_HOLD = 1.5  # seconds that the end stands


@dataclass
class Film:
    """One episode of one arm: pictures of the steps that are shown, by the number of steps taken before."""

    name: str
    render_fps: float
    pictures: dict[int, Image.Image] = field(default_factory=dict)
    captions: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """What is written below a picture, and whether it is an alarm."""
    length: int = 0
    finished: bool = False


def film(
    policy: Policy,
    name: str,
    task: Task,
    seed: int = 0,
    episode: int = 0,
    max_steps: int | None = None,
    skip: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> Film:
    """Run one episode with the first training seed of a policy, and keep its pictures.

    Args:
        policy: Who acts.
        name: What it is called.
        task: The world.
        seed, episode: The start is that of this episode in an evaluation with this seed.
        max_steps: Steps after which the film stops; None for the episode's end.
        skip: Show every so many steps; None for 25 pictures a second of the world's time, or fewer where it is slower.
        env_kwargs: Settings of the environment.

    Raises:
        InputError: the environment cannot be drawn here, a policy's action is NaN, or a number is out of range.
    """
    for label, value, least in (("max_steps", max_steps, 1), ("skip", skip, 1), ("episode", episode, 0)):
        if value is not None and value < least:
            raise InputError(f"{label} must be at least {least}, got {value}.")
    from cdsa_lightning.envs.mujoco import MUJOCO_LANES  # here: MuJoCo takes .2 s to import

    camera = {"camera_name": "track"} if task.env_id in MUJOCO_LANES else {}  # the default one is left behind
    env = task.make_single(render_mode="rgb_array", **{**camera, **(env_kwargs or {})})
    try:
        made = Film(name, float(env.metadata.get("render_fps", 25)))
        _play(made, env, policy, task, (seed, episode), max_steps, skip or max(1, round(made.render_fps / 25)))
    finally:
        env.close()
    return made


def _play(
    made: Film, env: gymnasium.Env, policy: Policy, task: Task, start: tuple[int, int], stop: int | None, skip: int
) -> None:
    policy.eval()
    policy.reseed(start[0])
    obs, info = env.reset(seed=episode_seed(*start))
    way, gained, over = [obs[:2]], 0.0, False
    picture = _first_picture(env, task)
    while True:
        said, alarm = f"step {made.length}   return {gained:.1f}", bool(info.get("in_risk_region", False))
        if over or made.length % skip == 0 or made.length == stop:
            made.pictures[made.length] = _trail(_picture(env) if made.length else picture, way, task)
            made.captions[made.length] = (said + ("   in a risk region" if alarm else ""), alarm)
        if over or made.length == stop:
            made.finished = over
            return
        batch = float32(obs)[None, None].repeat(policy.num_seeds, 0)
        action = decide(policy, batch).action[0, 0]
        if not np.isfinite(action).all():
            raise InputError(f"The policy {made.name!r} returned a NaN or infinite action at step {made.length}.")
        obs, reward, terminated, truncated, info = env.step(action)
        made.length, gained, over = made.length + 1, gained + float(reward), terminated or truncated
        way.append(obs[:2])


def choose_renderer() -> None:
    """Let MuJoCo draw without a display where there is none; what MUJOCO_GL says already is kept.

    Raises:
        InputError: the libraries of the renderer that MUJOCO_GL names are not installed.
    """
    try:
        import mujoco  # noqa: F401  looks for them at once
    except (AttributeError, ImportError, OSError, RuntimeError) as error:
        raise _no_renderer("anything", error) from error
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # after the import, which fails where EGL is missing


def _first_picture(env: gymnasium.Env, task: Task) -> Image.Image:
    """What `render` shows first; here it shows whether this machine can render at all."""
    import mujoco

    try:
        return _picture(env)
    except gymnasium.error.Error as error:  # says what to install itself
        raise InputError(f"Cannot draw {task.env_id}: {error}") from error
    except (mujoco.FatalError, AttributeError, ImportError, OSError, RuntimeError) as error:
        raise _no_renderer(task.env_id, error) from error


def _no_renderer(what: str, error: Exception) -> InputError:
    return InputError(
        f"Cannot draw {what}: there is no renderer here ({' '.join(str(error).split())}). Without a display set "
        "MUJOCO_GL=egl and install its libraries: apt-get install libegl1 libgl1-mesa-dri."
    )


def _picture(env: gymnasium.Env) -> Image.Image:
    frame: Any = env.render()
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise InputError(f"{env.spec.id if env.spec else env} does not draw pictures (render_mode 'rgb_array').")
    image = Image.fromarray(frame)
    if image.height <= _HEIGHT:
        return image
    return image.resize((round(image.width * _HEIGHT / image.height), _HEIGHT), Image.Resampling.LANCZOS)


def _trail(image: Image.Image, way: list[np.ndarray], task: Task) -> Image.Image:
    """The way so far over a picture of the map, whose edges are those of the picture."""
    world = task.map
    if world is None or len(way) < 2:
        return image
    low, high = np.asarray(world.low), np.asarray(world.high)
    share = (np.stack(way) - low) / (high - low)
    pixels = np.stack([share[:, 0], 1 - share[:, 1]], axis=1) * (image.width, image.height)
    ImageDraw.Draw(image).line([tuple(point) for point in pixels.tolist()], fill=_TRAIL, width=2)
    return image


def side_by_side(films: list[Film]) -> Iterator[np.ndarray]:
    """The frames of all films next to each other with their captions, uint8 [H, W, 3]; H and W are even."""
    last = max(made.length for made in films)
    shown = sorted({step for made in films for step in made.pictures if step < last} | {last})
    shown = [step for step in shown if step == last or all(min(step, m.length) in m.pictures for m in films)]
    first = [made.pictures[0] for made in films]
    width = sum(image.width for image in first) + _GAP * (len(films) - 1)
    height = max(image.height for image in first) + _TOP + _BOTTOM
    for step in shown:
        frame = Image.new("RGB", (width + width % 2, height + height % 2), _PAPER)
        left = 0
        for made in films:
            at = min(step, made.length)
            image, (caption, alarm) = made.pictures[at], made.captions[at]
            frame.paste(image, (left, _TOP))
            ended = "   ended" if made.finished and step >= made.length else ""
            _write(frame, made.name, (left, 0, image.width, _TOP), _INK)
            _write(frame, caption + ended, (left, _TOP + image.height, image.width, _BOTTOM), _ALARM if alarm else _INK)
            left += image.width + _GAP
        yield np.asarray(frame)


def _write(frame: Image.Image, text: str, box: tuple[int, int, int, int], ink: tuple[int, int, int]) -> None:
    """`text` in the middle of `box` (left, top, width, height), as large as fits."""
    left, top, width, height = box
    pen = ImageDraw.Draw(frame)
    for size in range(16, 6, -1):
        font = ImageFont.load_default(size)
        if pen.textlength(text, font) <= width - 4:
            break
    pen.text((left + width / 2, top + height / 2), text, fill=ink, font=font, anchor="mm")


def check_fps(fps: float) -> None:
    """See that a film can run at `fps`.

    Raises:
        InputError: it cannot.
    """
    if not 0 < fps <= 100:
        raise InputError(f"fps must be above 0 and at most 100, got {fps}.")


def write_film(frames: Iterator[np.ndarray], path: Path, fps: float) -> int:
    """Write frames as GIF or MP4, by the suffix of `path`, whole or not at all.

    Args:
        frames: uint8 [H, W, 3], all of one size.
        path: The file.
        fps: Frames per second; a GIF counts hundredths of a second.

    Returns:
        How many frames.

    Raises:
        InputError: another suffix, no ffmpeg for an MP4, or the file cannot be written.
    """
    check_fps(fps)
    write = {".gif": _write_gif, ".mp4": _write_mp4}.get(path.suffix)
    if write is None:
        raise InputError(f"An animation is written as .gif or .mp4, not as {path.suffix or path.name!r}.")
    with whole_file(path, "the animation") as place, place.open("wb") as file:
        return write(frames, file, fps)


def _write_gif(frames: Iterator[np.ndarray], file: IO[bytes], fps: float) -> int:
    images = [Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    each = max(20, 10 * round(100 / fps))  # milliseconds; viewers slow down what is shorter
    durations = [each] * (len(images) - 1) + [round(1000 * _HOLD)]
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)
    return len(images)


def _write_mp4(frames: Iterator[np.ndarray], file: IO[bytes], fps: float) -> int:
    first = next(frames)
    size = f"{first.shape[1]}x{first.shape[0]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "-"]
    hold = ["-vf", f"tpad=stop_mode=clone:stop_duration={_HOLD}"]
    coded = ["-an", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", "-y", file.name]
    command = [find_ffmpeg(), "-loglevel", "error", *raw, *hold, *coded]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    count, pipe = 0, process.stdin
    assert pipe is not None  # asked for above
    with contextlib.suppress(BrokenPipeError):  # why it stopped reading is told below
        for frame in (first, *frames):
            pipe.write(frame.tobytes())
            count += 1
    said = process.communicate()[1].decode(errors="replace").strip()
    if process.returncode:
        raise InputError(f"ffmpeg could not write the animation: {said or process.returncode}.")
    return count


def find_ffmpeg() -> str:
    """The ffmpeg on the path, or the one of the package imageio-ffmpeg.

    Raises:
        InputError: there is neither.
    """
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg  # type: ignore[import-not-found,unused-ignore]

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise InputError(
            "An .mp4 needs ffmpeg, which is not here: apt-get install ffmpeg, or pip install imageio-ffmpeg. "
            "A .gif needs neither."
        ) from None

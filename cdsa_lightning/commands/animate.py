"""`cdsa animate`: one episode of a baseline and of its corrected self, side by side, as GIF or MP4.

What is not named is found as `cdsa evaluate` finds it, by the same options.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.commands.options import Options, build, spell_out
from cdsa_lightning.errors import InputError

__all__ = ["AnimateOptions", "animate", "main"]

_NOT_HERE = {"ablation", "episodes", "output", "wandb"}


@dataclass(frozen=True)
class AnimateOptions:
    """What becomes of the episode.

    Args:
        output: The file, .gif or .mp4; by default runs/TASK/animate/DATE-TIME/episode.gif.
        episode: Which episode of an evaluation with this seed, counted from 0.
        fps: Frames per second; by default the world's own time, at most 25 a second.
        max_steps: Steps after which the film stops; by default the episode's end.
        skip: Show every so many steps; by default so many that the film runs in the world's own time.
    """

    output: str | None = None
    episode: int = 0
    fps: float | None = None
    max_steps: int | None = None
    skip: int | None = None


def main(argv: list[str]) -> None:
    """Parse `argv` and animate."""
    from jsonargparse import ArgumentParser

    about = "Show one episode of a baseline and of its corrected self, side by side."
    parser = ArgumentParser(prog="cdsa animate", description=about, **STRICT)
    parser.add_class_arguments(AnimateOptions, as_group=False)
    parser.add_class_arguments(Options, as_group=False, skip=_NOT_HERE)
    given = vars(parse(parser, spell_out(argv)))
    animate(build(Options, given), build(AnimateOptions, given))


def animate(options: Options, how: AnimateOptions) -> Path:
    """Run the episode that `options` describe, draw it, and say where it is.

    Raises:
        InputError: something named does not exist or does not fit, something not named was not found, or what draws or
            writes is not installed.
    """
    import torch

    from cdsa_lightning.animation import check_fps, choose_renderer, film, find_ffmpeg, side_by_side, write_film
    from cdsa_lightning.commands.arms import find_subject, make_arms
    from cdsa_lightning.runs import new_run

    suffix = Path(how.output).suffix if how.output else ".gif"
    if suffix not in (".gif", ".mp4"):
        raise InputError(f"--output names a .gif or an .mp4, got {how.output}.")
    if suffix == ".mp4":
        find_ffmpeg()  # before the work
    if how.fps is not None:
        check_fps(how.fps)
    choose_renderer()
    torch.set_num_threads(options.threads)
    subject = find_subject(options)
    arms, _ = make_arms(options, subject)
    if not options.quiet:
        print("\n".join(subject.notes), flush=True)
    films = [
        film(policy, name, subject.task, options.seed, how.episode, how.max_steps, how.skip, options.env_kwargs)
        for name, policy in arms.items()
    ]
    fps = min(films[0].render_fps, 25.0) if how.fps is None else how.fps
    path = Path(how.output) if how.output else new_run(subject.task.name, "animate", options.runs) / "episode.gif"
    count = write_film(side_by_side(films), path, fps)
    if not options.quiet:
        lengths = ", ".join(f"{made.name} {made.length} steps" for made in films)
        print(f"{path}: {count} frames; {lengths}")
    return path

"""`cdsa animate`: it finds what `cdsa evaluate` finds, and leaves one whole file."""

import subprocess
import sys
from dataclasses import fields

import pytest
from PIL import Image

from cdsa_lightning import cli
from cdsa_lightning.commands.animate import AnimateOptions
from evaluation_files import TASK, kept, leave


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


def frames(path):
    with Image.open(path) as image:
        return image.n_frames, image.info["duration"]


def test_the_newest_of_everything_is_animated_and_told(tmp_path, capsys):
    path = kept("1")
    command = "animate --baseline shortest_path --env_kwargs.start corner --max_steps 15 --k1 0 --k2 0"
    assert cli.main(command.split()) == 0
    (made,) = (tmp_path / "runs" / TASK / "animate").glob("*/episode.gif")
    assert frames(made) == (10, 100)
    said = capsys.readouterr().out
    assert f"corrector     {path} (the newest; preset robust, 2 seeds)" in said
    assert "episode.gif: 10 frames; shortest_path 9 steps, cdsa(shortest_path) 9 steps" in said


def test_what_is_named_is_taken(tmp_path, capsys):
    kept("1")
    command = "animate --baseline shortest_path --ensemble --k1 0.2 --num_steps 1 --output out/e.gif --fps 20 --skip 4"
    assert cli.main([*command.split(), "--max_steps", "8", "--episode", "3", "--quiet"]) == 0
    assert frames(tmp_path / "out" / "e.gif") == (3, 50)
    assert capsys.readouterr().out == ""


def test_a_baseline_can_be_shown_alone(tmp_path):
    command = "animate --baseline shortest_path --task risky-transportation --corrector none --max_steps 4"
    alone = "--output one.gif --quiet --env_kwargs.start=[1.0,6.0]"
    assert cli.main(["animate", "--baseline", "random", *command.split()[3:], *alone.split()]) == 0
    assert frames(tmp_path / "one.gif")[0] == 5


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("--output episode.avi", "--output names a .gif or an .mp4, got episode.avi"),
        ("--max_steps 0", "max_steps must be at least 1, got 0"),
        ("--fps 0", "fps must be above 0"),
        ("--env_kwargs.start [0.5,0.5]", "The start [0.5, 0.5] lies in the risk region 'risky disc'"),
        ("--ablation true", "Unknown key 'ablation'"),
        ("--wandb off", "Unknown key 'wandb'"),
        ("--baseline shortest_pth", "Did you mean 'shortest_path'?"),
    ],
)
def test_what_cannot_be_is_refused(capsys, tmp_path, more, text):
    kept("1")
    assert cli.main(["animate", "--baseline", "shortest_path", "--output", "e.gif", *more.split()]) == 2
    said = capsys.readouterr().err
    assert text in said and "Traceback" not in said
    assert not list(tmp_path.glob("*e.gif*"))


def test_an_mp4_without_ffmpeg_is_refused_before_the_work(capsys, monkeypatch):
    monkeypatch.setattr("cdsa_lightning.animation.shutil.which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert cli.main("animate --baseline unknown --output e.mp4".split()) == 2
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err


def test_help_loads_no_torch_and_tells_every_option():
    program = (
        "import sys\nfrom cdsa_lightning.cli import main\n"
        "try: main(['animate', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'lightning', 'PIL', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"--{option.name}" in done.stdout for option in fields(AnimateOptions))
    assert all(f"--{name} " in done.stdout for name in ("baseline", "corrector_seed", "ensemble"))
    assert "--ablation" not in done.stdout

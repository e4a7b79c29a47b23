"""Every command and every code block of the README is run, with smaller numbers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdsa_lightning.cli import main

ROOT = Path(__file__).parents[1]
SMALLER = {
    "--steps": "3000",
    "--trainer.max_steps": "20",
    "--data.random_steps": "50",
    "--trials": "6",
    "--episodes": "2",
}
ALSO = {
    "fit": ["--trainer.max_steps", "20"],
    "evaluate": ["--episodes", "2"],
    "collect": ["--overwrite"],
    "datasets": [],
    "plot": [],
    "animate": ["--max_steps", "5"],
    "audit": ["--episodes", "2"],
    "tune": ["--episodes", "2"],
    "benchmark": [],
    "table": [],
    "dashboard": [],
    "export": [],
}


def blocks(path: Path) -> dict[str, str]:
    """Name -> text of the code blocks that follow a ``<!-- run: name -->`` comment."""
    return dict(re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", path.read_text(), re.DOTALL))


def commands(text: str) -> list[list[str]]:
    """The lines of a shell block, made small."""
    lines = []
    for line in filter(None, text.splitlines()):
        words = shlex.split(line)
        assert words[0] == "cdsa", line
        for option, value in SMALLER.items():
            if option in words:
                words[words.index(option) + 1] = value
        extra = [] if ALSO[words[1]] and ALSO[words[1]][0] in words else ALSO[words[1]]
        lines.append(words[1:] + extra)
    return lines


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "docs/records"):
        shutil.copytree(ROOT / name, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "datasets"))
        patch.setenv("WANDB_MODE", "offline")
        yield folder


def test_every_command_of_the_readme_runs(workshop, capsys):
    readme = blocks(ROOT / "README.md")
    shell = "pointmass hopper transportation options callback baselines decide grid dashboard export".split()
    assert set(readme) == {*shell, "python", "calls"}
    for name in shell:
        for words in commands(readme[name]):
            if "ddp" in words:  # starts processes of its own
                done = subprocess.run([Path(sys.executable).parent / "cdsa", *words], timeout=240)
                assert done.returncode == 0
                continue
            assert main(words) == 0, (words, capsys.readouterr())
    assert list(workshop.glob("runs/risky-pointmass/evaluate/*/trajectories.png"))
    assert list(workshop.glob("runs/hopper-random/evaluate/*/report.json"))


def test_the_one_line_of_python_corrects_a_policy(workshop):
    made = next(workshop.glob("runs/risky-pointmass/cdsa/*/corrector.safetensors"))
    shutil.copy(made, workshop / "corrector.safetensors")
    names: dict = {}
    exec(compile(blocks(ROOT / "README.md")["python"], "README.md", "exec"), names)  # noqa: S102
    assert names["action"].shape == (2,) and bool((abs(names["action"]) <= 0.1 + 1e-6).all())
    from training_data import write_npz

    write_npz(workshop / "log.npz")
    calls = blocks(ROOT / "README.md")["calls"].replace("10_000", "20").replace("episodes=100", "episodes=2")
    exec(compile(calls, "README.md", "exec"), names)  # noqa: S102
    assert list(names["report"].arms) == ["policy", "cdsa(policy)"]


def test_no_shell_block_of_the_readme_goes_untested():
    text = (ROOT / "README.md").read_text()
    assert len(re.findall(r"^```(bash|python)", text, re.MULTILINE)) == len(blocks(ROOT / "README.md"))


def test_the_demo_of_the_makefile_is_the_readme_by_hand():
    script = (ROOT / "Makefile").read_text()
    for words in commands(blocks(ROOT / "README.md")["pointmass"]):
        assert re.search(rf"\$\(BIN\)/cdsa {words[0]} .*{re.escape(words[2])}", script), words


def test_the_console_script_answers():
    done = subprocess.run([Path(sys.executable).parent / "cdsa", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "evaluate" in done.stdout

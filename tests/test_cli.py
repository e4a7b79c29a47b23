"""The table of commands: help at once, and exit statuses that scripts can rely on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cdsa_lightning import __version__, cli
from cdsa_lightning.cli import COMMANDS, main
from cdsa_lightning.errors import InputError


def answer(monkeypatch, error: BaseException | None, status: int | None = None) -> int:
    """The exit status where the command `fit` ends like this."""

    def command(argv: list[str]) -> int | None:
        if error is not None:
            raise error
        return status

    monkeypatch.setattr(cli, "_load", lambda name: command)
    return main(["fit"])


def test_help_names_every_command(capsys):
    assert main(["--help"]) == main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cdsa-lightning {__version__}\n"


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert main(["evalute"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cdsa: error: Unknown command 'evalute'. Did you mean 'evaluate'? Known: ")


def test_a_command_without_a_status_has_succeeded(monkeypatch):
    assert answer(monkeypatch, None) == 0
    assert answer(monkeypatch, None, 3) == 3


def test_input_that_cannot_be_used_is_status_2_and_one_sentence(monkeypatch, capsys):
    assert answer(monkeypatch, InputError("Unknown task 'x'.")) == 2
    assert capsys.readouterr().err == "cdsa: error: Unknown task 'x'.\n"


@pytest.mark.parametrize(("text", "said"), [("stopped at 3.", "cdsa: stopped at 3.\n"), ("", "cdsa: interrupted; ")])
def test_ctrl_c_is_status_130(monkeypatch, capsys, text, said):
    assert answer(monkeypatch, KeyboardInterrupt(text) if text else KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith(said)


def test_a_defect_is_not_dressed_as_bad_input(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        answer(monkeypatch, ZeroDivisionError())


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["datasets"], ["datasets", "--json"]], ids=" ".join)
def test_output_that_nobody_reads_ends_a_command_without_a_word(words, unbuffered):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cdsa_lightning.cli", *words]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_a_defect(monkeypatch, tmp_path):
    with (tmp_path / "out").open("w") as out, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        with pytest.raises(BrokenPipeError):
            answer(patched, BrokenPipeError())


@pytest.mark.parametrize(("argv", "heavy"), [(["--help"], "torch jsonargparse"), (["evaluate", "--help"], "torch")])
def test_help_imports_nothing_heavy(argv, heavy):
    script = (
        "import sys\nfrom cdsa_lightning.cli import main\n"
        f"try:\n    main({argv})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in '{heavy} lightning numpy matplotlib wandb'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evaluate"], "baseline is missing"),
        (["evaluate", "--baseline", "iql", "--episods", "4"], "Did you mean 'episodes'"),
        (["evaluate", "--baselin", "iql"], "Did you mean 'baseline'"),
        (["evaluate", "--baseline", "iql", "--episodes", "x"], "episodes must be int, got 'x'"),
        (["collect"], "task is missing"),
        (["collect", "--task", "hopper-random", "--stepps", "3"], "Did you mean 'steps'"),
        (["datasets", "--jsn"], "Did you mean 'json'"),
    ],
)
def test_a_mistaken_option_of_any_command_is_one_sentence(words, says, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and "fit" not in said

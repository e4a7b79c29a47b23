"""The command line: a table of commands, each in a file of its own. Standard library only, so that help is instant."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.resources import explained

__all__ = ["main"]

COMMANDS = {
    "fit": ("cdsa_lightning.commands.fit:main", "train CDSA's networks, or a baseline, on a task's data"),
    "evaluate": ("cdsa_lightning.commands.evaluate:main", "run a baseline with and without correction, and compare"),
    "benchmark": ("cdsa_lightning.commands.benchmark:main", "run a grid of all of these, and compare with the paper"),
    "table": ("cdsa_lightning.commands.table:main", "make Table 1 out of the records of grids"),
    "audit": ("cdsa_lightning.commands.audit:main", "tell how far outside the data a policy acts"),
    "tune": ("cdsa_lightning.commands.tune:main", "choose coefficients from data, without the environment"),
    "plot": ("cdsa_lightning.commands.plot:main", "draw pictures of an evaluation, a corrector, or the paper"),
    "animate": ("cdsa_lightning.commands.animate:main", "show one episode of both as a moving picture"),
    "dashboard": ("cdsa_lightning.commands.dashboard:main", "show all runs on one page, and in W&B"),
    "export": ("cdsa_lightning.commands.export:main", "write one file for other programs, checked against PyTorch"),
    "inspect": ("cdsa_lightning.commands.inspect:main", "tell what a checkpoint is and which task it fits"),
    "collect": ("cdsa_lightning.commands.collect:main", "write a dataset by rolling out a policy"),
    "datasets": ("cdsa_lightning.commands.datasets:main", "list every task and where its data are"),
}


def _help() -> str:
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["usage: cdsa COMMAND [options]", "", *lines, "", "'cdsa COMMAND --help' tells a command's options."]
    )


def _load(name: str) -> Callable[[list[str]], int | None]:
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    module, function = COMMANDS[name][0].split(":")
    gc.disable()  # Lightning's import makes millions of objects that all stay: collecting among them is a tenth of it
    try:
        return getattr(import_module(module), function)
    finally:
        gc.freeze()
        gc.enable()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0; 1 where a grid is not whole; 2 for input that cannot be used, or what the machine could not
        give; 130 after Ctrl-C; 141 where nobody reads what is printed any more. docs/faults.md tells of each.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(args)
        sys.stdout.flush()  # a reader that is gone is noticed here, not by the interpreter's end
        return status
    except BrokenPipeError:
        if not _unread():
            raise
    except SystemExit as end:  # rich's answer to the same
        if not isinstance(end.__context__, BrokenPipeError):
            raise
    return 128 + signal.SIGPIPE


def _unread() -> bool:
    """Whether the reader of standard output is gone; what is still to be printed is then dropped."""
    output = sys.stdout.fileno()
    state = select.poll()
    state.register(output, 0)
    if gone := bool(state.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _run(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        return 0
    if args[0] == "--version":
        from cdsa_lightning import __version__

        print(f"cdsa-lightning {__version__}")
        return 0
    try:
        return _load(args[0])(args[1:]) or 0
    except InputError as error:
        print(f"cdsa: error: {error}", file=sys.stderr)
        return 2
    except (OSError, MemoryError, RuntimeError) as error:
        if (text := explained(error)) is None:
            raise
        print(f"cdsa: error: {text} What was written before is whole.", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"cdsa: {str(stop) or 'interrupted; what was written before is whole.'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

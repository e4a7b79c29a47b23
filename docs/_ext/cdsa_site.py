"""What this site adds to Sphinx: a table of contents out of a page's links, the command reference, readable modules."""

from __future__ import annotations

import re
from typing import Any

from command_reference import Option, Parser, every_parser
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from cdsa_lightning.cli import COMMANDS

__all__ = ["CommandReference", "setup"]


class CommandReference(SphinxDirective):
    """Every command and its options, in the order of ``cdsa --help``."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # it depends on the code, which Sphinx does not watch
        lines = [line for parser in every_parser() for line in _section(parser)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _section(parser: Parser) -> list[str]:
    command, _, asked = parser.words.partition(" ")
    if asked:
        name = asked.rpartition(".")[2]
        lines = [f"### {name}", "", f"{next(iter(parser.groups))}. `{asked.partition('=')[2]}`", ""]
        program = f"cdsa fit {name}"
    else:
        about = COMMANDS[command][1]
        lines = [f"## cdsa {command}", "", f"{about[0].upper()}{about[1:]}.", ""]
        program = f"cdsa {command}"
    lines += [f"```{{program}} {program}", "```", ""]
    for title, options in parser.groups.items():
        if not asked and len(parser.groups) > 1 and title != "options":
            lines += [f"*{title}*", ""]
        for option in options:
            lines += _option(option)
    return lines


def _option(option: Option) -> list[str]:
    text = f"{_plain(option.help)} *{option.note}*" if option.note else _plain(option.help)
    return [f"````{{option}} {option.name}", "", text, "````", ""]


def _plain(text: str) -> str:
    """A help text as Markdown: Lightning's are written for Sphinx, with roles and double backticks."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")
    return re.sub(r"(?<!`)<(\w)", r"\\<\1", text)


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """The links listed in each section of the front page are that part of the table of contents.

    So the page is a list of links wherever it is read, and no page stands in two lists.
    """
    if docname != app.config.root_doc:
        return
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", source[0], re.MULTILINE | re.DOTALL):
        links = re.findall(r"^- \[([^\]]*)\]\(([^)#:]+)\.(?:md|ipynb)\)", text, re.MULTILINE)
        if links:
            pages = [f"{name} <{page}>" for name, page in links]
            source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])


def keep_formulas(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Indented lines of a docstring are formulas or tables in plain text: they keep their line breaks."""
    if what != "module":
        return
    for i in reversed(range(1, len(lines))):
        if lines[i].startswith("    ") and not lines[i - 1].strip():
            lines[i:i] = ["::", ""]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of it."""
    app.add_directive("cdsa-commands", CommandReference)
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", keep_formulas)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

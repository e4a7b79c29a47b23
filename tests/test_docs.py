"""What the documentation owes its readers, as far as that can be seen without building the site (`make docs` does)."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cdsa_lightning
from cdsa_lightning import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("*.ipynb"), ROOT / "baselines" / "README.md"])


def text_of(page: Path) -> str:
    """What a page says, code blocks aside."""
    if page.suffix == ".ipynb":
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
        said = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        said = page.read_text(encoding="utf-8")
    return re.sub(r"^(```+|~~~+).*?^\1", "", said, flags=re.MULTILINE | re.DOTALL)


def links_of(text: str) -> list[tuple[str, str]]:
    """(file, anchor) of every link and picture that leads to a file; either may be empty."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text))
    return [target.partition("#")[::2] for target in found if not re.match(r"\w+:", target)]


def anchors_of(text: str) -> set[str]:
    """What the headings of a page are called in an address: lower case, no punctuation, a number from the second on."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        slug = plain = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        repeated = 0
        while slug in anchors:
            repeated += 1
            slug = f"{plain}-{repeated}"
        anchors.add(slug)
    return anchors


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The module of the site that reads parsers."""
    path = DOCS / "_ext" / "command_reference.py"
    spec = importlib.util.spec_from_file_location("command_reference", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["command_reference"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["command_reference"]


def test_headings_are_named_as_on_the_hosting_site():
    text = "# The `cdsa` house\n## Hopper, the paper's (Table 1: 10.8 -> 30.9 +- .19)\n## Speed\n### Speed\n"
    names = {"the-cdsa-house", "hopper-the-papers-table-1-108---309---19", "speed", "speed-1"}
    assert anchors_of(text) == names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_files_leads_somewhere(page):
    wrong = []
    for file, anchor in links_of(text_of(page)):
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or not target.is_relative_to(ROOT):
            wrong.append(f"{file}: no such file")
        elif anchor and anchor not in anchors_of(text_of(target)):
            wrong.append(f"{file}#{anchor}: no such heading")
    assert not wrong


def test_the_front_page_leads_to_every_page():
    listed = {(DOCS / file).resolve() for file, _ in links_of(text_of(DOCS / "index.md"))}
    assert set(PAGES) - listed == {DOCS / "index.md"}


def numbers_of(text: str) -> set[str]:
    """Every number that a text says, code and addresses aside."""
    said = re.sub(r"\]\([^)]*\)|`[^`]*`", " ", text)
    return {number.rstrip(",") for number in re.findall(r"(?<![\w.])\.?\d[\d,]*(?:\.\d+)?", said)}


def test_an_answer_says_no_number_that_was_not_measured():
    measured = (numbers_of((DOCS / page).read_text()) for page in ("results.md", "scaling.md", "deviations.md"))
    assert numbers_of((DOCS / "faq.md").read_text()) <= set().union(*measured)


def test_every_option_of_every_command_has_a_word_of_help(reference):
    parsers = {parser.words: parser for parser in reference.every_parser()}
    assert {words for words in parsers if " " not in words} == set(cli.COMMANDS)
    classes = {words.rpartition(".")[2] for words in parsers if " " in words}
    assert {"CDSAModule", "TransitionData", "ReplayData", "IQL", "TD3BC"} <= classes
    for parser in parsers.values():
        options = [option for group in parser.groups.values() for option in group]
        assert options and all(option.help for option in options), parser.words


def test_the_reference_holds_the_options_that_help_prints(reference, capsys):
    with pytest.raises(SystemExit):
        cli.main(["tune", "--help"])
    printed = capsys.readouterr().out.partition("options:")[2]
    (options,) = reference.asked("tune", "--help").groups.values()
    shown = set(re.findall(r"^  (--\w+)", printed, re.MULTILINE))
    assert {option.name.split()[0] for option in options} == shown
    storage = next(option for option in options if option.name.startswith("--storage"))
    assert storage.name == "--storage FILE|URL" and storage.note.endswith("default: null")


def test_an_option_without_help_fails_the_reference(reference, monkeypatch):
    def main(argv: list[str]) -> None:
        from jsonargparse import ArgumentParser

        parser = ArgumentParser(prog="cdsa silent")
        parser.add_argument("--known", help="Says what it is.")
        parser.add_argument("--mute")
        parser.parse_args(argv)

    monkeypatch.setitem(cli.COMMANDS, "silent", ("silent:main", "say nothing"))
    monkeypatch.setattr(cli, "_load", lambda name: main)
    with pytest.raises(reference.UndocumentedError, match="cdsa silent says nothing about --mute"):
        reference.asked("silent", "--help")


def test_every_public_name_is_on_the_python_page():
    named = set(re.findall(r":: cdsa_lightning\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert set(cdsa_lightning.__all__) - named == {"__version__"}


def test_a_public_name_is_no_modules_name():
    """Once a module is imported its name would lead to it, and no more to what it was to name."""
    modules = {path.stem for path in Path(cdsa_lightning.__file__).parent.iterdir() if path.suffix in ("", ".py")}
    assert not set(cdsa_lightning.__all__) & modules

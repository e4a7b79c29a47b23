"""The page on security and the readers that are fuzzed name each other."""

import re
from pathlib import Path

from fuzz.readers import READERS

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
COLUMNS = ("damaged", "bombs", "code", "places", "nesting", "values")


def rows():
    lines = re.findall(r"^\| `([^`]+)` \|(.+)\|$", PAGE.read_text(), flags=re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines}


def test_every_reader_has_a_row_and_every_row_a_reader():
    assert set(rows()) == set(READERS)


def test_each_row_counts_the_attacks_of_its_reader():
    for name, reader in READERS.items():
        columns = [column for column, _ in reader.attack_list()]
        assert rows()[name] == [str(columns.count(column) or "") for column in COLUMNS], name

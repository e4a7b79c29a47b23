"""Parquet's list of contents: read as pyarrow reads it, and no bit of it ends the process."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cdsa_lightning.footers import announced
from cdsa_lightning.tables import read_parquet
from fuzz.attacks_tables import repeated_rows

TABLES = {
    "flat": pa.table({"task": ["t"] * 14, "return": np.arange(14.0)}),
    "nested": pa.table({"a": pa.array([[1.0, 2.0]] * 100), "b": pa.array([{"x": 1, "y": [{"z": "q"}]}] * 100)}),
    "rows": pa.table({"obs": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(300, np.float32)), 3)}),
    "nothing": pa.table({"a": pa.array([], pa.float64())}),
}


def told_by_pyarrow(path):
    facts = pq.ParquetFile(path).metadata
    groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    each = [max(8 * column.num_values, column.total_uncompressed_size) for column in columns]
    return max(sum(each), 8 * facts.num_rows * facts.num_columns)


@pytest.mark.parametrize("options", [{}, {"row_group_size": 10, "compression": "gzip"}, {"store_schema": False}])
@pytest.mark.parametrize("name", TABLES)
def test_what_a_file_announces_is_what_pyarrow_reads_in_it(tmp_path, name, options):
    path = tmp_path / "a.parquet"
    pq.write_table(TABLES[name], path, **options)
    with path.open("rb") as file:
        assert announced(file) == told_by_pyarrow(path)
    assert read_parquet(path).to_pylist() == TABLES[name].to_pylist()


FLIPS = """
import pathlib, sys
import pyarrow as pa
from cdsa_lightning.tables import read_parquet
path = pathlib.Path(sys.argv[1])
content = path.read_bytes()
for bit in range(8 * (len(content) - 8 - int.from_bytes(content[-8:-4], "little")), 8 * len(content), 7):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    try:
        read_parquet(path)
    except (OSError, ValueError, pa.ArrowException):
        pass
"""


def test_no_bit_of_the_list_of_contents_ends_the_process(tmp_path):
    # pyarrow's own accessors of a column end it, at six of these bits.
    pq.write_table(pa.table({"t": ["t"] * 14, "a": ["a"] * 14, "s": range(14), "r": np.ones(14)}), tmp_path / "a")
    done = subprocess.run([sys.executable, "-c", FLIPS, str(tmp_path / "a")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_rows_that_repeat_without_end_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(TABLES["flat"], path)
    repeated_rows(tmp_path, path)
    with pytest.raises(ValueError, match="would unpack to"):
        read_parquet(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1\x00\x00\x00\x00PAR1", b"\xff" * 200 + b"\xc8\0\0\0PAR1"])
def test_what_is_no_list_of_contents_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with (tmp_path / "a").open("rb") as file, pytest.raises(ValueError, match="no Parquet file|is damaged"):
        announced(file)


def test_lists_within_lists_are_not_followed_without_end(tmp_path):
    content = b"\x29" + b"\x19" * 5000 + b"\x00"  # field 2 is a list of one list of one list ...
    (tmp_path / "a").write_bytes(content + len(content).to_bytes(4, "little") + b"PAR1")
    with (tmp_path / "a").open("rb") as file, pytest.raises(ValueError, match="is damaged"):
        announced(file)

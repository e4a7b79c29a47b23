"""The notebook of the documentation runs from the first cell to the last, and what it keeps is what it would print."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


def printed(notebook) -> list[str]:
    """The text and the kinds of pictures under each code cell."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text") or " ".join(sorted(output["data"])))
    return found


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook, run in an empty folder by a fresh kernel; a cell that fails raises."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    return notebook


def test_the_correction_keeps_its_promise(executed):
    said = " ".join(printed(executed))
    assert "correction improved straight" in said
    before, after = re.search(r"risk region ([\d.]+)% -> ([\d.]+)%", said).groups()
    assert float(after) < 0.6 * float(before)
    assert re.search(r"walker +alarms 0,", said) and re.search(r"straight +alarms [1-9]", said)


def test_what_is_kept_has_the_shape_of_what_is_printed(executed):
    kept = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(kept)

    def shape(text):
        return re.sub(r"[-+\d.e]+", "#", text).split()

    # Joined: a kernel may hand what one cell prints over in several parts.
    assert shape("".join(printed(kept))) == shape("".join(printed(executed)))
    assert NOTEBOOK.stat().st_size < 100_000

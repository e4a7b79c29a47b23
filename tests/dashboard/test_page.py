"""The page holds all data, asks no network for anything, and lets no name become markup."""

import base64
import hashlib
import json
import re
from importlib.resources import files

import pytest

from cdsa_lightning.dashboard import page as module
from cdsa_lightning.dashboard.local import read_local
from cdsa_lightning.dashboard.page import page, page_data
from cdsa_lightning.dashboard.panels import PANELS
from dashboard_files import HOSTILE, RISKY, leave_evaluation, leave_fit, leave_runs, rename, report_of


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return page_data(read_local(leave_runs(tmp_path_factory.mktemp("runs"))), "Three evaluations")


def embedded(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_what_is_embedded_is_what_was_found(data):
    assert embedded(page(data)) == data
    assert [panel["id"] for panel in data["panels"]] == list(PANELS)
    assert len(data["evaluations"]) == 3 and len(data["fits"]) == 2 and data["problems"] == []


def test_the_newest_of_each_is_marked(data):
    marked = {(one["task"], one["run"].rpartition("/")[2]): one["newest"] for one in data["evaluations"]}
    assert marked == {(RISKY, "1"): False, (RISKY, "2"): True, ("hopper-medium", "1"): True}
    assert all(fit["newest"] for fit in data["fits"])


def test_pictures_are_those_that_the_page_does_not_draw(data):
    (picture,) = data["pictures"]
    assert (picture["task"], picture["name"]) == (RISKY, "trajectories")
    assert base64.b64decode(picture["source"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_pictures_without_room_are_counted(tmp_path, monkeypatch):
    leave_evaluation(tmp_path, report_of(RISKY, {"iql": 1.0}), pictures=("field", "ood"))
    monkeypatch.setattr(module, "ROOM", 10)
    data = page_data(read_local(tmp_path), "")
    assert data["pictures"] == [] and data["problems"][0].startswith("2 pictures were left out")


def test_nothing_is_fetched_from_anywhere(data):
    text = page(data)
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"<link|@import|\bsrc=|url\(|\bfetch\(|XMLHttpRequest|\bimport\(", text)
    assert "default-src 'none'" in text


def test_the_policy_allows_the_script_and_the_style_of_the_page(data):
    text = page(data)
    for kind in ("script", "style"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text


@pytest.mark.parametrize("name", [HOSTILE, "<!--", "$script $data ${title}", "\u2028 & <b>", '"]}', "\\u003c/script>"])
def test_a_hostile_name_stays_text(tmp_path, name):
    folder = leave_evaluation(tmp_path, report_of(RISKY, {"iql": 1.0, "cdsa(iql)": 2.0}))
    rename(folder, "iql", name)
    before = page(page_data(read_local(tmp_path), "plain"))
    text = page(page_data(read_local(tmp_path), name))
    assert text.count("<script") == before.count("<script") == 2 and text.count("</script") == 2
    assert "<!--" not in text and "<b>" not in text
    found = embedded(text)
    assert found["title"] == name
    assert found["evaluations"][0]["arms"][0]["name"] == found["evaluations"][0]["baseline"] == name


def test_a_run_called_like_markup_is_kept_as_text(tmp_path):
    leave_fit(tmp_path, name="<script>alert(1)<", losses=("<img src=x onerror=alert(1)>_loss",))
    text = page(page_data(read_local(tmp_path), "plain"))
    assert "<script>alert" not in text and "<img" not in text
    assert embedded(text)["fits"][0]["name"] == "<script>alert(1)<"


def luminance(colour):
    """Relative luminance of #rgb or #rrggbb, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_and_marks_stand_out_from_light_and_dark_ground():
    style = (files("cdsa_lightning.dashboard") / "page.css").read_text()
    palettes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(palettes) == 2
    for palette in palettes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", palette))
        ground = luminance(colours["ground"])
        for name, colour in colours.items():
            bright, faint = sorted((ground, luminance(colour)), reverse=True)
            ratio = (bright + 0.05) / (faint + 0.05)
            wanted = {"text": 7, "muted": 4.5, "ground": 1, "line": 1, "raised": 1}.get(name, 3)
            assert ratio >= wanted, (name, colour, ratio)

"""The page in headless Chromium: every panel is drawn, filters work, nothing overlaps, and no name becomes code."""

import pytest

from cdsa_lightning.dashboard.local import read_local
from cdsa_lightning.dashboard.page import page, page_data
from cdsa_lightning.dashboard.panels import PANELS
from chromium import Chromium
from dashboard_files import HOSTILE, RISKY, SCALED, leave_evaluation, leave_fit, leave_runs, rename, report_of

pytestmark = pytest.mark.browser

MARKS = "[...document.querySelectorAll('section')].map((s) => [s.id, s.querySelectorAll('.mark').length])"
SCORES = "[...document.querySelectorAll('#scores svg[role=img] text:not(.tick)')].map((t) => t.textContent)"
OVERLAPS = """
[...document.querySelectorAll('svg[role=img]')].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const after = (a, k) => boxes.slice(k + 1).filter(([, b]) => meet(a, b));
  const pairs = boxes.flatMap(([one, a], k) => after(a, k).map(([two]) => [one, two]));
  const outside = boxes.filter(([, box]) => box.left < -1 || box.right > window.innerWidth + 1).map(([text]) => [text]);
  return [...pairs, ...outside];
})
"""


@pytest.fixture(scope="module")
def browser():
    with Chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    path = folder / "page.html"
    path.write_text(page(page_data(read_local(leave_runs(folder / "runs")), "Three evaluations")))
    return path


def choose(browser, name, value):
    """What picking an option by hand does."""
    browser.run(
        f"(() => {{ const one = document.querySelector('[name={name}]'); one.type === 'checkbox' "
        f"? (one.checked = {str(value == 'on').lower()}) : (one.value = {value!r}); "
        "one.dispatchEvent(new Event('change')); })()"
    )


def marks(browser):
    return dict(browser.run(MARKS))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_panel_is_drawn_without_a_word_in_the_console(browser, file, width, dark):
    browser.open(file, width, dark)
    found = marks(browser)
    assert list(found) == list(PANELS) and all(found.values()), found
    assert browser.said() == []
    assert browser.requested() == [file.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(OVERLAPS) == []
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark


def test_long_labels_leave_the_charts_their_width(browser, file):
    browser.open(file, 400)
    widths = browser.run(
        "[...document.querySelectorAll('.charts.wide svg')].map((svg) => ["
        "Math.min(...[...svg.querySelectorAll('.grid')].map((line) => line.x1.baseVal.value)), svg.clientWidth])"
    )
    assert len(widths) >= 6 and all(left < 0.3 * width for left, width in widths), widths


def test_what_is_drawn_is_what_there_is(browser, file):
    browser.open(file)
    found = marks(browser)
    # The newest evaluation of either task: four arms and two; base and corrected alone in the panel of scores.
    assert (found["scores"], found["cvar"], found["var"]) == (4, 4, 6)
    assert (found["violations"], found["ablation"], found["pictures"]) == (8, 4, 1)
    assert (found["coefficients"], found["losses"]) == (4, 3 * 3)
    assert browser.run("document.getElementById('count').textContent").startswith("2 of 3 evaluations and 2 of 2 fits")


def test_a_tooltip_and_the_table_beneath_say_the_number(browser, file):
    browser.open(file)
    (said,) = browser.run(
        "[...document.querySelectorAll('#scores .mark title')].map((t) => t.textContent)"
        ".filter((t) => t.startsWith('shortest_path (robust): improved, alone'))"
    )
    value = float(said.rpartition(": ")[2])
    assert value == pytest.approx(-40, abs=3)
    rows = browser.run(
        "[...document.querySelectorAll('#scores tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    (row,) = [row for row in rows if row[3] == "shortest_path"]
    assert float(row[4]) == value and row[0] == RISKY
    folded = (
        "[...document.querySelectorAll('main section')].filter((s) => !s.querySelector('details')).map((s) => s.id)"
    )
    assert browser.run(folded) == ["pictures"]
    assert "correction improved shortest_path: mean return" in browser.run(
        "document.querySelector('#scores').textContent"
    )


def test_the_task_filter_leaves_its_task(browser, file):
    browser.open(file)
    choose(browser, "task", SCALED)
    found = marks(browser)
    assert (found["scores"], found["violations"], found["ablation"], found["losses"]) == (2, 0, 0, 6)
    assert browser.run(SCORES) == [f"{SCALED} · iql (robust): improved"]
    assert "Nothing here for this choice." in browser.run("document.getElementById('violations').textContent")
    choose(browser, "task", "")
    assert marks(browser)["scores"] == 4


def test_the_baseline_filter_keeps_the_fits_of_correctors(browser, file):
    browser.open(file)
    choose(browser, "baseline", "shortest_path")
    assert browser.run(SCORES) == ["shortest_path (robust): improved"]
    captions = browser.run("[...document.querySelectorAll('#losses figcaption')].map((c) => c.textContent)")
    assert len(captions) == 1 and captions[0].startswith("cdsa: action score loss")


def test_the_arm_filter_leaves_one_arm(browser, file):
    browser.open(file)
    choose(browser, "arm", "without_a1")
    found = marks(browser)
    assert (found["scores"], found["ablation"], found["var"], found["violations"]) == (0, 1, 1, 2)


def test_the_seed_filter_shows_that_seed_without_interval(browser, file):
    browser.open(file)
    dots = "document.querySelectorAll('#scores .seed').length"
    bars = "document.querySelectorAll('#scores figure line.stroke').length"
    values = "[...document.querySelectorAll('#scores .mark title')].map((t) => t.textContent.split(': ').pop())"
    before = browser.run(values)
    assert (browser.run(dots), browser.run(bars)) == (8, 4)
    choose(browser, "seed", "1")
    assert (browser.run(dots), browser.run(bars)) == (0, 0)
    assert marks(browser)["losses"] == 3
    assert len(browser.run(values)) == 4 and browser.run(values) != before


def test_what_was_unfolded_stays_so_when_a_filter_changes(browser, file):
    browser.open(file)
    browser.run("document.querySelector('#var details').open = true")
    choose(browser, "task", SCALED)
    unfolded = "[...document.querySelectorAll('details[open]')].map((d) => d.closest('section').id)"
    assert browser.run(unfolded) == ["var"]


def test_older_evaluations_appear_when_asked_for(browser, file):
    browser.open(file)
    choose(browser, "newest", "off")
    assert marks(browser)["scores"] == 6
    assert {"shortest_path (robust, 1): improved", "shortest_path (robust, 2): improved"} <= set(browser.run(SCORES))


def test_another_width_is_drawn_anew(browser, file):
    browser.open(file)
    width = "document.querySelector('#scores svg[role=img]').clientWidth"
    before = browser.run(width)
    browser.call("Emulation.setDeviceMetricsOverride", width=640, height=900, deviceScaleFactor=1, mobile=False)
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert before > 1000 > browser.run(width)


def test_hostile_names_are_text(browser, tmp_path):
    folder = leave_evaluation(tmp_path / "runs", report_of(RISKY, {"iql": 1.0, "cdsa(iql)": 9.0}))
    rename(folder, "iql", HOSTILE)
    leave_fit(tmp_path / "runs", name="<img src=x onerror=alert(1)>", losses=("<b onclick=alert(2)>_loss",))
    path = tmp_path / "page.html"
    (folder.parent / "2").mkdir()
    (folder.parent / "2" / "report.json").write_text('{"arms": {"<script>alert(3)</script>": 1}}')
    path.write_text(page(page_data(read_local(tmp_path / "runs"), HOSTILE)))
    browser.open(path)
    assert browser.said() == [] and browser.requested() == [path.as_uri()]
    assert browser.run("document.title") == HOSTILE
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.querySelectorAll('img, b').length") == 0
    shown = browser.run("document.querySelector('main').textContent")
    assert HOSTILE in shown and "<img src=x onerror=alert(1)>" in shown
    options = browser.run("[...document.querySelectorAll('[name=baseline] option')].map((o) => o.textContent)")
    assert HOSTILE in options
    choose(browser, "baseline", HOSTILE)
    assert marks(browser)["var"] == 2


def test_damage_is_named_on_the_page(browser, tmp_path):
    folder = leave_evaluation(tmp_path / "runs", report_of(RISKY, {"iql": 1.0}))
    leave_fit(tmp_path / "runs")
    (folder / "report.json").write_text("{")
    path = tmp_path / "page.html"
    path.write_text(page(page_data(read_local(tmp_path / "runs"), "Damage")))
    browser.open(path, 400)
    assert "holds a damaged report" in browser.run("document.getElementById('problems').textContent")
    assert marks(browser)["losses"] == 3 and browser.said() == []
    assert browser.run("document.documentElement.scrollWidth") <= 400

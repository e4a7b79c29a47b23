"""The built documentation site in a browser without a network: `make browser` builds it first."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromium import Chromium

BUILT = Path(__file__).parents[1] / "docs" / "_build" / "html"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    assert (BUILT / "index.html").is_file(), "There is no site to look at: make docs"
    with Chromium() as chromium:
        yield chromium


def test_every_page_is_whole_without_a_network(browser):
    pages = sorted({*BUILT.rglob("*.html")} - {BUILT / "index.html"})
    assert len(pages) > 20
    wrong = {}
    for page in pages:
        browser.open(page)
        broken = browser.run("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        outside = [address for address in browser.requested() if not address.startswith("file:")]
        wider = browser.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        if broken or outside or wider or browser.said():
            wrong[page.name] = (broken, outside, wider, browser.said())
    assert not wrong


def test_formulas_are_drawn_without_a_script(browser):
    browser.open(BUILT / "docs" / "concepts.html")
    sizes = browser.run("[...document.querySelectorAll('div.math math')].map(m => m.getBoundingClientRect().height)")
    assert len(sizes) >= 10 and min(sizes) > 15
    assert browser.run("document.body.innerText.includes('\\\\sigma')") is False


def test_the_search_finds_a_word(browser):
    browser.open(BUILT / "search.html")
    found = browser.run(
        "Promise.resolve(Search.performSearch('tweedie')).then(() => new Promise(done => setTimeout(() => "
        "done(document.querySelector('#search-results').innerText), 1500)))"
    )
    assert "Concepts" in found
    assert browser.said() == []

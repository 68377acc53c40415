"""The site of docs/ is built without a complaint, has every page, and asks nobody for anything."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import documented
import pytest

ROOT = documented.ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="mkdocs-material is not installed (pip install -e '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "-q", "-d", folder], cwd=ROOT, text=True,
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


def test_every_page_is_in_the_navigation(site):
    from mkdocs.config import load_config

    pages = [page for entry in load_config(str(ROOT / "mkdocs.yml"))["nav"] for page in entry.values()]
    assert {path.name for path in ROOT.glob("docs/*.md")} <= set(pages)
    assert all((site / page).with_suffix(".html").is_file() for page in pages)
    assert (site / "columns.csv").is_file() and not list(site.rglob("*.py*"))


class Loaded(HTMLParser):
    """What a browser would load by itself for a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "link") and of.get("rel") not in ("canonical", "prev", "next"):
            self.found += [value for name in ("src", "href") if (value := of.get(name))]


def test_no_page_loads_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert len(loaded.found) > 3 and not [url for url in loaded.found if re.match(r"(https?:)?//", url)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_a_browser_reads_and_searches_it_without_a_request(browser, site):
    page, asked = browser.new_page(viewport={"width": 390, "height": 844}), []
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index.html", "confounders.html", "tables.html"):
        page.goto((site / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out on a phone"
    page.set_viewport_size({"width": 1280, "height": 900})
    page.click("input.md-search__input")
    page.keyboard.type("pacemaker")
    page.wait_for_selector(".md-search-result__item", timeout=20_000)
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]

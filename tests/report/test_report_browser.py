"""Every page that a study writes, in a real browser: it asks nobody for anything, all can read it, and it prints."""

import functools
import shutil

import nbformat
import pytest
import small_results

from sourcematters import report
from sourcematters.report import pdf
from sourcematters.study.execute import as_page

WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole results folder: the report, and the page of an executed notebook with all that nbconvert looks for."""
    folder = tmp_path_factory.mktemp("results") / "demo"
    small_results.study(folder)
    small_results.audit(folder)
    bar = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "3 of 3 runs"}
    cells = [
        nbformat.v4.new_markdown_cell("A formula: $x^2 + y$.\n\n```mermaid\ngraph TD; A-->B;\n```"),
        nbformat.v4.new_code_cell("bar", outputs=[nbformat.v4.new_output("display_data", bar)]),
    ]
    notebook = small_results.executed(folder / "notebooks", "20_tag", title="Does a tag mislead?", cells=cells)
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}
    (folder / "notebooks" / "20_tag.html").write_text(as_page(notebook, "Does a tag mislead?"))
    report.write(folder)
    return folder


def opened(browser, path, **how):
    """The page, and the addresses it asked for that are not files here or part of it."""
    page, asked = browser.new_context(**how).new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(f"error: {error}"))
    page.goto(path.as_uri(), wait_until="load")
    return page, [url for url in asked if not url.startswith(("file:", "data:"))]


def test_no_page_asks_anybody_for_anything(browser, folder):
    pages = sorted(folder.rglob("*.html"))
    assert {path.name for path in pages} >= {"index.html", "20_tag.html"}
    for path in pages:
        page, asked = opened(browser, path)
        assert asked == [], path.name
        sources = page.eval_on_selector_all("[src], link[href]", "all => all.map(one => one.src || one.href)")
        assert [url for url in sources if not url.startswith("data:")] == []


def test_a_notebooks_page_keeps_formulas_and_the_words_of_widgets(browser, folder):
    page, _ = opened(browser, folder / "notebooks" / "20_tag.html")
    text = page.inner_text("main")
    assert "$x^2 + y$" in text and "3 of 3 runs" in text and "A-->B" in text


@functools.cache
def axe():
    module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    return module.Axe()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nobody_is_kept_out(browser, folder, scheme, size):
    page, _ = opened(browser, folder / "index.html", color_scheme=scheme, viewport=size)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []


def test_a_phone_scrolls_down_only(browser, folder):
    page, _ = opened(browser, folder / "index.html", viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    who = page.locator("table.stack tbody tr").first
    assert all(0 <= box["x"] and box["x"] + box["width"] <= 390 for box in boxes(who.locator("th, td")))


def boxes(cells):
    return [box for box in (cell.bounding_box() for cell in cells.all()) if box]


def test_a_click_sorts_by_numbers_and_back(browser, folder):
    page, _ = opened(browser, folder / "index.html")
    table = page.locator("table.sortable").first

    def effects():
        return [float(text.split()[0]) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]

    button = table.locator("thead button", has_text="Effect")
    for turn, order in (("ascending", sorted(effects())), ("descending", sorted(effects(), reverse=True))):
        button.click()
        assert effects() == order
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == turn


def test_all_is_reached_by_the_keyboard(browser, folder):
    page, _ = opened(browser, folder / "index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")


def test_a_script_that_somebody_smuggles_in_does_not_run(browser, folder, tmp_path):
    text = (folder / "index.html").read_text()
    (tmp_path / "x.html").write_text(text.replace("<main>", "<main><script>document.title = 'taken'</script>"))
    page, _ = opened(browser, tmp_path / "x.html")
    assert page.title() == "Source Matters: demo"


def test_it_prints_on_a4_without_a_cut_column(browser, folder):
    made = pdf.printed(folder / "index.html")
    content = made.read_bytes()
    assert content.startswith(b"%PDF") and 1 <= content.count(b"/Type /Page\n") + content.count(b"/Type /Page/") <= 12
    page, _ = opened(browser, folder / "index.html", viewport={"width": 688, "height": 1000})  # A4 without its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.ariaLabel)"
    assert page.eval_on_selector_all(".wide, .card", cut) == []


def test_without_a_browser_the_pdf_says_what_to_do(folder, monkeypatch):
    from sourcematters.errors import StudyError

    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(StudyError, match="no browser prints it here .* Open .*index.html and print it"):
        pdf.printed(folder / "index.html")

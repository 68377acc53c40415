"""The explorer's page as somebody reads it: by keyboard, light and dark, on a telephone, and without a network."""

import numpy as np
import pytest
from PIL import Image

from sourcematters import confounders
from sourcematters.study.explorer import Network, Subject
from sourcematters.study.explorer.cases import Case
from sourcematters.study.explorer.page import write
from sourcematters.training.recipe import Preprocessing


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    Image.fromarray(np.random.default_rng(0).integers(40, 200, (128, 128)).astype(np.uint8)).save(folder / "i.png")
    chosen = {"tag": confounders.make("tag", height=200), "gamma": confounders.make("gamma")}
    networks = {"bright": Network(lambda images: images.mean(axis=(1, 2)) / 10 - 12.2, 0.0)}
    case = Case("i", str(folder / "i.png"), 1)
    return write(folder / "explorer.html", Subject([case], chosen, Preprocessing(size=32), 0, networks), chosen)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_it_is_read_by_keyboard_asks_nobody_and_fits(browser, path, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    strength, picture = page.get_by_label("Strength"), page.locator("#image")

    def state():
        return (
            strength.get_attribute("aria-valuetext"),
            picture.get_attribute("src"),
            page.locator("#scores").inner_text(),
        )

    first = state()
    assert first[0] == "height 200 (px, font size), as in the study" and "bright scores" in first[2]
    page.keyboard.press("ArrowRight")
    higher = state()
    assert higher[0] == "height 400 (px, font size)" and all(
        one != other for one, other in zip(first, higher, strict=True)
    )
    page.keyboard.press("w")
    assert picture.get_attribute("alt").startswith("the image: without it")
    page.keyboard.press("ArrowDown")
    assert "gamma 0.7" in state()[0] and page.get_by_label("Confounder").input_value() == "1"
    strength.focus()
    page.keyboard.press("ArrowLeft")
    assert state()[0].startswith("gamma ") and "as in the study" not in state()[0]

    assert all(loaded for loaded in page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut or scrolled sideways"
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()] and said == []
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()

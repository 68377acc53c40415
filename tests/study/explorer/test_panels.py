"""Pictures of a frame, and their words."""

import io

import numpy as np
import pytest
from PIL import Image

from sourcematters import confounders
from sourcematters.study.explorer.frames import frame, keys_of
from sourcematters.study.explorer.panels import (
    BLUE,
    EXACT,
    LARGEST,
    LEGEND,
    ORANGE,
    PANELS,
    RAMP,
    limit,
    panels,
    png,
    webp,
)
from sourcematters.training.recipe import Preprocessing

HOW = Preprocessing(size=32)


def rgb(color):
    return tuple(int(color[k : k + 2], 16) for k in (1, 3, 5))


def shown(image, name="tag", how=HOW, without=False, **parameters):
    confounder = confounders.make(name, **parameters)
    arrays = frame(image, confounder, how, keys_of(confounder, "i", seed=0))
    return arrays, panels(arrays, confounder, how, end=limit(arrays["difference"]), without=without)


@pytest.mark.parametrize(
    ("largest", "end"), [(0, 1), (1, 1), (2, 2), (3, 4), (128, 128), (-129, 256), (255, 256), (-900, 1024)]
)
def test_a_scale_ends_at_the_power_of_two_that_holds_the_difference(largest, end):
    assert limit(np.array([[0, largest]])) == end


def test_a_difference_is_blue_where_darker_orange_where_brighter_and_black_where_nothing_changes():
    arrays, _ = shown(np.full((40, 40), 100, np.uint8), height=600)
    arrays["difference"] = np.array([[-8, 0, 8, 2]])
    panel = panels(arrays, confounders.make("tag"), HOW, end=8)["difference"].picture.convert("RGB")
    colors = [panel.getpixel((x, 0)) for x in range(4)]
    assert colors[:3] == [rgb(BLUE), (0, 0, 0), rgb(ORANGE)]
    assert colors[3] == pytest.approx([c * 0.5 for c in rgb(ORANGE)], abs=2), (
        "a quarter of the scale, its root the light"
    )
    assert RAMP.count("rgb") == 9 and f"rgb{rgb(BLUE)}" in RAMP and f"rgb{rgb(ORANGE)}" in RAMP


def test_words_count_what_changes_and_without_shows_what_was():
    image = np.full((64, 64), 100, np.uint8)
    arrays, panel = shown(image, height=400)
    changed = (arrays["difference"] != 0).mean()
    words = f"{100 * changed:.1f} % of the pixels change, by up to 155 grey levels; {LEGEND}"
    assert panel["difference"].words == words
    assert panel["image"].words == "with it, 64 \N{MULTIPLICATION SIGN} 64 px"
    assert panel["input"].words.startswith("32 px, nearest: ")
    _, blinked = shown(image, height=400, without=True)
    assert np.array_equal(np.asarray(blinked["image"].picture), image) and "without it" in blinked["image"].words
    assert (np.asarray(blinked["input"].picture) == 100).all()
    assert list(panel) == list(PANELS)


def test_what_does_not_reach_the_network_is_said():
    image = np.full((512, 512), 100, np.uint8)
    _, panel = shown(image, how=Preprocessing(size=16), height=12)
    assert "NOT SEEN" in panel["input"].words and " % of the pixels change" in panel["difference"].words
    arrays, _ = shown(image, height=12)
    arrays["difference"] = np.zeros((1000, 1000), int)
    for changed, words in ((0, "0.0 %"), (1, "less than 0.01 %"), (999, "0.10 %"), (1000, "0.1 %"), (10**6, "100 %")):
        arrays["difference"].flat[:changed] = 1
        told = panels(arrays, confounders.make("tag"), HOW, end=1)["difference"].words
        assert told.startswith(f"{words} of the pixels"), "few are not none"


def test_the_spectrum_is_half_without_and_half_with():
    arrays, panel = shown(
        np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8), "denoising", diameter=20
    )
    picture = np.asarray(panel["spectrum"].picture, float)
    left, right = picture[:10, 2:30].mean(), picture[:10, 34:62].mean()
    assert left > right + 50, "only the right half went through the filter"


@pytest.mark.parametrize(("side", "shows"), [(64, 256), (100, 200), (300, 300), (1024, 1024), (2500, 834)])
def test_a_png_is_neither_tiny_nor_huge(side, shows):
    image = Image.fromarray(np.arange(side * side, dtype=np.uint32).astype(np.uint8).reshape(side, side))
    opened = Image.open(io.BytesIO(png(image)))
    assert opened.format == "PNG" and opened.size == (shows, shows) and max(opened.size) <= LARGEST


def test_a_small_picture_loses_nothing_as_webp_and_a_large_one_is_made_smaller():
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (EXACT, EXACT)).astype(np.uint8))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(webp(small, 256))).convert("L")), np.asarray(small))
    large = Image.fromarray(np.zeros((600, 300), np.uint8))
    assert Image.open(io.BytesIO(webp(large, 256))).size == (128, 256)

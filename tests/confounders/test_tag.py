"""The tag: place, size, colour, and what is refused."""

import math

import numpy as np
import pytest

from sourcematters.confounders import Tag
from sourcematters.errors import StudyError


def flat(grey: int, rows: int = 64, columns: int = 64) -> np.ndarray:
    return np.full((rows, columns), grey, np.uint8)


def test_tag_has_the_documented_place_size_and_colour():
    image, mask = Tag().draw(flat(100, 1024, 1024), 0)
    rows, columns = np.nonzero(mask)
    # A capital of DejaVu Sans is 0.729 em high (its OS/2 table: 1493 of 2048 units): 46.7 px of 64.
    assert rows.max() - rows.min() + 1 == math.ceil(64 * 1493 / 2048)
    assert 30 <= columns.max() - columns.min() + 1 <= 40
    # Origin (200, 200); the ascender line of the font is some px above its capitals.
    assert 200 <= columns.min() <= 210 and 200 <= rows.min() <= 220
    assert 500 <= mask.sum() <= 1000
    assert image[mask].max() == 255 and image[mask].min() >= 100
    assert (image == 255).sum() > mask.sum() / 2


def test_tag_scales_with_the_image():
    whole = np.argwhere(Tag().draw(flat(0, 1024, 1024), 0)[1])
    half = np.argwhere(Tag().draw(flat(0, 512, 512), 0)[1])
    for end in (np.min, np.max):
        assert np.abs(end(whole, axis=0) / 2 - end(half, axis=0)).max() <= 1


def test_tag_on_a_wide_image_follows_the_width_across_and_the_height_down():
    square = np.argwhere(Tag().draw(flat(0, 512, 512), 0)[1])
    wide = np.argwhere(Tag().draw(flat(0, 512, 1024), 0)[1])
    assert (wide - square == [0, 100]).all()


def test_tag_blends_its_edges_towards_white():
    on_black, mask = Tag().draw(flat(0, 256, 256), 0)
    on_grey, _ = Tag().draw(flat(100, 256, 256), 0)
    coverage = on_black / 255
    assert ((coverage > 0) == mask).all() and ((coverage > 0) & (coverage < 1)).any()
    assert np.abs(on_grey - (100 + 155 * coverage)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("where", [{"x": 1000}, {"y": 1000}, {"height": 900}, {"height": 1e15}])
def test_tag_outside_the_image_is_refused(where):
    with pytest.raises(StudyError, match="128 x 128 px"):
        Tag(**where).draw(flat(0, 128, 128), 0)


def test_tag_that_draws_nothing_is_refused():
    with pytest.raises(StudyError, match="covers no pixel"):
        Tag(letter=" ").draw(flat(0, 256, 256), 0)
    with pytest.raises(StudyError, match="a font of 0.312 px"):
        Tag().draw(flat(0, 5, 5), 0)


@pytest.mark.parametrize("wrong", [{"letter": ""}, {"x": -1}, {"height": 0}, {"height": True}])
def test_bad_parameters_are_refused(wrong):
    with pytest.raises(StudyError, match=f"{next(iter(wrong))} ="):
        Tag(**wrong)

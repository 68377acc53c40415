"""What is burnt in: its size, its place, its colour, and what is refused."""

import re

import numpy as np
import pytest

from sourcematters.confounders import make
from sourcematters.errors import StudyError

NAMES = ["arrow", "ruler", "text_line", "burnt_in_date", "crop_border"]


def flat(grey, rows=1024, columns=1024):
    return np.full((rows, columns), grey, np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_ink_is_white_or_black_over_anything_and_nothing_else_changes(name):
    image = np.random.default_rng(0).integers(40, 200, (400, 500), dtype=np.uint8)
    altered, mask = make(name).draw(image, 3)
    assert (altered[~mask] == image[~mask]).all() and 0 < mask.mean() < 0.25
    full = 0 if name == "crop_border" else 255
    assert (altered[mask] == full).any()
    assert (np.abs(altered[mask].astype(int) - full) <= np.abs(image[mask].astype(int) - full)).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_stronger_annotation_covers_more(name):
    one = make(name)
    covered = [c.draw(flat(50), 8)[1].sum() for c in (one, one.stronger(), one.stronger().stronger())]
    assert covered[1] > 1.3 * covered[0] and covered[2] > 1.3 * covered[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_the_same_share_of_any_square_image(name):
    ink = [np.abs(make(name).draw(flat(90, side, side), 5)[0] - 90.0).mean() for side in (512, 1024)]
    assert ink[0] == pytest.approx(ink[1], rel=0.2)


@pytest.mark.parametrize("name", ["arrow", "text_line", "burnt_in_date"])
def test_the_key_alone_decides(name):
    drawn = [make(name).draw(flat(90, 400, 400), key)[0] for key in (1, 2, 1)]
    assert (drawn[0] == drawn[2]).all() and (drawn[0] != drawn[1]).any()


def test_an_arrow_has_its_length_and_width():
    for key in range(5):
        covered = np.argwhere(make("arrow", length=200, width=20).draw(flat(0), key)[0] > 127)
        span = np.hypot(*(covered[:, None] - covered[None, ::7]).transpose(2, 0, 1)).max()
        assert span == pytest.approx(np.hypot(200, 10), abs=2)
    # By the shoelace formula, on one half of the outline: .5685 of its length times its width.
    area = (make("arrow", length=200, width=20).draw(flat(0), 0)[0] / 255).sum()
    assert area == pytest.approx(2 * 0.5685 * 200 * 20, rel=0.01)


def test_rulers_tick_in_centimetres_along_the_edge_asked_for():
    for edge, turned in {"right": 0, "top": 1, "left": 2, "bottom": 3}.items():
        altered, _ = make("ruler", edge=edge).draw(flat(0, 700, 700), 0)  # 2 px per mm
        altered = np.rot90(altered, -turned)
        assert not altered[:, :600].any()
        ticks = altered[:, 700 - 2 * 3 - 6] > 127  # a column that every tick crosses, beside the line
        starts = np.flatnonzero(np.diff(ticks.astype(int)) == 1)
        assert len(starts) == 29 and set(np.diff(starts)) == {20}
        long = altered[:, 700 - 2 * 3 - 15] > 127
        assert (np.diff(long.astype(int)) == 1).sum() == 6


def test_a_ruler_measures_the_body_that_the_image_shows():
    counts = [make("ruler", field_mm=field).draw(flat(0), 0)[1].sum() for field in (200, 400)]
    assert counts[0] == pytest.approx(2 * counts[1], rel=0.2)


@pytest.mark.parametrize("corner", ["top left", "top right", "bottom left", "bottom right"])
def test_text_stands_in_its_corner_with_its_margin(corner):
    for name in ("text_line", "burnt_in_date"):
        rows, columns = np.nonzero(make(name, corner=corner).draw(flat(0, 900, 1024), 6)[1])
        top, left = corner.startswith("top"), corner.endswith("left")
        margin = 24 * 900 / 1024
        assert (rows.min() if top else 899 - rows.max()) == pytest.approx(margin, abs=8)
        assert (columns.min() if left else 1023 - columns.max()) == pytest.approx(margin, abs=3)


def test_text_and_date_that_are_given_are_the_same_in_all_images():
    for given in (make("text_line", number=False), make("burnt_in_date", date="01.02.2003")):
        assert (given.draw(flat(0), 1)[0] == given.draw(flat(0), 2)[0]).all()
    assert (make("text_line", text="ERECT").draw(flat(0), 1)[0] != make("text_line").draw(flat(0), 1)[0]).any()


def test_dates_are_real_days_of_fifteen_years(monkeypatch):
    said = []
    kind = type(make("burnt_in_date"))
    monkeypatch.setattr(kind, "burn", lambda self, image, text: said.append(text))
    for key in range(300):
        make("burnt_in_date").draw(flat(0, 8, 8), key)
    years = {int(re.fullmatch(r"\d\d\.\d\d\.(\d{4}) \d\d:\d\d", text).group(1)) for text in said}
    assert years == set(range(2005, 2020))


def test_a_border_is_a_frame_of_that_width():
    altered, mask = make("crop_border").draw(flat(90, 512, 700), 0)
    assert mask.sum() == 512 * 700 - (512 - 24) * (700 - 24) and (altered[mask] == 0).all()
    assert (make("crop_border", colour="white").draw(flat(90, 512, 700), 0)[0][mask] == 255).all()


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("arrow", {"length": 900}, "arrow: length=900, width=9 do not fit into an image 200 x 200 px"),
        ("ruler", {"tick_mm": 100}, "ruler: ticks of 100 mm.*350 mm across"),
        ("ruler", {"line_mm": 12}, "ruler: .*12 mm thick and every 10 mm"),
        ("text_line", {"text": "W" * 90}, "text_line: with its margin .* in an image 200 x 200 px"),
        ("text_line", {"height": 2}, "text_line: height=2 is a font of 0.391 px"),
        ("text_line", {"text": " ", "number": False}, "text_line: ' ' covers no pixel"),
        ("burnt_in_date", {"height": 1500}, "burnt_in_date: height=1500 is a font of"),
        ("crop_border", {"width": 2}, "crop_border: width=2 is 0 px of an image 200 x 200"),
        ("crop_border", {"width": 300}, "crop_border: width=300 is 59 px"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(name, wrong, says):
    with pytest.raises(StudyError, match=says):
        make(name, **wrong).draw(flat(90, 200, 200), 1)

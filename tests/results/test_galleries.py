"""A gallery shows what the study does to an image, and its table counts it."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sourcematters import confounders
from sourcematters.errors import StudyError
from sourcematters.results import galleries
from sourcematters.training.image_bank import LUNG
from sourcematters.training.reach import Reach
from sourcematters.training.recipe import Preprocessing


@pytest.fixture(scope="module")
def shown():
    image = np.random.default_rng(0).integers(60, 120, (160, 128), dtype=np.uint8)
    drawn = [confounders.Tag(), confounders.Denoising(diameter=40), confounders.NoiseHighVsLow()]
    return {"image": image, "confounders": drawn, "seed": 3, "image_id": "a", "window": LUNG}


def drawn(view, **options):
    return galleries.gallery(effects=galleries.effects(**view), **options)


def pixels(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_gallery_shows_each_alteration_its_difference_and_its_detail(shown):
    figure = drawn(shown, note="phantoms")
    grid = np.array(figure.axes).reshape(3, 5)
    columns = ["without", "with", "difference", "without, magnified", "with, magnified"]
    assert all([a.get_title() for a in row] == columns for row in grid)
    for row, confounder in zip(grid, shown["confounders"], strict=True):
        for axes, alteration in zip(row, (confounder.base, confounder.carrier), strict=False):
            key = confounders.key_for(3, "a", alteration)
            assert (pixels(axes) == confounders.apply(alteration, shown["image"], key)[0]).all()
        change = pixels(row[1]).astype(int) - pixels(row[0])
        assert (pixels(row[2]) == change).all()
        left, top = (int(v) for v in row[0].patches[0].get_xy())
        side = row[0].patches[0].get_width()
        part = np.s_[top : top + side, left : left + side]
        assert (pixels(row[3]) == pixels(row[0])[part]).all() and pixels(row[3]).shape == (side, side)
        assert (pixels(row[4]) == pixels(row[1])[part]).all()
        assert row[3].get_xlabel() == f"\u00d7 {128 / side:.2g}"
        assert row[0].get_xlabel().replace("\n", " ") == galleries.described(confounder).replace("\u00a0", " ")
    headings = [(each.get_suptitle(), [text.get_text() for text in each.texts]) for each in figure.subfigs]
    assert [title.split()[0] for title, _ in headings] == ["a", "b", "c"]
    assert [title[1:].strip() for title, _ in headings] == ["tag", "denoising", "noise, high vs low"]
    assert all("phantoms" in texts for _, texts in headings), "each row says it"


def bar(axes):
    """Ends and unit of the colour bar below a difference."""
    (below,) = axes.child_axes
    return [tick.get_text() for tick in below.get_xticklabels()], below.get_xlabel()


def test_differences_of_one_confounder_are_on_one_scale_with_a_bar(shown):
    weak, strong = confounders.Noise(n0=2e7), confounders.Noise(n0=2e6)
    found = galleries.effects(**shown | {"confounders": [weak, strong, confounders.Denoising(diameter=40)]})
    of_each = [np.percentile(np.abs(each.difference)[each.difference != 0], 95) for each in found]
    differences = np.array(galleries.gallery(effects=found).axes).reshape(3, 5)[:, 2]
    limits = [axes.images[0].get_clim() for axes in differences]
    assert limits[0] == limits[1] == (-math.ceil(of_each[1]), math.ceil(of_each[1]))
    assert limits[2] == (-math.ceil(of_each[2]), math.ceil(of_each[2])) != limits[0]
    most = math.ceil(of_each[1])
    assert bar(differences[0]) == bar(differences[1]) == ([f"\u2212{most}", "0", f"+{most}"], "grey levels")


def test_a_size_bar_has_the_length_it_says(shown):
    for axes, length in zip(np.array(drawn(shown).axes).reshape(3, 5)[0, [0, 3]], (20, 5), strict=True):
        words, ends = axes.texts[-1].get_text(), axes.lines[-1].get_xdata()
        assert words == f"{length} px" and ends[1] - ends[0] == pytest.approx(length)


@pytest.mark.parametrize(
    ("confounder", "words"),
    [
        (confounders.Tag(height=128), "letter R, height 128 px, x 200 px, y 200 px, reference 1,024 px"),
        (confounders.Denoising(diameter=40), "diameter 40 bins"),
        (confounders.make("motion_blur", degrees=0), "length 3 mm, degrees 0, field 350 mm"),
        (confounders.make("metal_streaks"), None),
        (confounders.make("burnt_in_date"), None),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_parameters_are_told_in_words_and_units(confounder, words):
    found = galleries.described(confounder).replace("\u00a0", " ")
    assert found == words if words else found
    assert not re.search(r"_|=|\be\+|True|False|\(", found)


def changed(rows, columns, shape=(128, 160)):
    change = np.zeros(shape, int)
    change[rows, columns] = 50
    return change


def test_the_magnified_part_holds_what_is_small_and_lies_on_the_body_else():
    # 20 px drawn at row 10: 26 px around its middle; wide and thin: a quarter where most changes; all: the middle.
    assert galleries.zoomed(changed(slice(10, 30), slice(20, 30))) == (7, 12, 26)
    thin = changed(slice(0, 2), slice(0, 160))
    thin[0:30, 0:30] = 50
    assert galleries.zoomed(thin)[2] == 32 and galleries.zoomed(thin)[:2] == (0, 0)
    rim = np.ones((128, 160), int)
    rim[:20] = 200
    top, left, side = galleries.zoomed(rim)
    assert side == 16 and 32 <= top + 8 < 96 and 40 <= left + 8 < 120
    assert galleries.zoomed(np.zeros((128, 160), int)) == (56, 72, 16)


def test_the_magnified_part_holds_the_whole_tag(shown):
    axes = drawn(shown | {"confounders": [confounders.Tag()]}).axes
    _, mask = confounders.Tag().draw(shown["image"], 0)
    detail = pixels(axes[4]).astype(int) != pixels(axes[3])
    assert detail.sum() == np.count_nonzero(pixels(axes[1]) != pixels(axes[0])) > 0
    assert detail.sum() <= mask.sum()


def test_the_galleries_table_counts_what_it_shows(shown):
    table = galleries.gallery_table(effects=galleries.effects(**shown)).set_index("confounder")
    altered, mask = confounders.Tag().draw(shown["image"], 0)
    change = np.abs(altered.astype(int) - shown["image"])
    row = table.loc["tag"]
    assert (row["masked_pixels"], row["changed_pixels"]) == (mask.sum(), (change > 0).sum())
    assert row["mean_change"] == pytest.approx(change.sum() / change.size)
    assert row["largest_change"] == change.max()
    assert table.loc["noise_high_vs_low", "others"] == "poisson_noise(n0=2e+07)"


def test_a_gallery_of_a_sampled_confounder_is_refused(shown):
    with pytest.raises(StudyError, match="gender is sampled"):
        galleries.effects(**shown | {"confounders": [confounders.Gender()]})


def test_sheet_shows_the_first_image_of_different_patients():
    cohort = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "path": "unused",
            "patient_id": ["p1", "p1", "p2", "p3", "p4"],
            "label": [0, 0, 1, 0, 1],
        }
    )
    bank = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    assert galleries.sheet_table(cohort=cohort)["image_id"].tolist() == ["a", "d", "c", "e"]
    figure = galleries.sheet(cohort=cohort, bank=bank)
    assert [axes.images[0].get_array().max() for axes in figure.axes if axes.images] == [0, 3, 2, 4]


def test_a_ct_slice_is_altered_in_hounsfield_units_and_shown_in_its_window():
    hu = np.random.default_rng(1).integers(-1000, 400, (64, 64)).astype(np.int16)
    noise = confounders.Noise(n0=1e6, domain="hounsfield")
    tables = []
    for centre, width in ((-600, 1500), (40, 400)):
        shown = {"image": hu, "confounders": [noise], "seed": 3, "image_id": "a", "window": (centre, width)}
        left, right = (pixels(axes) for axes in drawn(shown).axes[:2])
        noisy, _ = confounders.apply(noise.carrier, hu, confounders.key_for(3, "a", noise.carrier))
        for seen, slice_hu in ((left, hu), (right, noisy)):
            grey = (slice_hu - (centre - width / 2)) / width * 255
            assert np.abs(seen - np.clip(grey, 0, 255)).max() <= 0.5 + 1e-9
        found = drawn(shown)
        (low, _, high), unit = bar(found.axes[2])
        shown_to = found.axes[2].images[0].get_clim()[1] * width / 255
        assert (low, high, unit) == (f"\u2212{round(shown_to):,}", f"+{round(shown_to):,}", "HU")
        tables.append(galleries.gallery_table(effects=galleries.effects(**shown)))
    assert tables[0]["mean_change"].item() != tables[1]["mean_change"].item()


def test_a_gallery_says_what_is_left_at_the_networks_input(shown):
    found = [Reach(40, 1.0, 0.0123, 0.5, 163), Reach(40, 0.2, 0.01, 0.1, 2), Reach(40, 1.0, 0.9, 2.0, 12)]
    how = Preprocessing(size=32)
    grid = np.array(drawn(shown, reaches=found, how=how).axes).reshape(3, 6)
    assert grid[0][5].get_title() == "network sees"
    assert [row[5].get_xlabel() for row in grid] == [
        "32 \u00d7 32 px\n1.2 % of pixels,\nup to 163 grey levels",
        "32 \u00d7 32 px\nthe confounder is\nNOT SEEN",
        "32 \u00d7 32 px\n90 % of pixels,\nup to 12 grey levels",
    ]
    for row in grid:
        resized = Image.fromarray(pixels(row[1])).resize((32, 32), Image.Resampling.NEAREST)
        assert (pixels(row[5]) == np.asarray(resized)).all()
    table = galleries.gallery_table(effects=galleries.effects(**shown), reaches=found)
    assert table["input_seen_in"].tolist() == [1.0, 0.2, 1.0] and table["input_largest_change"].tolist() == [163, 2, 12]

"""Ladders: weaker, as given, stronger."""

import numpy as np
import pytest

from sourcematters.confounders import Denoising, Gender, Noise, NoiseHighVsLow, Tag, apply, known, make
from sourcematters.confounders.ladders import ladder


def test_a_tags_ladder_doubles_and_halves_its_height():
    assert [rung.height for rung in ladder(Tag())] == [16, 32, 64, 128, 256]
    assert {rung.replaced(height=64) for rung in ladder(Tag(letter="L"))} == {Tag(letter="L")}


def test_the_stronger_stands_last_whichever_way_its_parameter_goes():
    assert [rung.diameter for rung in ladder(Denoising())] == [2000, 1000, 500, 250, 125]
    assert [rung.n0 for rung in ladder(Noise())] == [3.2e8, 8e7, 2e7, 5e6, 1.25e6]


def test_what_a_confounder_refuses_is_left_out():
    # Four times as many photons as the high noise has are more than the low noise has.
    assert [rung.high for rung in ladder(NoiseHighVsLow())] == [1.5e7, 3.75e6, 9.375e5]


def test_whole_numbers_stay_whole_and_stop_where_they_end():
    assert [rung.quality for rung in ladder(make("jpeg", quality=6))] == [24, 12, 6, 3, 1]
    assert [rung.quality for rung in ladder(make("jpeg"))] == [100, 50, 25, 12]
    assert [rung.side for rung in ladder(make("downsampled"))] == [1024, 512, 256, 128, 64]


def test_what_has_no_strength_has_one_rung():
    assert ladder(Gender()) == [Gender()]
    only = make("equalized", method="global")
    assert ladder(only) == [only]


def test_ratios_and_signs_are_kept():
    assert [rung.degrees for rung in ladder(make("rotated", degrees=-8))] == [-2, -4, -8, -16, -32]
    gammas = [rung.gamma for rung in ladder(make("gamma"))]
    assert len(gammas) == 5 and gammas == sorted(gammas, reverse=True) and max(gammas) < 1
    assert np.log(gammas[3]) / np.log(0.7) == pytest.approx(1.5)
    assert len(ladder(make("exposure", factor=0.5))) == 5


DRAWN_IN_STEPS = [name for name, kind in known().items() if ".imaging." in kind.__module__] + [
    "tag",
    "denoising",
    "noise",
]


@pytest.mark.parametrize("name", DRAWN_IN_STEPS)
def test_each_rung_changes_more_than_the_one_before(name):
    rungs = ladder(make(name))
    assert 3 <= len(rungs) <= 5 and make(name) in rungs and len(set(rungs)) == len(rungs)
    y, x = np.mgrid[:256, :256] / 255 - 0.5
    image = np.random.default_rng(0).normal(110 + 90 * np.cos(9 * x + 2) * np.cos(7 * y), 12).clip(0, 255)
    inside = np.hypot(x, 1.3 * y) < 0.4
    pixels = image.astype(np.uint8) if rungs[0].carrier.space == np.uint8 else np.where(inside, image, -1000)
    pixels, changes = pixels.astype(rungs[0].carrier.space), []
    for rung in rungs:
        if name == "downsampled" and rung.side >= 256 or name == "denoising" and rung.diameter > 250:
            continue  # more than this image has
        changes.append(np.abs(apply(rung.carrier, pixels, 3)[0].astype(float) - pixels).mean())
    assert len(changes) >= 2 and changes == sorted(changes)

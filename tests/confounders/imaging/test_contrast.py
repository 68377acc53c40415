"""Contrast: curves against their formulas, equalization against scikit-image and a histogram by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.exposure import equalize_hist

from sourcematters.cohorts import pixels
from sourcematters.confounders import make
from sourcematters.errors import StudyError

ALL_GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def of(name: str, image: np.ndarray = ALL_GREYS, **parameters) -> np.ndarray:
    return make(name, **parameters).draw(image, 0)[0].astype(int)


# --- gamma ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(gamma=st.floats(0.2, 5).filter(lambda g: abs(g - 1) > 0.05))
def test_gamma_keeps_black_white_and_order(gamma):
    made = of("gamma", gamma=gamma).ravel()
    assert made[0] == 0 and made[255] == 255 and (np.diff(made) >= 0).all()
    assert (made[1:255] <= np.arange(1, 255)).all() == (gamma > 1)
    assert abs(made[128] - 255 * (128 / 255) ** gamma) <= 0.5 + 1e-6


def test_gamma_2_then_one_half_is_the_image_within_rounding():
    back = of("gamma", of("gamma", gamma=2).astype(np.uint8).reshape(16, 16), gamma=0.5).ravel()
    greys = np.arange(256)
    # A rounding by half a level at g^2/255 is one by 255 / (4 g) at g, and one of half a level more.
    allowed = 0.5 + 255 / (4 * np.maximum(greys, 1)) * 1.1
    assert (np.abs(back - greys) <= allowed)[16:].all()


@pytest.mark.parametrize("gamma", [1, 1.0001])
def test_a_gamma_that_changes_no_grey_is_refused(gamma):
    with pytest.raises(StudyError, match=f"gamma = {gamma:g} leaves every grey level as it is"):
        make("gamma", gamma=gamma)


def test_the_mask_is_what_the_curve_changes():
    image, mask = make("gamma").draw(ALL_GREYS, 0)
    assert (mask == (image != ALL_GREYS)).all() and not mask[0, 0] and not mask[15, 15]


# --- window ---------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(level=st.floats(-0.4, 0.4), width=st.floats(0.4, 2.5))
def test_a_window_is_the_one_that_ct_is_shown_in(level, width):
    try:
        made = of("window_shift", level=level, width=width)
    except StudyError as error:
        assert abs(level) + abs(width - 1) < 0.01, error
        return
    # Greys taken for HU: a window of 255 about 127.5, moved and widened.
    same = pixels.window(ALL_GREYS.astype(np.int16), 127.5 + 255 * level, 255 * width)
    assert np.abs(made - same.astype(int)).max() <= 1


def test_a_level_moves_all_greys_alike_and_a_width_about_the_middle():
    assert (of("window_shift", level=0.2) == np.clip(ALL_GREYS.astype(int) - 51, 0, 255)).all()
    wide = of("window_shift", level=0, width=2).ravel()
    assert (wide[0], wide[255]) == (64, 191)
    narrow = of("window_shift", level=0, width=0.5).ravel()
    assert (narrow[:64] == 0).all() and (narrow[192:] == 255).all()
    with pytest.raises(StudyError, match="level = 0, width = 1 leaves every grey level"):
        make("window_shift", level=0, width=1)


# --- exposure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "shift"), [(10, -127.5), (0.1, 127.5), (2, -38.38)])
def test_exposure_shifts_by_its_logarithm_and_clips(factor, shift):
    expected = np.clip(ALL_GREYS + shift, 0, 255)
    assert np.abs(of("exposure", factor=factor) - expected).max() <= 0.5


def test_exposure_and_its_inverse_lose_what_left_the_scale():
    under = of("exposure", factor=0.5).astype(np.uint8)
    back = of("exposure", under, factor=2).ravel()
    assert np.abs(back[:217] - np.arange(217)).max() <= 1 and (back[217:] == 217).all()


# --- equalized ------------------------------------------------------------------------------------


def skewed(seed: int, rows: int = 96, columns: int = 120) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, 15, (rows, columns)).clip(0, 255).astype(np.uint8)


def test_global_equalization_gives_uniform_greys_as_scikit_image_does():
    image = skewed(0)
    made = of("equalized", image, method="global")
    assert np.abs(made / 255 - equalize_hist(image)).max() < (image == image.min()).mean() + 0.003
    share = np.array([(made <= grey).mean() for grey in np.unique(made)])
    assert np.abs(share - np.unique(made) / 255).max() < (image == image.min()).mean() + 0.003
    assert made.min() == 0 and made.max() == 255


def test_equalization_twice_is_equalization_once():
    once = of("equalized", skewed(1), method="global")
    assert np.abs(of("equalized", once.astype(np.uint8), method="global") - once).max() <= 1


def test_adaptive_equalization_is_the_stronger_the_more_a_grey_may_hold():
    image = (100 + skewed(2) // 8).astype(np.uint8)
    y = np.linspace(0, 60, 96)[:, None].astype(np.uint8)
    spread = [of("equalized", image + y, clip=clip)[40:56].std() for clip in (0.001, 0.01, 0.05, 0.3)]
    assert spread == sorted(spread) and spread[-1] > 1.5 * spread[0]


def test_a_flat_image_stays_and_tiles_of_a_pixel_are_refused():
    flat = np.full((40, 50), 77, np.uint8)
    for method in ("adaptive", "global"):
        assert (of("equalized", flat, method=method) == 77).all()
    with pytest.raises(StudyError, match="8 tiles .* 15 x 12 px .* Choose at most 6 tiles"):
        make("equalized").draw(skewed(0, 12, 15), 0)

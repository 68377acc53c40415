"""The low-pass against the direct transform, waves and means."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sourcematters.confounders import Denoising
from sourcematters.errors import StudyError


def flat(grey: int, rows: int = 64, columns: int = 64) -> np.ndarray:
    return np.full((rows, columns), grey, np.uint8)


def textured(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (rows, columns), dtype=np.uint8)


def by_direct_transform(image: np.ndarray, diameter: float) -> np.ndarray:
    """The ideal low-pass with DFT matrices and signed frequencies in cycles per px: no FFT, no symmetry."""
    rows, columns = image.shape

    def matrix(n: int) -> np.ndarray:
        return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    def cycles(n: int) -> np.ndarray:
        return np.array([k / n if k <= n / 2 else k / n - 1 for k in range(n)])

    spectrum = matrix(rows) @ image @ matrix(columns)
    radius = np.sqrt(cycles(rows)[:, None] ** 2 + cycles(columns)[None, :] ** 2)
    spectrum[radius > diameter / 2 / max(rows, columns) + 1e-12] = 0
    back = np.conj(matrix(rows)) @ spectrum @ np.conj(matrix(columns)) / (rows * columns)
    assert np.abs(back.imag).max() < 1e-6
    return np.clip(back.real, 0, 255)


@pytest.mark.parametrize("shape", [(32, 32), (31, 31), (24, 40), (41, 26)])
@pytest.mark.parametrize("diameter", [2, 10, 16, 21.5])
def test_low_pass_equals_the_direct_transform(shape, diameter):
    image = textured(3, *shape)
    expected = by_direct_transform(image, diameter)
    rounded, mask = Denoising(diameter=diameter).draw(image, 0)
    truncated, _ = Denoising(diameter=diameter, truncate=True).draw(image, 0)
    assert np.abs(rounded - expected).max() <= 0.5 + 1e-6
    assert (truncated <= expected + 1e-6).all() and (truncated > expected - 1 - 1e-6).all()
    assert mask.all()


@pytest.mark.parametrize(("cycles", "survives"), [(19, True), (20, True), (21, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_wave_survives_exactly_up_to_half_the_diameter(cycles, survives, axis):
    phase = 2 * np.pi * cycles * np.arange(128) / 128
    wave = np.broadcast_to(np.rint(128 + 60 * np.cos(phase)), (128, 128))
    image = np.ascontiguousarray(wave if axis else wave.T).astype(np.uint8)
    contrast = np.ptp(Denoising(diameter=40).draw(image, 0)[0].astype(int))
    assert contrast >= 115 if survives else contrast <= 2


def test_truncation_darkens_by_half_a_grey_level():
    image = textured(4, 128, 128)
    rounded, truncated = (
        Denoising(diameter=60, truncate=t).draw(image, 0)[0].astype(float).mean() for t in (False, True)
    )
    assert rounded - truncated == pytest.approx(0.5, abs=0.03)


def test_a_flat_image_stays_flat_even_when_truncated():
    assert (Denoising(diameter=20, truncate=True).draw(flat(80, 60, 77), 0)[0] == 80).all()


def test_a_disc_that_holds_the_whole_spectrum_is_refused():
    # The corner of a 256 px spectrum is sqrt(2) * 128 = 181 bins from DC, less than the default's 250.
    with pytest.raises(StudyError, match="keeps every frequency.*e.g. 125"):
        Denoising().draw(flat(1, 256, 256), 0)


sizes = st.integers(8, 40)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rows=sizes, columns=sizes, share=st.floats(0.05, 1.2))
def test_low_pass_keeps_the_mean_and_changes_nothing_twice(seed, rows, columns, share):
    # Greys 110..145 keep the ringing of the sharp cutoff away from the clip at 0 and 255.
    image = np.random.default_rng(seed).integers(110, 146, (rows, columns), dtype=np.uint8)
    diameter = share * min(rows, columns)
    once, _ = Denoising(diameter=diameter).draw(image, 0)
    twice, _ = Denoising(diameter=diameter).draw(once, 0)
    assert abs(once.mean() - image.mean()) <= 0.5
    # Each rounding errs by at most 1/2, and what the disc stops of an error has less energy than all of it.
    assert np.sqrt(np.mean((once.astype(float) - twice) ** 2)) <= 1.0


def test_the_effect_on_real_radiographs_is_as_strong_as_published(shared_data):
    paths = sorted((shared_data / "nih-cxr14" / "images").glob("*.png"))[:8]
    images = [np.asarray(Image.open(path).convert("L")) for path in paths]
    changes = [np.abs(Denoising().draw(image, 0)[0].astype(float) - image).mean() for image in images]
    # The study reports a mean change of 1.12 grey levels at 1024 px, over other images.
    assert np.mean(changes) == pytest.approx(1.12, rel=0.35)


@pytest.mark.parametrize("wrong", [{"diameter": 0}, {"diameter": math.nan}, {"diameter": True}, {"truncate": "often"}])
def test_bad_parameters_are_refused(wrong):
    with pytest.raises(StudyError, match=f"{next(iter(wrong))} ="):
        Denoising(**wrong)

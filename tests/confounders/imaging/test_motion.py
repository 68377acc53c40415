"""Motion blur against the sinc that a line has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcematters.confounders import make
from sourcematters.confounders.imaging.motion import line


def blur(image: np.ndarray, length: float, **more) -> np.ndarray:
    return make("motion_blur", length_mm=length, field_mm=min(image.shape), **more).draw(image, 0)[0]


@settings(max_examples=60, deadline=None)
@given(length=st.floats(0.01, 40), degrees=st.floats(-180, 180))
def test_weights_are_a_centred_line_of_that_length(length, degrees):
    weights = line(length, degrees)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
    y, x = (np.arange(n) - n // 2 for n in weights.shape)
    down, across = (weights.sum(axis=1) * y).sum(), (weights.sum(axis=0) * x).sum()
    assert (down, across) == pytest.approx((0, 0), abs=1e-9)
    # A line of length L has a variance of L^2/12 along itself; sharing each point among four pixels adds at most 1/4
    # on either axis.
    spread = (weights * (y[:, None] ** 2 + x**2)).sum()
    assert -0.01 <= spread - length**2 / 12 <= 0.51


@pytest.mark.parametrize("length", [3, 7.5, 20])
@pytest.mark.parametrize("cycles", [4, 9, 16])
def test_a_wave_along_the_way_keeps_its_sinc(length, cycles):
    phase = 2 * np.pi * cycles * (np.arange(256) + 0.5) / 256
    image = np.repeat(np.rint(128 + 100 * np.cos(phase))[:, None], 256, axis=1).astype(np.uint8)
    expected = abs(np.sinc(length * cycles / 256))
    wave = 2 * np.mean((blur(image, length)[:, 100] - 128.0) * np.cos(phase)) / 100
    # Sharing points between two pixels takes up to sinc(f)^2 more.
    assert abs(wave) == pytest.approx(expected, abs=0.02 + (1 - np.sinc(cycles / 256) ** 2))


def test_what_does_not_change_along_the_way_stays():
    stripes = np.tile(np.random.default_rng(0).integers(0, 256, 90, dtype=np.uint8), (70, 1))
    assert (blur(stripes, 12) == stripes).all()
    assert (blur(stripes.T.copy(), 12, degrees=0) == stripes.T).all()
    assert (blur(stripes, 12, degrees=0) != stripes).any()


def test_the_mean_stays_and_a_short_way_changes_nothing():
    image = np.random.default_rng(1).integers(0, 256, (80, 64), dtype=np.uint8)
    assert blur(image, 9, degrees=30).mean() == pytest.approx(image.mean(), abs=1)
    assert (blur(image, 1e-3) == image).all()


def test_longer_ways_blur_more():
    image = np.random.default_rng(2).integers(0, 256, (128, 128), dtype=np.uint8)
    left = [blur(image, length).std() for length in (1, 3, 6, 12, 24)]
    assert left == sorted(left, reverse=True)

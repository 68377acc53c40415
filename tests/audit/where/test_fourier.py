"""Waves of one frequency, and how far they move networks that read one band."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sourcematters.audit.where import frequencies


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([16, 31, 32, 64]), st.data(), st.integers(0, 5))
def test_a_wave_has_norm_1_mean_0_and_one_frequency(size, data, seed):
    frequency = data.draw(st.sampled_from(frequencies.chosen(size)))
    for wave in frequencies.waves(size, frequency, seed=seed):
        assert np.linalg.norm(wave) == pytest.approx(1) and wave.mean() == pytest.approx(0, abs=1e-9)
        spectrum = np.abs(np.fft.fft2(wave, norm="ortho"))
        (u1, u2), (v1, v2) = np.nonzero(spectrum > 1e-6)  # two coefficients, which are each other's mirror image
        assert ((u1 + u2) % size, (v1 + v2) % size) == (0, 0)
        assert spectrum[u1, v1] == pytest.approx(np.sqrt(0.5))
        index = np.fft.fftfreq(size, 1 / size)
        assert round(np.hypot(index[u1], index[v1])) == frequency


def test_the_frequencies_span_the_spectrum_and_directions_differ():
    assert frequencies.chosen(64) == [1, 2, 3, 5, 7, 9, 12, 17, 23, 31] and frequencies.chosen(16)[-1] == 7
    assert max(frequencies.chosen(512)) == 255 and len(frequencies.chosen(512)) <= frequencies.MOST
    waves = frequencies.waves(64, 17, seed=0)
    assert len({np.abs(np.fft.fft2(wave)).argmax() for wave in waves}) == frequencies.WAVES
    assert np.array_equal(waves, frequencies.waves(64, 17, seed=0))


class Band(nn.Module):
    """The norm of what an image holds in some frequencies, by its Fourier coefficients."""

    def __init__(self, size, lowest, highest):
        super().__init__()
        index = np.fft.fftfreq(size, 1 / size)
        radius = np.round(np.hypot(index[:, None], index))
        self.register_buffer("ring", torch.tensor((radius >= lowest) & (radius <= highest)))

    def forward(self, pixels):
        return (torch.fft.fft2(pixels.double(), norm="ortho").abs() ** 2 * self.ring).sum(dim=(1, 2, 3)).sqrt()


def test_a_network_that_reads_one_band_is_moved_by_its_waves_alone_by_their_whole_strength():
    size, images = 32, np.full((2, 32, 32), 90, np.uint8)
    changes = frequencies.changes(Band(size, 3, 6), images, seed=0)
    inside = [3 <= frequency <= 6 for frequency in frequencies.chosen(size)]
    assert changes.shape == (2, len(inside)) and 0 < sum(inside) < len(inside)
    # A wave of norm 1, times the root mean square, times the square root of the number of pixels.
    assert changes[:, inside] == pytest.approx(frequencies.STRENGTH * size, rel=1e-4)
    assert changes[:, np.logical_not(inside)] == pytest.approx(0, abs=1e-3)


def test_the_spectrum_of_a_change_stands_where_its_waves_are():
    size = 32
    found = frequencies.spectrum(frequencies.waves(size, 9, seed=0))
    assert dict(zip(frequencies.chosen(size), found, strict=True)) == pytest.approx(
        {each: float(each == 9) for each in frequencies.chosen(size)}, abs=1e-6
    )
    # White noise holds as much of every frequency; no change holds nothing.
    noise = np.random.default_rng(0).normal(size=(400, size, size))
    assert frequencies.spectrum(noise).min() > 0.9
    assert not frequencies.spectrum(np.zeros((1, size, size))).any()

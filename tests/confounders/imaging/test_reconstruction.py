"""Kernel and slice thickness: waves against their equations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad

from sourcematters.confounders import make
from sourcematters.confounders.imaging.reconstruction import kept
from sourcematters.errors import StudyError

SIDE = 256


def contrast_left(confounder, cycles: int, across: bool) -> float:
    """By what a wave of so many cycles along the image is multiplied."""
    phase = np.cos(np.pi * 2 * cycles * (np.arange(SIDE) + 0.5) / SIDE)
    image = np.broadcast_to(np.rint(1000 * phase), (SIDE, SIDE)).astype(np.int16)
    made = confounder.draw(np.ascontiguousarray(image if across else image.T), 0)[0]
    return float(2 * ((made if across else made.T) * phase).mean() / 1000)


@pytest.mark.parametrize("gain", [0, 0.5, 2, 3])
@pytest.mark.parametrize("cycles", [5, 30, 64, 100])
def test_the_kernels_response_is_the_equation(gain, cycles):
    # 256 px of 0.5 mm: cycles / 128 per mm.
    expected = gain + (1 - gain) * 2 ** -((cycles / 128 / 0.35) ** 2)
    for across in (True, False):
        left = contrast_left(make("kernel", gain=gain, field_mm=SIDE / 2), cycles, across)
        assert left == pytest.approx(expected, abs=0.003)


def test_at_half_the_kernel_has_gone_half_the_way_in_any_direction():
    kernel = make("kernel", gain=3)
    assert kernel.response(np.array([0, 0.35, 50])) == pytest.approx([1, 2, 3])
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    # A slanted wave, 3:4:5, of 50 cycles over the image: 0.39 per mm on pixels of 0.5 mm.
    wave = np.cos(2 * np.pi * 30 * y / SIDE) * np.cos(2 * np.pi * 40 * x / SIDE)
    made = make("kernel", gain=3, field_mm=SIDE / 2).draw(np.rint(1000 * wave).astype(np.int16), 0)[0]
    assert 4 * (made * wave).mean() / 1000 == pytest.approx(float(kernel.response(np.array(50 / 128))), abs=0.003)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99), gain=st.sampled_from([0, 0.4, 1.7, 4]), rows=st.integers(9, 40), columns=st.integers(9, 40)
)
def test_the_mean_and_a_flat_slice_stay(seed, gain, rows, columns):
    image = np.random.default_rng(seed).integers(-900, 900, (rows, columns)).astype(np.int16)
    for confounder in (make("kernel", gain=gain, field_mm=20), make("slice_thickness", field_mm=20)):
        assert confounder.draw(image, 0)[0].mean() == pytest.approx(image.mean(), abs=0.2)
        flat = np.full((rows, columns), -37, np.int16)
        assert (confounder.draw(flat, 0)[0] == flat).all()


def test_sharp_kernels_raise_noise_and_soft_ones_lower_it():
    noise = np.rint(20 * np.random.default_rng(0).normal(size=(200, 200))).astype(np.int16)
    sd = [make("kernel", gain=gain, field_mm=100).draw(noise, 0)[0].std() for gain in (0, 0.5, 1.5, 2, 3)]
    assert sd == sorted(sd) and sd[1] < noise.std() < sd[2]
    with pytest.raises(StudyError, match="gain = 1 leaves every frequency"):
        make("kernel", gain=1)


@pytest.mark.parametrize("x", [0.005, 0.1, 1, 3, 20])
def test_what_a_thickness_keeps_is_the_mean_over_all_pairs(x):
    def shared(a: float, b: float) -> float:
        return (1 + abs(a - b)) * np.exp(-abs(a - b))

    below, _ = dblquad(shared, 0, x, 0, lambda a: a)  # the pairs with b below a are half of all
    assert kept(np.array(x)) == pytest.approx(2 * below / x**2, rel=1e-6)


def test_what_a_thickness_keeps_falls_from_one_to_4_by_x():
    x = np.linspace(0, 100, 5001)
    assert kept(x)[0] == 1 and (np.diff(kept(x)) < 0).all()
    assert kept(np.array(1000.0)) == pytest.approx(4 / 1000, rel=2e-3)


@pytest.mark.parametrize("cycles", [8, 40])
def test_a_thick_slice_keeps_of_a_wave_what_it_keeps_of_its_pairs(cycles):
    thick = make("slice_thickness", thickness_mm=6, native_mm=2, field_mm=SIDE / 2)
    k = 2 * np.pi * cycles / 128
    expected = np.sqrt(kept(np.array(6 * k)) / kept(np.array(2 * k)))
    assert contrast_left(thick, cycles, True) == pytest.approx(expected, abs=0.003)
    # White noise of so fine waves falls nearly with the root of the thicknesses.
    assert expected > np.sqrt(2 / 6)


def test_thicker_is_smoother_and_thinner_is_refused():
    noise = np.rint(100 * np.random.default_rng(1).normal(size=(150, 150))).astype(np.int16)
    sd = [make("slice_thickness", thickness_mm=t).draw(noise, 0)[0].std() for t in (1.5, 3, 5, 10)]
    assert sd == sorted(sd, reverse=True) and sd[0] < noise.std()
    with pytest.raises(StudyError, match="thickness_mm = 1 must be more than native_mm = 1.25"):
        make("slice_thickness", thickness_mm=1)

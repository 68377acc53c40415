"""Rings against the projection that makes them."""

import numpy as np
import pytest
from skimage.transform import radon

from sourcematters.confounders import make
from sourcematters.confounders.imaging.rings import ring
from sourcematters.errors import StudyError

WATER = np.zeros((401, 401), np.int16)


def test_a_ring_projects_to_the_one_element_that_read_too_much():
    offset = np.arange(-200, 201)
    picture = ring(np.hypot(offset[:, None], offset), 120, 8)
    sinogram = radon(picture, theta=[0, 37, 90], circle=True)
    # What an element of half width 8 at 120 (and, the scan going all the way round, at -120) reads too much.
    triangle = np.clip(1 - np.abs(np.abs(offset) - 120) / 8, 0, None)
    for view in sinogram.T:
        scale = view @ triangle / (triangle @ triangle)
        assert scale > 0 and np.abs(view / scale - triangle).max() < 0.06


def test_a_ring_is_one_at_its_radius_dark_inside_and_nothing_outside():
    r = np.linspace(0, 200, 4001)
    made = ring(r, 100, 2)
    assert made[2000] == pytest.approx(1) and made.max() <= 1 + 1e-9
    assert (made[r >= 102] == 0).all()
    assert (made[r < 97] < 0).all() and abs(made[0]) < 0.01
    assert np.isfinite(made).all()


def test_rings_have_the_depth_asked_for_and_lie_about_the_middle():
    made, mask = make("ring_artefact", rings=1, width_mm=4, hu=50).draw(WATER, 3)
    assert np.abs(made).max() == pytest.approx(50, abs=2)
    assert (made == made[::-1]).all() and (made == made.T).all()
    assert (mask == (made != 0)).all() and not mask[0].any()


@pytest.mark.parametrize("parameter", ["hu", "rings"])
def test_deeper_or_more_rings_change_more(parameter):
    energy = [
        np.square(make("ring_artefact", **{parameter: x}).draw(WATER, 5)[0].astype(float)).sum() for x in (4, 8, 16)
    ]
    assert energy == sorted(energy) and energy[0] > 0


def test_an_image_of_coarse_pixels_shows_rings_of_one_and_too_wide_ones_are_refused():
    assert make("ring_artefact").draw(WATER[:64, :64], 0)[1].any()
    with pytest.raises(StudyError, match="width_mm=20 is 23 px .* Choose at most 17.5 mm"):
        make("ring_artefact", width_mm=20).draw(WATER, 0)


def test_the_ends_of_int16_do_not_wrap():
    for end in (-(2**15), 2**15 - 1):
        made, _ = make("ring_artefact", hu=2000).draw(np.full((100, 100), end, np.int16), 1)
        assert np.sign(made[made != 0]).min() == np.sign(made[made != 0]).max() == np.sign(end)

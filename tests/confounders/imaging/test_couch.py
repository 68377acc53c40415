"""The couch: where it lies, what it is made of, what it does not cover."""

import numpy as np
import pytest

from sourcematters.confounders import apply, make
from sourcematters.demo import ct_phantoms

SIDE = 350  # px of a mm
Y, X = np.mgrid[:SIDE, :SIDE]
PATIENT = np.where(((X - 174.5) / 150) ** 2 + ((Y - 150) / 100) ** 2 < 1, 30, -1000).astype(np.int16)


def test_it_touches_the_lowest_point_of_the_body_and_covers_nothing_of_it():
    made, mask = make("patient_table").draw(PATIENT, 0)
    assert not mask[PATIENT == 30].any() and (made[~mask] == PATIENT[~mask]).all()
    # The body ends at row 249; the filter that leaves thin things out sees its flat end some mm earlier.
    assert 240 <= np.flatnonzero(mask[:, 174]).min() <= 250
    assert (made >= PATIENT).all()


def test_shell_and_foam_have_their_hu_and_thickness():
    made, _ = make("patient_table", hu=120, shell_mm=4, thickness_mm=40).draw(PATIENT, 0)
    column = made[:, 174]
    lower = np.flatnonzero(column[255:] == 120) + 255
    assert lower.size in (3, 4, 5) and column.max() == 120
    foam = np.flatnonzero(column == -930)
    assert foam.size == pytest.approx(40 - 2 * 4, abs=2) and foam.max() < lower.min()


def test_it_is_a_hollow():
    _, mask = make("patient_table", radius_mm=400).draw(np.full((SIDE, SIDE), -1000, np.int16), 0)
    upper = mask.argmax(axis=0)
    # A parabola for a circle: at 150 mm from the middle x^2 / (2 radius) higher.
    assert upper[174] - upper[24] == pytest.approx(150**2 / 800, abs=1)
    assert mask.any(axis=0).all()


def test_an_image_filled_by_the_patient_shows_it_at_its_lower_edge():
    _, mask = make("patient_table", hu=200).draw(np.full((200, 260), 40, np.int16), 0)
    assert mask.any() and np.flatnonzero(mask[:, 130]).min() >= 200 - 30 * 200 / 350 - 3


def test_thicker_shells_change_more():
    changes = [apply(make("patient_table", shell_mm=s).carrier, PATIENT, 0)[0].astype(int).sum() for s in (1, 2, 4, 8)]
    assert changes == sorted(changes)


def test_it_lies_under_a_drawn_patient_and_not_in_the_lungs():
    person = ct_phantoms.patient(0, "LIDC-IDRI-0003")
    image = ct_phantoms.draw(0, person, 0.0)
    _, mask = make("patient_table").draw(image, 0)
    assert 0 < mask.sum() and not mask[: ct_phantoms.SIZE // 2].any()
    back = (person.depth + 350 / 2) / ct_phantoms.PIXEL_MM  # of the body's ellipse
    assert np.flatnonzero(mask[:, 64]).min() == pytest.approx(back, abs=3)

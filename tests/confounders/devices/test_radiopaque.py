"""Attenuation: chords of rods, plates in mm, the film's curve, and what does not fit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcematters.confounders.devices.radiopaque import FAINTEST, Film, curve
from sourcematters.confounders.film import SCATTER, SLOPE, exposure_of, shown
from sourcematters.errors import StudyError


def flat(grey, rows=200, columns=200):
    return np.full((rows, columns), grey, np.uint8)


def grey_behind(grey, nepers):
    """By the sigmoid: log odds of grey grow by the slope times the nepers that primary and scattered light lose."""
    odds = math.log((grey + 0.5) / (255.5 - grey)) - SLOPE * math.log(SCATTER + (1 - SCATTER) * math.exp(-nepers))
    return 256 / (1 + math.exp(-odds)) - 0.5


@pytest.mark.parametrize("grey", [0, 30, 100, 200, 255])
@pytest.mark.parametrize("nepers", [0.1, 0.7, 3, 50])
def test_a_plate_lifts_greys_along_the_sigmoid(grey, nepers):
    film = Film((200, 200), 350)
    film.plate((175, 175), (100, 60), nepers)
    altered, mask = film.exposed(flat(grey), 0.15)
    assert altered[100, 100] == pytest.approx(grey_behind(grey, nepers), abs=0.5 + 1e-9)
    assert (altered[~mask] == grey).all() and (altered >= grey).all()


def test_without_anything_before_it_a_film_stays_as_it_is():
    altered, mask = Film((64, 90), 350).exposed(flat(80, 64, 90), 0.15)
    assert (altered == 80).all() and not mask.any()


@given(st.floats(SCATTER, 1))
def test_no_grey_gets_darker_and_none_changes_places(exposure):
    greys = np.arange(256, dtype=np.uint8)
    now = shown(greys, np.full(256, exposure)).astype(int)
    assert (now >= greys).all() and (np.diff(now) >= 0).all()
    assert (shown(greys, np.ones(256)) == greys).all()


@given(st.integers(0, 255), st.integers(0, 255))
def test_exposure_is_what_the_film_shows(one, other):
    ratio = exposure_of(np.array([other], np.uint8)) / exposure_of(np.array([one], np.uint8))
    assert shown(np.array([one], np.uint8), ratio)[0] == other


def test_a_rod_is_as_thick_as_its_chord():
    film = Film((400, 400), 100)  # 4 px per mm
    film.rod([(20, 50), (80, 50)], 10, 0.05)
    across = film.nepers[:, film.nepers.shape[1] // 2]
    y = (np.arange(len(across)) + 0.5) * film.step - 50
    assert across == pytest.approx(0.05 * 2 * np.sqrt(np.maximum(25 - y**2, 0)), abs=1e-4)
    # Its volume: a cylinder of 60 mm, and half a ball at either end.
    volume = film.nepers.sum() * film.step**2
    assert volume == pytest.approx(0.05 * math.pi * (25 * 60 + 4 / 3 * 125), rel=0.01)


def test_a_hose_lacks_what_its_bore_takes():
    solid, hose, bore = (Film((150, 150), 100) for _ in range(3))
    path = curve([(10, 20), (40, 60), (70, 40), (90, 90)])
    solid.rod(path, 8, 0.1)
    hose.rod(path, 8, 0.1, bore=5)
    bore.rod(path, 5, 0.1)
    assert hose.nepers == pytest.approx(solid.nepers - bore.nepers, abs=1e-5)


def test_a_bend_is_not_laid_twice():
    film = Film((300, 300), 100)
    film.rod([(20, 20), (50, 50), (50.1, 50), (50, 50.1), (80, 20)], 6, 0.1)
    assert film.nepers.max() == pytest.approx(0.6, abs=0.005)


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_a_plate_has_its_size_at_any_angle(angle):
    film = Film((1024, 1024), 350)
    film.plate((170, 160), (50, 30), 1, angle=angle)
    film.plate((170, 160), (20, 10), -1, angle=angle)
    assert film.nepers.sum() * film.step**2 == pytest.approx(50 * 30 - 20 * 10, rel=0.01)
    rows, columns = np.nonzero(film.nepers > 0.5)
    turn = math.radians(angle)
    for found, size in (
        (columns, 50 * abs(math.cos(turn)) + 30 * math.sin(turn)),
        (rows, 50 * math.sin(turn) + 30 * abs(math.cos(turn))),
    ):
        assert (np.ptp(found) + 1) * film.step == pytest.approx(size, abs=3 * film.step)


def test_what_leaves_the_film_is_cut_off():
    film = Film((200, 200), 350)
    film.rod([(300, 175), (500, 175)], 20, 0.1)
    film.rod([(-90, -90), (-50, -50)], 20, 0.1)
    film.disc((349, 349), 30, 1)
    altered, mask = film.exposed(flat(90), 0.15)
    assert mask[100, -1] and mask[-1, -1] and not mask[:90, :90].any()


@pytest.mark.parametrize("blur", [0, 0.15, 2])
def test_the_mask_ends_where_the_blur_does(blur):
    film = Film((700, 700), 350)
    film.disc((175, 175), 40, 2)
    _, mask = film.exposed(flat(90, 700, 700), blur)
    rows, columns = np.nonzero(mask)
    away = np.hypot(rows + 0.5 - 350, columns + 0.5 - 350) / 2  # mm
    assert 20 <= away.max() <= 20 + 4 * blur + 0.75
    assert 0 < FAINTEST < 1 / 255


def test_mm_are_the_same_in_any_image():
    areas = []
    for shape in ((200, 200), (350, 500), (1024, 1024), (2000, 1400)):
        film = Film(shape, 350)
        film.disc((150, 150), 50, 3)
        altered, _ = film.exposed(flat(100, *shape), 0)
        areas.append((altered > 130).sum() * film.mm**2)
    assert areas == pytest.approx([math.pi * 25**2] * 4, rel=0.04)


def test_a_curve_goes_through_its_points():
    points = [(0, 0), (30, 10), (32, 12), (60, 80)]
    path = curve(points, step=0.5)
    for point in points:
        assert np.hypot(*(path - point).T).min() < 0.5
    assert len(curve([(0, 0), (10, 0)])) >= 2


def test_what_does_not_fit_is_refused():
    film = Film((200, 300), 350)
    film.must_hold("port", (20, 20), 40, 40)
    with pytest.raises(StudyError, match=r"port: 41 x 40 mm at 20 mm .* into a film of 525 x 350 mm.*field_mm"):
        film.must_hold("port", (20, 20), 41, 40)

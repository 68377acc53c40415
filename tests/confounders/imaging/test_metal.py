"""Metal: what a ray reads too little, and the streaks of it."""

import numpy as np
import pytest

from sourcematters.confounders import make
from sourcematters.confounders.imaging.metal import PHOTONS, TITANIUM, TOLD, WATER, Rays, misread
from sourcematters.errors import StudyError

SIDE = 128
OFFSET = np.arange(SIDE) - (SIDE - 1) / 2
AWAY = np.hypot(OFFSET[:, None], OFFSET)
BODY = np.where(AWAY < 45, 0, -1000).astype(np.int16)


def streaks(key: int = 0, image: np.ndarray = BODY, **parameters) -> np.ndarray:
    made, mask = make("metal_streaks", **parameters).draw(image, key)
    assert not (made - image)[~mask].any()
    return made.astype(float) - image


def test_shares_are_one_and_solid_titanium_has_the_default():
    assert PHOTONS.sum() == pytest.approx(1)
    assert 1000 * (TITANIUM[TOLD] / WATER[TOLD] - 1) == pytest.approx(make("metal_streaks").hu, abs=5)


def test_water_alone_is_read_right_and_metal_too_little():
    random = np.random.default_rng(0)
    water = np.linspace(0, 30, 50)
    assert np.abs(misread(Rays(water, 0 * water), 1e14, random)).max() < 1e-4
    # Two rays by hand: the mean of exp(-attenuation) over energies, against water alone by bisection.
    for length, metal in ((0, 1), (20, 0.5)):
        measured = -np.log(PHOTONS @ np.exp(-length * WATER - metal * TITANIUM))
        low, high = 0.0, 200.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if -np.log(PHOTONS @ np.exp(-middle * WATER)) < measured else (low, middle)
        expected = (low - length) * WATER[TOLD] - metal * TITANIUM[TOLD]
        assert misread(Rays(np.array([length]), np.array([metal])), 1e14, random) == pytest.approx(expected, abs=1e-3)
    thick = misread(Rays(np.full(3, 20.0), np.array([0.5, 1, 2])), 1e14, random)
    assert (np.diff(thick) < 0).all() and thick[0] < 0.2


def test_metal_stands_in_tissue_and_nothing_changes_outside_the_circle():
    change = streaks(diameter_mm=20, pieces=1)
    metal = change > 4000
    assert metal.sum() == pytest.approx(np.pi * (10 * SIDE / 350) ** 2, rel=0.15)
    assert (BODY[metal] == 0).mean() > 0.5
    assert not change[AWAY > SIDE / 2].any()


def rest(change: np.ndarray) -> float:
    """The energy of what is not the metal itself: of all but the most changed hundredth."""
    return float(np.square(np.sort(np.abs(change[AWAY < 60]))[:-120]).sum())


@pytest.mark.parametrize(("parameter", "values"), [("hu", (2000, 5000, 10000)), ("diameter_mm", (4, 8, 16))])
def test_streaks_grow_with_the_metal(parameter, values):
    energy = [rest(streaks(2, n0=1e12, **{parameter: value})) for value in values]
    assert energy == sorted(energy) and energy[-1] > 2 * energy[0]


def test_fewer_photons_are_noisier():
    quiet, loud = (rest(streaks(4, n0=n0) - streaks(4, n0=1e13)) for n0 in (1e6, 1e4))
    assert 0 < quiet < loud / 10


def test_between_two_pieces_it_is_darkest():
    for key in range(50):  # one whose pieces are well apart
        change = streaks(key, diameter_mm=12, n0=1e12)
        rows, columns = np.nonzero(change > 4000)
        ends = [np.array((r[s].mean(), c[s].mean())) for r, c, s in _halves(rows, columns)]
        if 40 < np.linalg.norm(ends[0] - ends[1]) < 80:
            break
    row, column = np.rint(ends[0] + (ends[1] - ends[0]) * np.linspace(0.3, 0.7, 30)[:, None]).astype(int).T
    assert change[row, column].mean() < -3 * change[AWAY < 45].clip(-500, 500).std() / 2


def _halves(rows: np.ndarray, columns: np.ndarray):
    far = np.hypot(rows - rows[0], columns - columns[0]) > 15
    return [(rows, columns, far), (rows, columns, ~far)] if far.any() else [(rows, columns, ~far)] * 2


def test_air_has_no_place_for_metal_and_no_pixel_is_too_little():
    with pytest.raises(StudyError, match="hardly any tissue to put metal in"):
        make("metal_streaks").draw(np.full((64, 64), -1000, np.int16), 0)
    with pytest.raises(
        StudyError, match="diameter_mm=1 is 0.37 px of an image of 128 px and 350 mm. Choose 2.7 to 87.5"
    ):
        make("metal_streaks", diameter_mm=1).draw(BODY, 0)

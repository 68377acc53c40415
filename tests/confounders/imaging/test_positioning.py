"""Positioning against geometry: where points go, what comes back, what is black."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from sourcematters.confounders import make
from sourcematters.errors import StudyError


def spot(row: float, column: float, rows: int = 200, columns: int = 240) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return np.rint(200 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18)).astype(np.uint8)


def middle_of(image: np.ndarray) -> tuple[float, float]:
    return ndimage.center_of_mass(image.astype(float))


def smooth(seed: int, rows: int, columns: int) -> np.ndarray:
    rough = np.random.default_rng(seed).normal(size=(rows, columns))
    made = ndimage.gaussian_filter(rough, 4, mode="wrap")
    return np.rint(128 + 100 * made / np.abs(made).max()).astype(np.uint8)


# --- rotated --------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [10, -25, 90, 180])
def test_a_point_turns_counter_clockwise_about_the_middle(degrees):
    turned, mask = make("rotated", degrees=degrees, fill="black").draw(spot(99.5, 169.5), 0)
    angle = math.radians(degrees)  # it was 50 px to the right of the middle, and up is a smaller row
    assert middle_of(turned) == pytest.approx((99.5 - 50 * math.sin(angle), 119.5 + 50 * math.cos(angle)), abs=0.05)
    assert mask.all()


def test_a_half_turn_is_exact_and_a_whole_one_is_none():
    image = smooth(1, 90, 70)
    assert (make("rotated", degrees=180).draw(image, 0)[0] == image[::-1, ::-1]).all()
    with pytest.raises(StudyError, match="degrees = 0 turns nothing"):
        make("rotated", degrees=0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), degrees=st.floats(-40, 40).filter(lambda d: abs(d) > 0.1))
def test_turned_back_the_middle_is_as_it_was(seed, degrees):
    image = smooth(seed, 120, 140)
    there, _ = make("rotated", degrees=degrees).draw(image, 0)
    back, _ = make("rotated", degrees=-degrees).draw(there, 0)
    y, x = np.mgrid[:120, :140]
    centre = np.hypot(y - 59.5, x - 69.5) < 55
    # Two bilinear interpolations, each within (|f_xx| + |f_yy|) / 8 of the image, and two roundings to whole levels.
    curvature = sum(np.abs(np.diff(image.astype(int), 2, axis=axis)).max() for axis in (0, 1))
    assert np.abs(back.astype(int) - image)[centre].max() <= np.ceil(2 * curvature / 8 + 1)


def test_corners_are_filled_with_black_or_with_the_nearest_edge():
    white = np.full((100, 100), 255, np.uint8)
    assert (make("rotated", degrees=30).draw(white, 0)[0] == 255).all()
    black, _ = make("rotated", degrees=45, fill="black").draw(white, 0)
    # Outside the turned square: four corners with legs of (1 - 1/sqrt 2) 100 sqrt 2 px, less what leaves at the sides.
    assert (black < 128).mean() == pytest.approx(2 * (math.sqrt(2) - 1) ** 2 / 2, abs=0.005)


def test_drawn_angles_are_uniform_within_their_limits():
    confounder, angles = make("rotated", degrees=12, drawn=True, fill="black"), []
    for key in range(60):
        row, column = middle_of(confounder.draw(spot(99.5, 179.5), key)[0])
        angles.append(math.degrees(math.atan2(99.5 - row, column - 119.5)))
    assert -12.1 < min(angles) < -9 and 9 < max(angles) < 12.1
    assert np.std(angles) == pytest.approx(24 / math.sqrt(12), rel=0.2)


def test_more_degrees_change_more():
    image = smooth(2, 200, 200)
    changes = [np.abs(make("rotated", degrees=d).draw(image, 0)[0].astype(int) - image).mean() for d in (0.5, 1, 2, 4)]
    assert changes == sorted(changes)


# --- tilted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "column"), [(150, 160), (60, 90)])
def test_a_point_goes_where_its_ray_meets_the_tilted_detector(row, column):
    # 400 px are 200 mm; the tube is 500 mm away, so 1000 px. The ray from (0, 0, 0) through (x, y, D) meets the plane
    # of points (u, v cos, D + v sin): solved by hand for v, then u.
    tilted, _ = make("tilted", degrees=20, distance_mm=500, field_mm=200).draw(spot(row, column, 400, 400), 0)
    x, y, tilt = column - 199.5, row - 199.5, math.radians(20)
    v = y * 1000 / (1000 * math.cos(tilt) - y * math.sin(tilt))
    u = x * (1000 + v * math.sin(tilt)) / 1000
    assert middle_of(tilted) == pytest.approx((199.5 + v, 199.5 + u), abs=0.15)


def test_a_positive_tilt_magnifies_the_lower_end_and_a_negative_one_the_upper():
    bar = np.zeros((400, 400), np.uint8)
    bar[:, 150:250] = 200
    lower, upper = (make("tilted", degrees=d).draw(bar, 0)[0] for d in (25, -25))
    assert (lower[390] > 100).sum() > 102 > 98 > (lower[10] > 100).sum()
    assert np.abs(lower.astype(int) - upper[::-1]).max() <= 1


def test_a_detector_that_reaches_the_tube_is_refused():
    with pytest.raises(StudyError, match="reaches 152 mm up, and the tube is at distance_mm=100"):
        make("tilted", degrees=60, distance_mm=100).draw(smooth(0, 100, 100), 0)


# --- collimation ----------------------------------------------------------------------------------


def test_even_borders_have_the_width_asked_for_and_are_the_mask():
    image = np.full((200, 300), 90, np.uint8)
    black, mask = make("collimation", width_mm=35, uneven=False).draw(image, 0)
    assert (~mask).sum() == (200 - 40) * (300 - 40) and (~mask[20:-20, 20:-20]).all()
    assert (black == np.where(mask, 0, 90)).all()


def test_uneven_borders_are_as_wide_in_the_mean():
    image, widths = np.full((350, 350), 90, np.uint8), []
    for key in range(100):
        _, mask = make("collimation", width_mm=20).draw(image, key)
        rows, columns = np.flatnonzero(~mask.all(axis=1)), np.flatnonzero(~mask.all(axis=0))
        widths += [rows[0], 349 - rows[-1], columns[0], 349 - columns[-1]]
    # A uniform number has an sd of 40 / sqrt(12) mm; four standard errors of 400 of them.
    assert np.mean(widths) == pytest.approx(20, abs=4 * 40 / math.sqrt(12) / 20)
    assert min(widths) <= 1 and 39 <= max(widths) <= 40


@pytest.mark.parametrize(("width", "says"), [(180, "leaves nothing .* smaller"), (0.1, "leaves all .* larger")])
def test_borders_that_leave_nothing_or_all_are_refused(width, says):
    with pytest.raises(StudyError, match=says):
        make("collimation", width_mm=width, uneven=False).draw(np.full((64, 64), 90, np.uint8), 0)


# --- on real radiographs --------------------------------------------------------------------------


def test_a_real_radiograph_is_turned_with_little_loss_of_sharpness(shared_data):
    path = sorted((shared_data / "nih-cxr14" / "images").glob("*.png"))[3]
    image = np.asarray(Image.open(path).convert("L"))
    turned, _ = make("rotated", degrees=10).draw(image, 0)
    sharp = [np.abs(np.diff(each[300:700, 300:700].astype(float))).mean() for each in (image, turned)]
    assert sharp[1] > 0.85 * sharp[0]

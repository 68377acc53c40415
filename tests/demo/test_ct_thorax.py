import numpy as np
import pytest

from sourcematters.demo import ct_thorax
from sourcematters.demo.ct_thorax import anatomy, depth_in_lung, draw, grid, within
from sourcematters.demo.ct_vessels import ROOT_MM

FIELD = 350.0


def drawn(z=0.0, size=128, patient="p", sex="M", seed=3):
    return draw(seed, patient, anatomy(seed, patient, sex), z, size, FIELD)


def at(hu, x, y):
    """The value at x, y in mm."""
    size = len(hu)
    return float(hu[round(y * size / FIELD + (size - 1) / 2), round(x * size / FIELD + (size - 1) / 2)])


@pytest.mark.parametrize("sex", "FM")
@pytest.mark.parametrize("z", [-40.0, -12.0, 0.0, 20.0, 45.0])
def test_tissues_have_their_hounsfield_units(sex, z):
    hu, lung = drawn(z, sex=sex)
    assert hu.shape == lung.shape == (128, 128) and hu.dtype == lung.dtype == np.float32
    assert at(hu, -172, -172) == at(hu, 0, -165) == -1000
    assert -900 < np.median(hu[lung == 1]) < -800
    body = anatomy(3, "p", sex)
    assert 20 < at(hu, body.shift + 24, 41) < 70  # blood in the aorta
    assert at(hu, body.shift, 0.6 * body.depth) > 80  # vertebra or disc
    skin = body.shift + body.width - 0.5 * body.fat
    assert -130 < at(hu, skin, 0) < -60  # fat
    assert 0.1 < lung.mean() < 0.35


def test_bone_is_hard_somewhere_on_every_slice_but_rare():
    for z in range(-40, 41, 4):
        hu, _ = drawn(float(z))
        assert hu.max() > 400
        assert 0.005 < (hu > 200).mean() < 0.10


def test_there_are_two_lungs_and_the_left_makes_room_for_the_heart():
    _, lung = drawn(-30.0)
    right, left = lung[:, :64].sum(), lung[:, 64:].sum()
    assert 0.4 < left / right < 0.85
    assert lung[:, 60:68].mean() < 0.05


def test_the_heart_and_the_windpipe_are_at_their_heights():
    body = anatomy(3, "p", "M")
    high, low = drawn(body.carina + 12)[0], drawn(-35.0)[0]
    assert at(high, body.shift, 12 - 4 * 12 / 60) < -900
    place = within(*grid(128, FIELD), (body.shift + 55, -35.0), (12.0, 12.0)) > 0
    assert np.median(low[place]) > 20 and np.median(high[place]) < -750


def test_neighbouring_slices_resemble_each_other_more_than_distant_ones():
    slices = {z: drawn(z) for z in (0.0, 1.0, 3.0, 12.0)}
    both = np.minimum.reduce([lung for _, lung in slices.values()]) == 1
    near, middle, far = (np.corrcoef(slices[0.0][0][both], slices[z][0][both])[0, 1] for z in (1.0, 3.0, 12.0))
    assert near > middle > far
    assert near > 0.8 and far < 0.35


def test_the_same_anatomy_at_any_size():
    large, small = drawn(size=256)[0], drawn(size=64)[0]
    blocks = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), small.ravel())[0, 1] > 0.98


def test_a_slice_is_the_patients_own_and_depends_on_no_other():
    first = drawn(3.0)[0]
    for other in ("q", "r"):
        assert not np.array_equal(first, drawn(3.0, patient=other)[0])
    ct_thorax._tubes.cache_clear()
    ct_thorax._lattice.cache_clear()
    np.testing.assert_array_equal(first, drawn(3.0)[0])
    assert not np.array_equal(first, drawn(3.0, seed=4)[0])


def test_a_patient_keeps_their_own_deviation_whatever_their_sex():
    woman, man = (anatomy(1, "p", sex) for sex in "FM")
    assert man.width - woman.width == pytest.approx(161 - 151)
    assert man.rib_phase == woman.rib_phase
    assert man.breast == 0 <= woman.breast


def test_within_a_circle_is_the_distance_to_its_edge():
    x, y = (line.astype(float) for line in grid(350, FIELD))
    exact = 60 - np.hypot(x - 10, y + 20)
    found = within(x, y, (10.0, -20.0), (60.0, 60.0))
    np.testing.assert_array_equal(found[np.abs(exact) > 1e-6] > 0, exact[np.abs(exact) > 1e-6] > 0)
    # For a circle (1 - q) / |grad q| is e - e^2 / 2r + ...: e the exact distance.
    near = np.abs(exact) < 6
    assert np.abs(found - exact)[near].max() < 6**2 / 60


def test_within_a_turned_ellipse_its_long_axis_is_turned_clockwise():
    tilt = 0.5
    x, y = 29 * np.cos(tilt), 29 * np.sin(tilt)  # y points down: clockwise on the screen
    at_tip = within(np.array([x, x]), np.array([y, -y]), (0.0, 0.0), (30.0, 10.0), tilt)
    assert at_tip[0] == pytest.approx(1, abs=0.05) and at_tip[1] < -3


@pytest.mark.parametrize("number", range(4))
def test_vessels_lie_in_the_lungs_and_thin_out_from_the_root(number):
    body = anatomy(1, f"p{number}", "FM"[number % 2])
    vessels, _, _ = ct_thorax._tubes(1, f"p{number}", body)
    x, y, z, radius = vessels.T
    assert (depth_in_lung(body, x, y, z)[0] > -4).mean() > 0.93
    from_root = np.linalg.norm(np.stack([np.abs(x) - body.mediastinum, y, z]), axis=0)
    assert radius[from_root < 25].mean() > 1.5 * radius[from_root > 70].mean()
    assert radius.max() <= ROOT_MM


def test_texture_fades_from_level_to_level_and_keeps_its_strength():
    below, between, above = (ct_thorax._texture(1, "p", z, 128).ravel() for z in (0.0, 2.0, 4.0))
    assert below.std() == pytest.approx(1, abs=0.25)
    assert between.std() == pytest.approx((below.std() + above.std()) / 2, rel=0.15)
    halfway, apart = np.corrcoef(below, between)[0, 1], np.corrcoef(below, above)[0, 1]
    # Independent levels, 4 and 15 mm apart: their mix in halves correlates by sqrt(1/2) with either.
    assert apart + 0.1 < halfway < 0.95
    assert np.corrcoef(between, above)[0, 1] == pytest.approx(halfway, abs=0.08)

import math

import numpy as np
import pytest
from scipy import ndimage

from sourcematters.demo import ct_phantoms, ct_thorax
from sourcematters.demo.ct_phantoms import FIELD_MM, Nodule, Patient, draw, mask, population, positions
from sourcematters.errors import StudyError

PEOPLE = population(0, 400)


def with_nodule(diameter=15.0, center=(-75.0, 0.0, 0.0), cavity=0.0, lobes=(0.0,) * 4, malignancy=2, readers=(0, 1, 2)):
    nodule = Nodule(center, diameter, cavity, lobes, (0.0,) * 4, 40.0, malignancy, readers)
    return Patient("LIDC-IDRI-0007", "F", 60, (nodule,), ())


def nodules():
    return [(patient, nodule) for patient in PEOPLE for nodule in patient.nodules]


def test_population_is_what_it_says():
    assert [p.patient_id for p in PEOPLE[:2]] == ["LIDC-IDRI-0001", "LIDC-IDRI-0002"]
    assert [p.sex for p in PEOPLE].count("F") == 200
    assert all(30 <= p.age <= 88 for p in PEOPLE)
    counts = np.bincount([len(p.nodules) for p in PEOPLE]) / 400
    # Four standard deviations of a share of 400.
    assert counts == pytest.approx(ct_phantoms.NODULES, abs=4 * math.sqrt(0.25 / 400))
    agreement = np.bincount([len(n.readers) for _, n in nodules()], minlength=5)[1:] / len(nodules())
    assert agreement == pytest.approx(ct_phantoms.AGREEMENT, abs=0.09)
    for _, nodule in nodules():
        assert 8 <= nodule.diameter <= 28 and 1 <= nodule.malignancy <= 5 and 20 <= nodule.hu <= 60
        assert list(nodule.readers) == sorted(set(nodule.readers)) and set(nodule.readers) <= set(range(4))
    kinds = [mark.kind for p in PEOPLE for mark in p.marks]
    assert 100 < kinds.count("small") < 300 and 120 < kinds.count("non-nodule") < 360
    assert 0.02 < np.mean([nodule.cavity > 0 for _, nodule in nodules()]) < 0.2


def test_a_larger_population_contains_the_smaller_and_seeds_differ():
    assert population(0, 7) == PEOPLE[:7]
    assert population(1, 7) != PEOPLE[:7]


def test_large_nodules_are_more_often_malignant():
    diameter, malignancy = np.array([(n.diameter, n.malignancy) for _, n in nodules()]).T
    assert np.corrcoef(diameter, malignancy)[0, 1] > 0.5


def test_nodules_lie_in_the_lungs_and_apart():
    for patient in PEOPLE:
        body = ct_thorax.anatomy(0, patient.patient_id, patient.sex)
        for nodule in patient.nodules:
            x, y, z = (np.array([value]) for value in nodule.center)
            assert ct_thorax.depth_in_lung(body, x - body.shift, y, z)[0] > 0.45 * nodule.diameter
        if len(patient.nodules) == 2:
            one, two = patient.nodules
            assert math.dist(one.center, two.center) > (one.diameter + two.diameter) / 2 + 8


def test_positions_are_even_and_around_the_middle():
    assert positions(4, 2.5) == [-3.75, -1.25, 1.25, 3.75]
    assert positions(1) == [0]
    for slices, spacing in ((0, 3.0), (24, 6.0), (5, 0.0), (5, -1.0), (5, math.nan)):
        with pytest.raises(StudyError, match="slices"):
            positions(slices, spacing)


def test_a_slice_is_int16_in_the_scanners_range_with_a_few_units_of_noise():
    patient = PEOPLE[0]
    hu = draw(0, patient, 0.0)
    assert hu.shape == (128, 128) and hu.dtype == np.int16
    assert hu.min() >= -1024 and hu.max() < 1500
    air = hu[:20, :20].astype(float)
    noise = ct_thorax.anatomy(0, patient.patient_id, patient.sex).noise
    # A standard deviation of 400 numbers is off by 1/sqrt(800), 3.5 %; four times that; -1024 cuts little.
    assert air.std() == pytest.approx(noise, rel=0.15) and air.mean() == pytest.approx(-1000, abs=2)
    assert 3 < noise < 12


def test_a_slice_does_not_depend_on_what_was_drawn_before():
    heights = [-9.0, 0.0, 9.0]
    forth = [draw(0, p, z, size=64) for p in PEOPLE[:3] for z in heights]
    back = [draw(0, p, z, size=64) for p in reversed(PEOPLE[:3]) for z in reversed(heights)][::-1]
    for one, two in zip(forth, back, strict=True):
        np.testing.assert_array_equal(one, two)
    assert len({hu.tobytes() for hu in forth}) == 9
    assert not np.array_equal(draw(1, PEOPLE[0], 0.0, size=64), forth[1])


@pytest.mark.parametrize("number", range(8))
def test_a_nodule_is_solid_where_its_mask_is_and_changes_nothing_far_from_it(number):
    patient, nodule = [pair for pair in nodules() if len(pair[0].nodules) == 1 and not pair[1].cavity][number]
    z = round(nodule.center[2])
    without, with_it = (draw(0, patient, z, nodules=shown).astype(int) for shown in (False, True))
    inside = mask(0, patient, 0, z)
    core = ndimage.binary_erosion(inside)
    assert inside.any()
    if core.any():
        assert abs(np.median(with_it[core]) - nodule.hu) < 15
    reach = (ndimage.distance_transform_edt(~inside)) * FIELD_MM / 128
    assert (with_it == without)[reach > 1.2 * nodule.diameter].all()
    assert (with_it - without)[inside].mean() > 300


@pytest.mark.parametrize("dz", [0.0, 3.0, -6.0, 7.4, 7.6])
def test_a_round_nodules_mask_is_the_spheres_cross_section(dz):
    size, pixel = 512, FIELD_MM / 512
    found = mask(0, with_nodule(), 0, dz, size=size)
    area = math.pi * max(7.5**2 - dz**2, 0)
    assert found.sum() * pixel**2 == pytest.approx(area, rel=0.03, abs=1)
    if found.any():
        y, x = (np.argwhere(found).mean(0) - (size - 1) / 2) * pixel
        assert (x, y) == pytest.approx((-75, 0), abs=0.5)


def test_lobes_move_the_outline_as_written():
    patient = with_nodule(20.0, lobes=(0.2, 0.0, 0.0, 0.0))
    found = mask(0, patient, 0, 0.0, size=512)
    rows, columns = (np.flatnonzero(found.any(axis)) for axis in (1, 0))
    # 1 + .2 cos(2a): 12 mm to the sides, 8 mm up and down.
    assert np.ptp(columns) * FIELD_MM / 512 == pytest.approx(24, abs=1.5)
    assert np.ptp(rows) * FIELD_MM / 512 == pytest.approx(16, abs=1.5)


def test_a_cavity_is_air_and_a_hole_in_the_mask():
    patient = with_nodule(24.0, cavity=12.0)
    hu, found = draw(0, patient, 0.0, size=256), mask(0, patient, 0, 0.0, size=256)
    whole = ndimage.binary_fill_holes(found)
    hole = whole & ~found
    pixel = FIELD_MM / 256
    assert hole.sum() * pixel**2 == pytest.approx(math.pi * 36, rel=0.1)
    assert np.median(hu[hole]) < -850 and np.median(hu[found]) > 0
    assert not (whole & ~mask(0, patient, 0, 8.0, size=256))[120:136, :].all()


def test_readers_agree_roughly_and_only_those_who_outline_it():
    patient = with_nodule()
    truth = mask(0, patient, 0, 0.0, size=256)
    seen = [mask(0, patient, 0, 0.0, reader=reader, size=256) for reader in range(4)]
    assert not seen[3].any()
    for found in seen[:3]:
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        assert 0.8 < dice < 1
    assert len({found.tobytes() for found in seen[:3]}) == 3


def test_a_ragged_nodule_is_its_largest_piece():
    patient = with_nodule(16.0, lobes=(0.0, 0.0, 0.0, 0.9))
    shape = ct_phantoms._distances(patient.nodules[0], 0.0, 64)[2] > 0
    assert ndimage.label(shape)[1] > 1  # or this shows nothing
    assert ndimage.label(mask(0, patient, 0, 0.0, size=64))[1] == 1


@pytest.mark.parametrize("size", [64, 96, 128])
def test_a_cavity_never_breaks_through(size):
    found = mask(0, with_nodule(24.0, cavity=23.0, lobes=(0.2, 0.0, 0.0, 0.0)), 0, 0.0, size=size)
    whole = ndimage.binary_fill_holes(found)
    hole = whole & ~found
    assert hole.any() and not (ndimage.binary_dilation(hole) & ~whole).any()


def test_masks_hang_together():
    for patient, nodule in nodules()[:60]:
        number = patient.nodules.index(nodule)
        for reader in (None, *nodule.readers):
            found = mask(0, patient, number, round(nodule.center[2]) + 2.0, reader=reader)
            assert ndimage.label(found)[1] <= 1


def test_wrong_requests_are_explained():
    for patients in (0, 10000):
        with pytest.raises(StudyError, match=f"{patients} CT phantoms"):
            population(0, patients)
    with pytest.raises(StudyError, match="31 px"):
        draw(0, PEOPLE[0], 0.0, size=31)

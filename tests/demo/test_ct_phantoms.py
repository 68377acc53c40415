from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
from dicom_files import BODY
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.lidc import dicom, lidc_xml, nodules, series
from sourcematters.demo import ct_phantoms
from sourcematters.demo.ct_phantoms import HEIGHTS, PIXEL_MM, SIZE, Finding, Patient, draw, mask, outline, patient, uid
from sourcematters.errors import StudyError

PATIENTS = 12
NAMES = [f"LIDC-IDRI-{number:04d}" for number in range(1, PATIENTS + 1)]
PEOPLE = {name: patient(0, name) for name in NAMES}
MANY = [patient(1, f"LIDC-IDRI-{number:04d}") for number in range(1, 201)]


def request(cache, **changes):
    return Request(
        **{"data": "ct-phantoms", "task": "lung-mass-ct", "cache": cache, "patients": PATIENTS, "workers": 1} | changes
    )


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Where the scans were drawn, and the cohort of them."""
    root = tmp_path_factory.mktemp("ct")
    cohort = open_cohort(request(root))
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    return folder, cohort


@pytest.fixture(scope="module")
def read(opened):
    """Slices, annotations, and what is no slice, as the readers of the real release see them."""
    folder, _ = opened
    slices, left_out = series.index(folder)
    slices, scans, problems = series.series(slices)
    assert problems.empty and (scans[["slices", "spacing_mm", "missing"]] == [len(HEIGHTS), 3, 0]).all(axis=None)
    return slices, lidc_xml.read(folder), left_out


def reads(read):
    """Of each annotated scan: the patient, the read, and the slices by height."""
    slices, annotations, _ = read
    for scan in annotations.reads:
        here = slices[slices["series_uid"] == scan.series_uid]
        yield PEOPLE[here["patient_id"].iloc[0]], scan, here.set_index("z_mm")


# Who is drawn


def test_a_patient_depends_on_the_seed_and_the_name_alone():
    assert patient(0, "LIDC-IDRI-0003") == PEOPLE["LIDC-IDRI-0003"] != patient(1, "LIDC-IDRI-0003")
    assert len({person.width for person in PEOPLE.values()}) == PATIENTS


def test_findings_are_as_frequent_and_as_agreed_on_as_intended():
    findings = {kind: [f for p in MANY for f in p.findings if f.kind == kind] for kind in ("nodule", "small")}
    counts = [sum(f.kind == "nodule" for f in person.findings) for person in MANY]
    # Four standard deviations of a share of 200.
    assert np.bincount(counts) / 200 == pytest.approx([0.1, 0.5, 0.4], abs=0.14)
    assert np.mean([len(f.readers) >= 3 for f in findings["nodule"]]) == pytest.approx(0.78, abs=0.12)
    assert np.mean([len(f.readers) >= 3 for f in findings["small"]]) == pytest.approx(0.2, abs=0.18)
    for person in MANY:
        for finding in person.findings:
            assert set(finding.readers) <= set(range(4)) and list(finding.readers) == sorted(set(finding.readers))
            assert (finding.diameter >= 3) == (finding.kind != "small")


def test_findings_lie_apart():
    for person in MANY:
        for one in person.findings:
            for other in person.findings:
                if one != other:
                    assert np.linalg.norm(np.subtract(one.center, other.center)) > (one.diameter + other.diameter) / 2


# What is drawn


def test_a_slice_shows_air_fat_lungs_and_bone():
    for person in list(PEOPLE.values())[:4]:
        hu = draw(0, replace(person, findings=()), 0.0)
        assert hu.shape == (SIZE, SIZE) and hu.dtype == np.int16 and hu.min() >= -1024 and 400 < hu.max() < 1200
        air = hu[:15, :15].astype(float)
        # A standard deviation of 225 numbers is off by 1/sqrt(450); four times that.
        assert air.mean() == pytest.approx(-1000, abs=3) and air.std() == pytest.approx(7.5, rel=0.2)
        right, left, spine = (
            np.median(hu[rows, columns])
            for rows, columns in (
                (slice(58, 78), slice(26, 40)),
                (slice(58, 78), slice(88, 102)),
                (slice(83, 89), slice(61, 67)),
            )
        )
        assert -900 < right < -800 and -900 < left < -800 and spine > 150
        assert 0.01 < ((hu > -140) & (hu < -60)).mean() < 0.15  # fat


def test_a_slice_does_not_depend_on_what_was_drawn_before():
    people = list(PEOPLE.values())[:3]
    forth = [draw(0, person, z) for person in people for z in (-9.0, 9.0)]
    back = [draw(0, person, z) for person in reversed(people) for z in (9.0, -9.0)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(forth, back, strict=True))
    assert len({hu.tobytes() for hu in forth}) == 6


def test_a_nodule_is_solid_where_it_is_outlined_and_changes_nothing_elsewhere():
    seen = 0
    for person in MANY[:25]:
        for nodule in (f for f in person.findings if f.kind == "nodule"):
            z = min(HEIGHTS, key=lambda z: abs(z - nodule.center[2]))
            without = draw(0, replace(person, findings=tuple(set(person.findings) - {nodule})), z).astype(int)
            difference = draw(0, person, z) - without
            inside = mask(0, person, nodule, z, nodule.readers[0])
            away = ndimage.distance_transform_edt(~inside) * PIXEL_MM
            # Readers differ from the drawing by a few per cent of the radius and lobes of .03; and half a pixel.
            assert (difference[away > 0.4 * nodule.diameter + PIXEL_MM] == 0).all()
            assert difference[ndimage.binary_erosion(inside)].mean() > 400 or not ndimage.binary_erosion(inside).any()
            seen += 1
    assert seen > 20


def ball(diameter=15.0, center=(-75.0, 0.0, 0.0), lobes=(0j, 0j, 0j), readers=(0, 1, 2)):
    return Finding("nodule", center, diameter, readers, lobes)


@pytest.mark.parametrize("dz", [0.0, 3.0, -6.0, 8.9, 9.1])
def test_a_ball_is_drawn_as_its_cross_section(dz):
    """The Hounsfield units it adds, over those of tissue in lung, add up to the disc's area."""
    person = Patient("LIDC-IDRI-0007", 156.0, 106.0)
    without = draw(0, person, dz).astype(float)
    within = draw(0, replace(person, findings=(ball(),)), dz).astype(float)
    area = np.pi * max(7.5**2 - max(abs(dz) - 1.5, 0) ** 2, 0)  # a slice shows what is within its 3 mm
    share = (within - without) / (40 - np.minimum(without, 0))
    assert share.sum() * PIXEL_MM**2 == pytest.approx(area, rel=0.1, abs=2)
    if area > 20:
        y, x = (np.array(ndimage.center_of_mass(share)) - (SIZE - 1) / 2) * PIXEL_MM
        assert (x, y) == pytest.approx((-75, 0), abs=1)


def test_readers_agree_roughly_and_only_those_who_saw_it_outline_it():
    person = Patient("LIDC-IDRI-0007", 156.0, 106.0)
    nodule = ball(24.0)
    seen = [mask(0, person, nodule, 0.0, reader) for reader in range(4)]
    assert not seen[3].any() and len({found.tobytes() for found in seen[:3]}) == 3
    for one in seen[:3]:
        for other in seen[:3]:
            assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.75
        assert one.sum() * PIXEL_MM**2 == pytest.approx(np.pi * 12**2, rel=0.5)


# Outlines


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([True, True, False])))
def test_any_outline_encloses_its_mask(pixels):
    pieces, _ = ndimage.label(np.pad(pixels, 2))
    whole = ndimage.binary_fill_holes(
        pieces == np.bincount(pieces.ravel())[1:].argmax() + 1 if pixels.any() else pieces
    )
    points = outline(whole)
    if not pixels.any():
        assert points == []
        return
    found = nodules.enclosed([lidc_xml.Contour("1.2", 0.0, True, np.array(points, np.int32))])
    assert sorted(map(tuple, found.tolist())) == sorted((x, y) for y, x in np.argwhere(whole).tolist())
    assert points[0] == points[-1]
    assert (np.abs(np.diff(points, axis=0)).max(1) == 1).all()  # each point beside the one before
    around = ndimage.binary_dilation(whole) & ~whole
    assert all(around[y, x] for x, y in points)


def test_the_outline_of_one_pixel():
    pixel = np.zeros((5, 5), bool)
    pixel[2, 3] = True
    assert set(outline(pixel)) == {(3, 1), (4, 2), (3, 3), (2, 2)} and len(outline(pixel)) == 5


# The files, by the readers of the real release


def test_the_cohort_says_what_it_is(opened):
    _, cohort = opened
    assert (cohort.name, cohort.task, cohort.caution) == ("ct-phantoms", "lung-mass-ct", "phantoms, not patients")
    assert "no evidence" in cohort.notes[0]
    assert cohort.table["label"].mean() == 0.5 and set(cohort.table["split"]) == {"dev", "test"}


def test_series_are_whole_though_their_files_are_shuffled(read):
    slices, *_ = read
    assert slices["patient_id"].unique().tolist() == NAMES
    for _, scan in slices.groupby("series_uid"):
        assert scan["z_mm"].tolist() == HEIGHTS
        assert (
            sorted(scan["instance"]) == list(range(1, 25)) and abs(np.corrcoef(scan["instance"], HEIGHTS)[0, 1]) < 0.9
        )


def test_hounsfield_units_come_back_from_signed_and_unsigned_files(read):
    slices, *_ = read
    for row in slices.iloc[::17].itertuples():
        np.testing.assert_array_equal(dicom.read_hu(row.path), draw(0, PEOPLE[row.patient_id], row.z_mm))
    stored = {pydicom.dcmread(path, stop_before_pixels=True).PixelRepresentation for path in slices["path"][::24]}
    assert stored == {0, 1}


def test_the_chest_film_is_passed_over(opened, read):
    folder, cohort = opened
    *_, left_out = read
    (film,) = left_out.loc[~left_out["where"].str.endswith(".xml"), "where"]
    dataset = pydicom.dcmread(film)
    assert (dataset.Modality, dataset.PatientID) == ("CR", "LIDC-IDRI-0001") and dataset.pixel_array.max() > 200
    assert [kind for kind, *_ in cohort.problems] == ["not CT: CR"]
    assert all(path.parents[3] == folder for path in folder.rglob("*.dcm"))


def test_annotations_are_lidcs(opened, read):
    folder, _ = opened
    _, annotations, _ = read
    assert annotations.problems.empty and annotations.files == PATIENTS
    assert all(len(scan.readers) == 4 for scan in annotations.reads)
    root = ElementTree.parse(next(folder.rglob("*.xml"))).getroot()
    assert root.tag == "{http://www.nih.gov}LidcReadMessage"


def test_the_nodules_and_outlines_are_those_that_were_drawn(read):
    outlines = 0
    for person, scan, slices in reads(read):
        expected = []
        for nodule in (f for f in person.findings if f.kind == "nodule"):
            masks = {(z, r): np.argwhere(mask(0, person, nodule, z, r)) for z in HEIGHTS for r in nodule.readers}
            expected.append({key: {(x, y) for y, x in found.tolist()} for key, found in masks.items() if len(found)})
        heights = dict(zip(slices["sop_uid"], slices.index, strict=True))
        found = []
        for group in nodules.group(scan):
            contours = [(r, contour) for r, nodule in group.marks for contour in nodule.contours]
            pixels = {(heights[c.sop_uid], r): set(map(tuple, nodules.enclosed([c]).tolist())) for r, c in contours}
            found.append(pixels)
            assert group.readers == len({r for _, r in pixels}) and all(
                c.z_mm == heights[c.sop_uid] for _, c in contours
            )
        assert len(found) == len(expected) and all(pixels in found for pixels in expected)
        outlines += sum(map(len, found))
    assert outlines > 100


def test_labels_are_those_that_were_drawn(opened, read):
    """A slice is positive if three readers see the same nodule there: from the files, and from the drawing."""
    _, cohort = opened
    positive = {
        (name, z)
        for name, person in PEOPLE.items()
        for z in HEIGHTS
        for nodule in person.findings
        if nodule.kind == "nodule" and sum(mask(0, person, nodule, z, r).any() for r in nodule.readers) >= 3
    }
    table = cohort.table[cohort.table["label"] == 1]
    assert len(table) > 20 and set(zip(table["patient_id"], table["z_mm"], strict=True)) <= positive
    negative = cohort.table[cohort.table["label"] == 0]
    assert not positive & set(zip(negative["patient_id"], negative["z_mm"], strict=True))


def test_larger_nodules_are_rated_more_malignant(opened):
    _, cohort = opened
    table = cohort.table[cohort.table["label"] == 1]
    assert table["malignancy"].between(1, 5).all()
    assert table["malignancy"].corr(table["diameter_mm"]) > 0.5


def test_points_are_set_where_something_is(read):
    kinds = set()
    for person, scan, slices in reads(read):
        points = [nodule for reader in scan.readers for nodule in reader if nodule.kind != "nodule"]
        assert len(points) == sum(len(f.readers) for f in person.findings if f.kind != "nodule")
        for nodule in points:
            (contour,) = nodule.contours
            ((x, y),) = contour.points
            hu = dicom.read_hu(slices.loc[contour.z_mm, "path"])
            assert hu[y - 1 : y + 2, x - 1 : x + 2].max() > -780  # denser than lung
            kinds.add(nodule.kind)
    assert kinds == {"small", "non-nodule"}


# Writing


def test_an_interrupted_drawing_goes_on(opened, monkeypatch):
    folder, cohort = opened
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    xml = next(folder.rglob("LIDC-IDRI-0005/*/*/*.xml"))
    lost = sorted(xml.parent.glob("*.dcm"))[5:]
    for path in [xml, *lost]:
        path.unlink()
    again = open_cohort(request(folder.parent))
    assert again.table.equals(cohort.table)
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    assert {path: content for path, (_, content) in after.items()} == {p: content for p, (_, content) in before.items()}
    same = [path for path in after if xml.parent not in path.parents and path.name not in ("1-1.dcm", ".sha256")]
    assert [after[path] for path in same] == [before[path] for path in same]


def test_two_workers_draw_the_same(opened, tmp_path):
    folder, _ = opened
    open_cohort(request(tmp_path, patients=4, workers=2))
    (spread,) = (path for path in tmp_path.iterdir() if path.is_dir())
    paths = [path for path in spread.rglob("*") if path.suffix in (".dcm", ".xml")]
    assert len(paths) == 4 * 25 + 1
    assert all(path.read_bytes() == (folder / path.relative_to(spread)).read_bytes() for path in paths)


def test_a_disturbed_drawing_leaves_no_half_file(tmp_path, monkeypatch):
    def fail(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    with pytest.raises(StudyError, match="disk is full"):
        open_cohort(request(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


HU = hnp.arrays(np.int16, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(-1024, 3071))
IDENTITY = {"PatientID": "P", "StudyInstanceUID": uid(1), "SeriesInstanceUID": uid(2), "SOPInstanceUID": uid(3)}


@settings(max_examples=60, deadline=None)
@given(hu=HU, signed=st.integers(0, 1), intercept=st.sampled_from([-1024, -2048, -8192]))
def test_what_is_written_is_read(tmp_path_factory, hu, signed, intercept):
    path = tmp_path_factory.mktemp("slice") / "1-001.dcm"
    ct_phantoms.write_slice(path, hu, -12.5, **IDENTITY, PixelRepresentation=signed, RescaleIntercept=intercept)
    assert np.array_equal(dicom.read_hu(path), hu)
    # The same through pydicom alone.
    assert np.array_equal(pydicom.dcmread(path).pixel_array.astype(int) + intercept, hu)


def test_a_written_slice_has_all_that_ct_needs(tmp_path):
    """The attributes that PS3.3 calls type 1 (present, not empty) in the modules of the CT Image IOD (table A.3-1)."""
    path = tmp_path / "a.dcm"
    ct_phantoms.write_slice(path, BODY, -12.5, **IDENTITY, PixelSpacing=(0.5, 0.8))
    dataset = pydicom.dcmread(path)
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == IDENTITY["SOPInstanceUID"]
    filled = """StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType SamplesPerPixel Rows Columns
        PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelSpacing PixelData
        ImageOrientationPatient ImagePositionPatient RescaleSlope RescaleIntercept PatientPosition"""
    assert [tag for tag in filled.split() if dataset.get(tag) in (None, "", [])] == []
    # 64 x 64 pixels, centred: the first is 31.5 pixels left of and before the axis; x goes with the columns.
    assert np.allclose(dataset.ImagePositionPatient, [-31.5 * 0.8, -31.5 * 0.5, -12.5])
    again = tmp_path / "b.dcm"
    ct_phantoms.write_slice(again, BODY, -12.5, **IDENTITY, PixelSpacing=(0.5, 0.8))
    assert again.read_bytes() == path.read_bytes()

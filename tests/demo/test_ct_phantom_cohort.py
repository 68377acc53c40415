import json
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
from dicom_files import mask as mask_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sourcematters.cohorts.lidc import dicom, lidc_xml, nodules, series
from sourcematters.demo import ct_phantom_cohort, ct_phantoms
from sourcematters.errors import StudyError

SETTINGS = {"patients": 14, "seed": 0, "size": 96, "slices": 16, "spacing_mm": 4.0}
HEIGHTS = ct_phantoms.positions(16, 4.0)
PEOPLE = {patient.patient_id: patient for patient in ct_phantoms.population(0, 14)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("ct")
    return root, ct_phantom_cohort.write(root, **SETTINGS)


@pytest.fixture(scope="module")
def read(written):
    """The scans as the readers of the real release see them: slices, scans, annotations, problems."""
    _, folder = written
    slices, left_out = series.index(folder)
    slices, scans, problems = series.series(slices)
    return slices, scans, lidc_xml.read(folder), left_out, problems


def test_every_series_is_found_whole_and_in_order(read):
    slices, scans, _, left_out, problems = read
    assert problems.empty
    assert scans["patient_id"].tolist() == list(PEOPLE)
    assert (scans[["slices", "spacing_mm", "missing"]] == [16, 4.0, 0]).all(axis=None)
    assert (slices["spacing_row_mm"] - 350 / 96).abs().max() < 1e-6
    for _, scan in slices.groupby("series_uid"):
        assert scan["z_mm"].tolist() == HEIGHTS
        assert sorted(scan["instance"]) == list(range(1, 17))
        assert scan["path"].tolist() != sorted(scan["path"])
        assert scan["instance"].tolist() not in (list(range(1, 17)), list(range(16, 0, -1)))


def test_hounsfield_units_come_back(read):
    slices, *_ = read
    for row in slices.iloc[::9].itertuples():
        drawn = ct_phantoms.draw(0, PEOPLE[row.patient_id], row.z_mm, size=96)
        np.testing.assert_array_equal(dicom.read_hu(row.path), drawn)
    stored = {pydicom.dcmread(path, stop_before_pixels=True).PixelRepresentation for path in slices["path"][::16]}
    assert stored == {0, 1}


def test_what_is_no_ct_is_passed_over(written, read):
    _, folder = written
    *_, left_out, _ = read
    by_kind = left_out.groupby("kind")["where"].apply(list).to_dict()
    (film,) = by_kind.pop("not CT: CR")
    assert pydicom.dcmread(film).PatientID == "LIDC-IDRI-0001"
    assert list(by_kind) == ["not DICOM"] and {path.rpartition(".")[2] for path in by_kind["not DICOM"]} == {
        "xml",
        "json",
    }
    assert all(path.parent.parent.parent.parent == folder for path in folder.rglob("*.dcm"))


def test_every_annotation_is_read_and_names_its_scan(read):
    slices, scans, annotations, *_ = read
    assert annotations.problems.empty and annotations.duplicates == 0
    assert {(r.series_uid, r.study_uid) for r in annotations.reads} == set(
        zip(scans["series_uid"], scans["study_uid"], strict=True)
    )
    assert all(len(r.readers) == 4 for r in annotations.reads)
    heights = dict(zip(slices["sop_uid"], slices["z_mm"], strict=True))
    marks = [mark for one in annotations.reads for reader in one.readers for mark in reader]
    contours = [contour for mark in marks for contour in mark.contours]
    assert all(contour.z_mm == heights[contour.sop_uid] for contour in contours)
    assert {mark.kind for mark in marks} == {"nodule", "small", "non-nodule"}
    assert not all(contour.inclusion for contour in contours)  # some nodule has a cavity


def masks_of(group, sop_uid):
    """Reader to mask on a slice, of the readers who outlined the nodule there."""
    contours = {}
    for reader, mark in group.marks:
        for contour in mark.contours:
            if contour.sop_uid == sop_uid:
                contours.setdefault(reader, []).append(contour)
    return {reader: mask_of(drawn, (96, 96)) for reader, drawn in contours.items()}


def test_masks_and_readers_are_those_that_were_drawn(read):
    slices, scans, annotations, *_ = read
    patients = dict(zip(scans["series_uid"], scans["patient_id"], strict=True))
    by_series = dict(list(slices.groupby("series_uid")))
    seen = 0
    for one in annotations.reads:
        patient = PEOPLE[patients[one.series_uid]]
        groups = nodules.group(one)
        expected = {}
        for number in range(len(patient.nodules)):
            masks = {
                (z, reader): ct_phantoms.mask(0, patient, number, z, reader=reader, size=96)
                for z in HEIGHTS
                for reader in range(4)
            }
            masks = {key: found for key, found in masks.items() if found.any()}
            if masks:
                expected[number] = masks
        assert len(groups) == len(expected)
        for masks in expected.values():
            readers = {reader for _, reader in masks}
            found = [
                group
                for group in groups
                if {
                    (row.z_mm, reader): inside.tobytes()
                    for row in by_series[one.series_uid].itertuples()
                    for reader, inside in masks_of(group, row.sop_uid).items()
                }
                == {key: inside.tobytes() for key, inside in masks.items()}
            ]
            assert len(found) == 1 and found[0].readers == len(readers)
            seen += len(masks)
    assert seen > 100


def test_labels_are_those_that_were_drawn(read):
    """A slice is positive if three readers enclose the same nodule there: from the files, and from the truth."""
    slices, scans, annotations, *_ = read
    z = dict(zip(slices["sop_uid"], slices["z_mm"], strict=True))
    patients = dict(zip(scans["series_uid"], scans["patient_id"], strict=True))
    found = {
        (patients[one.series_uid], z[row.sop_uid])
        for one in annotations.reads
        for group in nodules.group(one)
        for row in group.slices().itertuples()
        if row.readers >= 3
    }
    expected = {
        (patient.patient_id, height)
        for patient in PEOPLE.values()
        for number, nodule in enumerate(patient.nodules)
        for height in HEIGHTS
        if sum(ct_phantoms.mask(0, patient, number, height, reader=r, size=96).any() for r in nodule.readers) >= 3
    }
    assert found == expected and len(found) > 20


def test_malignancy_is_near_what_was_drawn(read):
    _, scans, annotations, *_ = read
    patients = dict(zip(scans["series_uid"], scans["patient_id"], strict=True))
    for one in annotations.reads:
        drawn = [nodule.malignancy for nodule in PEOPLE[patients[one.series_uid]].nodules]
        for group in nodules.group(one):
            assert min(abs(group.malignancy - value) for value in drawn) <= 1


def test_points_are_set_where_something_is(read):
    slices, scans, annotations, *_ = read
    patients = dict(zip(scans["series_uid"], scans["patient_id"], strict=True))
    paths = dict(zip(slices["sop_uid"], slices["path"], strict=True))
    for one in annotations.reads:
        patient = PEOPLE[patients[one.series_uid]]
        points = [n for reader in one.readers for n in reader if n.kind != "nodule"]
        assert len(points) == sum(len(mark.readers) for mark in patient.marks)
        for point in points:
            (contour,) = point.contours
            (x, y) = contour.points[0]
            near = dicom.read_hu(paths[contour.sop_uid])[y - 1 : y + 2, x - 1 : x + 2]
            assert near.max() > -790  # denser than lung


def test_xml_is_in_lidcs_namespace(written):
    _, folder = written
    path = next(folder.rglob("*.xml"))
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.nih.gov}LidcReadMessage"
    assert {element.tag.partition("}")[0] for element in root.iter()} == {"{http://www.nih.gov"}


def whole(mask):
    """The largest piece of a mask."""
    pieces, _ = ndimage.label(mask)
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1 if mask.any() else mask


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([True, True, False])))
def test_any_outline_encloses_its_mask(pixels):
    mask = np.pad(whole(pixels), 2)
    contours = [
        lidc_xml.Contour("1.2", 0.0, inclusion, np.array(points, np.int32))
        for inclusion, points in ct_phantom_cohort.outlines(mask)
    ]
    np.testing.assert_array_equal(mask_of(contours, mask.shape), mask)
    for contour in contours:
        assert (contour.points[0] == contour.points[-1]).all()
        assert (np.abs(np.diff(contour.points, axis=0)).max(1) == 1).all()  # each point beside the one before
        inside = mask if contour.inclusion else ndimage.binary_fill_holes(mask) & ~mask
        around = ndimage.binary_dilation(inside) & ~inside
        assert all(around[y, x] for x, y in contour.points)


def test_the_outline_of_one_pixel():
    mask = np.zeros((5, 5), bool)
    mask[2, 3] = True
    assert list(ct_phantom_cohort.outlines(mask)) == [(True, [(3, 1), (4, 2), (3, 3), (2, 2), (3, 1)])]
    assert not list(ct_phantom_cohort.outlines(np.zeros((5, 5), bool)))


def test_writing_goes_on_where_it_was(written, monkeypatch):
    root, folder = written
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.dcm")}
    lost = sorted(before)[20]
    content, xml = lost.read_bytes(), next(folder.rglob("*.xml"))
    text = xml.read_text()
    lost.unlink()
    xml.unlink()
    assert ct_phantom_cohort.write(root, **SETTINGS) == folder
    assert lost.read_bytes() == content and xml.read_text() == text
    assert {p: t for p, t in before.items() if p != lost} == {
        p: p.stat().st_mtime_ns for p in folder.rglob("*.dcm") if p != lost
    }


def test_two_workers_write_the_same(written, tmp_path):
    _, folder = written
    spread = ct_phantom_cohort.write(tmp_path, **SETTINGS | {"patients": 3}, workers=2)
    paths = [path for path in spread.rglob("*") if path.suffix in (".dcm", ".xml")]
    assert len(paths) == 3 * 17 + 1
    for path in paths:
        assert path.read_bytes() == (folder / path.relative_to(spread)).read_bytes()


@pytest.mark.parametrize("other", [{"seed": 1}, {"size": 97}, {"slices": 17}, {"patients": 15}, {"spacing_mm": 3.0}])
def test_other_settings_get_another_folder(written, tmp_path, other, monkeypatch):
    root, folder = written
    monkeypatch.setattr(ct_phantom_cohort, "_write", lambda *a, **k: None)
    new = ct_phantom_cohort.write(tmp_path, **SETTINGS | other)
    assert new.parent == tmp_path and new.name != folder.name and new.name.startswith("ct-phantoms-")
    kept = json.loads((new / "ct-phantoms.json").read_text())
    assert kept | SETTINGS | other == kept


def test_other_drawing_code_gets_another_folder(written, tmp_path, monkeypatch):
    root, folder = written
    (tmp_path / "changed.py").write_text("changed")
    monkeypatch.setattr(ct_phantom_cohort, "CODE", (*ct_phantom_cohort.CODE[:-1], tmp_path / "changed.py"))
    monkeypatch.setattr(ct_phantom_cohort, "_write", lambda *a, **k: None)
    assert ct_phantom_cohort.write(tmp_path, **SETTINGS).name != folder.name


def test_a_disturbed_writing_leaves_no_half_file(tmp_path, monkeypatch):
    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    with pytest.raises(StudyError, match="disk is full"):
        ct_phantom_cohort.write(tmp_path, **SETTINGS)
    assert not list(tmp_path.rglob("*.dcm")) and not list(tmp_path.rglob(".*.dcm"))


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"size": 31}, {"slices": 0}, {"spacing_mm": 20.0}])
def test_refusals_write_nothing(tmp_path, wrong):
    with pytest.raises(StudyError):
        ct_phantom_cohort.write(tmp_path, **SETTINGS | wrong)
    assert not list(tmp_path.iterdir())

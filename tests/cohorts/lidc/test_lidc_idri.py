"""The CT cohort: made of small series and annotations whose slices are known, and of real outlines."""

import zipfile

import dicom_files
import numpy as np
import pandas as pd
import pytest
from dicom_files import write_series
from matplotlib.path import Path as Polygon
from test_lidc_xml import message, nodule, roi

from sourcematters import __main__
from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.lidc import dicom, lidc_idri, lidc_xml, series
from sourcematters.errors import StudyError

PATIENTS = 4
Z = range(0, 105, 5)
READERS = {50: 4, 45: 3, 55: 2}
"""Of nodule A, how many readers outlined it on the slice at this position; two outlined B at 80 mm."""
NEGATIVES = {0, 5, 10, 15, 20, 25, 30, 35, 65, 70, 90, 95, 100}
"""10 mm or more from 45, 50, 55 and 80, at most 50 from 45 or 50."""


def outline(x, y, side):
    """A square outline; side - 2 pixels of each row lie inside."""
    return [(x, y), (x + side - 1, y), (x + side - 1, y + side - 1), (x, y + side - 1), (x, y)]


def slice_uid(patient, z):
    # write_series numbers from the highest position.
    series = dicom_files.uid(f"LIDC-IDRI-{patient:04d}", "series", 0)
    return dicom_files.uid(series, sorted(Z, reverse=True).index(z) + 1)


def annotation(patient):
    def reader(number):
        a = [
            roi(outline(10, 20, 7 if z == 50 else 5), sop=slice_uid(patient, z), z=str(z))
            for z, readers in READERS.items()
            if number < readers
        ]
        marks = nodule(*a, ratings=f"<malignancy>{number + 1}</malignancy>") if a else ""
        if number < 2:
            marks += nodule(roi(outline(40, 30, 9), sop=slice_uid(patient, 80), z="80"))
        # A mark of a finding below 3 mm, on a slice that stays a negative.
        return marks + nodule(roi([(50, 50)], sop=slice_uid(patient, 20), z="20"), ratings="")

    series = dicom_files.uid(f"LIDC-IDRI-{patient:04d}", "series", 0)
    return message(*map(reader, range(4)), series=series)


@pytest.fixture
def release(tmp_path):
    """Four patients, one series each, 64 x 64 px of 0.5 mm, annotations beside the slices; and a chest film's read."""
    root = tmp_path / "LIDC-IDRI"
    for patient in range(1, PATIENTS + 1):
        paths = write_series(root, patient, positions=Z, hu=body(patient), spacing_mm=(0.5, 0.5))
        (paths[0].parent / "069.xml").write_text(annotation(patient))
    (root / "film.xml").write_text(message(root="IdriReadMessage", namespace="http://www.nih.gov/idri"))
    return root


def body(patient):
    return lambda z: np.full((64, 64), 10 * patient + z, np.int16)


def opened(root, **request):
    """The cohort of a folder, by the reader alone; headers are remembered beside the folder."""
    return lidc_idri.LidcIdri().open(
        Request(**{"data": root, "task": "lung-mass-ct", "cache": root.parent / "cache", **request})
    )


def table_of(root, **request):
    return opened(root, **request).table


def test_what_is_positive_and_what_is_negative(release):
    cohort = opened(release)
    table = cohort.table
    assert len(table) == PATIENTS * 4 and table["label"].sum() == PATIENTS * 2
    for patient, part in table.groupby("patient_id"):
        assert set(part.loc[part["label"] == 1, "z_mm"]) == {45, 50}, patient
        assert set(part.loc[part["label"] == 0, "z_mm"]) < NEGATIVES and (part["label"] == 0).sum() == 2
        assert part["split"].nunique() == 1
    assert (table["image_id"].str[:14] == table["patient_id"]).all()
    assert cohort.name == "lidc" and cohort.task == "lung-mass-ct"


def test_attributes_of_a_nodule(release):
    table = table_of(release).query("label == 1").set_index(["patient_id", "z_mm"])
    at_50, at_45 = table.loc[("LIDC-IDRI-0001", 50)], table.loc[("LIDC-IDRI-0001", 45)]
    # 5 x 5 and 3 x 3 pixels inside, of half a millimetre; readers rate 1, 2, 3, 4.
    assert (at_50["readers"], at_50["malignancy"]) == (4, 2.5)
    assert at_50["diameter_mm"] == pytest.approx(2 * np.sqrt(25 / np.pi) / 2, abs=0.005)
    assert at_45["readers"] == 3 and at_45["diameter_mm"] == pytest.approx(2 * np.sqrt(9 / np.pi) / 2, abs=0.005)
    assert (dicom.read_hu(at_50["path"]) == 10 + 50).all()
    negative = table_of(release).query("label == 0")
    assert negative[["readers", "diameter_mm", "malignancy"]].isna().all(axis=None)


@pytest.mark.parametrize(("readers", "positive"), [(1, {45, 50, 55, 80}), (2, {45, 50, 55, 80}), (4, {50})])
def test_agreement_is_a_parameter(release, readers, positive):
    table = table_of(release, readers=readers)
    assert set(table.query("label == 1")["z_mm"]) == positive


def test_the_margin_is_a_parameter(release, monkeypatch):
    monkeypatch.setattr(lidc_idri, "REACH_MM", 45)
    far = table_of(release, margin_mm=30)
    assert set(far.query("label == 0")["z_mm"]) <= {0, 5, 10, 15}


def test_an_outline_counts_even_if_it_encloses_nothing_or_its_slice_is_gone(release, monkeypatch):
    monkeypatch.setattr(lidc_idri, "REACH_MM", 46)
    path = next((release / "LIDC-IDRI-0001").rglob("*.xml"))
    line, gone = roi([(5, 5), (6, 5)], sop=slice_uid(1, 20), z="20"), roi(outline(5, 5, 5), sop="1.2.3", z="0")
    path.write_text(path.read_text().replace("</readingSession>", nodule(line) + nodule(gone) + "</readingSession>", 1))
    table = table_of(release, margin_mm=12, seed=5).query("patient_id == 'LIDC-IDRI-0001'")
    # Within 12 mm of 0 and 20 nothing is left below; above, 55 and 80 take all but what is far from 80.
    assert set(table.query("label == 0")["z_mm"]) <= {95}


def test_every_nodules_largest_slice_comes_first(release):
    table = table_of(release, images=(6, 2))
    assert table["split"].value_counts().to_dict() == {"dev": 6, "test": 2}
    assert set(table.query("label == 1")["z_mm"]) == {50}, "one slice a nodule suffices"
    assert (table.groupby("patient_id")["label"].agg(["size", "sum"]) == [2, 1]).all(axis=None)


def test_the_same_seed_gives_the_same_cohort_and_another_another(release):
    first, again, other = (table_of(release, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert set(first["image_id"]) != set(other["image_id"])


def test_images_that_are_not_there_are_not_invented(release):
    notes = opened(release).notes
    assert "dev: 12 images of 1,710 wanted; the scans hold no more." in notes
    assert "8 nodules of 3 mm or more, outlined 4 by 2, 4 by 4 reader(s)." in notes
    assert "5 annotation files: 4 CT reads, 0 repeated, 1 of chest films, 0 not usable." in notes


def test_everything_left_out_is_named(release):
    gone = release / "LIDC-IDRI-0001" / dicom_files.uid("LIDC-IDRI-0001", "study")
    series = next(gone.iterdir())
    # Instance 11 is at 50 mm, instance 5 at 80.
    (series / "000011.dcm").unlink()
    (release / "extra.xml").write_text(message("", series="1.2.3.4"))
    (release / "broken.xml").write_text(annotation(1)[:300])
    big = message(nodule(roi(outline(60, 60, 9), sop=slice_uid(3, 80), z="80")), series="none").replace(
        "none", dicom_files.uid("LIDC-IDRI-0005", "series", 0)
    )
    write_series(release, 5, positions=Z)
    (release / "five.xml").write_text(big.replace(slice_uid(3, 80), slice_uid(5, 80)))
    write_series(release, 6, positions=Z)
    problems = pd.DataFrame(opened(release).problems, columns=["kind", "where", "what"])
    found = problems.set_index("kind")
    assert slice_uid(1, 50) in found.loc["outline without slice", "what"]
    assert found.loc["read without series", "where"] == "extra.xml"
    assert found.loc["annotation", "where"] == "broken.xml"
    assert "x = 67, y = 67" in found.loc["outline beyond the image", "what"]
    assert "LIDC-IDRI-0006" in found.loc["series without read", "where"]
    assert "1 missing" in found.loc["missing slices", "what"]


def test_the_zip_of_annotations_is_taken_where_it_is(release):
    with zipfile.ZipFile(release / lidc_idri.ARCHIVE, "w") as archive:
        for patient in range(1, PATIENTS + 1):
            archive.writestr(f"tcia-lidc-xml/{patient}.xml", annotation(patient))
    zipped = table_of(release)
    for path in release.rglob("*.xml"):
        path.unlink()
    pd.testing.assert_frame_equal(zipped, table_of(release))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"readers": 0}, "readers = 0"),
        ({"readers": 5}, "readers = 5"),
        ({"margin_mm": -1}, "margin_mm = -1"),
        ({"margin_mm": 50}, "margin_mm = 50"),
        ({"images": (0, 4)}, r"images.0 = 0"),
        ({"margin_mm": 49}, "0 patient"),
    ],
)
def test_settings_that_make_no_cohort(release, settings, complaint):
    with pytest.raises(StudyError, match=complaint):
        opened(release, **settings)


def test_annotations_of_other_series_are_refused(release):
    for path in release.rglob("069.xml"):
        path.write_text(message(nodule(roi(outline(1, 1, 5))), series=f"1.2.{len(str(path))}"))
    with pytest.raises(StudyError, match="no outlined nodule lies on a slice"):
        table_of(release)


def test_cohorts_open_by_folder(release, tmp_path):
    cache = tmp_path / "cache"
    cohort = open_cohort(Request(data=release, task="lung-mass-ct", cache=cache))
    pd.testing.assert_frame_equal(cohort.table, table_of(release))
    (headers,) = cache.glob("headers-*.csv")
    above = open_cohort(Request(data=release.parent, task="lung-mass-ct", cache=cache))
    pd.testing.assert_frame_equal(cohort.table, above.table)
    assert len(pd.read_csv(headers)) == PATIENTS * len(Z) + PATIENTS + 1, "slices and XML files"
    with pytest.raises(StudyError, match="unknown task `lung-mass`. Did you mean lung-mass-ct"):
        open_cohort(Request(data=release, task="lung-mass", cache=cache))
    with pytest.raises(StudyError, match="no choice of view; leave view empty, not 'PA'"):
        open_cohort(Request(data=release, task="lung-mass-ct", view="PA", cache=cache))


def test_ids_are_unique_where_uids_end_in_the_slices_number(release):
    """Two series of one patient, whose slices have the same last component: the whole UID tells them apart."""
    whole = table_of(release)
    short = whole["patient_id"] + "-" + whole["sop_uid"].str.split(".").str[-1].str[-8:]
    assert (whole["image_id"] == short).all()
    first = next((release / "LIDC-IDRI-0001").rglob("*.xml"))
    text = first.read_text()
    again = write_series(release, 1, positions=Z, hu=body(9), spacing_mm=(0.5, 0.5), series=1)
    other = text.replace(dicom_files.uid("LIDC-IDRI-0001", "series", 0), dicom_files.uid("LIDC-IDRI-0001", "series", 1))
    for i, z in enumerate(Z):
        text, other = (each.replace(slice_uid(1, z), f"1.2.{n}.{i}") for n, each in ((3, text), (4, other)))
        for n, folder in ((3, first.parent), (4, again[0].parent)):
            path = folder / f"{sorted(Z, reverse=True).index(z) + 1:06d}.dcm"
            dicom_files.edit(path, SOPInstanceUID=f"1.2.{n}.{i}")
    first.write_text(text)
    (again[0].parent / "070.xml").write_text(other)
    table = table_of(release)
    assert table["image_id"].is_unique
    rows = table[table["patient_id"] == "LIDC-IDRI-0001"]
    assert (rows["image_id"] == "LIDC-IDRI-0001-" + rows["sop_uid"]).all() and rows["series_uid"].nunique() == 2
    others = whole[whole["patient_id"] != "LIDC-IDRI-0001"]
    assert set(others["image_id"]) == set(table["image_id"]) - set(rows["image_id"])


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_task_decides_who_reads_a_folder(release, tmp_path, depth):
    """Also far above the patients' folders, or where another release's folder of images lies beside them."""
    root = tmp_path / "a" / "b" / "manifest-1600709154662"
    root.mkdir(parents=True)
    release.rename(root / "LIDC-IDRI")
    folder = [root / "LIDC-IDRI", root, root.parent, root.parent.parent][depth]
    if depth < 3:
        (folder / "images").mkdir()
    expected = table_of(root / "LIDC-IDRI")
    found = open_cohort(Request(data=folder, task="lung-mass-ct", cache=tmp_path / "cache")).table
    pd.testing.assert_frame_equal(found, expected)


def test_of_a_folder_without_ct_the_recipe_for_ct_is_shown(tmp_path, capsys):
    for name in ("empty", "nothing"):
        if name == "empty":
            (tmp_path / name).mkdir()
        assert __main__.main(["verify", str(tmp_path / name), "--task", "lung-mass-ct"]) == 2
        said = capsys.readouterr().err
        assert "LIDC-IDRI" in said and "ChestX-ray14" not in said
        assert ("no such folder" in said) == (name == "nothing")
    with zipfile.ZipFile(tmp_path / "file.zip", "w") as archive:
        archive.writestr("LIDC-IDRI-0001/1.dcm", "")
    assert __main__.main(["verify", str(tmp_path / "file.zip"), "--task", "lung-mass-ct"]) == 2
    assert "it is a zip archive of LIDC-IDRI-0001/1.dcm" in capsys.readouterr().err
    with pytest.raises(StudyError, match="file.zip: it is a file. Give the folder"):
        series.index(tmp_path / "file.zip")


def test_verify_counts_what_is_there(release, capsys):
    # 64 equal pixels would be called blank.
    for path in release.rglob("*.dcm"):
        patient, z = path.parts[-4], dicom.read_hu(path)[0, 0]
        hu = np.full((64, 64), z, np.int16)
        hu[0, : int(patient[-1])] = 7
        header = dict(zip(dicom.HEADER, dicom.read_header(path), strict=True))
        identity = {name: header[name] for name in ("patient_id", "study_uid", "series_uid", "sop_uid", "z_mm")}
        dicom_files.write_slice(path, hu, instance=int(header["instance"]), spacing_mm=(0.5, 0.5), **identity)
    assert __main__.main(["verify", str(release), "--task", "lung-mass-ct"]) == 0
    printed = capsys.readouterr().out
    assert "4 patients, 4 CT series, 84 slices" in printed and "No problems: all 16 images were opened." in printed
    assert "16  64 x 64" in printed and "16  CT, in Hounsfield units" in printed
    assert "not DICOM" not in printed, "annotations belong there"


def by_polygon(read):
    """Slice UID -> area in px of what each reader enclosed, filled by matplotlib; None if the read is not a plain one.

    Plain: four readers, one nodule each, outlined by closed chains of neighbouring pixels without holes.
    """
    nodules = [[nodule for nodule in reader if nodule.kind == "nodule"] for reader in read.readers]
    if [len(found) for found in nodules] != [1, 1, 1, 1]:
        return None
    areas = {}
    for (found,) in nodules:
        if len({contour.sop_uid for contour in found.contours}) < len(found.contours):
            return None
        for contour in found.contours:
            steps = np.abs(np.diff(contour.points, axis=0, append=contour.points[:1]))
            if not contour.inclusion or steps.max() > 1 or len(contour.points) < 8:
                return None
            bounds = contour.points.min(0), contour.points.max(0)
            x, y = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(*bounds, strict=True)))
            pixels = np.column_stack([x.ravel(), y.ravel()])
            inside = Polygon(contour.points).contains_points(pixels)
            on_it = {tuple(point) for point in contour.points.tolist()}
            area = sum(1 for pixel in pixels[inside].tolist() if tuple(pixel) not in on_it)
            areas.setdefault(contour.sop_uid, []).append(area)
    return {uid: [area for area in found if area] for uid, found in areas.items()}


def test_real_outlines_on_slices_made_for_them(lidc_release, shared_data, tmp_path):
    annotations, _ = lidc_release
    plain = ((read, by_polygon(read)) for read in annotations.reads)
    wanted = (pair for pair in plain if pair[1] and sum(len(areas) >= 3 for areas in pair[1].values()) == 4)
    chosen = [next(wanted), next(wanted)]
    root = tmp_path / "LIDC-IDRI"
    with zipfile.ZipFile(shared_data / "LIDC-XML-only.zip") as archive:
        for number, (read, _) in enumerate(chosen, 1):
            patient, folder = f"LIDC-IDRI-{number:04d}", root / f"LIDC-IDRI-{number:04d}"
            heights = {c.sop_uid: c.z_mm for reader in read.readers for n in reader for c in n.contours}
            highest = max(c.z_mm for reader in read.readers for n in reader if n.kind == "nodule" for c in n.contours)
            heights |= {dicom_files.uid(patient, step): highest + 12 + 2.5 * step for step in range(8)}
            for instance, (sop_uid, z) in enumerate(heights.items()):
                hu = np.full((512, 512), -800, np.int16)
                identity = {"study_uid": read.study_uid, "series_uid": read.series_uid, "sop_uid": sop_uid}
                dicom_files.write_slice(
                    folder / f"{instance}.dcm", hu, patient_id=patient, z_mm=z, spacing_mm=(0.7, 0.7), **identity
                )
            (folder / "read.xml").write_bytes(archive.read(read.file))
    table = table_of(root).query("label == 1").set_index("sop_uid")
    agreed = {uid: areas for _, found in chosen for uid, areas in found.items() if len(areas) >= 3}
    assert set(table.index) == set(agreed) and len(table) == 8
    for sop_uid, areas in agreed.items():
        assert table.loc[sop_uid, "readers"] == len(areas)
        diameter = 0.7 * 2 * np.sqrt(np.median(areas) / np.pi)
        assert table.loc[sop_uid, "diameter_mm"] == pytest.approx(diameter, abs=0.006)


def test_the_real_annotations_hold_enough_for_the_papers_numbers(lidc_release, tmp_path, monkeypatch):
    """Every read of the release, on slices made up around its outlines: headers only, 240 a scan."""
    annotations, _ = lidc_release
    rows = []
    for number, read in enumerate(annotations.reads, 1):
        heights = {c.sop_uid: c.z_mm for reader in read.readers for found in reader for c in found.contours}
        low, high = (min(heights.values()), max(heights.values())) if heights else (0, 0)
        for step, z in enumerate(np.linspace(low - 60, high + 60, 240 - len(heights))):
            heights[f"2.25.{number}{step:05d}"] = z
        rows += [(f"LIDC-IDRI-{number:04d}", read.study_uid, read.series_uid, uid, z) for uid, z in heights.items()]
    slices = pd.DataFrame(rows, columns=["patient_id", "study_uid", "series_uid", "sop_uid", "z_mm"])
    slices = slices.assign(
        path=slices["sop_uid"] + ".dcm", size=1, modality="CT", instance=1, rows=512, columns=512, kernel="",
        spacing_row_mm=0.7, spacing_column_mm=0.7, thickness_mm=2.5, orientation="1\\0\\0\\0\\1\\0",
    )  # fmt: skip
    nothing = pd.DataFrame(columns=series.PROBLEMS)
    monkeypatch.setattr(series, "index", lambda root, **options: (slices, nothing))
    monkeypatch.setattr(lidc_xml, "read", lambda source: annotations)
    table = table_of(tmp_path)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("dev", 0): 855, ("dev", 1): 855, ("test", 0): 250, ("test", 1): 250,
    }  # fmt: skip
    assert (table.groupby("patient_id")["label"].mean() == 0.5).all()
    assert (table.groupby("patient_id")["split"].nunique() == 1).all()
    # No negative lies within 10 mm of an outline of its scan, whoever drew it.
    outlined = {
        read.series_uid: [c.z_mm for reader in read.readers for n in reader if n.kind == "nodule" for c in n.contours]
        for read in annotations.reads
    }
    for row in table[table["label"] == 0].itertuples():
        assert np.abs(np.array(outlined[row.series_uid]) - row.z_mm).min() >= 10 - 1e-9

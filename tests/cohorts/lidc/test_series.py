import csv
import os
import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from dicom_files import BODY, edit, write_series
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sourcematters.cohorts.lidc import dicom, series
from sourcematters.errors import StudyError


def counts(problems):
    return problems["kind"].value_counts().to_dict()


def test_a_tree_as_tcia_distributes_it(tmp_path):
    """Three patients of 12 slices of 128 x 128; the value of every pixel tells patient and position."""
    for patient, names in enumerate(("{instance:06d}.dcm", "1-{instance:03d}.dcm", "1-{instance}.dcm"), 1):
        values = {"hu": lambda z, p=patient: np.full((128, 128), 100 * p + int(z), np.int16), "name": names}
        write_series(tmp_path, patient, positions=np.arange(12) - 6.0, **values, spacing_mm=(0.6, 0.7), kernel="B30f")
    slices, problems = series.index(tmp_path)
    assert len(slices) == 36 and problems.empty
    table, scans, problems = series.series(slices)
    assert problems.empty
    assert scans["patient_id"].tolist() == ["LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0003"]
    assert (scans[["slices", "spacing_mm", "rows", "missing"]] == [12, 1.0, 128, 0]).all(axis=None)
    assert table["slice"].tolist() == 3 * list(range(12)) and table["z_mm"].tolist() == 3 * list(np.arange(12) - 6.0)
    # Instance 1 is the highest slice, and neither its number nor its name decides.
    assert table["instance"].tolist() == 3 * list(range(12, 0, -1))
    for path, patient, z in zip(table["path"], table["patient_id"], table["z_mm"], strict=True):
        assert (dicom.read_hu(path) == 100 * int(patient[-1]) + z).all()


def test_what_lies_among_the_slices_is_named_and_counted(tmp_path):
    first, *_ = write_series(tmp_path)
    folder = first.parent
    film = {"Modality": "CR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}
    edit(first, to=folder / "cr.dcm", **film)
    edit(first, to=folder / "dx.dcm", **film | {"Modality": "DX"})
    edit(first, to=folder / "seg.dcm", Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    edit(first, to=folder / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    edit(first, to=folder / "nowhere.dcm", delete=["ImagePositionPatient"])
    (folder / "cut.dcm").write_bytes(first.read_bytes()[:-1])
    (tmp_path / "LICENSE").write_text("text")
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nothing")
    (folder / "._1-001.dcm").write_text("what macOS leaves behind")
    slices, problems = series.index(tmp_path)
    assert len(slices) == 4
    assert counts(problems) == {
        "not CT: CR": 1,
        "not CT: DX": 1,
        "not CT: SEG": 1,
        "localizer": 1,
        "incomplete header": 1,
        "damaged": 1,
        "not DICOM": 1,
        "unreadable": 1,
    }
    what = dict(zip(problems["where"], problems["what"], strict=True))
    assert "Computed Radiography Image Storage" in what[str(folder / "cr.dcm")]
    assert "Segmentation Storage" in what[str(folder / "seg.dcm")]
    assert "cut short: its pixels need 8,192 bytes, 8,191 are left" in what[str(folder / "cut.dcm")]


def test_series_are_told_apart_by_their_identifier_not_their_folder(tmp_path):
    first = write_series(tmp_path, series=0)
    second = write_series(tmp_path, series=1, positions=[10, 12, 14])
    for path in second:
        shutil.move(path, first[0].parent / f"b{path.name}")
    os.makedirs(tmp_path / "elsewhere")
    shutil.move(first[2], tmp_path / "elsewhere" / "1.dcm")
    table, scans, problems = series.series(series.index(tmp_path)[0])
    assert problems.empty and sorted(scans["slices"]) == [3, 4] and sorted(scans["spacing_mm"]) == [1.0, 2.0]
    assert table.groupby("series_uid")["z_mm"].apply(list).tolist() in (
        [[0, 1, 2, 3], [10, 12, 14]],
        [[10, 12, 14], [0, 1, 2, 3]],
    )


def test_a_copy_goes_and_a_conflict_takes_both(tmp_path):
    paths = write_series(tmp_path, positions=range(6))
    shutil.copy(paths[0], tmp_path / "copy.dcm")
    edit(paths[2], to=tmp_path / "other.dcm", SliceThickness=9)  # position 3, under the same identifier
    (tmp_path / "longer.dcm").write_bytes(paths[4].read_bytes() + bytes(8))  # position 1, another size
    table, scans, problems = series.series(series.index(tmp_path)[0])
    assert table["z_mm"].tolist() == [0, 2, 4, 5] and table["slice"].tolist() == [0, 1, 2, 3]
    assert scans["slices"].tolist() == [4]
    assert counts(problems)["copy"] == 1 and counts(problems)["conflict"] == 4
    copied = problems[problems["kind"] == "copy"].iloc[0]
    # "LIDC-IDRI-0001/..." comes before "copy.dcm", and the first path stays.
    assert copied["where"] == str(tmp_path / "copy.dcm") and str(paths[0]) in copied["what"]
    conflict = {*map(str, paths[2:5:2]), str(tmp_path / "other.dcm"), str(tmp_path / "longer.dcm")}
    assert set(problems.loc[problems["kind"] == "conflict", "where"]) == conflict


def test_slices_that_share_a_position_stay_and_are_named(tmp_path):
    write_series(tmp_path, positions=[0, 2.5, 2.5, 5, 7.5])
    table, scans, problems = series.series(series.index(tmp_path)[0])
    assert table["slice"].tolist() == [0, 1, 2, 3, 4] and table["instance"].tolist() == [5, 3, 4, 2, 1]
    assert scans[["slices", "spacing_mm", "missing"]].iloc[0].tolist() == [5, 2.5, 0]
    assert problems["what"].tolist() == ["2 slices at z = 2.5 mm: 000003.dcm, 000004.dcm."]


def test_missing_slices_are_counted_where_they_are(tmp_path):
    write_series(tmp_path, positions=[-10, -7.5, -5, 2.5, 5, 10, 13.5])
    _, scans, problems = series.series(series.index(tmp_path)[0])
    assert scans[["spacing_mm", "missing"]].iloc[0].tolist() == [2.5, 3]
    assert problems[["kind", "what"]].values.tolist() == [
        ["missing slices", "2 missing between z = -5 and 2.5 mm, spacing 2.5 mm."],
        ["missing slices", "1 missing between z = 5 and 10 mm, spacing 2.5 mm."],
        ["uneven spacing", "a gap of 3.5 mm between z = 10 and 13.5 mm, spacing 2.5 mm."],
    ]


@settings(max_examples=15, deadline=None)
@given(
    kept=st.sets(st.integers(0, 29), min_size=18),
    spacing=st.sampled_from([0.625, 1.25, 2.5, 3.0]),
    origin=st.integers(-900, 900),
)
def test_present_and_missing_add_up(kept, spacing, origin):
    """However slices go missing, those there and those missed between the first and the last make a full scan.

    Where most neighbours are gone, no one can tell the spacing: the law is for a median gap that hides none.
    """
    kept = sorted(kept)
    assume(np.median(np.diff(kept)) == 1)
    _, scans, problems = series.series(table_of([np.round(origin + spacing * k, 3) for k in kept]))
    assert scans["slices"].iloc[0] == len(kept)
    assert scans["missing"].iloc[0] == kept[-1] - kept[0] + 1 - len(kept) and set(problems["kind"]) <= {
        "missing slices"
    }


def table_of(positions):
    rows = [
        {
            **dict.fromkeys(["patient_id", "study_uid", "series_uid"], "1.2"),
            "path": f"{i}.dcm",
            "sop_uid": f"1.2.{i}",
            "z_mm": float(z),
            "instance": i,
            "orientation": "1\\0\\0\\0\\1\\0",
            "kernel": "",
            **dict.fromkeys(["size", "rows", "columns", "spacing_row_mm", "spacing_column_mm", "thickness_mm"], 1),
        }
        for i, z in enumerate(positions)
    ]
    return pd.DataFrame(rows)


def test_positions_rounded_to_a_tenth_are_even():
    # 0.625 mm written with one decimal: gaps of 0.6 and 0.7.
    _, scans, problems = series.series(table_of(np.round(0.625 * np.arange(40), 1)))
    assert problems.empty and scans["spacing_mm"].iloc[0] == pytest.approx(0.6)


def test_slices_too_near_are_uneven():
    _, scans, problems = series.series(table_of([0, 1, 2, 2.125, 3.125]))
    assert scans["missing"].tolist() == [0]
    assert problems["what"].tolist() == ["a gap of 0.125 mm between z = 2 and 2.125 mm, spacing 1 mm."]


def test_a_single_slice_has_no_spacing():
    table, scans, problems = series.series(table_of([3.0]))
    assert len(table) == 1 and problems.empty and np.isnan(scans["spacing_mm"].iloc[0])


@pytest.mark.parametrize(
    ("tags", "kind", "what"),
    [
        ({"Rows": 32, "Columns": 128}, "mixed sizes", "3 of 64 x 64 px, 1 of 32 x 128 px"),
        ({"PixelSpacing": [0.7, 0.8]}, "mixed spacing", "from 0.7 to 0.8 mm"),
        ({"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]}, "mixed orientation", "2 orientations"),
        ({"PatientID": "LIDC-IDRI-0009"}, "several patient_id", "LIDC-IDRI-0009"),
        ({"StudyInstanceUID": "1.2.3"}, "several study_uid", "1.2.3"),
    ],
)
def test_an_inconsistent_series_is_left_out_and_named(tmp_path, tags, kind, what):
    good = write_series(tmp_path, 1)
    bad = write_series(tmp_path, 2)
    edit(bad[2], **tags)
    table, scans, problems = series.series(series.index(tmp_path)[0])
    assert set(table["path"]) == set(map(str, good)) and len(scans) == 1
    [problem] = problems.to_dict("records")
    assert problem["kind"] == kind and what in problem["what"] and "LIDC-IDRI-0002, series 2.25." in problem["where"]


@pytest.mark.parametrize(("degrees", "axial"), [(0, True), (22, True), (45, False), (90, False)])
def test_only_axial_series_stay(tmp_path, degrees, axial):
    """A gantry tilts by up to 30 degrees; a coronal series has its normal at 90."""
    write_series(tmp_path, 1)
    across = [f"{value:.8f}" for value in (1, 0, 0, 0, np.cos(np.radians(degrees)), np.sin(np.radians(degrees)))]
    for path in write_series(tmp_path, 2):
        edit(path, ImageOrientationPatient=across)
    _, scans, problems = series.series(series.index(tmp_path)[0])
    assert len(scans) == (2 if axial else 1) and counts(problems) == ({} if axial else {"not axial": 1})


def test_nothing_to_study_is_an_error(tmp_path):
    with pytest.raises(StudyError, match="no such folder"):
        series.index(tmp_path / "absent")
    with pytest.raises(StudyError, match=r"no CT slice among 0 files \(nothing\)"):
        series.index(tmp_path)
    paths = write_series(tmp_path)
    for path in paths:
        edit(path, Modality="CR")
    with pytest.raises(StudyError, match=r"no CT slice among 4 files \(4 not CT: CR\)"):
        series.index(tmp_path)
    for i, path in enumerate(paths):
        edit(path, Modality="CT", PixelSpacing=[0.5 + i, 0.5])
    with pytest.raises(StudyError, match=r"none of the CT series can be used \(1 mixed spacing\)"):
        series.series(series.index(tmp_path)[0])


def test_a_file_is_read_again_only_when_it_changed(tmp_path, monkeypatch):
    root, cache = tmp_path / "ct", tmp_path / "cache" / "index.csv"
    paths = write_series(root, positions=[0.1, 0.2, 1 / 3], spacing_mm=(2 / 3, 0.7), kernel="NA")
    edit(paths[0], to=root / "film.dcm", Modality="CR")
    edit(paths[1], delete=["InstanceNumber", "SliceThickness"])
    fresh, problems = series.index(root, cache=cache)
    read = []
    monkeypatch.setattr(series, "read_header", lambda path: read.append(path) or dicom.read_header(path))
    again, problems_again = series.index(root, cache=cache)
    assert read == []
    pd.testing.assert_frame_equal(again, fresh, check_exact=True)
    pd.testing.assert_frame_equal(problems_again, problems)
    assert fresh["kernel"].tolist() == ["NA"] * 3 and fresh["instance"].isna().sum() == 1
    edit(paths[0], SliceThickness=9)
    changed, _ = series.index(root, cache=cache)
    assert read == [str(paths[0])] and changed["path"].tolist() == [str(path) for path in paths]
    assert changed["thickness_mm"].fillna(0).tolist() == [9, 0, 2.5]
    paths[2].unlink()
    assert len(series.index(root, cache=cache)[0]) == 2 and len(pd.read_csv(cache)) == 3 and len(read) == 1


def test_what_could_not_be_opened_is_tried_again(tmp_path, monkeypatch):
    first, *_ = write_series(tmp_path / "ct")

    def denied(path):
        if path == str(first):
            dicom.read_header(tmp_path)  # a folder: the system refuses, as it would without permission
        return dicom.read_header(path)

    monkeypatch.setattr(series, "read_header", denied)
    slices, problems = series.index(tmp_path / "ct", cache=tmp_path / "index.csv")
    assert len(slices) == 3 and counts(problems) == {"unreadable": 1}
    monkeypatch.undo()
    slices, problems = series.index(tmp_path / "ct", cache=tmp_path / "index.csv")
    assert len(slices) == 4 and problems.empty


def test_an_interrupted_index_keeps_what_it_read(tmp_path, monkeypatch):
    write_series(tmp_path / "ct", positions=range(6))
    monkeypatch.setattr(series, "FILES_A_TASK", 2)
    done = []

    def stop(path):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(path)
        return dicom.read_header(path)

    monkeypatch.setattr(series, "read_header", stop)
    with pytest.raises(KeyboardInterrupt):
        series.index(tmp_path / "ct", cache=tmp_path / "index.csv")
    read = []
    monkeypatch.setattr(series, "read_header", lambda path: read.append(path) or dicom.read_header(path))
    slices, _ = series.index(tmp_path / "ct", cache=tmp_path / "index.csv")
    assert len(slices) == 6 and len(read) == 2 and not set(read) & set(done)


def test_another_file_is_not_taken_for_a_cache(tmp_path):
    write_series(tmp_path / "ct")
    for content in ("a,b\n1,2\n", ""):
        (tmp_path / "mine.csv").write_text(content)
        with pytest.raises(StudyError, match="mine.csv: not an index of CT slices"):
            series.index(tmp_path / "ct", cache=tmp_path / "mine.csv")
        assert (tmp_path / "mine.csv").read_text() == content


def test_a_damaged_cache_is_read_again_and_said(tmp_path, capsys):
    paths, cache = write_series(tmp_path / "ct"), tmp_path / "index.csv"
    fresh, _ = series.index(tmp_path / "ct", cache=cache)
    for damage in (
        lambda: cache.write_text(cache.read_text().replace(",2.5,", ",3.5,")),  # a thickness, still a number
        lambda: cache.write_text(""),
        lambda: cache.write_bytes(cache.read_bytes()[:200]),
        (tmp_path / "index.sha256").unlink,
    ):
        damage()
        pd.testing.assert_frame_equal(series.index(tmp_path / "ct", cache=cache)[0], fresh, check_exact=True)
        assert capsys.readouterr().err.count("all headers are read again") == 1
        series.index(tmp_path / "ct", cache=cache)
        assert capsys.readouterr().err == ""
    # Another slice under the name of one, of the same size and with its time.
    stat, before = paths[0].stat(), paths[0].read_bytes()
    edit(paths[0], SliceThickness=9)
    assert len(paths[0].read_bytes()) == len(before)
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert series.index(tmp_path / "ct", cache=cache)[0]["thickness_mm"].tolist() == [9, 2.5, 2.5, 2.5]


def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(series, "FILES_A_TASK", 3)
    write_series(tmp_path, 1, positions=range(8))
    edit(write_series(tmp_path, 2)[0], Modality="CR")
    for one, two in zip(series.index(tmp_path), series.index(tmp_path, workers=2), strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_links_are_followed_once(tmp_path):
    write_series(tmp_path / "disk")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "ct").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "disk")
    slices, problems = series.index(tmp_path / "study")
    assert len(slices) == 4 and problems.empty


def traced_peak(work):
    """Most memory (bytes) that Python and NumPy held at once while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_indexing_reads_no_pixels(tmp_path):
    [path] = write_series(tmp_path, positions=[0])
    edit(path, Rows=10240, Columns=10240)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size + 2 * 10240**2)  # 200 MiB, that take no room on disk
    tables = []
    assert traced_peak(lambda: tables.append(series.index(tmp_path))) < 10 * 2**20
    assert tables[0][0]["rows"].tolist() == [10240]


def test_reading_holds_one_slice_at_a_time(tmp_path):
    paths = write_series(tmp_path, positions=range(24), hu=np.zeros((256, 256), np.int16))

    def read(paths):
        for path in paths:
            dicom.read_hu(path)

    read(paths[:1])
    one, all_of_them = traced_peak(lambda: read(paths[:1])), traced_peak(lambda: read(paths))
    # Stored and converted, a slice of 128 KiB takes a few times its size; kept, 24 of them would take 3 MiB more.
    assert one < 2 * 2**20 and all_of_them < one + 2**19


def test_the_cache_is_a_plain_table(tmp_path):
    write_series(tmp_path / "ct", hu=BODY)
    series.index(tmp_path / "ct", cache=tmp_path / "index.csv")
    with open(tmp_path / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(series.COLUMNS)
    assert sorted(float(row["z_mm"]) for row in rows) == [0, 1, 2, 3]

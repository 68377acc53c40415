import csv
import gzip
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sourcematters.cohorts import Request, nih_cxr14, open_cohort
from sourcematters.errors import StudyError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = [
    ("00000001_000.png", "Mass", 0, 1, "58", "M", "PA"),
    ("00000001_001.png", "Mass|Nodule", 1, 1, "58", "M", "AP"),
    ("00000002_000.png", "No Finding", 0, 2, "81", "F", "PA"),
    ("00000003_000.png", "No Finding", 0, 3, "414", "F", "PA"),
    ("00000004_000.png", "Pneumothorax", 0, 4, "9", "F", "AP"),
    ("00000005_000.png", "Effusion|Mass", 0, 5, "30", "F", "PA"),
]


def fake_tree(
    root,
    rows=ROWS,
    *,
    csv_name="Data_Entry_2017_v2020.csv",
    trailing="",
    folder="images",
    old_ages=False,
    header=HEADER,
):
    """A release in small, in the text of the distributed files; `trailing` is the comma of 2017."""
    lines = [header + trailing]
    for image, labels, follow_up, patient, age, sex, view in rows:
        age = f"{int(age):03d}Y" if old_ages else age
        lines.append(f"{image},{labels},{follow_up},{patient},{age},{sex},{view},2682,2749,0.143,0.143{trailing}")
    text = "\n".join(lines) + "\n"
    root.mkdir(exist_ok=True)
    if csv_name.endswith(".gz"):
        (root / csv_name).write_bytes(gzip.compress(text.encode()))
    else:
        (root / csv_name).write_text(text)
    for i, row in enumerate(rows):
        place = root / (folder if isinstance(folder, str) else folder[i % len(folder)])
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA" if i == 1 else "L", (8, 8)).save(place / row[0], format="PNG")
    return root


def many(n=40):
    """Patients with one image each, both classes and sexes in turn: a tree that can be split."""
    return [
        (f"{i:08d}_000.png", ("No Finding", "Mass")[i % 2], 0, i, "50", "FM"[i // 2 % 2], "PA") for i in range(1, n + 1)
    ]


@pytest.mark.parametrize(
    "layout",
    [
        {"csv_name": "Data_Entry_2017_v2020.csv"},
        {"csv_name": "Data_Entry_2017_v2020.csv.gz"},
        {"csv_name": "Data_Entry_2017.csv", "trailing": ","},
        {"csv_name": "Data_Entry_2017.csv", "trailing": ",", "old_ages": True},
        {"csv_name": "Data_Entry_2017_v2020.csv", "trailing": ",", "header": HEADER.replace("Gender", "Sex")},
        {"csv_name": "Data_Entry_2017_v2020.csv", "header": HEADER.upper().replace(" ", "_")},
    ],
)
def test_all_versions_of_the_table_read_alike(tmp_path, layout):
    table = nih_cxr14.read_metadata(fake_tree(tmp_path / "nih", **layout))
    assert table.columns.tolist() == ["image_id", "patient_id", "findings", "age", "sex", "view", "follow_up"]
    assert table["image_id"].tolist() == [row[0] for row in ROWS]
    assert table["findings"].tolist() == [row[1] for row in ROWS]
    assert table["follow_up"].tolist() == [row[2] for row in ROWS]
    assert table["patient_id"].tolist() == [str(row[3]) for row in ROWS]
    np.testing.assert_array_equal(table["age"], [58, 58, 81, np.nan, 9, 30])
    assert table["sex"].tolist() == [row[5] for row in ROWS]
    assert table["view"].tolist() == [row[6] for row in ROWS]


def test_a_table_in_another_order_as_a_spreadsheet_saves_it(tmp_path):
    root = fake_tree(tmp_path / "nih")
    path = root / "Data_Entry_2017_v2020.csv"
    columns = [
        "Follow-up #",
        "Patient Sex",
        "View Position",
        "Finding Labels",
        "Patient ID",
        "Patient Age",
        "Image Index",
    ]
    rows = [(row[2], row[5], row[6], row[1], row[3], row[4], row[0]) for row in ROWS]
    text = "\r\n".join(";".join(map(str, row)) for row in [columns, *rows])
    path.write_bytes(text.encode("utf-16"))
    table = nih_cxr14.read_metadata(root)
    assert table["image_id"].tolist() == [row[0] for row in ROWS] and table["sex"].tolist() == [row[5] for row in ROWS]
    path.write_text(text.replace("Patient Sex", "Gender").replace("View Position", "Patient Sex"))
    assert "Patient Gender could be column 'Gender' or 'Patient Sex'" in complaint(root)


def test_trailing_comma_on_the_rows_alone_shifts_nothing(tmp_path):
    root = fake_tree(tmp_path / "nih")
    path = root / "Data_Entry_2017_v2020.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(row + "," for row in rows)]))
    assert nih_cxr14.read_metadata(root)["image_id"].tolist() == [row[0] for row in ROWS]


def test_ages_in_other_units(tmp_path):
    rows = [
        (f"{i}.png", "Mass", 0, i, age, "F", "PA") for i, age in enumerate(["024M", "010D", "002W", "120Y", "121Y"])
    ]
    ages = nih_cxr14.read_metadata(fake_tree(tmp_path / "nih", rows))["age"]
    np.testing.assert_allclose(ages, [2, 10 / 365.25, 14 / 365.25, 120, np.nan])


@pytest.mark.parametrize(
    "folder", ["images", "images_001/images", "images_012", ["images", "images_001/images", "images_002/images"]]
)
def test_images_are_found_in_every_layout(tmp_path, folder):
    paths = nih_cxr14.find_images(fake_tree(tmp_path / "nih", folder=folder))
    assert sorted(paths) == sorted(row[0] for row in ROWS)
    assert all(Image.open(path).size == (8, 8) for path in paths.values())


def test_the_v2020_table_goes_before_2017(tmp_path):
    root = fake_tree(tmp_path / "nih", csv_name="Data_Entry_2017.csv", trailing=",")
    fake_tree(root, csv_name="Data_Entry_2017_v2020.csv.gz")
    assert nih_cxr14.find_metadata(root).name == "Data_Entry_2017_v2020.csv.gz"


def test_cohort_is_the_finding_against_no_finding(tmp_path):
    rows = many() + [
        ("10000000_000.png", "Mass|Nodule", 0, 10**7, "50", "F", "PA"),
        ("10000001_000.png", "Nodule", 0, 10**7 + 1, "50", "F", "PA"),
    ]
    root = fake_tree(tmp_path / "nih", rows)
    (root / "images" / "00000001_000.png").unlink()
    (root / "images" / "stranger.png").touch()
    found = nih_cxr14.cohort(root, finding="Mass", seed=3)
    cohort = found.table
    labels = dict(zip(cohort["image_id"], cohort["label"], strict=True))
    expected = {row[0]: int("Mass" in row[1].split("|")) for row in rows if row[1] != "Nodule"}
    del expected["00000001_000.png"]
    assert labels == expected
    assert cohort["image_id"].is_monotonic_increasing
    assert set(cohort["split"]) == {"dev", "test"}
    assert cohort.columns.tolist()[5:] == ["sex", "age", "view", "follow_up", "findings"]
    assert found.name == "cxr14" and found.task == "Mass"
    notes = " ".join(found.notes)
    assert "42 images are listed" in notes and "41 of them are on disk; 1 files on disk are not listed" in notes
    assert "Mass: 20 of 21 images" in notes and "No Finding: 20 of 20 images" in notes


def opened(root, task, **request):
    return open_cohort(Request(data=root, task=task, cache="", **request)).table


def test_one_view_is_kept(tmp_path):
    rows = [row[:6] + ("AP" if row[3] > 60 else "PA",) for row in many(80)]
    frontal = opened(fake_tree(tmp_path / "nih", rows), "Mass", view="PA")
    assert len(frontal) == 60 and set(frontal["view"]) == {"PA"}


def test_the_split_is_level_in_sex_and_label(tmp_path):
    # 20 patients of one image in each of the four strata: a quarter is exactly 5.
    cohort = nih_cxr14.cohort(fake_tree(tmp_path / "nih", many(80)), finding="Mass", seed=2).table
    test = cohort[cohort["split"] == "test"]
    assert test.groupby(["label", "sex"]).size().tolist() == [5] * 4


def test_a_finding_is_a_whole_word(tmp_path, monkeypatch):
    # "Pleural" is contained in "Pleural_Thickening" without being the same finding.
    monkeypatch.setattr(nih_cxr14, "FINDINGS", (*nih_cxr14.FINDINGS, "Pleural"))
    root = fake_tree(tmp_path / "nih", [*ROWS, ("6.png", "Pleural_Thickening", 0, 6, "50", "F", "PA")])
    with pytest.raises(StudyError, match="labelled Pleural"):
        nih_cxr14.cohort(root, finding="Pleural")


@pytest.mark.parametrize("wrong", ["mass", "Mas", "MASS"])
def test_unknown_finding_lists_all_and_suggests(tmp_path, wrong):
    with pytest.raises(StudyError, match="Did you mean Mass") as caught:
        opened(fake_tree(tmp_path / "nih"), wrong)
    assert all(finding in str(caught.value) for finding in nih_cxr14.FINDINGS)
    assert len(nih_cxr14.FINDINGS) == 14


def test_unknown_view(tmp_path):
    with pytest.raises(StudyError, match="the views are PA and AP; leave view empty, not 'LL'"):
        opened(fake_tree(tmp_path / "nih"), "Mass", view="LL")


def complaint(root, task="Mass"):
    with pytest.raises(StudyError) as caught:
        opened(root, task)
    return str(caught.value)


def test_incomplete_trees_get_a_recipe(tmp_path):
    assert "no such folder" in complaint(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is nothing" in complaint(empty) and "nihcc.app.box.com" in complaint(empty)
    only_table = fake_tree(tmp_path / "only_table", [])
    message = complaint(only_table)
    assert "no PNG images" in message and "images_012/images/" in message and "Data_Entry_2017_v2020.csv" in message
    no_table = fake_tree(tmp_path / "no_table")
    (no_table / "Data_Entry_2017_v2020.csv").unlink()
    assert "no Data_Entry_2017" in complaint(no_table) and "there is images/" in complaint(no_table)


def test_a_class_without_images(tmp_path):
    root = fake_tree(tmp_path / "nih")
    assert "labelled Hernia (0 are listed)" in complaint(root, "Hernia")
    for name in ("00000002_000.png", "00000003_000.png"):
        (root / "images" / name).unlink()
    assert "labelled No Finding (2 are listed)" in complaint(root)


@pytest.mark.parametrize(
    "column, value",
    [(1, "Mass|Zebra"), (2, "x"), (3, ""), (4, "old"), (5, "X"), (6, "LATERAL"), (0, "00000003_000.dcm")],
)
def test_a_wrong_cell_is_named_by_row(tmp_path, column, value):
    row = list(ROWS[3])
    row[column] = value
    message = complaint(fake_tree(tmp_path / "nih", [*ROWS[:3], tuple(row), *ROWS[4:]]))
    assert "row 5 (the header is row 1)" in message
    assert repr(value or np.nan) in message


def test_broken_tables(tmp_path):
    root = fake_tree(tmp_path / "nih")
    path = root / "Data_Entry_2017_v2020.csv"
    text = path.read_text()
    path.write_text("")
    assert "no columns" in complaint(root)
    path.write_text(text.replace("Finding Labels", "Words"))
    assert "no column Finding Labels" in complaint(root)
    path.write_text(text[: text.rindex(",F,")])  # cut short in the last row
    assert "row 7" in complaint(root) and "sex" in complaint(root)
    path.write_text(text + text.splitlines()[1] + "\n")
    assert "00000001_000.png in rows 2, 8" in complaint(root)
    path.unlink()
    (root / "Data_Entry_2017_v2020.csv.gz").write_bytes(gzip.compress(text.encode())[:60])
    assert "cannot be read" in complaint(root)


@pytest.fixture(scope="module")
def release(shared_data):
    """NIH's own table, read with nothing but the standard library."""
    with gzip.open(shared_data / "nih-cxr14" / "Data_Entry_2017_v2020.csv.gz", "rt") as file:
        return list(csv.reader(file))[1:]


def test_the_real_table(shared_data, release):
    began = time.process_time()
    table = nih_cxr14.read_metadata(shared_data / "nih-cxr14")
    assert time.process_time() - began < 3
    assert len(table) == len(release) == 112_120  # Wang et al.
    assert table["patient_id"].nunique() == 30_805  # Wang et al.
    expected = pd.DataFrame([row[:7] for row in release])
    assert table["image_id"].tolist() == expected[0].tolist()
    assert table["findings"].tolist() == expected[1].tolist()
    assert table["patient_id"].tolist() == expected[3].tolist()
    assert table["age"].tolist() == expected[4].astype(float).tolist()
    assert (table["sex"] + table["view"]).tolist() == (expected[5] + expected[6]).tolist()


@pytest.mark.parametrize("view", ["", "PA", "AP"])
def test_the_real_sample(shared_data, release, view):
    found = nih_cxr14.cohort(shared_data / "nih-cxr14", finding="Pneumonia", view=view)
    cohort = found.table
    names = {path.name for path in (shared_data / "nih-cxr14" / "images").iterdir()}
    expected = Counter(
        (int("Pneumonia" in row[1].split("|")), row[5]) for row in release if row[0] in names and view in ("", row[6])
    )
    assert Counter(zip(cohort["label"], cohort["sex"], strict=True)) == expected
    if not view:
        assert set(expected.values()) == {120}
        assert "112,120 images are listed" in found.notes[0] and "480 of them" in found.notes[0]
    assert not set(cohort[cohort["split"] == "dev"]["patient_id"]) & set(
        cohort[cohort["split"] == "test"]["patient_id"]
    )
    shares = (cohort["split"] == "test").groupby([cohort["label"], cohort["sex"]]).mean()
    assert shares.between(0.15, 0.35).all()

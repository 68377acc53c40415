from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sourcematters.cohorts import Cohort, nih_cxr14
from sourcematters.cohorts.verify import counts, report


@pytest.fixture
def cohort(tmp_path):
    """Eight images of eight patients, all sound, two per class and part."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        path = tmp_path / f"{i}.png"
        array = rng.integers(0, 256, (10, 12 if i else 20), dtype=np.uint8)
        Image.fromarray(array).convert("RGBA" if i == 1 else "L").save(path)
        rows.append((f"i{i}", str(path), f"p{i}", i % 2, "dev" if i < 4 else "test", "FM"[i // 2 % 2]))
    table = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label", "split", "sex"])
    table["age"] = [17.9, 18, 39.9, 40, 60, 79, 80, np.nan]
    table["serial"] = range(8)
    table["findings"] = [f"text {i}" for i in range(8)]
    return Cohort(table, "tiny", "Mass", "tiny.csv", ["A note."])


def cohort_of(rows):
    return Cohort(pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label", "split"]), "tiny", "Mass")


def test_counts(cohort):
    rows = {(attribute, value): row.tolist() for (attribute, value), row in counts(cohort.table).iterrows()}
    assert rows["images", ""] == [2, 2, 2, 2, 8]
    assert rows["patients", ""] == [2, 2, 2, 2, 8]
    assert rows["sex", "F"] == [1, 1, 1, 1, 4]
    assert rows["age", "0-17"] == [1, 0, 0, 0, 1]
    assert rows["age", "18-39"] == [1, 1, 0, 0, 2]
    assert rows["age", "40-59"] == [0, 1, 0, 0, 1]
    assert rows["age", "60-79"] == [0, 0, 1, 1, 2]
    assert rows["age", "80 and over"] == [0, 0, 1, 0, 1]
    assert rows["age", "unknown"] == [0, 0, 0, 1, 1]


def test_attributes_of_many_values_are_left_out(cohort):
    many = pd.concat([cohort.table, cohort.table.assign(findings=cohort.table["findings"] + "b")])
    assert "findings" not in counts(many).index.get_level_values(0)
    assert "sex" in counts(many).index.get_level_values(0)


def test_a_sound_cohort(cohort):
    text, problems = report(cohort)
    assert problems.empty and problems.columns.tolist() == ["path", "image_id", "problem"]
    assert "No problems: all 8 images were opened." in text
    assert "tiny, Mass" in text and "tiny.csv" in text and "A note." in text
    assert "7  12 x 10" in text and "1  20 x 10" in text
    assert "7  L\n" in text and "1  RGBA" in text
    assert "Patients in both dev and test: 0" in text


def test_every_kind_of_problem_is_found(cohort, tmp_path):
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:150])
    (tmp_path / "2.png").write_text("no picture")
    Image.fromarray(np.zeros((9, 9), dtype=np.float32)).save(tmp_path / "3.png", "TIFF")
    Image.new("L", (9, 9), 7).save(tmp_path / "4.png")
    with Image.open(tmp_path / "6.png") as image:
        image.convert("RGB").save(tmp_path / "7.png")
    cohort.table.loc[5, "patient_id"] = "p0"
    text, problems = report(cohort)
    found = dict(zip(problems["image_id"], problems["problem"], strict=False))
    assert "truncated" in found["i1"]
    assert "not an image" in found["i2"]
    assert "8-bit" in found["i3"]
    assert found["i4"] == "blank: every pixel is 7."
    assert found["i7"] == "the same pixels as i6."
    assert found["i5"] == "patient p0 is in both dev and test."
    first = problems[problems["image_id"] == "i0"]["problem"].tolist()
    assert len(first) == 2 and "No such file" in first[0] and "patient p0" in first[1]
    assert set(problems["image_id"]) == {"i0", "i1", "i2", "i3", "i4", "i5", "i7"}
    assert problems.loc[problems["image_id"] == "i1", "path"].item() == str(tmp_path / "1.png")
    assert "8 problems" in text and "Patients in both dev and test: 1" in text and "4  (not opened)" in text
    assert all(problem in text for problem in problems["problem"])


def test_ids_much_alike_in_two_parts_are_problems(cohort):
    cohort.table.loc[[0, 7], "patient_id"] = ["P7", "p07"]
    text, problems = report(cohort)
    assert "Patients in both dev and test: 0; by ids much alike there might be more: P7, p07" in text
    assert problems["image_id"].tolist() == ["i0", "i7"]
    assert problems["problem"].tolist() == [
        f"patient {name} might be in both dev and test, by ids much alike." for name in ("P7", "p07")
    ]


def test_ages_are_counted_in_bands_by_any_name(cohort):
    rows = counts(cohort.table.rename(columns={"age": "Patient Age"}))
    assert rows.loc[("Patient Age", "40-59"), "all"] == 1


def test_the_first_fifty_problems_are_shown(tmp_path):
    rows = [(f"i{i:02d}", str(tmp_path / f"{i}.png"), f"p{i}", i % 2, "dev" if i < 40 else "test") for i in range(60)]
    text, problems = report(cohort_of(rows))
    assert len(problems) == 60 and "60 problems" in text
    assert text.count("No such file") == 50 and "... and 10 more" in text


def test_folds_that_the_cohort_brings_are_counted_apart_from_attributes(cohort):
    cohort.table["fold_0"] = ["train", "train", "val", "val"] + ["test"] * 4
    cohort.table.loc[3, "patient_id"] = "p1"
    text, _ = report(cohort)
    assert "fold_0" not in {attribute for attribute, _ in counts(cohort.table).index}
    line = next(line for line in text.splitlines() if "fold_0" in line)
    assert line.split() == ["fold_0", "2", "2", "4", "1", "p1"]


def test_same_bytes_in_another_shape_are_other_pixels(cohort, tmp_path):
    for name, shape in (("0.png", (4, 16)), ("1.png", (8, 8))):
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(shape)).save(tmp_path / name)
    assert report(cohort)[1].empty


def test_two_workers_report_the_same(tmp_path):
    rows = []
    for i in range(40):
        Image.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
        rows.append((f"i{i:02d}", str(tmp_path / f"{i}.png"), f"p{i}", i % 2, "dev" if i < 20 else "test"))
    one, two = report(cohort_of(rows), workers=1), report(cohort_of(rows), workers=2)
    assert one[0] == two[0] and len(one[1]) == 40
    pd.testing.assert_frame_equal(one[1], two[1])


def test_the_real_sample(shared_data):
    found = nih_cxr14.cohort(shared_data / "nih-cxr14", finding="Pneumonia")
    few = found.table.groupby("label").head(20).reset_index(drop=True)
    text, problems = report(replace(found, table=few))
    assert problems.empty
    assert "40  1024 x 1024" in text

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcematters.cohorts import Cohort
from sourcematters.cohorts.cohort import (
    attributes,
    check,
    check_files,
    doubtful_patients,
    fold_column,
    fold_columns,
    leaks,
    remarks,
    shared_patients,
    split_by_patient,
)
from sourcematters.errors import StudyError


def rows_of(**columns):
    """Four patients with an image each, both classes in both parts; `columns` replaces some."""
    rows = {
        "image_id": ["d", "c", "b", "a"],
        "path": ["/d.png", "/c.png", "/b.png", "/a.png"],
        "patient_id": ["4", "3", "2", "1"],
        "label": [1, 0, 1, 0],
        "split": ["test", "test", "dev", "dev"],
        "age": [40.0, np.nan, 60.0, 70.5],
    }
    return pd.DataFrame(rows | columns)


def complaint(frame):
    with pytest.raises(StudyError) as caught:
        check(frame, origin="list.csv")
    assert str(caught.value).startswith("list.csv")
    return str(caught.value)


def test_check_sorts_fixes_types_and_keeps_the_rest():
    frame = rows_of(label=["1", "0", 1.0, True and 0], patient_id=[4, 3, 2, 1])
    checked = check(frame, origin="x")
    assert checked["image_id"].tolist() == ["a", "b", "c", "d"]
    assert checked["label"].tolist() == [0, 1, 0, 1] and checked["label"].dtype == int
    assert checked["patient_id"].tolist() == ["1", "2", "3", "4"]
    assert checked["age"].tolist()[:2] == [70.5, 60.0] and np.isnan(checked["age"].iloc[2])
    assert checked.index.tolist() == [0, 1, 2, 3]
    assert frame["image_id"].tolist() == ["d", "c", "b", "a"]


def test_missing_column_names_what_is_there():
    message = complaint(rows_of().drop(columns=["patient_id", "label"]))
    assert "no column patient_id, label" in message and "age" in message


def test_no_rows():
    assert "no rows" in complaint(rows_of().iloc[:0])


def test_duplicate_ids_are_named_with_their_rows():
    message = complaint(rows_of(image_id=["d", "c", "d", "a"]))
    assert "d in rows 2, 4 (the header is row 1)" in message


@pytest.mark.parametrize("value", [2, -1, 0.5, "yes", "", None])
def test_label_outside_0_and_1_names_row_and_value(value):
    message = complaint(rows_of(label=[1, 0, value, 0]))
    assert "label" in message and "row 4" in message
    if value not in ("", None):
        assert repr(value) in message


@pytest.mark.parametrize("column", ["image_id", "path", "patient_id", "split"])
@pytest.mark.parametrize("value", [None, np.nan, " "])
def test_missing_cell_names_column_and_row(column, value):
    cells = rows_of()[column].astype(object).tolist()
    message = complaint(rows_of(**{column: [cells[0], value, *cells[2:]]}))
    assert f"{column} is missing in row 3" in message


def test_one_class_only_over_all_or_in_a_part():
    assert "both classes" in complaint(rows_of(label=[1, 1, 1, 1]).drop(columns="split"))
    assert "split dev" in complaint(rows_of(label=[1, 0, 1, 1]))
    assert "split test" in complaint(rows_of(split=["dev"] * 4))


def test_unknown_split():
    message = complaint(rows_of(split=["test", "test", "train", "dev"]))
    assert "'train'" in message and "row 4" in message


def test_patients_in_two_parts_are_named_up_to_five():
    n = 7
    frame = pd.DataFrame(
        {
            "image_id": [f"{i}" for i in range(4 * n)],
            "path": "x",
            "patient_id": [f"p{i % n}" for i in range(4 * n)],
            "label": [i // n % 2 for i in range(4 * n)],
            "split": ["dev"] * (2 * n) + ["test"] * (2 * n),
        }
    )
    message = complaint(frame)
    assert "7 patient(s)" in message and "p0, p1, p2, p3, p4 and 2 more" in message


FOLDS = {"image_id": list("abcdef"), "path": "/x.png", "patient_id": list("123456"), "label": [0, 1] * 3}
PARTS = {"split": ["dev"] * 4 + ["test"] * 2, "fold_0": ["train"] * 2 + ["val"] * 2 + ["test"] * 2}


def test_folds_are_checked_like_splits():
    frame = pd.DataFrame(FOLDS | PARTS)
    assert check(frame, origin="x")["fold_0"].tolist() == PARTS["fold_0"]
    assert "fold_0 is 'holdout' where split is dev, in row 3" in complaint(
        frame.assign(fold_0=["train", "holdout", *PARTS["fold_0"][2:]])
    )
    assert "fold_0 is 'val' where split is test, in row 6" in complaint(
        frame.assign(fold_0=[*PARTS["fold_0"][:4], "val", "test"])
    )
    assert "fold_0 train: both classes" in complaint(frame.assign(fold_0=["train", None, *PARTS["fold_0"][2:]]))
    assert "1 patient(s) have images in two parts of fold_0: 1" in complaint(frame.assign(patient_id=list("123156")))
    assert "column fold_0 but no split" in complaint(frame.drop(columns="split"))


def test_leaks_are_counted_by_fold_and_can_be_allowed():
    frame = pd.DataFrame(FOLDS | PARTS).assign(patient_id=list("123151"))
    # In fold 1 the images b and d are left out; patient 1 stays in train (a) and test (f).
    frame["fold_1_p050"] = ["train", None, "val", None, "test", "test"]
    found = leaks(frame)
    assert found["fold"].tolist() == ["fold_0", "fold_1_p050"]
    assert found[["train", "val", "test"]].to_numpy().tolist() == [[2, 2, 2], [1, 1, 2]]
    assert found["names"].tolist() == [["1"], ["1"]] and found["patients"].tolist() == [1, 1]
    allowed = check(frame.drop(columns="fold_1_p050"), origin="x", shared_patients_allowed=True)
    assert shared_patients(allowed) == ["1"]


def test_columns_are_told_apart():
    frame = pd.DataFrame(columns=["image_id", "split", "sex", "fold_0", "fold_12_p050", "folds", "fold_x"])
    assert fold_columns(frame) == ["fold_0", "fold_12_p050"]
    assert attributes(frame) == ["sex", "folds", "fold_x"]
    assert (fold_column(2), fold_column(2, 0.1), fold_column(2, 1)) == (
        "fold_2", "fold_2_p010", "fold_2_p100"
    )  # fmt: skip


def test_check_files(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(8)]
    frame = pd.DataFrame({"path": paths})
    (tmp_path / "0.png").touch()
    with pytest.raises(StudyError, match=r"7 of 8 .*1\.png.*and 2 more"):
        check_files(frame)
    for path in paths:
        open(path, "w").close()
    check_files(frame)


def population(sizes, labels, sexes):
    rows = [
        (p, label, sex) for p, (n, label, sex) in enumerate(zip(sizes, labels, sexes, strict=True)) for _ in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["patient_id", "label", "sex"])
    frame["patient_id"] = frame["patient_id"].astype(str)
    frame["image_id"] = [f"{i:05d}" for i in range(len(frame))]
    frame["path"] = frame["image_id"]
    return frame


patients = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([0, 1]), st.sampled_from(["F", "M"])), min_size=60, max_size=120
)


@settings(max_examples=25, deadline=None)
@given(patients, st.integers(0, 10**6), st.sampled_from([0.2, 0.25, 0.5]))
def test_split_law(drawn, seed, fraction):
    frame = population(*zip(*drawn, strict=True))
    try:
        split = split_by_patient(frame, test_fraction=fraction, seed=seed, strata=["sex"])
    except StudyError:
        assert frame.groupby("label")["patient_id"].nunique().reindex([0, 1], fill_value=0).min() < 12
        return
    check(split, origin="split")
    # The part is off by at most half the largest patient: what a stratum gets wrong the next one makes up for.
    test = (split["split"] == "test").sum()
    assert abs(test - fraction * len(frame)) <= 9 / 2 + 1e-9
    shuffled = split_by_patient(frame.sample(frac=1, random_state=0), test_fraction=fraction, seed=seed, strata=["sex"])
    pd.testing.assert_frame_equal(shuffled.sort_index(), split)


def test_split_is_stratified_by_label_and_attribute():
    # 40 patients of 2 images in each of 4 strata: a quarter of each is exactly 10 patients.
    frame = population([2] * 160, [0, 0, 1, 1] * 40, ["F", "M"] * 80)
    split = split_by_patient(frame, test_fraction=0.25, seed=1, strata=["sex"])
    assert split[split["split"] == "test"].groupby(["label", "sex"]).size().tolist() == [20] * 4


def test_split_depends_on_the_seed_only():
    frame = population([1] * 100, [0, 1] * 50, ["F"] * 100)
    first, again, other = (split_by_patient(frame, seed=seed)["split"] for seed in (3, 3, 4))
    assert first.equals(again) and not first.equals(other)


def test_a_patient_with_both_labels_stays_in_one_part():
    frame = population([4] * 40, [0, 1] * 20, ["F"] * 40)
    frame["label"] = [0, 1] * 80
    check(split_by_patient(frame, seed=0), origin="mixed")


def test_ids_that_might_be_one_patients_stay_together():
    frame = population([1] * 200, [0, 1] * 100, ["F"] * 200)
    frame["patient_id"] = [f"p{p // 2}" if p % 2 else f"P0{p // 2}" for p in range(200)]
    person = [p // 2 for p in range(200)]
    for seed in range(3):
        split = split_by_patient(frame, seed=seed)
        assert split.groupby(person)["split"].nunique().max() == 1 and set(split["split"]) == {"dev", "test"}
        assert doubtful_patients(split) == shared_patients(split) == []
    assert frame["patient_id"].nunique() == 200, "they are not taken for one"


def test_split_with_too_few_patients_of_a_class():
    frame = population([1] * 21, [1] + [0] * 20, ["F"] * 21)
    with pytest.raises(StudyError, match="positive image: 1, without: 20"):
        split_by_patient(frame, seed=0)


def test_ids_that_might_be_one_patients_in_two_parts():
    frame = pd.DataFrame(FOLDS | PARTS).assign(patient_id=["a", "7", "b", "c", "A ", "007"])
    assert shared_patients(frame) == [] and doubtful_patients(frame) == ["007", "7", "A ", "a"]
    assert doubtful_patients(frame.assign(patient_id=["a", "7", "b", "7", "7", "07"])) == ["07"], "7 is for certain"
    said = remarks(frame.assign(fold_0=["train", "val", "train", "val", None, None]))
    assert said == [
        "Ids that might be of one patient: '007' and '7', 'A ' and 'a'. A split that is drawn keeps them together.",
        "Of these ids, 007, 7, A , a stand in two parts of split. Write alike what is one patient.",
    ]
    folds = frame.assign(split="dev", fold_0=["train", "train", "val", "val", "val", "val"])
    assert "Of these ids, 007, 7, A , a stand in two parts of fold_0." in remarks(folds)[1]


SAID = [
    ({"patient_id": ["unknown", "2", "unknown", "4"]}, "patient_id 'unknown' is no patient's id; .*: 2 images"),
    ({"patient_id": ["1", "NaN", "3", "N/A"]}, "patient_id 'NaN', 'N/A' is no patient's id"),
    ({"patient_id": ["1.23457E+12", "2", "3", "4"]}, r"'1.23457E\+12' was shortened by a spreadsheet.*: 1 images"),
    ({"sex": ["F", "female", "M", "M"]}, "sex might be the same in 'F' and 'female'"),
    ({"Gender": ["f", "F", "M", "male"]}, "Gender might be the same in 'F' and 'f', 'M' and 'male'"),
    ({"scanner": ["GE", "ge", "Siemens", "Philips"]}, "scanner might be the same in 'GE' and 'ge'"),
    ({"age": ["40", "60+", "70", None]}, r"age is text, '60\+': it is not counted in bands"),
    ({"Patient Age": ["058Y", "40", "50", "nan"]}, "Patient Age is text, '058Y', 'nan'"),
]


@pytest.mark.parametrize(("columns", "sentence"), SAID)
def test_what_a_table_may_not_mean_is_said(columns, sentence):
    (said,) = remarks(rows_of(**columns))
    assert re.search(sentence, said)


def test_nothing_is_said_of_a_table_that_means_what_it_says():
    plain = {"sex": list("FMFM"), "scanner": [1, 10, 2, 20], "dose": [1.0, 10.0, np.nan, 0.1], "site": list("abcd")}
    assert remarks(rows_of(**plain, patient_id=["P1", "P10", "Nancy", "1E5"])) == []


COUNTED = pd.DataFrame(
    {
        "image_id": list("abcdefg"),
        "path": "x",
        "patient_id": ["1", "1", "2", "3", "4", "5", "5"],
        "label": [1, 1, 0, 0, 1, 0, 0],
        "split": ["dev"] * 4 + ["test"] * 3,
    }
)


def test_a_cohort_shows_its_counts():
    shown = Cohort(COUNTED, "mine", "Mass")
    assert repr(shown).splitlines() == [
        "Cohort mine, Mass: 7 images of 5 patients",
        "             images  patients",
        "split label",
        "dev   0           2         2",
        "      1           2         1",
        "test  0           2         1",
        "      1           1         1",
    ]
    assert shown.counts["images"].tolist() == [2, 2, 2, 1] and shown.counts["patients"].tolist() == [2, 1, 1, 1]


def test_a_notebook_shows_caution_and_notes_as_text():
    page = Cohort(COUNTED, "mine", "<Mass>", "", ["a < b"], caution="not patients")._repr_html_()
    assert "7 images of 5 patients" in page and "&lt;Mass&gt;" in page and "a &lt; b" in page and "<Mass>" not in page
    assert "<p>not patients</p>" in page and page.count("<tr>") >= 5

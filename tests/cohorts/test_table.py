import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcematters.cohorts import table
from sourcematters.cohorts.readers import open_cohort
from sourcematters.errors import StudyError


def cohort(**columns):
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
        table.check(frame, origin="list.csv")
    assert str(caught.value).startswith("list.csv")
    return str(caught.value)


def test_check_sorts_fixes_types_and_keeps_the_rest():
    frame = cohort(label=["1", "0", 1.0, True and 0], patient_id=[4, 3, 2, 1])
    frame.attrs["name"] = "kept"
    checked = table.check(frame, origin="x")
    assert checked["image_id"].tolist() == ["a", "b", "c", "d"]
    assert checked["label"].tolist() == [0, 1, 0, 1] and checked["label"].dtype == int
    assert checked["patient_id"].tolist() == ["1", "2", "3", "4"]
    assert checked["age"].tolist()[:2] == [70.5, 60.0] and np.isnan(checked["age"].iloc[2])
    assert checked.index.tolist() == [0, 1, 2, 3]
    assert checked.attrs == {"name": "kept"}
    assert frame["image_id"].tolist() == ["d", "c", "b", "a"]


def test_missing_column_names_what_is_there():
    message = complaint(cohort().drop(columns=["patient_id", "label"]))
    assert "no column patient_id, label" in message and "age" in message


def test_no_rows():
    assert "no rows" in complaint(cohort().iloc[:0])


def test_duplicate_ids_are_named_with_their_rows():
    message = complaint(cohort(image_id=["d", "c", "d", "a"]))
    assert "d in rows 2, 4 (the header is row 1)" in message


@pytest.mark.parametrize("value", [2, -1, 0.5, "yes", "", None])
def test_label_outside_0_and_1_names_row_and_value(value):
    message = complaint(cohort(label=[1, 0, value, 0]))
    assert "label" in message and "row 4" in message
    if value not in ("", None):
        assert repr(value) in message


@pytest.mark.parametrize("column", ["image_id", "path", "patient_id", "split"])
@pytest.mark.parametrize("value", [None, np.nan, " "])
def test_missing_cell_names_column_and_row(column, value):
    cells = cohort()[column].astype(object).tolist()
    message = complaint(cohort(**{column: [cells[0], value, *cells[2:]]}))
    assert f"{column} is missing in row 3" in message


def test_one_class_only_over_all_or_in_a_part():
    assert "both classes" in complaint(cohort(label=[1, 1, 1, 1]).drop(columns="split"))
    assert "split dev" in complaint(cohort(label=[1, 0, 1, 1]))
    assert "split test" in complaint(cohort(split=["dev"] * 4))


def test_unknown_split():
    message = complaint(cohort(split=["test", "test", "train", "dev"]))
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
    assert table.check(frame, origin="x")["fold_0"].tolist() == PARTS["fold_0"]
    assert "fold_0 is 'holdout' where split is dev, in row 3" in complaint(
        frame.assign(fold_0=["train", "holdout", *PARTS["fold_0"][2:]])
    )
    assert "fold_0 is 'val' where split is test, in row 6" in complaint(
        frame.assign(fold_0=[*PARTS["fold_0"][:4], "val", "test"])
    )
    assert "fold_0, part train: both classes" in complaint(frame.assign(fold_0=["train", None, *PARTS["fold_0"][2:]]))
    assert "1 patient(s) have images in two parts of fold_0: 1" in complaint(frame.assign(patient_id=list("123156")))
    assert "column fold_0 but no split" in complaint(frame.drop(columns="split"))


def test_leaks_are_counted_by_fold_and_can_be_allowed():
    frame = pd.DataFrame(FOLDS | PARTS).assign(patient_id=list("123151"))
    # In fold 1 the images b and d are left out; patient 1 stays in train (a) and test (f).
    frame["fold_1_p050"] = ["train", None, "val", None, "test", "test"]
    leaks = table.leaks(frame)
    assert leaks["fold"].tolist() == ["fold_0", "fold_1_p050"]
    assert leaks[["train", "val", "test"]].to_numpy().tolist() == [[2, 2, 2], [1, 1, 2]]
    assert leaks["names"].tolist() == [["1"], ["1"]] and leaks["patients"].tolist() == [1, 1]
    allowed = table.check(frame.drop(columns="fold_1_p050"), origin="x", shared_patients_allowed=True)
    assert table.shared_patients(allowed) == ["1"]


def test_columns_are_told_apart():
    frame = pd.DataFrame(columns=["image_id", "split", "sex", "fold_0", "fold_12_p050", "folds", "fold_x"])
    assert table.fold_columns(frame) == ["fold_0", "fold_12_p050"]
    assert table.attributes(frame) == ["sex", "folds", "fold_x"]
    assert (table.fold_column(2), table.fold_column(2, 0.1), table.fold_column(2, 1)) == (
        "fold_2", "fold_2_p010", "fold_2_p100"
    )  # fmt: skip


def test_check_files(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(8)]
    frame = pd.DataFrame({"path": paths})
    (tmp_path / "0.png").touch()
    with pytest.raises(StudyError, match=r"7 of 8 .*1\.png.*and 2 more"):
        table.check_files(frame)
    for path in paths:
        open(path, "w").close()
    table.check_files(frame)


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
        split = table.split_by_patient(frame, test_fraction=fraction, seed=seed, strata=["sex"])
    except StudyError:
        assert frame.groupby("label")["patient_id"].nunique().reindex([0, 1], fill_value=0).min() < 12
        return
    table.check(split, origin="split")
    # The part is off by at most half the largest patient: what a stratum gets wrong the next one makes up for.
    test = (split["split"] == "test").sum()
    assert abs(test - fraction * len(frame)) <= 9 / 2 + 1e-9
    shuffled = table.split_by_patient(
        frame.sample(frac=1, random_state=0), test_fraction=fraction, seed=seed, strata=["sex"]
    )
    pd.testing.assert_frame_equal(shuffled.sort_index(), split)


def test_split_is_stratified_by_label_and_attribute():
    # 40 patients of 2 images in each of 4 strata: a quarter of each is exactly 10 patients.
    frame = population([2] * 160, [0, 0, 1, 1] * 40, ["F", "M"] * 80)
    split = table.split_by_patient(frame, test_fraction=0.25, seed=1, strata=["sex"])
    assert split[split["split"] == "test"].groupby(["label", "sex"]).size().tolist() == [20] * 4


def test_split_depends_on_the_seed_only():
    frame = population([1] * 100, [0, 1] * 50, ["F"] * 100)
    first, again, other = (table.split_by_patient(frame, seed=seed)["split"] for seed in (3, 3, 4))
    assert first.equals(again) and not first.equals(other)


def test_a_patient_with_both_labels_stays_in_one_part():
    frame = population([4] * 40, [0, 1] * 20, ["F"] * 40)
    frame["label"] = [0, 1] * 80
    table.check(table.split_by_patient(frame, seed=0), origin="mixed")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_fraction_outside_0_1(fraction):
    with pytest.raises(StudyError, match="between 0 and 1"):
        table.split_by_patient(cohort(), test_fraction=fraction, seed=0)


def test_split_with_too_few_patients_of_a_class():
    frame = population([1] * 21, [1] + [0] * 20, ["F"] * 21)
    with pytest.raises(StudyError, match="positive image: 1, without: 20"):
        table.split_by_patient(frame, seed=0)


def listed(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def refusal(path, **options):
    with pytest.raises(StudyError) as caught:
        open_cohort(path, task="mine", cache=path.parent, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


HEADER = "image_id,path,patient_id,label,split,sex\n"
ROWS = "007,a.png,01,1,dev,F\n008,b.png,02,0,dev,NA\n009,c.png,03,1,test,\n010,d.png,04,0,test,M\n"


def images(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()


def test_own_csv(tmp_path, monkeypatch):
    images(tmp_path)
    listed(tmp_path, "\ufeff" + HEADER + ROWS + "\n", "My Study.csv")
    monkeypatch.chdir(tmp_path)
    own = open_cohort("My Study.csv", task="fracture", cache="")
    assert own["image_id"].tolist() == ["007", "008", "009", "010"]
    assert own["patient_id"].tolist() == ["01", "02", "03", "04"]
    assert own["path"].tolist() == [str(tmp_path / f"{name}.png") for name in "abcd"]
    assert own["sex"].fillna("?").tolist() == ["F", "NA", "?", "M"]  # only an empty cell is missing
    assert own.attrs == {"name": "my-study", "task": "fracture", "origin": "My Study.csv", "notes": []}


def test_own_csv_without_split_is_split_by_patient(tmp_path):
    (tmp_path / "a.png").touch()
    rows = "".join(f"i{i},a.png,p{i // 2},{i // 2 % 2},{'PA' if i % 2 else 'AP'}\n" for i in range(80))
    path = listed(tmp_path, "image_id,path,patient_id,label,view\n" + rows)
    own = open_cohort(path, task="x", cache="", seed=5)
    assert own["split"].value_counts().to_dict() == {"dev": 60, "test": 20}
    assert table.shared_patients(own) == []
    assert "seed 5" in own.attrs["notes"][0]
    assert len(open_cohort(path, task="x", cache="", view="PA")) == 40
    assert "no rows" in refusal(path, view="LL")


def test_own_csv_refusals(tmp_path):
    images(tmp_path)
    assert "no such table" in refusal(tmp_path / "none.csv")
    assert "empty" in refusal(listed(tmp_path, ""))
    assert "no rows" in refusal(listed(tmp_path, HEADER))
    assert "no column" in refusal(listed(tmp_path, (HEADER + ROWS).replace(",", ";")))
    assert "no column label" in refusal(listed(tmp_path, (HEADER + ROWS).replace("label", "class")))
    assert "line 6" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png,05,0,test,M,extra\n"))
    assert "as many cells" in refusal(listed(tmp_path, HEADER + ROWS.replace("\n", ",extra\n")))
    assert "patient_id is missing in row 6" in refusal(listed(tmp_path, HEADER + ROWS + "011,e.png\n"))
    assert "row 4" in refusal(listed(tmp_path, HEADER + ROWS.replace("03,1", "03,2")))
    # A blank line keeps the count of rows as an editor shows it.
    assert "row 5" in refusal(listed(tmp_path, HEADER + "\n" + ROWS.replace("03,1", "03,2")))
    assert "no column view" in refusal(listed(tmp_path, HEADER + ROWS), view="PA")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"image_id\xff\xfe\x00,path\n")
    assert "not a table" in refusal(path)
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert "cannot be read" in refusal(tmp_path / "cut.csv.gz")


def test_own_csv_with_a_missing_image(tmp_path):
    images(tmp_path)
    (tmp_path / "c.png").unlink()
    with pytest.raises(StudyError, match=r"1 of 4 image files do not exist: .*c\.png"):
        open_cohort(listed(tmp_path, HEADER + ROWS), task="x", cache="")


def test_written_table_moves_with_its_folder(tmp_path):
    inside = tmp_path / "one" / "images"
    frame = cohort(path=[str(inside / "d.png"), str(inside / "c.png"), "/elsewhere/b.png", str(inside / "a.png")])
    table.write_csv(tmp_path / "one" / "cohort.csv", frame)
    (tmp_path / "one").rename(tmp_path / "two")
    back = table.read_csv(tmp_path / "two" / "cohort.csv")
    moved = tmp_path / "two" / "images"
    assert back["path"].tolist() == [
        str(moved / "a.png"),
        "/elsewhere/b.png",
        str(moved / "c.png"),
        str(moved / "d.png"),
    ]
    pd.testing.assert_frame_equal(back.drop(columns="path"), table.check(frame, origin="").drop(columns="path"))

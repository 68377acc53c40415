"""What tells the label without anatomy: planted, absent, and on the real sample; the words and the picture of it."""

import numpy as np
import pandas as pd
import pytest

from sourcematters.audit.data import attributes, pictures, shortcuts, telling, words
from sourcematters.audit.data.image_statistics import COLUMNS, HISTOGRAM, of_images
from sourcematters.cohorts.readers import Request, open_cohort
from sourcematters.errors import StudyError


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch):
    monkeypatch.setattr(telling, "REPEATS", 1)
    monkeypatch.setattr(telling, "TREES", 20)
    monkeypatch.setattr(attributes, "PERMUTATIONS", 199)


def drawn(n=80, seed=0, **columns):
    """A cohort's table whose statistics are noise, and these statistics."""
    rng = np.random.default_rng(seed)
    ids = [f"i{k:04d}" for k in range(n)]
    label = rng.integers(0, 2, n)
    patients = [f"p{k:03d}" for k in rng.permutation(np.arange(n) // 2)]
    table = pd.DataFrame({"image_id": ids, "path": ids, "patient_id": patients, "label": label})
    statistics = pd.DataFrame(rng.uniform(size=(n, len(COLUMNS))), columns=COLUMNS)
    statistics = statistics.assign(image_id=ids, stored="L", jpeg_quality=np.nan, width=64, height=64, aspect=1.0)
    return table.assign(**columns), statistics


def test_what_was_planted_is_told_and_nothing_else():
    table, statistics = drawn()
    rng = np.random.default_rng(1)
    statistics["noise"] += table["label"]
    table["view"] = np.where(rng.uniform(size=80) < 0.1, 1 - table["label"], table["label"])
    table["sex"] = rng.choice(["F", "M"], 80)
    found = shortcuts.shortcuts(table, statistics, seed=0).set_index("what")
    assert found.columns.tolist() == shortcuts.COLUMNS[1:]
    told = set(found.index[found["p_holm"] < words.TOLD])
    assert told == {"noise and sharpness", "all image statistics", "view", shortcuts.METADATA}
    assert found.loc["noise and sharpness", "auc"] > 0.98 and found.loc["view", "auc"] == pytest.approx(0.9, abs=0.05)
    assert found.loc["size of picture and file", "features"] == 4 and set(found["n"]) == {80}
    assert set(found["patients"]) == {40}


def test_the_number_of_the_patient_and_the_order_of_the_files():
    table, statistics = drawn()
    table = table.sort_values("label", kind="stable").reset_index(drop=True)
    numbers = np.random.default_rng(2).permutation(80)
    early = table.assign(patient_id=[f"case-{k}" for k in range(1, 81)], path=[f"{k:03d}.png" for k in numbers])
    found = shortcuts.shortcuts(early, statistics, seed=0).set_index("what")
    assert found.loc[shortcuts.NUMBER_OF_PATIENT, "auc"] > 0.95
    assert found.loc[shortcuts.FILE_ORDER, "ci_low"] < 0.5
    # A folder a class does not count, and an image that is its own patient has no patient's number.
    alone = table.assign(
        patient_id=table["image_id"], path=[f"{x}/{k}" for x, k in zip(table["label"], numbers, strict=True)]
    )
    found = shortcuts.shortcuts(alone, statistics, seed=0).set_index("what")
    assert shortcuts.NUMBER_OF_PATIENT not in found.index and found.loc[shortcuts.FILE_ORDER, "ci_low"] < 0.5


def test_numbers_in_ids_and_ids_without():
    assert shortcuts._number(pd.Series(["P10", "P9", "P10"])).tolist() == [10, 9, 10]
    assert shortcuts._number(pd.Series(["b", "a", "b"])).tolist() == [2, 1, 2]
    assert shortcuts._number(pd.Series(["a1", "b1"])).tolist() == [1, 2]


def test_the_label_in_other_words_is_not_taken_into_the_attributes_together():
    table, statistics = drawn()
    rng = np.random.default_rng(3)
    table = table.assign(finding=np.where(table["label"], "x", "y"), a=rng.normal(size=80), b=rng.normal(size=80))
    row = shortcuts.shortcuts(table, statistics, seed=0).set_index("what").loc[shortcuts.METADATA]
    assert row["features"] == 2 and row["auc"] < 0.7
    assert row["note"] == "without finding, which might be the label in other words"


def test_of_very_many_images_whole_patients_are_looked_at(monkeypatch):
    monkeypatch.setattr(shortcuts, "MOST", 50)
    table, _ = drawn(200)
    few = shortcuts._some_patients(table, 0)
    assert 50 <= len(few) <= 51
    kept = table[table["patient_id"].isin(few["patient_id"])]
    assert sorted(kept["image_id"]) == few["image_id"].tolist()


def test_statistics_of_other_images_and_a_lone_patient_are_refused():
    table, statistics = drawn()
    with pytest.raises(StudyError, match="1 images have no image statistics: i0000. Measure these images again."):
        shortcuts.shortcuts(table, statistics.iloc[1:], seed=0)
    alone = table.assign(label=[1] + [0] * 79)
    with pytest.raises(StudyError, match="has 1: .* Add patients of that class"):
        shortcuts.shortcuts(alone, statistics, seed=0)


def told(*rows):
    """A table of shortcuts: (what, of, auc, low, high, p_holm)."""
    columns = ["what", "of", "auc", "ci_low", "ci_high", "p_holm"]
    return pd.DataFrame(rows, columns=columns).assign(features=1, p=0.001, n=1480, patients=384, note="")


def goes(*rows):
    """A table of associations: (attribute, measure, value, low, high, p_holm, note)."""
    columns = ["attribute", "measure", "value", "ci_low", "ci_high", "p_holm", "note"]
    return pd.DataFrame(rows, columns=columns).assign(auc=0.61, auc_low=0.56, auc_high=0.66, p=0.001)


VIEW = ("view", "Cramér's V", 0.25, 0.15, 0.36, 0.001, "")
AGE = ("age", "AUC", 0.42, 0.35, 0.48, 0.03, "")
SEEN = told(
    ("view", "attribute", 0.61, 0.56, 0.66, 0.01),
    ("a histogram of 32 greys", "image", 0.83, 0.79, 0.86, 0.001),
    ("border", "image", 0.55, 0.49, 0.6, 0.2),
    ("the patient's number", "order", 0.9, 0.86, 0.93, 0.001),
)
COUNTS = pd.DataFrame(
    [("view", "AP", 129, 82, 82 / 211), ("view", "PA", 52, 86, 86 / 138)],
    columns=["attribute", "value", "negatives", "positives", "share_positive"],
)


def test_the_words_say_what_the_numbers_say():
    said = words.in_words(goes(VIEW, AGE), SEEN, COUNTS, anatomy="lungs")
    assert said[0] == (
        "view goes with the label (Cramér's V 0.25 [0.15, 0.36]; positive are 82 of 211 AP, 86 of 138 PA); "
        "alone it tells it with an AUC of 0.61 [0.56, 0.66]."
    )
    assert said[1].startswith("age goes with the label (it is smaller with label 1, AUC 0.42 [0.35, 0.48]);")
    assert said[2] == "Without reading lungs the label is told by a histogram of 32 greys (AUC 0.83 [0.79, 0.86])."
    assert said[3].startswith("It is told by the patient's number (AUC 0.90 [0.86, 0.93]):")
    assert said[4] == (
        "So an AUC of up to 0.83, that of a histogram of 32 greys, is no evidence here of reading lungs."
    )
    assert "border" not in " ".join(said)
    assert said[-1].startswith("Each AUC is of others' patients (1,480 images of 384 patients")


def test_where_nothing_tells_the_label_the_words_say_how_much_that_excludes():
    nothing = told(("view", "attribute", 0.52, 0.46, 0.58, 1.0), ("border", "image", 0.55, 0.49, 0.6, 0.2))
    said = words.in_words(goes((*VIEW[:5], 1.0, "")), nothing)
    assert said[0] == (
        "Nothing that was looked at tells the label (largest AUC alone 0.55 [0.49, 0.60], of border; no interval "
        "reaches beyond 0.60)."
    )
    assert "evidence" not in " ".join(said) and said[1].startswith("Not looked at:")


def test_what_was_not_measured_is_said():
    missed = goes(("report", "", np.nan, np.nan, np.nan, np.nan, "80 values")).assign(auc=np.nan)
    empty = told(("burnt-in text", "image", np.nan, np.nan, np.nan, np.nan)).assign(note="too small")
    said = words.in_words(missed, pd.concat([SEEN, empty]))
    assert "Not measured: report (80 values); burnt-in text (too small)." in said
    assert words.in_words(missed, empty)[0] == "Nothing could be measured that might tell the label."


def test_perfect_and_missing_numbers_are_written_as_journals_do():
    assert words._interval(0.999, 0.83, 1.0) == "1.00 [0.83, 1.00]"
    assert words._interval(0.5, np.nan, np.nan) == "0.50"


@pytest.mark.parametrize("rows", [0, 3, 25])
def test_the_picture_has_a_point_a_row_and_cuts_long_names(tmp_path, rows):
    names = [f"{'a very long name of an attribute ' * 2}{k}" for k in range(rows)]
    table = told(*((name, "attribute", 0.5 + k / 60, 0.48, 0.95, 0.1) for k, name in enumerate(names)))
    figure = pictures.already_confounded(goes(VIEW), COUNTS if rows else COUNTS[:0], table)
    left, right = figure.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert len(labels) == rows and all(len(label) == pictures.LETTERS for label in labels)
    assert left.get_title(loc="left") == "What tells the label without reading the anatomy"
    if rows:
        assert right.get_title(loc="left") == "How view goes with the label"
        assert [int(bar.get_width()) for bar in right.patches] == [129, 52, 82, 86]
    figure.savefig(tmp_path / "figure.png")


def test_the_strongest_attribute_is_not_the_label_in_other_words():
    both = goes(VIEW, ("finding", *VIEW[1:])).assign(auc=[0.61, 1.0])
    twice = pd.concat([COUNTS, COUNTS.assign(attribute="finding")])
    assert pictures.strongest(both, twice) == "view"
    assert pictures.strongest(both[both["attribute"] == "finding"], twice) == "finding"


def test_the_real_sample_tells_pneumonia_without_the_lungs(shared_data):
    table = open_cohort(Request(data=str(shared_data / "nih-cxr14"), task="Pneumonia", cache="")).table
    table = table.drop(columns=["findings", "follow_up"])
    rng = np.random.default_rng(0)
    few = table[table["patient_id"].isin(rng.choice(table["patient_id"].unique(), 150, replace=False))]
    measured = of_images(few, workers=1)
    found = shortcuts.shortcuts(few, measured, seed=0).set_index("what")
    assert found.loc["a histogram of 32 greys", "auc"] == pytest.approx(0.83, abs=0.07)
    assert found.loc[shortcuts.NUMBER_OF_PATIENT, "auc"] == pytest.approx(0.9, abs=0.06)
    assert measured[HISTOGRAM].sum(axis=1).to_numpy() == pytest.approx(1)

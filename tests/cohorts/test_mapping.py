"""What values and columns mean: labels, bands, settings that contradict themselves."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sourcematters.cohorts import Request, mapping
from sourcematters.cohorts.readers import Choice
from sourcematters.errors import StudyError


def labels(cells, positive=(), negative=()):
    label, said, problems = mapping.labels(pd.Series(cells, dtype=object), positive, negative, "t.csv")
    return [None if pd.isna(value) else int(value) for value in label], said, problems


def test_values_are_compared_as_numbers_where_they_are_and_without_case():
    cells = ["1", "1.0", "yes", "YES ", "0", "-1", None, "u", "u"]
    label, said, problems = labels(cells, ("1", "Yes"), ("0.0",))
    assert label == [1, 1, 1, 1, 0, None, None, None, None]
    assert said == [
        "Labels by value: 1 from '1' (2), 'yes' (2); 0 from '0' (1); left out 'u' (2), '-1' (1), blank (1)."
    ]
    assert [kind for kind, *_ in problems] == ["label 'u'", "label '-1'", "label blank"]
    assert problems[0][1:] == ("t.csv", "2 images, neither positive nor negative.")


@pytest.mark.parametrize(
    ("cells", "label"),
    [
        (["J", "N", "J"], [1, 0, 1]),
        (["ja", "Nein"], [1, 0]),
        (["pos", "neg"], [1, 0]),
        (["Malignant", "benign"], [1, 0]),
    ],
)
def test_pairs_that_everybody_knows_are_understood_and_said(cells, label):
    found, said, _ = labels(cells)
    assert found == label and len(said) == 1 and "is taken as 1" in said[0]


def test_without_lists_zeros_and_ones_stay_as_they_are_and_nothing_is_said():
    for cells in (["0", "1"], ["1.0", "0"], ["True", "False"]):
        label, said, problems = mapping.labels(pd.Series(cells), (), (), "t.csv")
        assert label.tolist() == cells and not said and not problems


def test_one_list_leaves_the_other_class_to_the_counterpart_or_to_all_others():
    assert labels(["1", "0", "-1", None], ("1",))[0] == [1, 0, None, None]
    label, said, _ = labels(["cyst", "tumour", "normal", None], ("tumour",))
    assert label == [0, 1, 0, None] and "only positive is given: the other class is every other value" in said[0]
    assert labels(["yes", "no", "maybe"], (), ("no",))[0] == [1, 0, None]
    assert labels(["a", None, "b"], ("a",), ("blank",))[0] == [1, 0, None]


def test_values_that_match_neither_list_are_refused_with_those_that_are_there():
    with pytest.raises(StudyError, match=r"t.csv: positive: no image is labelled ill. The labels are 'a' \(2\), 'b'"):
        labels(["a", "a", "b"], ("ill",), ("b",))
    with pytest.raises(StudyError, match="negative: no image is labelled well"):
        labels(["a", "a", "b"], ("a",), ("well",))


@given(st.lists(st.sampled_from(["1", "0", "-1", None, "x"]), min_size=2).filter(lambda c: {"1", "0"} <= set(c)))
def test_every_cell_is_of_a_class_or_counted(cells):
    label, _, problems = labels(cells, ("1",), ("0",))
    assert [k for k, cell in enumerate(cells) if label[k] == 1] == [k for k, c in enumerate(cells) if c == "1"]
    assert sum(int(what.split()[0]) for _, _, what in problems) == label.count(None)


def test_bands_are_half_open_and_the_last_is_closed():
    table = pd.DataFrame({"Age": [0, 39.9, 40, 60, 120, 121, None, -1]})
    banded, said = mapping.banded(table, {"age": (0, 40, 60, 120)}, "t.csv")
    assert banded["age_band"].fillna("").tolist() == ["0-40", "0-40", "40-60", "60-120", "60-120", "", "", ""]
    assert said == ["age_band is missing for 1 images without Age, 2 outside bands."]
    with pytest.raises(StudyError, match=r"bands: sex is no number in 2 images \('F', 'M'\)"):
        mapping.banded(pd.DataFrame({"sex": ["F", "M"]}), {"sex": (0, 1)}, "t.csv")
    with pytest.raises(StudyError, match="bands: unknown column `agee`. Did you mean age?"):
        mapping.banded(pd.DataFrame({"age": [1]}), {"agee": (0, 1)}, "t.csv")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"positive": [1, "yes"], "negative": ["1.0"]}, "'1' cannot be in both positive and negative"),
        ({"bands": {"age": [0, 60, 40]}}, "the edges of age should rise"),
        ({"bands": {"age": [0]}}, "two of them or more"),
        ({"columns": {"patient": "a", "patient_id": "b"}}, "patient_id is given twice"),
        ({"positive": "1"}, "should be a list"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(choice, sentence):
    with pytest.raises(StudyError) as caught:
        Choice(**choice)
    assert sentence in str(caught.value)


def test_settings_come_as_text_or_as_values_and_stay_hashable():
    choice = Choice(positive=[1, True], columns={"label": 6, "patient": "MRN"}, bands={"age": ["0", "40"]})
    assert (choice.positive, choice.columns) == (("1", "True"), {"label": "6", "patient_id": "MRN"})
    assert choice.bands == {"age": (0.0, 40.0)}
    one, other = (Request(data="x", cache="", columns={"label": name}) for name in "ab")
    assert len({one, other, one.replaced()}) == 2

"""What ids and names of columns mean, however they are written."""

import pandas as pd
import pytest

from sourcematters.cohorts.spelling import KINDS, WORDS, alike, as_one, column_of, kind, spellings, together
from sourcematters.errors import StudyError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("image_id", "image_id"),
        ("Image Index", "image_id"),
        ("IMAGE-ID", "image_id"),
        ("FileName", "path"),
        ("PatientID", "patient_id"),
        (" subject_id ", "patient_id"),
        ("Label", "label"),
        ("Patient Gender", "sex"),
        ("Patient Sex", "sex"),
        ("View Position", "view"),
        ("Scanner #", "scanner"),
        ("patient_id_2", "patientid2"),
    ],
)
def test_a_column_is_what_its_name_means(name, meant):
    assert kind(name) == meant


def test_no_word_means_two_columns():
    assert all(kind(name) == name for name in ("image_id", "path", "patient_id", "label", "sex", "age", "view"))
    assert len(KINDS) == sum(1 + len(words.split()) for words in WORDS.values())


def test_the_plain_name_goes_before_others_and_two_others_are_refused():
    assert column_of(["sex", "Gender"], "sex", "x") == "sex"
    assert column_of(["Gender", "age"], "sex", "x") == "Gender"
    assert column_of(["age"], "sex", "x") is None
    assert column_of(["SCANNER "], "scanner", "x") == "SCANNER "
    with pytest.raises(StudyError, match="t.csv: sex could be column 'Gender' or 'Patient Sex'"):
        column_of(["Gender", "age", "Patient Sex"], "sex", "t.csv")


ALIKE = [
    ("P", "p "), ("7", "007"), ("P007", "p7"), ("12", "12.0"), ("12", "012.00"), ("A-01-02", "a-1-2"), ("１２", "12"),
    ("é", "e\u0301"), ("P\xa0", "P"), ("P\u200b", "P"), ("0", "000"),
]  # fmt: skip
OTHERS = [("P1", "P10"), ("10", "1"), ("12.5", "12"), ("1.05", "1.5"), ("12.01", "12.1"), ("a b", "ab"), ("P1", "P.1")]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_ids_that_might_be_one(one, other):
    assert alike(one) == alike(other)
    assert together(pd.Series([one, other, one])).nunique() == 1


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_ids_that_are_two(one, other):
    assert alike(one) != alike(other)
    assert together(pd.Series([one, other])).tolist() == [one, other]


def test_only_what_is_one_for_certain_becomes_one():
    assert as_one(pd.Series(["12", "12.0", "13.0", "007", "7", "p", "P"])).tolist() == [
        "12", "12", "13.0", "007", "7", "p", "P"
    ]  # fmt: skip
    assert as_one(pd.Series(["1", None, "1.00"])).fillna("?").tolist() == ["1", "?", "1"]


def test_spellings_are_named_once_for_each_that_is_meant():
    ids = ["P ", "q", "P", "P ", "7", "07", "007"]
    assert spellings(ids, map(alike, ids)) == ["'007' and '07' and '7'", "'P' and 'P '"]

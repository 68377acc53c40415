"""Which decisions turn, worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from sourcematters.audit.measures import effects, flips
from sourcematters.errors import StudyError

#        id   patient label confounder without with
ROWS = [
    ("a", "p1", 0, "tag", -1.0, 2.0),  # becomes positive, wrongly
    ("b", "p1", 0, "tag", -0.1, 0.0),  # becomes positive at the threshold itself, wrongly
    ("c", "p2", 1, "tag", -0.5, 1.0),  # becomes positive, rightly
    ("d", "p3", 1, "tag", 1.0, -3.0),  # becomes negative, wrongly
    ("e", "p4", 1, "tag", 1.0, 0.2),  # stays
    ("a", "p1", 0, "noise", -1.0, 3.0),
    ("d", "p3", 1, "noise", 1.0, -1.0),
]
PAIRED = pd.DataFrame(
    [(*row[:4], "v", *row[4:]) for row in ROWS],
    columns=["image_id", "patient_id", "label", "confounder", "variant", "without", "carrying"],
)


def test_what_turns_which_way_and_whether_it_was_right():
    table = flips.flipped(PAIRED, 0.0)
    rows = list(table[["image_id", "confounder", "flips", "wrong"]].itertuples(index=False, name=None))
    assert rows == [
        ("d", "tag", "to negative", 1), ("a", "tag", "to positive", 1), ("c", "tag", "to positive", 0),
        ("b", "tag", "to positive", 1), ("a", "noise", "to positive", 1), ("d", "noise", "to negative", 1),
    ]  # fmt: skip
    first = table.iloc[0]
    assert (first["score_without"], first["score_with"], first["threshold"]) == (expit(1.0), expit(-3.0), 0.5)


@pytest.mark.parametrize("threshold", [-0.7, 0.0, 0.15, 5.0])
def test_as_many_turn_as_the_share_of_flips_says(threshold):
    counted = effects.effects(PAIRED[PAIRED["confounder"] == "tag"], threshold=threshold, seed=0, times=10).iloc[0]
    table = flips.flipped(PAIRED[PAIRED["confounder"] == "tag"], threshold)
    assert len(table) == round(counted["flips"] * counted["n"])
    assert (table["flips"] == "to positive").sum() == round(counted["to_positive"] * counted["n"])


def test_each_confounder_has_its_turn_and_each_patient_one_place():
    table = flips.flipped(PAIRED, 0.0)
    ids = lambda most, names=("noise", "tag"): flips.shown(table, list(names), most)["image_id"].tolist()  # noqa: E731
    # noise's largest is a of p1, tag's is d of p3; what is left is c of p2, which became right.
    assert ids(6) == ["a", "d", "c"] and ids(2) == ["a", "d"] and ids(1) == ["a"]
    assert flips.shown(table, ["noise", "tag"], 6)["confounder"].tolist() == ["noise", "tag", "tag"]
    assert ids(6, ["tag"]) == ["d", "a", "c"] and ids(6, []) == []


def test_nothing_turns_and_columns_are_demanded():
    assert flips.flipped(PAIRED, 100.0).empty and list(flips.flipped(PAIRED, 100.0)) == flips.COLUMNS
    with pytest.raises(StudyError, match="without"):
        flips.flipped(PAIRED.drop(columns="without"), 0.0)
    assert np.isfinite(flips.flipped(PAIRED, 0.0)["score_with"]).all()

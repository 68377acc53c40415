"""Associations with the label against tables by hand, scipy and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from sourcematters.audit.data import attributes, telling
from sourcematters.audit.data.attributes import associations, counts
from sourcematters.audit.data.telling import MISSING
from sourcematters.errors import StudyError
from sourcematters.metrics import auc


@pytest.fixture(autouse=True)
def few_drawings(monkeypatch):
    monkeypatch.setattr(telling, "REPEATS", 1)
    monkeypatch.setattr(attributes, "PERMUTATIONS", 199)


def table(label, patients=None, **columns):
    ids = [f"i{k:04d}" for k in range(len(label))]
    return pd.DataFrame({"image_id": ids, "patient_id": patients or ids, "label": label, "path": ids, **columns})


def crossed(*cells):
    """A table with so many (negatives, positives) of each value A, B, ..."""
    rows = [(chr(65 + k), label) for k, both in enumerate(cells) for label, n in enumerate(both) for _ in range(n)]
    values, label = zip(*rows, strict=True)
    return table(list(label), view=list(values))


def one(data, name):
    return associations(data).set_index("attribute").loc[name]


def test_cramers_v_is_corrected_as_bergsma_has_it():
    row = one(crossed((129, 82), (52, 86)), "view")
    n, k = 349, 2
    chi_square = scipy.stats.chi2_contingency([[129, 82], [52, 86]], correction=False).statistic
    phi = max(0, chi_square / n - (k - 1) / (n - 1))
    assert row["value"] == pytest.approx(math.sqrt(phi / (k - 1 / (n - 1) - 1)))
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert (row["kind"], row["measure"], row["values"], row["n"], row["missing"]) == (
        "categorical", "Cramér's V", 2, 349, 0,
    )  # fmt: skip
    assert row["p"] == 1 / (1 + attributes.PERMUTATIONS)


def test_the_interval_of_v_inverts_the_noncentral_chi_square():
    data = crossed((40, 20), (20, 40), (30, 30))
    value, low, high = attributes.cramer(data["view"], data)
    chi_square = scipy.stats.chi2_contingency([[40, 20], [20, 40], [30, 30]]).statistic
    assert scipy.stats.ncx2.sf(chi_square, 2, 180 * low**2) == pytest.approx(0.025)
    assert scipy.stats.ncx2.cdf(chi_square, 2, 180 * high**2) == pytest.approx(0.025)
    assert low < value < high


def test_where_nothing_goes_v_is_0_and_its_interval_is_not():
    row = one(crossed((50, 50), (50, 50)), "view")
    assert (row["value"], row["ci_low"], row["auc"], row["p"]) == (0, 0, 0.5, 1)
    assert 0.1 < row["ci_high"] < 0.3


def test_copies_of_images_of_the_same_patients_add_nothing():
    data = crossed((30, 15), (15, 30))
    twice = pd.concat([data, data.assign(image_id=data["image_id"] + "b")], ignore_index=True)
    once, again = attributes.cramer(data["view"], data), attributes.cramer(twice["view"], twice)
    assert again == pytest.approx(once, abs=0.01)


def test_p_holds_where_nothing_goes_with_anything_and_patients_have_several_images():
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        of = np.repeat(np.arange(30), rng.integers(1, 5, 30))
        data = table(rng.integers(0, 2, 30)[of], [f"p{k}" for k in of])
        given = {"site": pd.Series(rng.choice(list("AB"), 30)[of]), "age": pd.Series(rng.normal(size=30)[of])}
        found += attributes._permutation_p(given, data, seed).values()
    # Labels and attributes are patients', so single images would give small p far too often. At 5 %, more than 11 of 80
    # would come about once in 1,000 times.
    assert (np.array(found) < 0.05).sum() <= 11 and scipy.stats.binom.sf(11, 80, 0.05) < 1e-3


def test_p_of_a_number_is_that_of_mann_and_whitney(monkeypatch):
    monkeypatch.setattr(attributes, "PERMUTATIONS", 1999)
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], 30)
    number = rng.normal(size=60) + 0.5 * label
    p = attributes._permutation_p({"age": pd.Series(number)}, table(label), 0)["age"]
    assert p == pytest.approx(scipy.stats.mannwhitneyu(number[:30], number[30:]).pvalue, abs=0.015)


def test_a_number_is_measured_by_its_auc_as_it_is():
    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, 120)
    data = table(label, age=(50 - 8 * label + rng.normal(0, 8, 120)).round())
    row = one(data, "age")
    assert row["value"] == pytest.approx(auc(data.rename(columns={"age": "score"})))
    assert row["ci_low"] < row["value"] < row["ci_high"] < 0.5 < row["auc_low"]
    assert row["auc"] == pytest.approx(1 - row["value"], abs=0.05)


def test_missing_goes_with_the_label():
    label = np.repeat([0, 1], 60)
    age = pd.Series(np.tile(np.arange(30.0, 60.0), 4)).mask(label * np.arange(120) % 2 == 1)
    site = pd.Series(np.tile(["A", "B"], 60), dtype=object).mask(label * np.arange(120) % 3 == 1)
    found = associations(table(label, age=age, site=site)).set_index("attribute")
    assert found.loc["age", "missing"] == 30 and found.loc["site", "missing"] == 20
    gaps = found.loc["age: missing or there"]
    assert gaps["p_holm"] < 0.02 and found.loc["site", "p_holm"] < 0.02
    cells = counts(table(label, age=age, site=site)).set_index(["attribute", "value"])
    assert cells.loc[("site", MISSING)].tolist() == [0, 20, 1.0]
    assert cells.loc[("age", MISSING)].tolist() == [0, 30, 1.0]


def test_counts_by_hand():
    data = crossed((2, 6), (3, 1)).assign(age=[*range(12)])
    found = counts(data)
    assert found.columns.tolist() == ["attribute", "value", "negatives", "positives", "share_positive"]
    assert found[found["attribute"] == "view"].drop(columns="attribute").to_numpy().tolist() == [
        ["A", 2, 6, 0.75], ["B", 3, 1, 0.25],
    ]  # fmt: skip
    assert found[found["attribute"] == "age"]["value"].tolist() == ["0 to 2", "3 to 5", "6 to 8", "9 to 11"]


def test_what_cannot_be_measured_says_why():
    label = np.tile([0, 1], 40)
    data = table(
        label, hospital="Aarhus", empty=None, report=[f"remark {k}" for k in range(80)],
        finding=np.where(label, "a", "b"), site=["C"] * 2 + ["A", "A", "B", "B"] * 19 + ["A", "B"],
        unsure=pd.array([True, False] * 40, dtype="boolean"),
    )  # fmt: skip
    notes = associations(data).set_index("attribute")["note"]
    assert notes["hospital"] == "one value only, Aarhus: it cannot go with the label"
    assert notes["empty"] == "empty in all images"
    assert notes["report"].startswith("80 values in 80 images: free text or an id, not measured")
    assert notes["site"] == "groups of fewer than 5 images tell nothing by themselves: C (2)"
    assert "the label in other words?" in notes["finding"] and "the label in other words?" in notes["unsure"]
    assert associations(data).set_index("attribute").loc["hospital", ["value", "p", "p_holm"]].isna().all()
    assert "report" not in set(counts(data)["attribute"])


def test_p_is_corrected_over_all_attributes():
    rng = np.random.default_rng(8)
    label = rng.integers(0, 2, 100)
    data = table(label, a=np.where(rng.uniform(size=100) < 0.2, 1 - label, label), b=rng.choice(list("xy"), 100))
    found = associations(data).set_index("attribute")
    assert found.loc["a", "p_holm"] == pytest.approx(2 * found.loc["a", "p"])


def test_a_table_without_attributes_is_an_empty_one_and_one_patient_is_refused():
    assert associations(table([0, 1, 0, 1])).empty and counts(table([0, 1, 0, 1])).empty
    with pytest.raises(StudyError, match="Add patients of that class"):
        associations(table([0, 0, 1]))
    with pytest.raises(StudyError, match="no column patient_id"):
        associations(table([0, 1]).drop(columns="patient_id"))

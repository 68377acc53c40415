"""A model in each group of patients, by scikit-learn and by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from sourcematters.audit.measures import groups


def scored(n=400, lead=0.0, seed=0):
    """Half the patients are female; in their scores `lead` is added, ill or not."""
    rng = np.random.default_rng(seed)
    labels, female = np.arange(n) % 2, (np.arange(n) // 2) % 2
    return pd.DataFrame({
        "image_id": [f"i{k:04d}" for k in range(n)],
        "patient_id": [f"p{k}" for k in range(n)],
        "label": labels,
        "logit": rng.normal(1.5 * labels + lead * female - 0.75, 1),
        "sex": np.where(female == 1, "F", "M"),
    })  # fmt: skip


def of(table, value="F", **how):
    found = groups.by_group(table, ["sex"], threshold=0, seed=0, times=200, **how)
    return found.set_index("value").loc[value]


def test_each_number_is_scikit_learns():
    table = scored(lead=0.7)
    row, part = of(table), table[table["sex"] == "F"]
    other = table[table["sex"] == "M"]
    assert (row["n"], row["positives"], row["patients"]) == (200, 100, 200)
    assert row["auc"] == pytest.approx(roc_auc_score(part["label"], part["logit"]))
    recall = [
        [recall_score(each["label"], each["logit"] >= 0, pos_label=label) for label in (1, 0)] for each in (part, other)
    ]
    assert (row["sensitivity"], row["specificity"]) == pytest.approx(tuple(recall[0]))
    assert row["accuracy_at_half"] == pytest.approx(np.mean(recall[0]))
    assert row["gap"] == pytest.approx(np.mean(recall[0]) - np.mean(recall[1]))
    for name, positive in (("auc_aligned", "F"), ("auc_reversed", "M")):
        subset = table[(table["label"] == 1) == (table["sex"] == positive)]
        assert row[name] == pytest.approx(roc_auc_score(subset["label"], subset["logit"]))
    assert row["lean"] == pytest.approx((row["auc_aligned"] - row["auc_reversed"]) / 2)


def test_a_model_that_is_led_by_sex_is_seen_and_one_that_is_not_is_not():
    led, free = of(scored(lead=1.5)), of(scored(lead=0))
    assert led["lean_low"] > 0.1 and free["lean_low"] < 0 < free["lean_high"]
    assert of(scored(lead=1.5), "M")["lean"] == pytest.approx(-led["lean"])


def test_groups_of_few_are_named_and_not_measured():
    table = scored()
    table.loc[:3, "sex"] = "X"
    table.loc[4:9, "sex"] = None
    found = groups.by_group(table, ["sex"], threshold=0, seed=0, times=20).set_index("value")
    assert list(found.index) == ["F", "M", "X", "missing"]
    assert found.loc["X", "note"].startswith(
        "2 positive and 2 negative images here, 198 and 198 elsewhere: fewer than 10"
    )
    assert np.isnan(found.loc["X", "auc"]) and found.loc["missing", "n"] == 6 and found.loc["F", "note"] == ""


def test_one_value_and_many_values_are_no_groups():
    table = scored().assign(site="A", age=np.arange(400) / 7)
    found = groups.by_group(table, ["site", "age"], threshold=0, seed=0, times=20).set_index("attribute")
    assert found.loc["site", "note"] == "it has 1 value"
    assert found.loc["age", "note"] == "it has 400 values; give bands, such as bands: {age: [0, 40, 60]}"

"""Scores of others' patients: what nothing tells, what tells all, and intervals that hold."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from sourcematters import metrics
from sourcematters.audit.data import telling
from sourcematters.audit.data.telling import CATEGORY, MISSING, NUMBER, TOO_MANY, kind_of, tells
from sourcematters.errors import StudyError


@pytest.fixture(autouse=True)
def one_drawing(monkeypatch):
    """Of the folds: three take three times as long."""
    monkeypatch.setattr(telling, "REPEATS", 1)
    monkeypatch.setattr(telling, "TREES", 20)


def table(label, patients=None):
    ids = [f"i{k:04d}" for k in range(len(label))]
    return pd.DataFrame({"image_id": ids, "patient_id": patients or ids, "label": label, "path": ids})


def test_what_is_a_number_a_category_or_too_many_values():
    rng = np.random.default_rng(0)
    assert kind_of(pd.Series(rng.normal(size=100))) == NUMBER
    assert kind_of(pd.Series([0.0, 1.0, np.nan] * 30)) == CATEGORY
    assert kind_of(pd.Series([True, False] * 30)) == CATEGORY
    assert kind_of(pd.Series([f"remark {k}" for k in range(100)])) == TOO_MANY
    assert kind_of(pd.Series([f"remark {k % 45}" for k in range(60)])) == TOO_MANY
    assert kind_of(pd.Series([f"site {k % 12}" for k in range(100)])) == CATEGORY
    assert telling.categories(pd.Series([1.0, np.nan])).tolist() == ["1", MISSING]


def test_intervals_cover_a_half_where_labels_are_drawn_at_random():
    covered, alarms, runs = 0, 0, 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 2, 200)
        patients = [f"p{k // 2}" for k in range(200)]
        values = {
            "number": rng.normal(size=200),
            "site": rng.choice(list("ABCDEFGH"), 200),
            "sex": rng.choice(["F", "M"], 200),
        }
        for name, drawn in values.items():
            told = tells(pd.DataFrame({name: drawn}), table(label, patients), seed=seed)
            covered += not (told.ci_low > 0.5 or told.ci_high < 0.5)
            alarms += told.p < 0.05
            runs += 1
    # At 95 % each, fewer than 24 of 30 would come about once in 1,000 times, and more than 6 alarms at 5 %.
    assert scipy.stats.binom.cdf(23, runs, 0.95) < 1e-3 and scipy.stats.binom.sf(6, runs, 0.05) < 1e-3
    assert covered >= 24 and alarms <= 6


def test_several_features_that_tell_nothing_are_no_better_than_chance():
    rng = np.random.default_rng(1)
    features = pd.DataFrame(rng.normal(size=(120, 3))).add_prefix("x")
    told = tells(features, table(rng.integers(0, 2, 120)), seed=0)
    assert told.ci_low < 0.5 < told.ci_high


def test_a_planted_number_is_told_as_well_as_it_can_be():
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 150)
    told = tells(pd.DataFrame({"x": rng.normal(size=300) + 1.5 * label}), table(label), seed=0)
    best = scipy.stats.norm.cdf(1.5 / np.sqrt(2))  # of two normals 1.5 standard deviations apart
    assert told.auc == pytest.approx(best, abs=0.04)
    assert told.ci_low < best < told.ci_high and told.p < 1e-6


def test_what_lies_in_the_middle_and_what_is_missing_are_told_too():
    rng = np.random.default_rng(3)
    number = rng.uniform(0, 1, 300)
    middle = (abs(number - 0.5) < 0.25).astype(int)
    assert tells(pd.DataFrame({"x": number}), table(middle), seed=0).auc > 0.95
    label = rng.integers(0, 2, 300)
    gaps = pd.Series(number).mask((label == 1) & (rng.uniform(size=300) < 0.8))
    assert tells(pd.DataFrame({"x": gaps}), table(label), seed=0).auc == pytest.approx(0.9, abs=0.04)


def test_a_category_scores_by_the_other_patients_share_of_positives():
    label = np.tile([1, 1, 1, 0, 0, 0, 0, 1], 25)
    view = np.tile(list("PPPPAAAA"), 25)
    told = tells(pd.DataFrame({"view": view}), table(label), seed=0)
    # 3 of 4 positives and 1 of 4 negatives are P: .75 * .75 wins, and ties 2 * .75 * .25 / 2.
    assert told.auc == pytest.approx(0.75, abs=0.01)


def test_many_categories_are_not_learned_by_heart():
    rng = np.random.default_rng(4)
    told = tells(pd.DataFrame({"site": rng.integers(0, 40, 200).astype(str)}), table(rng.integers(0, 2, 200)), seed=0)
    assert told.auc < 0.6


def test_one_patients_images_are_never_on_both_sides():
    # A category a patient: it tells all of a patient's other images, and nothing of another patient.
    label = np.repeat(np.random.default_rng(5).integers(0, 2, 40), 5)
    patients = [f"p{k // 5:02d}" for k in range(200)]
    told = tells(pd.DataFrame({"who": [f"w{name}" for name in patients]}), table(label, patients), seed=0)
    assert told.auc == 0.5


def test_all_told_right_has_an_interval_of_its_own():
    label = np.repeat([0, 1], 20)
    told = tells(pd.DataFrame({"x": np.where(label, "J", "N")}), table(label), seed=0)
    assert (told.auc, told.ci_high) == (1.0, 1.0)
    assert told.ci_low == pytest.approx(scipy.stats.binomtest(20, 20).proportion_ci(method="exact").low)
    assert told.p == pytest.approx(2.0**-20)


def test_with_one_fold_of_all_ranks_the_parts_are_those_of_metrics():
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, 90)
    data = table(label, [f"p{k // 3}" for k in range(90)]).assign(score=rng.normal(size=90) + label)
    scores = data["score"].to_numpy()
    parts = metrics.patient_parts(data).T.to_numpy()
    pooled = metrics.estimate(np.array([metrics.auc(data)]), parts[:1], parts[1:])
    told = telling.cross_validated(
        lambda _, test: scores[test], label, data["patient_id"].to_numpy(str), folds=2, seed=0
    )
    # Half of the pairs are compared, in three drawings: nearly the same AUC, with an interval as wide.
    assert told.auc == pytest.approx(pooled.value, abs=0.02)
    # Two folds widen it by the root of 3.
    assert told.ci_high - told.ci_low == pytest.approx(3**0.5 * np.diff(pooled.interval_of_auc)[0], rel=0.2)


def test_few_patients_have_fewer_folds_and_one_is_refused():
    label = [1, 1, 1] + [0] * 40
    told = tells(pd.DataFrame({"x": [*range(3), *range(40)]}), table(label), seed=0)
    assert told.note == "3 folds, for want of patients"
    with pytest.raises(StudyError, match="the class with the fewest patients has 1: .* Add patients of that class"):
        tells(pd.DataFrame({"x": range(41)}), table([1] + [0] * 40), seed=0)
    with pytest.raises(StudyError, match="has 0"):
        tells(pd.DataFrame({"x": range(41)}), table([0] * 41), seed=0)


def test_the_same_numbers_come_again_and_another_seed_draws_other_folds():
    rng = np.random.default_rng(7)
    data, features = table(rng.integers(0, 2, 80)), pd.DataFrame({"x": rng.normal(size=80), "y": rng.normal(size=80)})
    assert tells(features, data, seed=1) == tells(features, data, seed=1) != tells(features, data, seed=2)

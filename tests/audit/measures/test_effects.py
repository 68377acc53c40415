"""What a confounder does to a model's scores, against scikit-learn, closed forms and numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from sourcematters.audit.measures import effects
from sourcematters.errors import StudyError
from sourcematters.metrics import patient_parts


def paired(labels, without, carrying, patients=None, confounder="tag"):
    n = len(labels)
    return pd.DataFrame({
        "image_id": [f"i{k:04d}" for k in range(n)],
        "patient_id": patients if patients is not None else [f"p{k}" for k in range(n)],
        "label": labels,
        "confounder": confounder,
        "variant": "draw_tag()",
        "without": np.asarray(without, float),
        "carrying": np.asarray(carrying, float),
    })  # fmt: skip


def cases(n=300, move=1.0, apart=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    without = rng.normal(apart * labels, 1)
    return paired(labels, without, without + move, [f"p{k // 3}" for k in range(n)])


weighted = st.lists(
    st.tuples(st.integers(0, 1), st.integers(-3, 3), st.integers(0, 4)), min_size=4, max_size=30
).filter(lambda rows: {label for label, _, weight in rows if weight} == {0, 1})


@given(weighted)
@settings(deadline=None)
def test_the_weighted_auc_is_scikit_learns_with_ties_too(rows):
    labels, scores, weights = (np.array(values) for values in zip(*rows, strict=True))
    (found,) = effects.weighted_auc(labels, scores.astype(float), weights[None].astype(float))
    assert found == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12)


def test_a_resample_without_a_class_has_no_auc():
    labels, scores = np.array([1, 0]), np.array([2.0, 1.0])
    assert np.isnan(effects.weighted_auc(labels, scores, np.array([[2.0, 0.0]]))[0])


def test_patients_are_drawn_with_all_their_images_and_as_many_as_there_are():
    drawn = effects.drawn_patients(["a", "b", "a", "c"], seed=3, times=500)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert drawn[:, 1].mean() == pytest.approx(1, abs=0.15)  # Poisson-like, s.d. .82 / sqrt(500)
    assert (drawn == effects.drawn_patients(["a", "b", "a", "c"], seed=3, times=500)).all()
    assert (drawn != effects.drawn_patients(["a", "b", "a", "c"], seed=4, times=500)).any()


def test_each_measure_by_hand():
    # Positives score 2 and -1, negatives 0 and -2; with the confounder each moves up by 1.5, the last by 3.
    table = paired([1, 1, 0, 0], [2, -1, 0, -2], [3.5, 0.5, 1.5, 1])
    row = effects.effects(table, threshold=0.25, seed=0, times=50).iloc[0]
    assert row["shift"] == pytest.approx((1.5 * 3 + 3) / 4)
    assert (row["to_positive"], row["to_negative"], row["flips"]) == (0.75, 0, 0.75)
    assert row["auc_without"] == 0.75  # -1 loses against 0
    assert row["auc_with"] == 0.5  # .5 loses against both
    assert row["auc_reversed"] == 0.5  # 2 against 1.5, 1: two; -1: none
    assert row["auc_aligned"] == 1  # 3.5 and .5 against 0 and -2
    assert row["lean"] == 0.25 and row["damage"] == 0.25
    assert (row["n"], row["positives"], row["patients"], row["rarer"]) == (4, 2, 4, 2)


def test_a_move_of_all_scores_leans_as_the_normal_distribution_says():
    row = effects.effects(cases(n=6000), threshold=0, seed=0, times=20).iloc[0]
    # Two normals 1.5 apart, of s.d. 1 each: P(x > y) = Phi(difference / sqrt 2).
    assert row["auc_without"] == pytest.approx(norm.cdf(1.5 / 2**0.5), abs=0.02)
    assert row["auc_reversed"] == pytest.approx(norm.cdf(0.5 / 2**0.5), abs=0.02)
    assert row["auc_aligned"] == pytest.approx(norm.cdf(2.5 / 2**0.5), abs=0.02)
    assert row["auc_with"] == row["auc_without"] and row["damage"] == 0 and row["shift"] == pytest.approx(1)


def test_health_is_the_other_sign_and_noise_alone_is_damage():
    up, down = (effects.effects(cases(move=m), threshold=0, seed=0, times=20).iloc[0] for m in (1, -1))
    assert up["lean"] > 0.1 and down["lean"] < -0.1
    table = cases(n=3000, move=0)
    table["carrying"] += np.random.default_rng(1).normal(0, 2, len(table))
    row = effects.effects(table, threshold=0, seed=0, times=200).iloc[0]
    assert row["damage"] > 0.1 and abs(row["lean"]) < 0.02
    assert row["lean_low"] < 0 < row["lean_high"]


def test_what_changes_nothing_has_an_effect_of_zero_exactly():
    row = effects.effects(cases(move=0), threshold=0, seed=0).iloc[0]
    assert all(
        row[f"{name}{end}"] == 0 for name in ("lean", "shift", "flips", "damage") for end in ("", "_low", "_high")
    )


def test_the_interval_agrees_with_the_closed_form_for_patients_with_several_images():
    table = cases(n=600)
    row = effects.effects(table, threshold=0, seed=0, times=4000).iloc[0]
    # Obuchowski 1997: the lean is half the difference of two AUCs of the same patients, so its parts are too.
    labels = table["label"].to_numpy()
    parts = [
        patient_parts(table.assign(score=np.where(labels == label, table["carrying"], table["without"])))
        for label in (1, 0)
    ]
    sums = ((parts[0] - parts[1]) / 2).fillna(0).sum(axis=1).to_numpy()
    assert row["lean_error"] == pytest.approx(np.sqrt((sums**2).sum()), rel=0.1)
    assert row["lean_high"] - row["lean_low"] == pytest.approx(2 * 1.96 * row["lean_error"], rel=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    truth = (norm.cdf(2.5 / 2**0.5) - norm.cdf(0.5 / 2**0.5)) / 2
    rows = [effects.effects(cases(n=150, seed=seed), threshold=0, seed=0, times=300).iloc[0] for seed in range(120)]
    held = np.mean([row["lean_low"] <= truth <= row["lean_high"] for row in rows])
    assert held >= 0.89  # .95, of 120, less three standard errors
    spread = np.std([row["lean"] for row in rows])
    assert np.mean([row["lean_error"] for row in rows]) == pytest.approx(spread, rel=0.3)  # that is 4.6 of its own


def test_youdens_cut_by_hand():
    labels, logits = np.array([0, 0, 1, 0, 1, 1]), np.array([-2.0, -1, 0, 1, 2, 3])
    # At -.5: all three positives and two of three negatives, 1.67; at 1.5: two of three and all, 1.67: the lower.
    assert effects.youden(labels, logits) == -0.5


def test_the_order_of_rows_does_not_matter():
    table = cases()
    one, other = (effects.effects(each, threshold=0, seed=0, times=50) for each in (table, table.sample(frac=1)))
    pd.testing.assert_frame_equal(one, other)


def test_what_is_wrong_is_said():
    with pytest.raises(StudyError, match="no column carrying"):
        effects.effects(cases().drop(columns="carrying"), threshold=0, seed=0)
    bad = cases()
    bad.loc[4, "carrying"] = np.nan
    with pytest.raises(StudyError, match="scores of tag: 1 are no finite numbers, e.g. of image i0004"):
        effects.effects(bad, threshold=0, seed=0)
    with pytest.raises(StudyError, match="all 10 images have label 1; an AUC needs both classes"):
        effects.effects(paired([1] * 10, range(10), range(10)), threshold=0, seed=0)

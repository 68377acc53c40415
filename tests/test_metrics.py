"""AUC by counting pairs, intervals by the table of Student's t."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcematters import metrics
from sourcematters.errors import StudyError


def predictions(labels, scores, test_set="iid"):
    ids = [f"i{k}" for k in range(len(labels))]
    return pd.DataFrame({"image_id": ids, "label": labels, "score": scores, "test_set": test_set})


def results(aucs, **columns):
    fields = {"task": "mass", "confounder": "tag", "source": "random", "backbone": "resnet50", "n": 10}
    fields |= {"test_set": "ood", "p_art": 0.5}
    folds = range(len(aucs))
    return pd.DataFrame({"run_id": "r", "fold": folds, "auc": aucs, **fields, **columns})


def by_pairs(labels, scores):
    """The share of (positive, negative) pairs in the right order, ties half."""
    wins = [(p > n) + (p == n) / 2 for p, a in zip(scores, labels, strict=True) if a == 1
            for n, b in zip(scores, labels, strict=True) if b == 0]  # fmt: skip
    return sum(wins) / len(wins)


def test_auc_by_hand():
    # Positives .8 and .4 against negatives .4, .1 and .6: 3 + (.5 + 1 + 0) of 6 pairs.
    assert metrics.auc(predictions([1, 1, 0, 0, 0], [0.8, 0.4, 0.4, 0.1, 0.6])) == pytest.approx(4.5 / 6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])), min_size=2, max_size=25))
def test_auc_is_the_share_of_ordered_pairs(rows):
    labels, scores = zip(*rows, strict=True)
    if len(set(labels)) == 2:
        assert metrics.auc(predictions(labels, scores)) == pytest.approx(by_pairs(labels, scores))
    else:
        with pytest.raises(StudyError, match="both classes"):
            metrics.auc(predictions(labels, scores))


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([0, 2], [0.1, 0.2], "image i1.*label must be 0 or 1"),
        ([0, np.nan], [0.1, 0.2], "image i1.*label must be 0 or 1"),
        ([0, 1, 1], [0.1, np.nan, np.inf], r"image i1.*\(and 1 more\).*diverged"),
        ([0, 1], [0.1, "high"], "image i1.*score must be a finite"),
        ([1, 1], [0.1, 0.2], "all 2 labels are 1"),
        ([], [], "has no row"),
    ],
)
def test_bad_predictions_never_give_a_number(labels, scores, says):
    with pytest.raises(StudyError, match=says):
        metrics.auc(predictions(labels, scores))


def test_a_missing_column_is_named():
    with pytest.raises(StudyError, match="no column score"):
        metrics.auc(pd.DataFrame({"label": [0, 1]}))


def test_by_test_set_keeps_the_sets_apart_and_in_order():
    table = pd.concat([
        predictions([0, 1, 0], [0.2, 0.9, 0.1], "ood"),
        predictions([0, 1], [0.9, 0.2], "iid"),
    ])  # fmt: skip
    expected = pd.DataFrame({"test_set": ["iid", "ood"], "n": [2, 3], "auc": [0.0, 1.0]})
    pd.testing.assert_frame_equal(metrics.by_test_set(table), expected)
    with pytest.raises(StudyError, match="unknown test_set extra"):
        metrics.by_test_set(predictions([0, 1], [0, 1], "extra"))


def test_interval_is_students_t_over_folds():
    row = metrics.summarise(results([0.6, 0.7, 0.8, 0.7, 0.7])).iloc[0]
    # sd of (-1, 0, 1, 0, 0)/10 is sqrt(.02/4); t(.975, 4) = 2.776 by any printed table.
    half = 2.776 * np.sqrt(0.02 / 4) / np.sqrt(5)
    assert row["folds"] == 5
    assert [row["mean"], row["ci_low"], row["ci_high"]] == pytest.approx([0.7, 0.7 - half, 0.7 + half], abs=1e-4)


def test_summary_has_the_agreed_columns_one_row_a_group_sorted():
    table = pd.concat([results([0.5, 0.6], p_art=p, test_set=t) for p in (1.0, 0.0) for t in ("ood", "iid")])
    summary = metrics.summarise(table.sample(frac=1, random_state=0))
    assert list(summary.columns) == metrics.SUMMARY
    pairs = list(summary[["test_set", "p_art"]].itertuples(index=False, name=None))
    assert pairs == [("iid", 0.0), ("iid", 1.0), ("ood", 0.0), ("ood", 1.0)]


def test_one_fold_has_no_interval():
    row = metrics.summarise(results([0.6])).iloc[0]
    assert row["mean"] == 0.6 and np.isnan(row["ci_low"]) and np.isnan(row["ci_high"])


def test_mixed_or_incomplete_results_are_refused():
    with pytest.raises(StudyError, match="fold 0 occurs twice"):
        metrics.summarise(pd.concat([results([0.6]), results([0.7])]))
    with pytest.raises(StudyError, match="no auc for task mass.*fold 1"):
        metrics.summarise(results([0.6, np.nan]))
    with pytest.raises(StudyError, match="no p_art for task mass"):
        metrics.summarise(results([0.6, 0.7], p_art=[0.5, np.nan]))
    with pytest.raises(StudyError, match="no column fold"):
        metrics.summarise(results([0.6]).drop(columns="fold"))
    with pytest.raises(StudyError, match="has no row"):
        metrics.summarise(results([]))


def test_robustness_is_the_fall_from_the_weakest_to_the_strongest():
    means = {("ood", 0.0): 0.8, ("ood", 0.5): 0.6, ("ood", 1.0): 0.1, ("iid", 0.0): 0.82, ("iid", 1.0): 0.95}
    table = pd.concat([results([m], test_set=t, p_art=p) for (t, p), m in means.items()])
    row = metrics.robustness(metrics.summarise(table)).iloc[0]
    assert (row["p_low"], row["p_high"], row["ood_low"], row["ood_high"]) == (0, 1, 0.8, 0.1)
    assert row["drop"] == pytest.approx(0.7) and row["gap"] == pytest.approx(0.85)


def test_robustness_refuses_a_grid_without_its_ends():
    table = pd.concat([results([0.8], p_art=0.0), results([0.9], p_art=1.0, test_set="iid")])
    with pytest.raises(StudyError, match="random has no ood row at p_art 1"):
        metrics.robustness(metrics.summarise(table))

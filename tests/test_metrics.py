"""AUC by counting pairs, intervals by the table of Student's t."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sourcematters import metrics
from sourcematters.errors import StudyError


def predictions(labels, scores, test_set="iid"):
    ids = [f"i{k}" for k in range(len(labels))]
    people = [f"p{k // 2}" for k in range(len(labels))]
    return pd.DataFrame({"image_id": ids, "patient_id": people, "label": labels, "score": scores, "test_set": test_set})


def results(aucs, **columns):
    fields = {"task": "mass", "confounder": "tag", "source": "random", "backbone": "resnet50", "n": 10}
    fields |= {"test_set": "ood", "p_art": 0.5}
    folds = range(len(aucs))
    return pd.DataFrame({"run_id": "r", "fold": folds, "auc": aucs, "auc_keras": 0.9, **fields, **columns})


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


def keras_by_loops(labels, scores):
    """keras.metrics.AUC on [1 - s, s] against one-hot labels, written out: buckets, counts, then trapezoids."""
    column, truth = [], []
    for label, score in zip(labels, np.asarray(scores, dtype=np.float32), strict=True):
        column += [np.float32(1) - score, score]
        truth += [label == 0, label == 1]
    # As metrics_utils.py: ceil(y_pred * (num_thresholds - 1)) - 1, relu; a threshold counts its bucket and those above.
    buckets = [max(0, math.ceil(p * np.float32(199)) - 1) for p in column]
    points = []
    for k in range(200):
        hits = sum(bucket >= k for bucket, t in zip(buckets, truth, strict=True) if t)
        false_alarms = sum(bucket >= k for bucket, t in zip(buckets, truth, strict=True) if not t)
        points.append((false_alarms / truth.count(False), hits / truth.count(True)))
    return sum((x0 - x1) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=2, max_size=20))
def test_auc_keras_is_trapezoids_over_200_thresholds(rows):
    labels, scores = zip(*rows, strict=True)
    if len(set(labels)) == 2:
        found = metrics.auc_keras(predictions(labels, scores))
        assert found == pytest.approx(keras_by_loops(labels, scores), abs=2e-6)


def test_auc_keras_is_keras_on_its_thresholds_too():
    # As float32 k / 199 is off by a rounding, and so is its product with 199: above k it passes its own threshold.
    passing = [k for k in range(1, 199) if np.float32(k / 199) * np.float32(199) > k]
    assert len(passing) == 8
    differ = 0
    for seed in range(5):
        scores = np.random.default_rng(seed).integers(0, 200, 83) / 199
        found = metrics.auc_keras(predictions(LUNG_MASS, scores))
        assert found == pytest.approx(keras_by_loops(LUNG_MASS, scores), abs=2e-6)
        # By comparison with the thresholds, as one would write it, it is another number.
        columns = np.concatenate([np.float32(1) - np.float32(scores), np.float32(scores)])
        truth = np.concatenate([1 - np.array(LUNG_MASS), LUNG_MASS]).astype(bool)
        limits = np.float32([-1e-7, *(np.arange(1, 199) / 199), 1 + 1e-7])
        rates = [[(columns[truth == side] > limit).mean() for limit in limits] for side in (True, False)]
        differ += abs(np.trapezoid(rates[0][::-1], rates[1][::-1]) - found) > 5e-5
    assert differ >= 3


LUNG_MASS = [0] * 52 + [1] * 31
"""The paper's test set: 52 without a mass, 31 with one."""


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.42])
def test_a_constant_below_one_half_scores_the_share_of_the_majority(constant):
    table = predictions(LUNG_MASS, [constant] * 83)
    assert metrics.auc_keras(table) == pytest.approx(52 / 83, abs=1e-6)
    assert metrics.auc(table) == 0.5


def test_scores_between_two_thresholds_are_one_tie():
    # A perfect ranking, all of it above 198/199: every image is "surely positive" at every threshold.
    table = predictions(LUNG_MASS, np.linspace(0.9990, 0.9999, 83))
    assert metrics.auc(table) == 1
    assert metrics.auc_keras(table) == pytest.approx(31 / 83, abs=1e-6)
    columns = np.concatenate([1 - table["score"], table["score"]])
    assert roc_auc_score([1 - v for v in LUNG_MASS] + LUNG_MASS, columns) == pytest.approx(0.6075, abs=5e-5)


def shifted(shift):
    """Logits of N(-1, 1) and N(1, 1) by their quantiles, ten times the paper's test set, moved by `shift`."""
    logits = [scipy.stats.norm.ppf((np.arange(n) + 0.5) / n, mean) for n, mean in ((520, -1), (310, 1))]
    return predictions(np.repeat(LUNG_MASS, 10), scipy.special.expit(np.concatenate(logits) + shift))


def test_auc_keras_moves_when_calibration_does_and_auc_does_not():
    # Two normals a distance d apart have AUC Phi(d / sqrt 2). Flattened, each class is a mixture of two normals:
    # the positive column [p: 1 + c of 31, 1 - c of 52], the negative [-1 + c of 52, -1 - c of 31], moved by c.
    share, c = 31 / 83, -3
    hits, alarms = [(share, 1 + c), (1 - share, 1 - c)], [(1 - share, -1 + c), (share, -1 - c)]
    mixed = sum(v * w * scipy.stats.norm.cdf((a - b) / np.sqrt(2)) for v, a in hits for w, b in alarms)
    assert mixed == pytest.approx(0.824, abs=5e-4)
    assert metrics.auc_keras(shifted(c)) == pytest.approx(mixed, abs=5e-3)
    for moved in (0, c):
        assert metrics.auc(shifted(moved)) == pytest.approx(scipy.stats.norm.cdf(np.sqrt(2)), abs=1e-3)
    assert metrics.auc_keras(shifted(0)) == pytest.approx(0.921, abs=5e-3)


def test_auc_keras_wants_probabilities():
    with pytest.raises(StudyError, match="image i1.*probability"):
        metrics.auc_keras(predictions([0, 1], [0.5, 1.5]))


def test_a_missing_column_is_named():
    with pytest.raises(StudyError, match="no column score"):
        metrics.auc(pd.DataFrame({"label": [0, 1]}))


def test_by_test_set_keeps_the_sets_apart_and_in_order():
    table = pd.concat([
        predictions([0, 1, 0], [0.2, 0.9, 0.1], "ood"),
        predictions([0, 1], [0.9, 0.2], "iid"),
    ])  # fmt: skip
    expected = pd.DataFrame(
        {"test_set": ["iid", "ood"], "n": [2, 3], "positives": [1, 1], "patients": [1, 2]}
        | {"auc": [0.0, 1.0], "auc_keras": [0.0, 1.0]}
    )
    pd.testing.assert_frame_equal(metrics.by_test_set(table), expected)
    with pytest.raises(StudyError, match="unknown test_set extra"):
        metrics.by_test_set(predictions([0, 1], [0, 1], "extra"))


def scored(**aucs):
    """The tests of a run, with 31 images of each class: their AUC by name."""
    rows = [(name, 62, 31, 40, auc) for name, auc in aucs.items()]
    return pd.DataFrame(rows, columns=["test_set", *metrics.SIZE, "auc"])


@pytest.mark.parametrize(
    ("p_art", "aucs", "expected"),
    [
        (0.5, {"iid": 0.63, "ood": 0.1, "clean": 0.5}, True),  # it learned the confounder
        (0.5, {"iid": 0.61, "ood": 0.9, "clean": 0.9}, False),
        (0.5, {"iid": 0.2}, False),  # worse than guessing is not learned either
        (0, {"ood": 0.63}, True),  # nobody carried in training: nothing misleads
        (0, {"ood": 0.61}, False),
        (0, {"clean": 0.61, "ood": 0.7}, True),
        (1, {"ood": 0.4}, True),  # of the o.o.d. test alone nothing can be said,
        (1, {"ood": 0.5}, False),  # but where all scores are alike
    ],
)
def test_a_run_that_ranks_as_guessing_does_did_not_learn(p_art, aucs, expected):
    # sd of the AUC of 31 + 31 in random order: sqrt(63 / (12 * 961)) = .0739; .5 + 1.645 * .0739 = .6216.
    assert metrics.learned(scored(**aucs), p_art) is expected


def test_one_in_twenty_of_those_that_guess_is_called_learned():
    rng = np.random.default_rng(1)
    tables = [predictions([0] * 40 + [1] * 25, rng.random(65)).assign(patient_id=range(65)) for _ in range(1000)]
    called = np.mean([metrics.learned(metrics.by_test_set(table), 0.5) for table in tables])
    assert called == pytest.approx(0.05, abs=0.02)  # sd .007
    constant = predictions([0, 1, 0, 1], [0.3] * 4, "ood")
    assert not metrics.learned(metrics.by_test_set(constant), 1)


def test_small_tests_are_not_counted_but_the_ood_test_is():
    rows = [("iid", 19, 9, 5, 0.5), ("ood", 4, 2, 4, 0.5), ("clean", 20, 10, 5, 0.5)]
    tests = pd.DataFrame(rows, columns=["test_set", *metrics.SIZE, "auc"])
    assert metrics.counted(tests, 10)["test_set"].tolist() == ["ood", "clean"]
    assert metrics.counted(tests, 9)["test_set"].tolist() == ["iid", "ood", "clean"]
    many_positives = tests.assign(positives=[18, 2, 10])
    assert metrics.counted(many_positives, 9)["test_set"].tolist() == ["ood", "clean"]


def test_sizes_are_those_of_the_smallest_run():
    table = pd.concat([results([0.5, 0.6]), results([0.5], test_set="iid"), results([0.7], task="other")])
    table = table.assign(n=[10, 8, 12, 14], positives=[5, 4, 6, 7], patients=[3, 3, 2, 9])
    assert metrics.sizes(table).to_numpy().tolist() == [
        ["mass", "tag", "ood", 8, 4, 3],
        ["mass", "tag", "iid", 12, 6, 2],
        ["other", "tag", "ood", 14, 7, 9],
    ]


def test_mixed_or_incomplete_results_are_refused():
    with pytest.raises(StudyError, match="two runs for task mass.*fold 0"):
        metrics.of_tests(pd.concat([results([0.6]), results([0.7])]), "auc")
    with pytest.raises(StudyError, match="no column fold"):
        metrics.of_tests(results([0.6]).drop(columns="fold"), "auc")
    with pytest.raises(StudyError, match="has no row"):
        metrics.of_tests(results([]), "auc")
    with pytest.raises(StudyError, match="no column f1"):
        metrics.of_tests(results([0.6]), "f1")


HAND = predictions([1, 1, 0, 0, 0], [0.8, 0.4, 0.4, 0.1, 0.6]).assign(patient_id=["p", "q", "r", "r", "p"])


def test_wins_by_hand():
    # .8 beats all three, .4 beats .1 and ties; above .4 is .8 and a tie, above .1 both, above .6 only .8.
    won = metrics.wins(HAND["label"].to_numpy(), HAND["score"].to_numpy())
    assert won.tolist() == [3, 1.5, 1.5, 2, 1]


def test_patient_parts_by_hand():
    parts = metrics.patient_parts(HAND)
    # Shares of wins less the AUC, .75, over two positives and three negatives.
    assert parts.index.tolist() == ["p", "q", "r"]
    assert parts["positive"].tolist() == pytest.approx([0.25 / 2, -0.25 / 2, np.nan], nan_ok=True)
    assert parts["negative"].tolist() == pytest.approx([-0.25 / 3, np.nan, 0.25 / 3], nan_ok=True)


patients = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5), st.sampled_from("abcde")), min_size=4, max_size=30
).filter(lambda rows: len({row[0] for row in rows}) == 2)


@given(patients, st.permutations("abcde"))
def test_parts_know_neither_names_nor_the_scale_of_scores(rows, names):
    labels, scores, of = zip(*rows, strict=True)
    table = predictions(labels, np.array(scores) / 5).assign(patient_id=of)
    parts = metrics.patient_parts(table)
    assert parts.sum().tolist() == pytest.approx([0, 0], abs=1e-12)
    moved = metrics.patient_parts(table.assign(score=np.exp(3 * table["score"])))
    pd.testing.assert_frame_equal(parts, moved)
    renamed = dict(zip("abcde", names, strict=True))
    others = metrics.patient_parts(table.assign(patient_id=table["patient_id"].map(renamed)))
    assert others.loc[parts.index.map(renamed)].to_numpy() == pytest.approx(parts.to_numpy(), nan_ok=True)


def drawn(seed=0, patients=50, folds=1):
    """Predictions of `folds` networks for the same patients, of one to three images, some of them of both classes."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    labels = rng.integers(0, 2, len(of))
    hard = rng.normal(size=patients)[of] + labels
    scores = [scipy.special.expit(hard + rng.normal(size=len(of))) for _ in range(folds)]
    return [predictions(labels, each).assign(patient_id=[f"p{k}" for k in of]) for each in scores]


def estimated(tables, metric="auc"):
    parts = [metrics.patient_parts(table, metric) for table in tables]
    aucs = [getattr(metrics, metric)(table) for table in tables]
    return metrics.estimate(
        np.array(aucs), *(np.array([part[of] for part in parts]) for of in ("positive", "negative"))
    )


def test_without_clusters_the_patients_part_is_delongs():
    (table,) = drawn()
    table = table.assign(patient_id=table["image_id"])
    positive, negative = (table.loc[table["label"] == label, "score"].to_numpy() for label in (1, 0))
    v10 = [np.mean([(x > y) + (x == y) / 2 for y in negative]) for x in positive]
    v01 = [np.mean([(x > y) + (x == y) / 2 for x in positive]) for y in negative]
    delong = np.var(v10, ddof=1) / len(v10) + np.var(v01, ddof=1) / len(v01)
    found = estimated([table])
    assert found.patient_variance == pytest.approx(delong)
    assert (found.fold_variance, found.patients) == (0, len(table)) and "one fold" in found.problem


@pytest.mark.parametrize("metric", ["auc", "auc_keras"])
def test_the_patients_part_is_what_a_bootstrap_over_patients_finds(metric):
    tables, rng = drawn(folds=2), np.random.default_rng(1)
    rows = list(tables[0].groupby("patient_id").indices.values())
    pairs = []
    for _ in range(1500):
        chosen = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        pairs.append([getattr(metrics, metric)(table.iloc[chosen]) for table in tables])
    together = np.cov(np.array(pairs).T)
    assert estimated(tables, metric).patient_variance == pytest.approx(together[0, 1], rel=0.15)
    assert estimated(tables[:1], metric).patient_variance == pytest.approx(together[0, 0], rel=0.15)


def test_an_estimate_by_hand():
    # Two folds, two patients with an image of either class. s^2 / 2 = .02 / 2. Any two folds vary together by
    # 2 (.01 + .01) + 2 (.04 + .04) + 2 (.04 + .04): sums over the patients, by n / (n - 1) = 2.
    found = metrics.estimate(np.array([0.3, 0.5]), np.array([[0.1, -0.1]] * 2), np.array([[0.2, -0.2]] * 2))
    assert (found.value, found.folds, found.patients, found.patients_df) == (0.4, 2, 2, 1)
    assert (found.fold_variance, found.patient_variance) == pytest.approx((0.01, 0.36))
    df = 0.37**2 / (0.01**2 / 1 + 0.36**2 / 1)
    assert found.df == pytest.approx(df) and found.t == pytest.approx(0.4 / np.sqrt(0.37))
    assert found.interval == pytest.approx(scipy.stats.t.interval(0.95, df, 0.4, np.sqrt(0.37)))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(0.4 / np.sqrt(0.37), df))
    assert found.detectable == pytest.approx(np.sqrt(0.37) * scipy.stats.t.ppf([0.975, 0.8], df).sum())
    assert found.development.fold_variance == pytest.approx(0.01 * (1 + 2 * 0.85 / 0.15))


def test_folds_that_vary_against_each_other_leave_the_patients_no_part():
    opposite = np.array([[0.1, -0.1, 0.0], [-0.1, 0.1, 0.0]])
    found = metrics.estimate(np.array([0.5, 0.7]), opposite, opposite)
    assert found.patient_variance == 0 and found.df == pytest.approx(1)
    assert found.interval == pytest.approx(scipy.stats.t.interval(0.95, 1, 0.6, 0.1))


def test_what_does_not_vary_or_has_one_patient_is_no_test_and_says_so():
    none = np.zeros((3, 4))
    flat = metrics.estimate(np.array([0.1, 0.1, 0.1 + 1e-16]), none, none)
    assert "nothing to measure by" in flat.problem and np.isnan([flat.t, flat.p, *flat.interval]).all()
    alone = np.array([[0.1, np.nan, np.nan]] * 3)
    few = metrics.estimate(np.array([0.1, 0.2, 0.4]), alone, np.array([[np.nan, 0.1, -0.1]] * 3))
    assert "a single patient" in few.problem and np.isnan([few.p, *few.interval]).all()


def test_the_interval_of_an_auc_lies_within_0_and_1():
    found = metrics.Estimate(0.97, 5, 40, 19, 0.0004, 0.0005)
    half = scipy.stats.t.ppf(0.975, found.df) * 0.03 / (0.97 * 0.03)
    by_hand = scipy.special.expit(scipy.special.logit(0.97) + np.array([-half, half]))
    assert found.interval_of_auc == pytest.approx(by_hand.tolist())
    assert found.interval[1] > 1 > found.interval_of_auc[1]
    assert np.isnan(metrics.Estimate(1.0, 5, 40, 19, 0.0, 0.0).interval_of_auc).all()


def test_more_folds_leave_what_the_patients_bring_about():
    # The same networks eight times over: nothing varies from fold to fold, and the patients as much as before.
    tables = drawn(folds=1)
    one, eight = estimated(tables), estimated(tables * 8)
    assert eight.fold_variance == 0 and eight.error == pytest.approx(one.error)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_is_scikit_learns_with_ties_too(pairs):
    labels, scores = zip(*pairs, strict=True)
    if len(set(labels)) == 2:
        predictions = pd.DataFrame({"label": labels, "score": np.array(scores) / 5})
        assert metrics.auc(predictions) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_holm_by_hand():
    found = metrics.holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert found[0] == pytest.approx(0.03) and np.isnan(found[1])
    assert found[2] == found[3] == pytest.approx(0.06)


def test_an_auc_of_one_has_the_interval_of_a_share_and_any_other_its_own():
    still = dict(folds=1, patients=35, patients_df=14, fold_variance=0.0, patient_variance=0.0)
    # 15 of 15 patients: the exact interval of a share begins where 15 successes in 15 have a probability of .025.
    low, high = metrics.interval_of_ranking(metrics.Estimate(1.0, **still))
    assert low**15 == pytest.approx(0.025) and high == 1
    assert metrics.interval_of_ranking(metrics.Estimate(0.0, **still)) == pytest.approx((0, 1 - low))
    other = metrics.Estimate(0.8, **still | {"patient_variance": 0.01})
    assert metrics.interval_of_ranking(other) == other.interval_of_auc

"""Numbers from predictions alone: AUC of a run, mean and confidence interval over folds.

Tables in, tables out; nothing here knows the network. Predictions: `image_id, patient_id, label` (0/1),
`score` (probability of class 1), `test_set` (iid, ood, clean), `carries` (0/1). Results: one row a run and
test set, `run_id, task, confounder, p_art, source, backbone, fold, test_set, n, auc, auc_keras`. `auc` is the
measure of this study; `auc_keras` is the published kind, to lay our curves on the published ones and nothing else.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import scipy.special
from numpy.typing import NDArray

from sourcematters.errors import StudyError

TEST_SETS = ("iid", "ood", "clean")
GROUP = ["task", "confounder", "source", "backbone", "test_set", "p_art"]
SOURCE = ["task", "confounder", "backbone", "source"]
SUMMARY = [*GROUP, "folds", "mean", "ci_low", "ci_high"]
METRICS = ("auc", "auc_keras")
KERAS_THRESHOLDS = 200  # of keras.metrics.AUC, k / 199; the outermost let everything and nothing pass


def check(table: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise StudyError unless `table` has rows and these columns; `what` names the table for the reader."""
    if missing := [column for column in columns if column not in table.columns]:
        found = ", ".join(map(str, table.columns))
        raise StudyError(f"{what}: no column {', '.join(missing)}. It has: {found}.")
    if table.empty:
        raise StudyError(f"{what}: the table has no row. Has any run finished?")


def auc(predictions: pd.DataFrame) -> float:
    """Binary area under the ROC curve of `score` for `label`, 0..1; ties count half.

    Raises StudyError, naming the row, for a missing column, a label other than 0 or 1, or a score that is not
    finite; and if there is only one class.
    """
    labels, scores = _labels_and_scores(predictions)
    return float(weighted_auc(labels, scores, np.ones((1, len(labels))))[0])


def weighted_auc(
    labels: NDArray[np.int64], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Binary AUC, (B,), under each row of `weights`, (B, n): image k counts weights[b, k] times; ties count half.

    `labels` (0/1) and `scores` are (n,). NaN where a class has no weight. By ranks, in O(n log n + B n).
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    ordered, positive = weights[:, order], labels[order] == 1
    gained = np.add.reduceat(ordered * positive, starts, axis=1)  # weight of each score's positives: (B, scores)
    passed = np.add.reduceat(ordered * ~positive, starts, axis=1)
    below = np.cumsum(passed, axis=1) - passed
    with np.errstate(invalid="ignore"):
        return (gained * (below + passed / 2)).sum(1) / (gained.sum(1) * passed.sum(1))


def auc_keras(predictions: pd.DataFrame) -> float:
    """The published kind of AUC, 0..1: `keras.metrics.AUC()` on one-hot labels and the two softmax columns.

    Every image counts twice, [1 - score, score] against its one-hot label (micro-average), and the curve has 200 fixed
    thresholds, trapezoids between them, all in float32. So it moves with calibration: a constant score gives the share
    of the larger class. Raises StudyError as `auc` does, and for a score outside 0..1. Port of class AUC with its
    default arguments (https://github.com/keras-team/keras/blob/master/keras/src/metrics/confusion_metrics.py), and of
    how it counts (metrics_utils.py, `_update_confusion_matrix_variables_optimized`): in buckets, not by comparison.
    """
    labels, scores = _labels_and_scores(predictions)
    scores = scores.astype(np.float32)
    why = "score must be a probability, 0..1, for the published kind of AUC."
    _refuse(predictions, (scores < 0) | (scores > 1), why)
    scores, labels = np.concatenate([1 - scores, scores]), np.concatenate([1 - labels, labels])
    # A score passes the thresholds up to its bucket. One of k / 199 must not pass its own, but as float32 it is off by
    # a rounding, and so is its product with 199: it passes in Keras where the product comes out above k.
    steps = np.float32(KERAS_THRESHOLDS - 1)
    buckets = np.maximum(np.ceil(scores * steps) - 1, 0).astype(int)
    rates = []
    for label in (0, 1):
        counts = np.bincount(buckets[labels == label], minlength=KERAS_THRESHOLDS)
        passed = np.cumsum(counts[::-1])[::-1]
        rates.append(passed.astype(np.float32) / np.float32(counts.sum()))
    false_positive, true_positive = rates
    widths, heights = false_positive[:-1] - false_positive[1:], (true_positive[:-1] + true_positive[1:]) / 2
    return float(np.sum(widths * heights))


def _labels_and_scores(predictions: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    check(predictions, ["label", "score"], "predictions")
    _refuse(predictions, ~predictions["label"].isin([0, 1]).to_numpy(), "label must be 0 or 1.")
    scores = pd.to_numeric(predictions["score"], errors="coerce").to_numpy(float)
    why = "score must be a finite number. The training has probably diverged: lower the learning rate."
    _refuse(predictions, ~np.isfinite(scores), why)
    labels = predictions["label"].to_numpy(int)
    if len(np.unique(labels)) < 2:
        raise StudyError(f"predictions: all {len(labels)} labels are {labels[0]}; an AUC needs both classes.")
    return labels, scores


def _refuse(predictions: pd.DataFrame, wrong: NDArray[np.bool_], why: str) -> None:
    if wrong.any():
        row = predictions[wrong].iloc[0]
        name = f"image {row['image_id']}" if "image_id" in row else f"row {row.name}"
        raise StudyError(
            f"predictions, {name}, label {row['label']}, score {row['score']} (and {wrong.sum() - 1} more): {why}"
        )


def by_test_set(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a test set, in the order of `TEST_SETS`: `test_set, n, auc, auc_keras`. Raises as these do."""
    check(predictions, ["label", "score", "test_set"], "predictions")
    parts = {str(name): part for name, part in predictions.groupby("test_set", sort=False, dropna=False)}
    if unknown := sorted(parts.keys() - set(TEST_SETS)):
        raise StudyError(f"predictions: unknown test_set {', '.join(unknown)}; it is {', '.join(TEST_SETS)}.")
    found = [(name, parts[name]) for name in TEST_SETS if name in parts]
    rows = [(name, len(part), auc(part), auc_keras(part)) for name, part in found]
    return pd.DataFrame(rows, columns=["test_set", "n", *METRICS])


def of_tests(results: pd.DataFrame, metric: str, test_sets: Iterable[str] = TEST_SETS) -> pd.DataFrame:
    """The results of these tests. Raises StudyError if there is none, or a fold occurs twice."""
    run = [*GROUP, "fold"]
    check(results, [*run, metric], "results")
    results = results[results["test_set"].isin(list(test_sets))]
    check(results, run, f"results of the tests {', '.join(test_sets)}")
    if (twice := results.duplicated(run)).any():
        where = ", ".join(f"{column} {value}" for column, value in results.loc[twice, run].iloc[0].items())
        raise StudyError(f"results: two runs for {where}. Two settings are mixed in one table: take them apart.")
    return results


def summarise(results: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """Mean `metric` over folds with its 95 % confidence interval: `SUMMARY`, one row a group of `GROUP`.

    The interval is Student's t, mean +- t(.975, folds - 1) sd / sqrt(folds), NaN for a single fold, not cut at 0 or 1.
    The folds share most of their training images, so it tells how far the result depends on the fold, not how it
    would differ with new patients. Raises StudyError as `of_tests` does.
    """
    groups = of_tests(results, metric).groupby(GROUP, sort=True)[metric]
    summary = groups.agg(folds="size", mean="mean", error="sem").reset_index()
    half = scipy.special.stdtrit(summary["folds"] - 1, 0.975) * summary["error"]
    return summary.assign(ci_low=summary["mean"] - half, ci_high=summary["mean"] + half)[SUMMARY]


def robustness(summary: pd.DataFrame) -> pd.DataFrame:
    """What the confounder costs: mean AUC at the weakest and the strongest p_art of each source.

    One row a `SOURCE`: `p_low, p_high, ood_low, ood_high` (o.o.d. AUC at both ends), `drop` (ood_low - ood_high) and
    `gap` (i.i.d. minus o.o.d. AUC at p_high), NaN where the cohort has no i.i.d. test.
    """
    rows = []
    for names, group in summary.groupby(SOURCE, sort=True):
        mean = group.set_index(["test_set", "p_art"])["mean"]
        low, high = group["p_art"].min(), group["p_art"].max()
        ood_low, ood_high, iid_high = mean["ood", low], mean["ood", high], mean.get(("iid", high), np.nan)
        rows.append((*names, low, high, ood_low, ood_high, ood_low - ood_high, iid_high - ood_high))
    return pd.DataFrame(rows, columns=[*SOURCE, "p_low", "p_high", "ood_low", "ood_high", "drop", "gap"])

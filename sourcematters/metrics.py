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
SUMMARY = [*GROUP, "folds", "mean", "ci_low", "ci_high"]
METRICS = ("auc", "auc_keras")
# keras.metrics.AUC's 200 thresholds; the outermost let everything and nothing pass.
_EPSILON = 1e-7
KERAS_THRESHOLDS = np.array([-_EPSILON, *(np.arange(1, 199) / 199), 1 + _EPSILON], dtype=np.float32)


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
    # Mann and Whitney's U over the number of pairs. scikit-learn's function gives the same number, and takes half a
    # second to import in every notebook.
    ranks = pd.Series(scores).rank().to_numpy()
    positives = int(labels.sum())
    u = ranks[labels == 1].sum() - positives * (positives + 1) / 2
    return float(u / (positives * (len(labels) - positives)))


def auc_keras(predictions: pd.DataFrame) -> float:
    """The published kind of AUC, 0..1: `keras.metrics.AUC()` on one-hot labels and the two softmax columns.

    Every image counts twice, [1 - score, score] against its one-hot label (micro-average), and the curve has
    200 fixed thresholds, trapezoids between them, all in float32. So it moves with calibration: a constant
    score gives the share of the larger class, and scores between two thresholds are one tie. Exact port of
    https://github.com/keras-team/keras/blob/master/keras/src/metrics/confusion_metrics.py, class AUC with its
    default arguments. Raises StudyError as `auc` does, and for a score outside 0..1.
    """
    labels, scores = _labels_and_scores(predictions)
    scores = scores.astype(np.float32)
    if (wrong := (scores < 0) | (scores > 1)).any():
        row = _row(predictions, predictions.index[wrong][0])
        raise StudyError(f"predictions, {row}: score must be a probability, 0..1, for the published kind of AUC.")
    scores = np.concatenate([1 - scores, scores])
    labels = np.concatenate([1 - labels, labels])
    # Strictly above the threshold, as in Keras: a score that equals it does not pass.
    rates = []
    for label in (0, 1):
        ranked = np.sort(scores[labels == label])
        above = len(ranked) - np.searchsorted(ranked, KERAS_THRESHOLDS, side="right")
        rates.append(above.astype(np.float32) / np.float32(len(ranked)))
    false_positive, true_positive = rates
    widths, heights = false_positive[:-1] - false_positive[1:], (true_positive[:-1] + true_positive[1:]) / 2
    return float(np.sum(widths * heights))


def _labels_and_scores(predictions: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    check(predictions, ["label", "score"], "predictions")
    wrong = predictions.index[~predictions["label"].isin([0, 1])]
    if len(wrong):
        raise StudyError(f"predictions, {_row(predictions, wrong[0])}: label must be 0 or 1.")
    scores = pd.to_numeric(predictions["score"], errors="coerce").to_numpy(float)
    wrong = predictions.index[~np.isfinite(scores)]
    if len(wrong):
        raise StudyError(
            f"predictions, {_row(predictions, wrong[0])} (and {len(wrong) - 1} more): score must be a finite "
            "number. The training has probably diverged: lower the learning rate."
        )
    labels = predictions["label"].to_numpy(int)
    if len(np.unique(labels)) < 2:
        raise StudyError(f"predictions: all {len(labels)} labels are {labels[0]}; an AUC needs both classes.")
    return labels, scores


def _row(predictions: pd.DataFrame, index: object) -> str:
    row = predictions.loc[index]
    name = f"image {row['image_id']}" if "image_id" in predictions.columns else f"row {index}"
    return f"{name}, label {row['label']!r}, score {row['score']!r}"


def by_test_set(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a test set, in the order of `TEST_SETS`: `test_set, n, auc, auc_keras`. Raises as these do."""
    check(predictions, ["label", "score", "test_set"], "predictions")
    if unknown := sorted(set(predictions["test_set"].astype(str)) - set(TEST_SETS)):
        raise StudyError(f"predictions: unknown test_set {', '.join(unknown)}; it is {', '.join(TEST_SETS)}.")
    parts = {name: part for name, part in predictions.groupby("test_set", sort=False)}
    found = [(name, parts[name]) for name in TEST_SETS if name in parts]
    rows = [(name, len(part), auc(part), auc_keras(part)) for name, part in found]
    return pd.DataFrame(rows, columns=["test_set", "n", *METRICS])


def summarise(results: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """Mean `metric` over folds with its 95 % confidence interval: `SUMMARY`, one row a group of `GROUP`.

    The interval is Student's t over the folds, mean +- t(.975, folds - 1) sd / sqrt(folds); it is NaN for a
    single fold, and not cut at 0 or 1. The folds share most of their training images, so it tells how far the
    result depends on the fold, not how it would differ with new patients. Raises StudyError if a fold occurs
    twice in a group, or a value is missing.
    """
    columns = [*GROUP, "fold", metric]
    check(results, columns, "results")
    if (holes := results[columns].isna()).any(axis=None):
        at = holes.any(axis=1).argmax()
        lacking = ", ".join(holes.columns[holes.iloc[at]])
        first = results.iloc[at]
        raise StudyError(f"results: no {lacking} for {_group(first)}, fold {first['fold']}. Run it again.")
    if (twice := results.duplicated([*GROUP, "fold"])).any():
        first = results[twice].iloc[0]
        raise StudyError(
            f"results: fold {first['fold']} occurs twice in {_group(first)}. Two settings are mixed in one "
            "table: summarise them apart."
        )
    summary = results.groupby(GROUP, sort=True)[metric].agg(folds="size", mean="mean", error="sem").reset_index()
    half = scipy.special.stdtrit(summary["folds"] - 1, 0.975) * summary["error"]
    return summary.assign(ci_low=summary["mean"] - half, ci_high=summary["mean"] + half)[SUMMARY]


def _group(row: pd.Series) -> str:
    return ", ".join(f"{column} {row[column]}" for column in GROUP)


def robustness(summary: pd.DataFrame) -> pd.DataFrame:
    """What the confounder costs: mean AUC at the weakest and the strongest p_art of each source.

    One row a task, confounder, backbone and source: `p_low, p_high, ood_low, ood_high` (o.o.d. AUC at both
    ends), `drop` (ood_low - ood_high) and `gap` (i.i.d. minus o.o.d. AUC at p_high), which is NaN where the cohort
    has no i.i.d. test. `summary` is what `summarise` returns. Raises StudyError if an end lacks its i.i.d. or
    o.o.d. row.
    """
    check(summary, SUMMARY, "summary")
    rows = []
    keys = ["task", "confounder", "backbone", "source"]
    for names, group in summary.groupby(keys, sort=True):
        mean = group.set_index(["test_set", "p_art"])["mean"]
        low, high = group["p_art"].min(), group["p_art"].max()
        defined = "iid" in set(group["test_set"])
        for test_set, p_art in [("ood", low), ("ood", high)] + [("iid", high)] * defined:
            if (test_set, p_art) not in mean:
                where = ", ".join(map(str, names))
                raise StudyError(f"summary: {where} has no {test_set} row at p_art {p_art:g}. Run it first.")
        ood_low, ood_high = mean["ood", low], mean["ood", high]
        gap = mean["iid", high] - ood_high if defined else np.nan
        rows.append((*names, low, high, ood_low, ood_high, ood_low - ood_high, gap))
    return pd.DataFrame(rows, columns=[*keys, "p_low", "p_high", "ood_low", "ood_high", "drop", "gap"])

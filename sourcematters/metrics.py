"""Numbers from predictions alone: AUC of a run, mean and confidence interval over folds.

Tables in, tables out; nothing here knows the network. Predictions: `image_id, patient_id, label` (0/1),
`score` (probability of class 1), `test_set` (iid, ood, clean), `carries` (0/1). Results: one row a run and
test set, `run_id, task, confounder, p_art, source, backbone, fold, test_set, n, auc`.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import scipy.stats
from sklearn.metrics import roc_auc_score

from sourcematters.errors import StudyError

TEST_SETS = ("iid", "ood", "clean")
GROUP = ["task", "confounder", "source", "backbone", "test_set", "p_art"]
SUMMARY = [*GROUP, "folds", "mean", "ci_low", "ci_high"]


def check(table: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Raise StudyError unless `table` has rows and these columns; `what` names the table for the reader."""
    if missing := [column for column in columns if column not in table.columns]:
        found = ", ".join(map(str, table.columns))
        raise StudyError(f"{what}: no column {', '.join(missing)}. It has: {found}.")
    if table.empty:
        raise StudyError(f"{what}: the table has no row. Has any run finished?")


def auc(predictions: pd.DataFrame) -> float:
    """Binary area under the ROC curve of `score` for `label`, 0..1; ties count half.

    The published tables use `keras.metrics.AUC` over both one-hot columns instead, which moves with
    calibration: the two must not be compared. Raises StudyError, naming the row, for a missing column, a
    label other than 0 or 1, or a score that is not finite; and if there is only one class.
    """
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
    return float(roc_auc_score(labels, scores))


def _row(predictions: pd.DataFrame, index: object) -> str:
    row = predictions.loc[index]
    name = f"image {row['image_id']}" if "image_id" in predictions.columns else f"row {index}"
    return f"{name}, label {row['label']!r}, score {row['score']!r}"


def by_test_set(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a test set, in the order of `TEST_SETS`: `test_set, n, auc`. Raises as `auc` does."""
    check(predictions, ["label", "score", "test_set"], "predictions")
    if unknown := sorted(set(predictions["test_set"].astype(str)) - set(TEST_SETS)):
        raise StudyError(f"predictions: unknown test_set {', '.join(unknown)}; it is {', '.join(TEST_SETS)}.")
    parts = {name: part for name, part in predictions.groupby("test_set", sort=False)}
    rows = [(name, len(parts[name]), auc(parts[name])) for name in TEST_SETS if name in parts]
    return pd.DataFrame(rows, columns=["test_set", "n", "auc"])


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean AUC over folds with its 95 % confidence interval: `SUMMARY`, one row a group of `GROUP`.

    The interval is Student's t over the folds, mean +- t(.975, folds - 1) sd / sqrt(folds); it is NaN for a
    single fold, and not cut at 0 or 1. The folds share most of their training images, so it tells how far the
    result depends on the fold, not how it would differ with new patients. Raises StudyError if a fold occurs
    twice in a group, or a value is missing.
    """
    columns = [*GROUP, "fold", "auc"]
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
    summary = results.groupby(GROUP, sort=True)["auc"].agg(folds="size", mean="mean", error="sem").reset_index()
    half = scipy.stats.t.ppf(0.975, summary["folds"] - 1) * summary["error"]
    return summary.assign(ci_low=summary["mean"] - half, ci_high=summary["mean"] + half)[SUMMARY]


def _group(row: pd.Series) -> str:
    return ", ".join(f"{column} {row[column]}" for column in GROUP)


def robustness(summary: pd.DataFrame) -> pd.DataFrame:
    """What the confounder costs: mean AUC at the weakest and the strongest p_art of each source.

    One row a task, confounder, backbone and source: `p_low, p_high, ood_low, ood_high` (o.o.d. AUC at both
    ends), `drop` (ood_low - ood_high) and `gap` (i.i.d. minus o.o.d. AUC at p_high). `summary` is what
    `summarise` returns. Raises StudyError if an end lacks its i.i.d. or o.o.d. row.
    """
    check(summary, SUMMARY, "summary")
    rows = []
    keys = ["task", "confounder", "backbone", "source"]
    for names, group in summary.groupby(keys, sort=True):
        mean = group.set_index(["test_set", "p_art"])["mean"]
        low, high = group["p_art"].min(), group["p_art"].max()
        for test_set, p_art in (("ood", low), ("ood", high), ("iid", high)):
            if (test_set, p_art) not in mean:
                where = ", ".join(map(str, names))
                raise StudyError(f"summary: {where} has no {test_set} row at p_art {p_art:g}. Run it first.")
        ood_low, ood_high = mean["ood", low], mean["ood", high]
        rows.append((*names, low, high, ood_low, ood_high, ood_low - ood_high, mean["iid", high] - ood_high))
    return pd.DataFrame(rows, columns=[*keys, "p_low", "p_high", "ood_low", "ood_high", "drop", "gap"])

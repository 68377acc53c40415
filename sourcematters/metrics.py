"""Numbers from predictions alone: the AUC of a run, and how far each test patient moves it.

Tables in, tables out; nothing here knows the network. Predictions: `image_id, patient_id, label` (0/1),
`score` (probability of class 1), `test_set` (iid, ood, clean), `carries` (0/1). Results: one row a run and
test set, `run_id, task, confounder, p_art, source, backbone, fold, test_set, n, positives, patients, auc, auc_keras`
and `learned` (0/1). `auc` is the measure of this study; `auc_keras` is the published kind, to lay our curves on the
published ones and nothing else.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import scipy.special
from numpy.typing import NDArray

from sourcematters.errors import StudyError

TEST_SETS = ("iid", "ood", "clean")
GROUP = ["task", "confounder", "source", "backbone", "test_set", "p_art"]
METRICS = ("auc", "auc_keras")
SIZE = ["n", "positives", "patients"]  # of a test set: images, those with label 1, and whose they are
KERAS_THRESHOLDS = 200  # of keras.metrics.AUC, k / 199; the outermost let everything and nothing pass
LEFT_OUT = 0.15  # of the development patients, by each fold (`design.fold_parts`)
ROUNDING = 1e-12  # of an AUC
DETECTED = (0.975, 0.8)  # two-sided at .05, found four times in five


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
    positives = int(labels.sum())
    return float(wins(labels, scores)[labels == 1].sum() / (positives * (len(labels) - positives)))


def wins(labels: NDArray[np.int64], scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each positive how many negatives score below it, of each negative how many positives score above; ties half.

    `labels` (0/1) and `scores` are (n,). As a share of the other class they are the structural components of the AUC
    (DeLong et al. 1988, Biometrics 44, 837); the mean of either class is the AUC.
    """
    found = np.empty(len(scores))
    for label in (0, 1):
        own, other = scores[labels == label], np.sort(scores[labels != label])
        below = (np.searchsorted(other, own, "left") + np.searchsorted(other, own, "right")) / 2
        found[labels == label] = below if label else len(other) - below
    return found


def patient_parts(predictions: pd.DataFrame, metric: str = "auc") -> pd.DataFrame:
    """How far each test patient moves the AUC: indexed by patient_id, columns positive and negative.

    Of each class, the sum over the patient's images of (share of wins - AUC) / images of the class; NaN where it has
    none. Either column sums to 0; variances and covariance of such sums are Obuchowski's for images in clusters (1997,
    Biometrics 53, 567). The published kind of AUC is the AUC of both columns of the softmax, in which scores between
    two of its thresholds tie, so it has the same parts. Raises StudyError as `auc` does.
    """
    check(predictions, ["patient_id"], "predictions")
    labels, scores = _labels_and_scores(predictions)
    names, patient = np.unique(predictions["patient_id"].to_numpy(str), return_inverse=True)
    if metric == "auc_keras":
        scores = scores.astype(np.float32)
        labels, patient = np.concatenate([labels, 1 - labels]), np.concatenate([patient, patient])
        scores = _buckets(np.concatenate([scores, 1 - scores])).astype(float)
    won, parts = wins(labels, scores), {}
    for label, column in ((1, "positive"), (0, "negative")):
        own = labels == label
        images = np.bincount(patient[own], minlength=len(names))
        shares = won[own] / (~own).sum()
        moved = np.bincount(patient[own], shares - shares.mean(), len(names)) / own.sum()
        parts[column] = np.where(images, moved, np.nan)
    return pd.DataFrame(parts, index=pd.Index(names, name="patient_id"))


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
    buckets, rates = _buckets(scores), []
    for label in (0, 1):
        counts = np.bincount(buckets[labels == label], minlength=KERAS_THRESHOLDS)
        passed = np.cumsum(counts[::-1])[::-1]
        rates.append(passed.astype(np.float32) / np.float32(counts.sum()))
    false_positive, true_positive = rates
    widths, heights = false_positive[:-1] - false_positive[1:], (true_positive[:-1] + true_positive[1:]) / 2
    return float(np.sum(widths * heights))


def _buckets(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The last of Keras's thresholds that each score passes."""
    # One of k / 199 must not pass its own, but as float32 it is off by a rounding, and so is its product with 199: it
    # passes in Keras where the product comes out above k.
    return np.maximum(np.ceil(scores * np.float32(KERAS_THRESHOLDS - 1)) - 1, 0).astype(int)


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


def holm(p: pd.Series) -> pd.Series:
    """Holm's correction over all of `p` (1979, Scandinavian Journal of Statistics 6, 65); NaN is no test, and stays."""
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    there = p.dropna()
    corrected = multipletests(there, method="holm")[1] if len(there) else []
    return pd.Series(corrected, index=there.index, dtype=float).reindex(p.index)


def by_test_set(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a test set, in the order of `TEST_SETS`: `test_set`, `SIZE`, `auc`, `auc_keras`. Raises as these do."""
    check(predictions, ["label", "score", "test_set", "patient_id"], "predictions")
    parts = {str(name): part for name, part in predictions.groupby("test_set", sort=False, dropna=False)}
    if unknown := sorted(parts.keys() - set(TEST_SETS)):
        raise StudyError(f"predictions: unknown test_set {', '.join(unknown)}; it is {', '.join(TEST_SETS)}.")
    found = [(name, parts[name]) for name in TEST_SETS if name in parts]
    rows = [
        (name, len(part), int(part["label"].sum()), part["patient_id"].nunique(), auc(part), auc_keras(part))
        for name, part in found
    ]
    return pd.DataFrame(rows, columns=["test_set", *SIZE, *METRICS])


def counted(tests: pd.DataFrame, smallest: int) -> pd.DataFrame:
    """Of a table of `by_test_set` the o.o.d. test, and others with at least `smallest` images of each class."""
    fewest = np.minimum(tests["positives"], tests["n"] - tests["positives"])
    return tests[(fewest >= smallest) | (tests["test_set"] == "ood")]


def learned(tests: pd.DataFrame, p_art: float) -> bool:
    """Whether a network ranks better than guessing might, on the test that is drawn as its training set was.

    `tests` is its table of `by_test_set`. That test is the i.i.d. one, and any other where nobody carried in training
    (p_art = 0). Better than guessing: its AUC is above .5 + 1.645 sqrt((P + N + 1) / (12 P N)), which P positives and N
    negatives in random order exceed in 5 % (Mann and Whitney 1947; images count as independent). If only other tests
    are there: their AUC is not .5, as it is where all scores are alike.
    """
    check(tests, ["test_set", *SIZE, "auc"], "metrics")
    of = tests.set_index("test_set")
    for name in TEST_SETS if p_art == 0 else ("iid",):
        if name in of.index:
            n, positives = of.loc[name, "n"], of.loc[name, "positives"]
            spread = np.sqrt((n + 1) / (12 * positives * (n - positives)))
            return bool(of.loc[name, "auc"] > 0.5 + scipy.special.ndtri(0.95) * spread)
    return bool((tests["auc"] != 0.5).any())


def sizes(results: pd.DataFrame) -> pd.DataFrame:
    """`SIZE` of each test set, one row a task, confounder and test set: the fewest of any run."""
    check(results, ["task", "confounder", "test_set", *SIZE], "results")
    return results.groupby(["task", "confounder", "test_set"], sort=False)[SIZE].min().reset_index()


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


@dataclass(frozen=True)
class Estimate:
    """A mean over folds, and the two parts of its variance.

    The folds are tested on the same patients. So their mean varies by s^2 / folds (`fold_variance`), and by as much as
    two folds vary together when other patients are tested, however many folds there are (`patient_variance`): the
    analysis of Obuchowski and Rockette (1995, Communications in Statistics 24, 285), whose readers are our folds. s^2
    is seen from fold to fold; the covariance is in closed form (`patient_parts`), the mean over all pairs of folds, or
    0 if that is negative. Satterthwaite's `df` joins folds - 1 and `patients_df`. A single fold has its patients' part
    only. All of it is for these development patients, which the folds share; see `development`.
    """

    value: float
    folds: int
    patients: int
    patients_df: int  # of the rarer class, less one
    fold_variance: float
    patient_variance: float

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(self.fold_variance + self.patient_variance)

    @property
    def df(self) -> float:
        """Degrees of freedom of the standard error; NaN if that is 0."""
        parts = [(self.fold_variance, self.folds - 1), (self.patient_variance, self.patients_df)]
        denominator = sum(variance**2 / df for variance, df in parts if variance > 0)
        return self.error**4 / denominator if denominator else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Student's t; NaN where nothing varies."""
        half = float(scipy.special.stdtrit(self.df, 0.975)) * self.error
        return self.value - half, self.value + half

    @property
    def interval_of_auc(self) -> tuple[float, float]:
        """As `interval`, for a value that is an AUC: on the logit scale, so within 0..1, longer towards .5."""
        around = self.value * (1 - self.value)
        if around <= 0:
            return math.nan, math.nan
        half = (self.interval[1] - self.value) / around
        low, high = scipy.special.expit(scipy.special.logit(self.value) + np.array([-half, half])).tolist()
        return low, high

    @property
    def t(self) -> float:
        """The value in standard errors."""
        return self.value / self.error if self.error > 0 else math.nan

    @property
    def p(self) -> float:
        """Two-sided, of no difference from 0."""
        return 2 * float(scipy.special.stdtr(self.df, -abs(self.t)))

    @property
    def detectable(self) -> float:
        """The smallest true value that is found four times in five, at .05."""
        return float(sum(scipy.special.stdtrit(self.df, q) for q in DETECTED)) * self.error

    @property
    def development(self) -> "Estimate":
        """As if folds differed by nothing but the patients that they left out, for other development patients.

        The folds share their development patients, so what those bring about is not seen from fold to fold. If all
        that is seen came from leaving out a share d of them, they would bring about (1 - d) / d times that variance
        (the delete-d jackknife, Shao and Wu 1989, Annals of Statistics 17, 1176): a bound, as the start of a training
        varies the folds too.
        """
        return replace(self, fold_variance=self.fold_variance * (1 + self.folds * (1 - LEFT_OUT) / LEFT_OUT))

    @property
    def problem(self) -> str:
        """Why there is no test; empty if there is one."""
        if self.folds < 2:
            return "one fold: how much training varies is not known, run more"
        if self.patients_df < 1:
            return "a class of the test has a single patient: use a larger cohort"
        return "" if self.error > 0 else "every fold and every patient gives the same: nothing to measure by"


def interval_of_ranking(found: Estimate) -> tuple[float, float]:
    """As `Estimate.interval_of_auc`; of an AUC of 1, which does not vary, from the patients who were ranked rightly.

    Its lower end is that of a share: all patients of the rarer class were told right (Clopper and Pearson 1934,
    Biometrika 26, 404). Likewise the upper end of 0. NaN where nothing is ranked.
    """
    bound = float(0.025 ** (1 / (found.patients_df + 1)))
    if found.value > 1 - ROUNDING:
        return bound, 1.0
    if found.value < ROUNDING:
        return 0.0, 1 - bound
    return found.interval_of_auc


def estimate(values: NDArray[np.float64], positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Estimate:
    """The mean of `values`, (folds,), a sum of AUCs in each fold, with both sources of variation.

    `positive` and `negative`, (folds, patients), are the same sum of their `patient_parts`, NaN for patients
    without an image of the class.
    """
    folds, has = len(values), [np.isfinite(parts).any(axis=0) for parts in (positive, negative)]
    positives, negatives = (int(of_class.sum()) for of_class in has)
    rarer = min(positives, negatives)
    between, together = float(np.var(values, ddof=1)) / folds if folds > 1 else 0.0, math.nan
    if rarer > 1:
        covariance = _covariance(np.nan_to_num(positive), np.nan_to_num(negative), positives, negatives)
        pairs = ~np.eye(folds, dtype=bool) if folds > 1 else np.ones((1, 1), bool)
        together = float(covariance[pairs].mean())
    # What varies by rounding alone does not vary, and a negative covariance is none.
    between, together = (0.0 if part < ROUNDING**2 else part for part in (between, together))
    return Estimate(float(np.mean(values)), folds, int((has[0] | has[1]).sum()), rarer - 1, between, together)


def _covariance(
    positive: NDArray[np.float64], negative: NDArray[np.float64], positives: int, negatives: int
) -> NDArray[np.float64]:
    """How the folds vary together with the test patients, (folds, folds): Obuchowski 1997, DeLong's if unclustered."""
    patients, mixed = positive.shape[1], positive @ negative.T
    within = positives / (positives - 1) * positive @ positive.T + negatives / (negatives - 1) * negative @ negative.T
    return within + patients / (patients - 1) * (mixed + mixed.T)

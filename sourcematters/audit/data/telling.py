"""How well some features tell the label: an AUC of scores that were made without the patient's own images.

Folds are drawn by patient, and images are compared with others of their fold only: scores of two folds come from two
models, and pooled they rank below chance where there is nothing to find (Airola et al. 2011, Computational Statistics
& Data Analysis 55, 1828). Patients vary as in `metrics.patient_parts`, with the mean over several drawings of folds.
A patient who is tested in one fold was learned from in the others, so that folds err together: the variance is
multiplied by 1 + K / (K - 1) for K folds, Nadeau and Bengio's correction (2003, Machine Learning 52, 239). Without it
an interval of 95 % leaves out .5 in a fifth of the data sets in which nothing tells the label; with it, intervals may
be wider than they need be where much tells it.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.special
from numpy.typing import NDArray

from sourcematters import metrics
from sourcematters.cohorts.cohort import MANY
from sourcematters.cohorts.spelling import together
from sourcematters.errors import StudyError
from sourcematters.seeds import derive, generator

FOLDS = 5
REPEATS, SETTLED = 3, 2_000  # drawings of folds; one is enough where there are more images than that
LEARNED = 2_000  # images, drawn from those of the other folds, are enough to learn from
TREES = 100
FEW = 5  # values: a number with no more of them is a code
SMALL = 5  # images: a smaller group tells nothing by itself
MISSING = "(missing)"
CATEGORY, NUMBER, TOO_MANY = "categorical", "number", "too many values"

Rows = NDArray[np.int64]
Learner = Callable[[Rows, Rows], NDArray[np.float64]]
"""Learn from the first rows, and score the second ones."""


class Told(NamedTuple):
    """An AUC, its 95 % interval over patients, and p, one-sided, of no more than .5."""

    auc: float
    ci_low: float
    ci_high: float
    p: float
    note: str = ""


NOTHING = Told(math.nan, math.nan, math.nan, math.nan)


def kind_of(values: pd.Series) -> str:
    """Whether an attribute is a number, categorical, or of too many values (free text, an id) to be either."""
    distinct = values.nunique()
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return NUMBER if distinct > FEW else CATEGORY
    return TOO_MANY if distinct > min(MANY, max(len(values) / 2, FEW)) else CATEGORY


def categories(values: pd.Series) -> pd.Series:
    """Each value as text, `MISSING` where there is none; codes without their .0."""
    plain = [f"{value:g}" if isinstance(value, float) else str(value) for value in values.astype(object)]
    return pd.Series(plain, index=values.index, dtype=object).mask(values.isna(), MISSING)


def fewest_patients(table: pd.DataFrame) -> int:
    """Patients of the rarer class; one with images of both counts in both. Raises StudyError below 2."""
    person = together(table["patient_id"])
    fewest = min(int(person[table["label"] == label].nunique()) for label in (0, 1))
    if fewest < 2:
        raise StudyError(
            f"the class with the fewest patients has {fewest}: what tells the label cannot be seen by looking at "
            "others. Add patients of that class; two are the least, and twenty make it worth reading."
        )
    return fewest


def tells(features: pd.DataFrame, table: pd.DataFrame, *, seed: int) -> Told:
    """How well `features` (a row an image, any types, with gaps) tell `table`'s label, one patient's from others'.

    A single categorical feature scores by its share of positives, all else by the mean log odds of two models.
    Raises StudyError below two patients of a class.
    """
    fewest = fewest_patients(table)
    label, person = table["label"].to_numpy(int), together(table["patient_id"]).to_numpy(str)
    used = features[[name for name in features if features[name].nunique(dropna=False) > 1]]
    if used.empty:
        return NOTHING._replace(note="the same in all images")
    single = used.shape[1] == 1 and kind_of(used.iloc[:, 0]) == CATEGORY
    learn = _share(categories(used.iloc[:, 0]), label) if single else _models(used, label, seed)
    return cross_validated(learn, label, person, folds=min(FOLDS, fewest), seed=seed)


def cross_validated(learn: Learner, label: Rows, person: NDArray[np.str_], *, folds: int, seed: int) -> Told:
    """The AUC of what `learn` says of others' images, in drawings of `folds` folds by person.

    `label` (0/1) and `person` are (n,). A fold without images of both classes is left out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, patient = np.unique(person, return_inverse=True)
    aucs, parts = list[float](), list[NDArray[np.float64]]()
    for repeat in range(REPEATS if len(label) <= SETTLED else 1):
        drawn = derive(seed, "folds", repeat) % 2**32
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=drawn)
        won, against = np.zeros(len(label)), np.zeros(len(label))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a class has fewer images than folds: such folds are left out
            for train, test in splitter.split(label, label, patient):
                if len(np.unique(label[test])) < 2 or len(np.unique(label[train])) < 2:
                    continue
                if len(train) > LEARNED:
                    train = generator(seed, "learned", repeat, int(test[0])).choice(train, LEARNED, replace=False)
                won[test] = metrics.wins(label[test], learn(np.sort(train), test))
                against[test] = np.where(label[test] == 1, *np.bincount(label[test], minlength=2))
        pairs = against[label == 1].sum()
        if pairs:
            aucs.append(float(won[label == 1].sum() / pairs))
            moved = (won - aucs[-1] * against) / pairs
            parts.append(np.array([np.bincount(patient, moved * (label == of), len(names)) for of in (1, 0)]))
    if not aucs:
        return NOTHING._replace(note="no fold has patients of both classes")
    there = np.array([np.bincount(patient, label == of, len(names)) > 0 for of in (1, 0)])
    positive, negative = np.where(there, np.mean(parts, axis=0), np.nan)[:, None]
    found = metrics.estimate(np.array([np.mean(aucs)]), positive, negative)
    found = replace(found, patient_variance=found.patient_variance * (1 + folds / (folds - 1)))
    note = f"{folds} folds, for want of patients" if folds < FOLDS else ""
    return Told(found.value, *metrics.interval_of_ranking(found), p_above_chance(found), note)


def p_above_chance(found: metrics.Estimate) -> float:
    """One-sided p of an AUC no larger than .5; 1 where nothing is ranked."""
    if found.value > 1 - metrics.ROUNDING:
        return 0.5 ** (found.patients_df + 1)
    if not found.error > 0:
        return 1.0
    return float(scipy.special.stdtr(found.df, (0.5 - found.value) / found.error))


def _share(values: pd.Series, label: Rows) -> Learner:
    codes, names = pd.factorize(values, sort=True)

    def learn(train: Rows, test: Rows) -> NDArray[np.float64]:
        of, whole = codes[train], label[train].mean()
        n, positives = np.bincount(of, minlength=len(names)), np.bincount(of, label[train], len(names))
        # Where classes are balanced by design, what one part has too many of the other has too few: shares that differ
        # by chance alone would rank below it.
        above = positives / np.maximum(n, 1) - whole
        error = np.sqrt(whole * (1 - whole) / np.maximum(n, 1))
        return (np.sign(above) * np.maximum(np.abs(above) - error, 0))[codes[test]]

    return learn


def _models(features: pd.DataFrame, label: Rows, seed: int) -> Learner:
    design, drawn = _design(features), derive(seed, "model") % 2**32

    def learn(train: Rows, test: Rows) -> NDArray[np.float64]:
        odds = np.zeros(len(test))
        for model in _pair(len(train), drawn, alone=features.shape[1] == 1):
            share = model.fit(design[train], label[train]).predict_proba(design[test])[:, 1]
            odds += scipy.special.logit(np.clip(share, 0.01, 0.99))
        return odds

    return learn


def _pair(images: int, drawn: int, alone: bool) -> list[Any]:
    """A smooth additive model, and for several features one of their interactions."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer, SplineTransformer, StandardScaler

    ranks = QuantileTransformer(n_quantiles=min(50, images), random_state=drawn)
    curve = SplineTransformer(n_knots=8 if alone else 5)
    smooth = make_pipeline(ranks, curve, StandardScaler(), LogisticRegression(C=0.03, max_iter=500))
    return [smooth] if alone else [smooth, ExtraTreesClassifier(TREES, min_samples_leaf=4, random_state=drawn)]


def _design(features: pd.DataFrame) -> NDArray[np.float64]:
    """Numbers, the median for a gap, where there are gaps a column that says so, and a column a category."""
    columns = list[NDArray[np.float64]]()
    for name in features:
        values = features[name]
        if kind_of(values) == NUMBER:
            numbers = pd.to_numeric(values).astype(float).replace([np.inf, -np.inf], np.nan)
            columns.append(numbers.fillna(numbers.median()).to_numpy())
            if numbers.isna().any():
                columns.append(numbers.isna().to_numpy(float))
        elif kind_of(values) == CATEGORY:
            plain = categories(values)
            counts = plain.value_counts()
            columns += [(plain == value).to_numpy(float) for value in sorted(counts.index[counts >= SMALL])]
    return np.stack(columns, axis=1) if columns else np.zeros((len(features), 1))

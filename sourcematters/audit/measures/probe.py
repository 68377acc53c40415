"""A positive control without training a network: can the model's features tell images that carry from the others?"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters import metrics
from sourcematters.audit.model.finished import Finished
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform

FOLDS = 5
STRENGTH = 0.1  # C of the logistic regression: of standardized features, usually more than images


class Ranked(NamedTuple):
    """An AUC with its 95 % interval over patients."""

    auc: float
    ci_low: float
    ci_high: float
    n: int  # images

    def __str__(self) -> str:
        return f"{self.auc:.2f} ({self.ci_low:.2f} to {self.ci_high:.2f})"


def ranked(labels: NDArray[np.int64], scores: NDArray[np.float64], patients: list[str]) -> Ranked:
    """The AUC of scores, (N,), and its interval: `metrics.Estimate`'s, of images in clusters of patients.

    NaN where a class has a single patient. Raises StudyError if there is only one class.
    """
    table = pd.DataFrame({"label": labels, "score": scores, "patient_id": patients})
    auc, parts = metrics.auc(table), metrics.patient_parts(table)
    found = metrics.estimate(np.array([auc]), *(parts[[name]].to_numpy().T for name in ("positive", "negative")))
    low, high = metrics.interval_of_ranking(found)
    if found.patient_variance == 0 and 0 < auc < 1:  # all scores are alike
        low = high = auc
    return Ranked(auc, low, high, len(table))


def probe(
    model: Finished, without: NDArray[np.uint8], carrying: NDArray[np.uint8], patients: list[str], *, seed: int
) -> Ranked:
    """AUC of a logistic regression on the model's features for "carries or not", with its interval over patients.

    `without` and `carrying` are the same images, uint8 (N, size, size). Each is scored by a regression fitted without
    its patient's fold. Raises StudyError for fewer than two patients.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = sorted(set(patients))
    if len(names) < 2:
        raise StudyError("the positive control needs images of at least two patients, to be tested on others.")
    x = np.concatenate([model.features(without), model.features(carrying)]).astype(float)
    labels, both = np.repeat([0, 1], len(without)), [*patients, *patients]
    rank = dict(zip(names, uniform(seed, names, "probe"), strict=True))
    place = {name: number for number, name in enumerate(sorted(names, key=rank.__getitem__))}
    scores = np.zeros(len(x))
    groups = np.array([place[name] % min(FOLDS, len(names)) for name in both])
    for train, test in GroupKFold(min(FOLDS, len(names))).split(x, labels, groups):
        # Standardized by what it is fitted to; the solver is deterministic.
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=2000))
        scores[test] = fitted.fit(x[train], labels[train]).decision_function(x[test])
    return ranked(labels, scores, both)

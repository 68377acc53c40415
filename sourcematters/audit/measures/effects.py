"""What a confounder does to a finished model's scores: each image with it beside itself without it.

The model is given, so what varies is who was tested: intervals are from a bootstrap over patients. Of a confounder that
can be drawn onto every image, with s without and s' with it,

    reversed   AUC where negatives carry and positives do not: the paper's o.o.d. test
    aligned    AUC where positives carry and negatives do not
    lean       (aligned - reversed) / 2: how far the confounder alone moves the AUC

A model that takes the confounder for a sign of disease has lean > 0, one that takes it for a sign of health lean < 0. A
confounder that only hides what is to be seen costs both tests the same: lean is 0, and `damage` is what it costs.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters import seeds
from sourcematters.errors import StudyError
from sourcematters.metrics import check

TIMES = 2000  # resamples of the patients
AT_ONCE = 2**24  # numbers of a resample that are held in memory
FEWEST = 10  # patients of each class, of which an interval is told
PAIRED = ["image_id", "patient_id", "label", "confounder", "variant", "without", "carrying"]
MEASURES = [
    "shift", "flips", "to_positive", "to_negative", "auc_without", "auc_with", "auc_reversed", "auc_aligned", "lean",
    "damage",
]  # fmt: skip

Floats = NDArray[np.float64]


def drawn_patients(patients: Iterable[str], *, seed: int, times: int = TIMES) -> Floats:
    """How often each image counts in each resample of the patients, (times, images).

    Patients are drawn with all their images, with replacement, as many as there are. Which, is drawn from `seed` and
    who they are: whatever is measured on the same images is measured on the same resamples.
    """
    names, patient = np.unique(np.asarray(list(patients), str), return_inverse=True)
    rng = seeds.generator(seed, "patients", *names)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=times)
    return counts[:, patient].astype(float)


def weighted_auc(labels: NDArray[np.int64], scores: Floats, weights: Floats) -> Floats:
    """The AUC of `scores`, (images,), where each image counts as often as `weights`, (times, images), say; ties half.

    (times,); NaN where a class is not drawn.
    """
    order = np.argsort(scores, kind="stable")
    _, first, group, size = np.unique(scores[order], return_index=True, return_inverse=True, return_counts=True)
    positive = labels[order] == 1
    start, end = first[group][positive], (first + size)[group][positive]
    found = np.empty(len(weights))
    step = max(AT_ONCE // len(scores), 1)
    for low in range(0, len(weights), step):
        drawn = weights[low : low + step][:, order]
        below = np.cumsum(np.where(positive, 0, drawn), axis=1)
        below = np.concatenate([np.zeros((len(drawn), 1)), below], axis=1)
        won = (drawn[:, positive] * (below[:, start] + below[:, end])).sum(axis=1) / 2
        pairs = drawn[:, positive].sum(axis=1) * below[:, -1]
        found[low : low + step] = np.divide(won, pairs, out=np.full(len(drawn), np.nan), where=pairs > 0)
    return found


def youden(labels: NDArray[np.int64], logits: Floats) -> float:
    """The logit from which on a decision is positive, where sensitivity + specificity is largest (Youden 1950, Cancer
    3, 32): between two scores, in the middle of the lowest such gap.
    """
    values = np.unique(logits)
    cuts = np.concatenate([[values[0] - 1], (values[:-1] + values[1:]) / 2])
    gains = [(logits[labels == 1] >= cut).mean() + (logits[labels == 0] < cut).mean() for cut in cuts]
    return float(cuts[int(np.argmax(np.round(gains, 12)))])


def effects(paired: pd.DataFrame, *, threshold: float, seed: int, times: int = TIMES) -> pd.DataFrame:
    """What each confounder, in each variant of it, does to the scores: a row of `MEASURES`.

    `paired` has the columns `PAIRED`: an image's logit without the confounder and with it. `threshold` is the logit
    from which on a decision is positive. Columns: confounder, variant, n, positives, patients, then of each of
    `MEASURES` its value, NAME_low and NAME_high (95 %, percentiles over patients), and `lean_error` (standard error).
    shift is the mean change of the logit, flips the share of decisions that change, to_positive and to_negative their
    two directions. Raises StudyError for a missing column, a logit that is not finite, or a class that is missing.
    """
    check(paired, PAIRED, "scores")
    rows = []
    for (confounder, variant), part in paired.groupby(["confounder", "variant"], sort=False):
        part = part.sort_values("image_id")
        if not np.isfinite(part[["without", "carrying"]].to_numpy(float)).all():
            bad = part.loc[~np.isfinite(part[["without", "carrying"]]).all(axis=1), "image_id"]
            raise StudyError(f"scores of {confounder}: {len(bad)} are no finite numbers, e.g. of image {bad.iloc[0]}.")
        weights = drawn_patients(part["patient_id"].astype(str), seed=seed, times=times)
        found = _measured(part, np.concatenate([np.ones((1, len(part))), weights]), threshold)
        row = {"confounder": confounder, "variant": variant, **size_of(part)}
        for name in MEASURES:
            row |= {name: found[name][0], **interval(name, found[name][1:])}
        rows.append(row | {"lean_error": float(np.nanstd(found["lean"][1:], ddof=1))})
    return pd.DataFrame(rows)


def _measured(part: pd.DataFrame, weights: Floats, threshold: float) -> dict[str, Floats]:
    labels = part["label"].to_numpy(int)
    if len(np.unique(labels)) < 2:
        raise StudyError(f"scores: all {len(labels)} images have label {labels[0]}; an AUC needs both classes.")
    without, carrying = part["without"].to_numpy(float), part["carrying"].to_numpy(float)
    up, down = (without < threshold) & (carrying >= threshold), (without >= threshold) & (carrying < threshold)
    scores = {
        "auc_without": without,
        "auc_with": carrying,
        "auc_reversed": np.where(labels == 0, carrying, without),
        "auc_aligned": np.where(labels == 1, carrying, without),
    }
    found = {name: weighted_auc(labels, score, weights) for name, score in scores.items()}
    means = {"shift": carrying - without, "flips": up | down, "to_positive": up, "to_negative": down}
    found |= {name: mean(values.astype(float), weights) for name, values in means.items()}
    found["lean"] = (found["auc_aligned"] - found["auc_reversed"]) / 2
    found["damage"] = found["auc_without"] - found["auc_with"]
    return found


def mean(values: Floats, weights: Floats) -> Floats:
    """The mean of `values`, (images,), in each resample, (times,); NaN where none of them is drawn."""
    total = weights.sum(axis=1)
    return np.divide(weights @ values, total, out=np.full(len(weights), np.nan), where=total > 0)


def size_of(part: pd.DataFrame) -> dict[str, int]:
    """`metrics.SIZE` of some images, and of how many patients the rarer class is."""
    patients = part.groupby("label")["patient_id"].nunique()
    return {
        "n": len(part),
        "positives": int(part["label"].sum()),
        "patients": part["patient_id"].nunique(),
        "rarer": int(patients.reindex([0, 1], fill_value=0).min()),
    }


def interval(name: str, drawn: Floats) -> Mapping[str, float]:
    """NAME_low and NAME_high, 95 %; NaN where a twentieth of the resamples gave nothing."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5]) if np.isfinite(drawn).mean() > 0.95 else (np.nan, np.nan)
    return {f"{name}_low": float(low), f"{name}_high": float(high)}

"""How much of the comparison of sources fits into a time, and what it could find.

The grid grows in steps, each holding the one before: first the endpoints, no carrier and all of them, in two folds;
then more folds; then strengths between. So an answer stands early, and what is done stays done.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sourcematters.errors import StudyError
from sourcematters.metrics import Estimate

UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
STEPS = (
    (2, (0.0, 1.0)),
    (3, (0.0, 1.0)),
    (5, (0.0, 1.0)),
    (5, (0.0, 0.5, 1.0)),
    (5, (0.0, 0.2, 0.5, 0.8, 1.0)),
    (10, (0.0, 0.2, 0.5, 0.8, 1.0)),
)
"""Folds and strengths of each step."""

# What is assumed of a difference in reliance before the first runs tell: the spread between folds that the study of 480
# radiographs had in the median (README), networks of AUC .75, and half of what patients vary in common to two networks.
FOLD_SPREAD, AUC, TOGETHER = 0.15, 0.75, 0.5


class Step(NamedTuple):
    """One grid: how many networks it trains, what that takes, and the smallest difference that it would show."""

    folds: int
    p_art: tuple[float, ...]
    fits: int
    seconds: float
    detectable: float


def seconds_of(text: str) -> float:
    """A time as people write it, `30 min`, `1.5 h`, `90 s`, `2 days`, in seconds. Raises StudyError for any other."""
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*([a-z]+?)s?\s*", text.lower())
    unit = UNITS.get(found[2]) if found else None
    if not found or unit is None or float(found[1].replace(",", ".")) == 0:
        raise StudyError(f"budget: {text!r} is no time. Write it as 30 min, 1.5 h, 90 s or 2 days.")
    return float(found[1].replace(",", ".")) * unit


def steps(
    *, sources: int, confounders: int, seconds_a_fit: float, at_once: int, positives: int, negatives: int,
    fold_spread: float = FOLD_SPREAD,
) -> list[Step]:  # fmt: skip
    """What each of `STEPS` takes and shows, when a fine-tuning takes `seconds_a_fit` and `at_once` are made at a time.

    `positives` and `negatives` are test patients of each class. Networks that never saw a confounder are shared.
    """
    found = []
    for folds, p_art in STEPS:
        fits = sources * folds * (1 + confounders * (len(p_art) - 1))
        seconds = np.ceil(fits / at_once) * seconds_a_fit
        shown = detectable(folds, len(p_art) - 1, positives, negatives, fold_spread)
        found.append(Step(folds, p_art, fits, float(seconds), shown))
    return found


def detectable(folds: int, strengths: int, positives: int, negatives: int, fold_spread: float = FOLD_SPREAD) -> float:
    """The smallest difference in reliance between two sources that is found four times in five, at .05.

    By the study's primary analysis (`metrics.Estimate`), of `strengths` above 0. An AUC varies with its patients as
    Hanley and McNeil have it (1982, Radiology 143, 29); of the four that make a difference, on the same patients, each
    two are correlated by `TOGETHER`.
    """
    q1, q2 = AUC / (2 - AUC), 2 * AUC**2 / (1 + AUC)
    of_auc = AUC * (1 - AUC) + (positives - 1) * (q1 - AUC**2) + (negatives - 1) * (q2 - AUC**2)
    of_patients = 2 * (1 + 1 / strengths) * (1 - TOGETHER) * of_auc / (positives * negatives)
    patients_df = max(min(positives, negatives) - 1, 1)
    return Estimate(0.0, folds, positives + negatives, patients_df, fold_spread**2 / folds, of_patients).detectable


def found_in_words(detectable: float) -> str:
    """What a comparison could find; no difference in reliance is larger than 1."""
    if detectable >= 1:
        return "With so few folds no difference in reliance would be found for certain."
    return f"A difference in reliance of {detectable:.2f} would be found four times in five."


def largest(found: Sequence[Step], seconds: float) -> Step | None:
    """The largest step that fits into `seconds`; None if not even the first does."""
    return max((step for step in found if step.seconds <= seconds), key=lambda step: step.fits, default=None)


def as_table(found: Sequence[Step], seconds: float) -> pd.DataFrame:
    """The steps for people: one row each, in minutes, and whether it fits."""
    rows = [
        (step.folds, ", ".join(f"{p:g}" for p in step.p_art), step.fits, round(step.seconds / 60, 1),
         step.seconds <= seconds, round(step.detectable, 2))
        for step in found
    ]  # fmt: skip
    return pd.DataFrame(
        rows, columns=["folds", "strengths", "fine-tunings", "minutes", "fits", "would show a difference of"]
    )

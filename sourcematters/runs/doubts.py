"""Whether the network of a finished run learned anything, and why that is doubted."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import metrics

ALIKE = 1e-6  # scores that differ by no more are one score


def doubt(folder: Path, predictions: pd.DataFrame, tests: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """Why the run in `folder` is thought not to have learned, in words; "" if nothing speaks against it.

    `predictions` are its own, `tests` its table of `metrics.by_test_set`, `run` its row of a plan (p_art, train_n,
    train_positives; a plan that was made before those two were told lacks them). In this order: all scores are alike;
    the training loss was never below the entropy of the class share, which a network has that knows nothing but the
    share; the ranking is no better than guessing might be (`metrics.learned`).
    """
    score = predictions["score"]
    if score.max() - score.min() <= ALIKE:
        return f"one score for all images ({score.mean():.3f})"
    lowest, share = pd.read_csv(folder / "history.csv")["train_loss"].min(), guessing_loss(run)
    if lowest >= share:
        return f"training loss never below {share:.3f}, which the share of positives alone gives ({lowest:.3f})"
    return "" if metrics.learned(tests, run["p_art"]) else "ranks no better than guessing might"


def guessing_loss(run: Mapping[str, Any]) -> float:
    """The cross-entropy of giving every image the share of positives, in nats; infinite if the share is not known.

    >>> round(guessing_loss({"train_n": 40, "train_positives": 20}), 4)
    0.6931
    """
    try:
        q = float(run["train_positives"]) / float(run["train_n"])
    except (KeyError, ValueError, ZeroDivisionError):
        return math.inf
    return -(q * math.log(q) + (1 - q) * math.log(1 - q)) if 0 < q < 1 else math.inf

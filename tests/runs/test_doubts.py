"""A network that learned nothing is told from its scores, its losses and its ranking."""

import math

import numpy as np
import pandas as pd
import pytest

from sourcematters import metrics
from sourcematters.runs import doubts

RUN = {"p_art": 0.5, "train_n": 40, "train_positives": 10}
GUESSING = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))  # nats: .562, what a share of a quarter has


def run_in(folder, scores, train_loss, labels=None):
    """A run's folder, its predictions and tests, for the scores of one i.i.d. test of 40 images."""
    labels = np.arange(40) % 2 if labels is None else labels
    scored = pd.DataFrame({"image_id": [f"i{k}" for k in range(40)], "patient_id": [f"p{k}" for k in range(40)]})
    scored = scored.assign(label=labels, score=scores, test_set="iid", carries=0)
    pd.DataFrame({"epoch": range(len(train_loss)), "train_loss": train_loss}).to_csv(folder / "history.csv")
    return folder, scored, metrics.by_test_set(scored)


RIGHT = np.where(np.arange(40) % 2, 0.8, 0.3) + np.linspace(0, 0.01, 40)
GUESSED = np.random.default_rng(0).random(40)


@pytest.mark.parametrize(
    ("scores", "losses", "said"),
    [
        (RIGHT, [0.7, 0.3], ""),
        (RIGHT, [0.7, GUESSING - 1e-6], ""),
        (RIGHT, [0.7, 0.6, 0.57], "training loss never below 0.562, which the share of positives alone gives (0.570)"),
        (np.full(40, 0.25), [0.7, 0.3], "one score for all images (0.250)"),
        (np.linspace(0.25, 0.25 + 9e-7, 40), [0.7, 0.3], "one score for all images (0.250)"),
        (GUESSED, [0.7, 0.3], "ranks no better than guessing might"),
    ],
)
def test_each_doubt_is_named(tmp_path, scores, losses, said):
    assert doubts.doubt(*run_in(tmp_path, scores, losses), RUN) == said


def test_without_the_share_the_loss_says_nothing(tmp_path):
    made = run_in(tmp_path, RIGHT, [0.9])
    for run in ({"p_art": 0.5}, {"p_art": 0.5, "train_n": "", "train_positives": ""}, RUN | {"train_positives": 0}):
        assert doubts.doubt(*made, run) == ""


@pytest.mark.parametrize(("positives", "loss"), [(20, math.log(2)), (10, GUESSING)])
def test_the_share_alone_has_its_entropy(positives, loss):
    assert doubts.guessing_loss({"train_n": 40, "train_positives": positives}) == pytest.approx(loss)

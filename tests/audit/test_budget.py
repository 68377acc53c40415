"""Times as people write them, and what fits into them: counted by hand, and against formulas of others."""

import itertools
import math

import pytest
from scipy import stats

from sourcematters.audit import budget
from sourcematters.confounders import Tag
from sourcematters.errors import StudyError
from sourcematters.runs import specs
from sourcematters.sources import Source
from sourcematters.training.recipe import Training

TIMES = {
    "30 min": 1800, "1.5 h": 5400, "1,5 h": 5400, "90 s": 90, "90s": 90, "2 days": 172_800, "1 day": 86_400,
    "1 d": 86_400, "45 m": 2700, "1 minute": 60, "20 minutes": 1200, "2 hours": 7200, "3 hour": 10_800, "5 sec": 5,
    "5 secs": 5, "1 second": 1, "  2   H ": 7200, "10 MIN": 600,
}  # fmt: skip
HOW = {"sources": 3, "confounders": 2, "seconds_a_fit": 10.0, "at_once": 2, "positives": 30, "negatives": 50}
"""A comparison of three sources on two confounders."""


@pytest.mark.parametrize("text", TIMES)
def test_times(text):
    assert budget.seconds_of(text) == TIMES[text]


@pytest.mark.parametrize("text", ["", "soon", "0 min", "0,0 h", "5 fortnights", "min", "-3 min", "1 h 30 min", "1e3 s"])
def test_what_is_no_time_is_told_how_to_write_one(text):
    with pytest.raises(StudyError) as caught:
        budget.seconds_of(text)
    assert str(caught.value) == f"budget: {text!r} is no time. Write it as 30 min, 1.5 h, 90 s or 2 days."


def test_fits_by_hand():
    found = budget.steps(**HOW)
    # 3 sources x folds x (1 without, shared, and of each of 2 confounders as many as there are strengths above 0)
    assert [step.fits for step in found] == [18, 27, 45, 3 * 5 * 5, 3 * 5 * 9, 3 * 10 * 9]
    assert [step.seconds for step in found] == [90, 140, 230, 380, 680, 1350]  # two at once, the odd one alone


def grid(folds, p_art):
    """The identities of the fine-tunings that the study itself would make of a step."""
    made = specs.grid(
        data="made", task="t", cohort="c", confounders=[Tag(), Tag(name="other", height=90)], p_art=p_art, folds=folds,
        sources=[Source(name, "") for name in ("a", "b", "c")], training=Training(), backbone="test_resnet",
    )  # fmt: skip
    return {spec.fit.id for spec in made}


def test_each_step_holds_the_one_before_and_is_as_large_as_the_studys_own_grid():
    grids = [grid(*step) for step in budget.STEPS]
    assert [len(each) for each in grids] == [step.fits for step in budget.steps(**HOW)]
    for smaller, larger in itertools.pairwise(grids):
        assert smaller < larger


def by_hand(folds, strengths, m, n, spread):
    """Hanley and McNeil (1982) for an AUC of .75, then a difference of differences in Student's t."""
    auc = 0.75
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)) / (m * n)
    # Reliance is the mean over strengths of (AUC at p) less (AUC at 0): variance (1 + 1/strengths) of an AUC's if
    # independent, half of that if correlated by a half; of two sources twice as much.
    patients = 2 * (1 + 1 / strengths) * 0.5 * variance
    between = spread**2 / folds
    df = (patients + between) ** 2 / (between**2 / (folds - 1) + patients**2 / (min(m, n) - 1))
    return (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * math.sqrt(patients + between)


@pytest.mark.parametrize("case", [(2, 1, 30, 50, 0.15), (5, 2, 60, 60, 0.1), (10, 4, 200, 90, 0.05)])
def test_detectable_by_hand(case):
    assert budget.detectable(*case) == pytest.approx(by_hand(*case), rel=1e-9)


@pytest.mark.parametrize("strengths", [1, 2, 4])
def test_more_folds_or_patients_show_smaller_differences(strengths):
    patients = range(10, 200, 10)
    found = {folds: [budget.detectable(folds, strengths, n, n) for n in patients] for folds, _ in budget.STEPS}
    for fewer, more in itertools.pairwise(found):
        assert all(large > small for large, small in zip(found[fewer], found[more], strict=True))
    # With two folds or three, the spread between them, on one degree or two, outweighs the patients.
    assert all(large > small for folds in (5, 10) for large, small in itertools.pairwise(found[folds]))
    assert budget.detectable(5, strengths, 50, 50, 0.3) > budget.detectable(5, strengths, 50, 50, 0.15)


def test_the_largest_that_fits():
    found = budget.steps(**HOW)
    assert budget.largest(found, 89) is None
    assert budget.largest(found, 90) == found[0]
    assert budget.largest(found, 400) == found[3]
    assert budget.largest(found, math.inf) == found[-1]


def test_steps_as_a_table():
    table = budget.as_table(budget.steps(**HOW), 231)
    assert list(table) == ["folds", "strengths", "fine-tunings", "minutes", "fits", "would show a difference of"]
    assert table["fits"].tolist() == [True, True, True, False, False, False]
    assert table["strengths"].tolist()[3:5] == ["0, 0.5, 1", "0, 0.2, 0.5, 0.8, 1"]
    assert table.loc[2, ["folds", "fine-tunings", "minutes"]].tolist() == [5, 45, 3.8]
    assert table.loc[0, "would show a difference of"] == round(by_hand(2, 1, 30, 50, 0.15), 2)

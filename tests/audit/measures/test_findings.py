"""From measured effects to findings: Holm by hand, what is not seen, what is too few, and mirror images."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sourcematters.audit.measures import findings
from sourcematters.results import verdicts
from sourcematters.results.verdicts import LEANS, NO_SIGN, NOT_VISIBLE, TOO_LITTLE


def measured(*rows):
    """Rows (confounder, lean, standard error, patients of the rarer class) as `effects.effects` has them."""
    table = pd.DataFrame(rows, columns=["confounder", "lean", "lean_error", "rarer"])
    half = 1.96 * table["lean_error"]
    return table.assign(lean_low=table["lean"] - half, lean_high=table["lean"] + half, n=100, positives=40)


def p_alone(lean, error):
    """Two-sided, normal, of no more than .05."""
    return min(1.0, 2 * stats.norm.sf((abs(lean) - 0.05) / error))


ROWS = [("tag", 0.30, 0.05, 40), ("gamma", 0.12, 0.03, 40), ("rotation", -0.11, 0.025, 40), ("blur", 0.0, 0.01, 40)]
TAG, GAMMA, ROTATION, BLUR = (p_alone(lean, error) for _, lean, error, _ in ROWS)


def test_holm_over_all_by_hand():
    assert TAG < ROTATION < GAMMA < BLUR == 1
    found = findings.of_effects(measured(*ROWS))
    assert [one.p for one in found] == pytest.approx([4 * TAG, max(2 * GAMMA, 3 * ROTATION), 3 * ROTATION, 1])
    assert [one.who for one in found] == ["the model"] * 4 and [one.measure for one in found] == ["lean"] * 4
    assert [verdicts.verdict(one) for one in found] == [LEANS, LEANS, LEANS, NO_SIGN]
    # One that is found four times in five: .05 and the two quantiles of the normal distribution.
    assert found[0].detectable == pytest.approx(0.05 + (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * 0.05)
    assert (found[1].n, found[1].positives) == (100, 40)
    assert (found[1].low, found[1].high) == pytest.approx((0.12 - 1.96 * 0.03, 0.12 + 1.96 * 0.03))


def test_the_declared_one_is_not_corrected_and_the_others_only_among_themselves():
    found = findings.of_effects(measured(*ROWS), primary="gamma")
    assert [one.p for one in found] == pytest.approx([3 * TAG, GAMMA, 2 * ROTATION, 1])
    everything = findings.of_effects(measured(*ROWS), primary="something else")
    assert [one.p for one in everything] == [one.p for one in findings.of_effects(measured(*ROWS))]


def test_what_is_not_seen_says_nothing_unless_it_moves_the_scores():
    found = findings.of_effects(measured(*ROWS), unseen={"blur": "no pixel changes", "tag": "a probe is blind"})
    assert [verdicts.verdict(one) for one in found] == [LEANS, LEANS, LEANS, NOT_VISIBLE]
    assert verdicts.sentence(found[3]) == (
        "blur is not visible to the model: no pixel changes. That it does nothing says nothing."
    )


def test_few_patients_are_too_little_whatever_the_effect():
    found = findings.of_effects(measured(("tag", 0.4, 0.01, 9), ("gamma", 0.4, 0.01, 10)))
    assert [verdicts.verdict(one) for one in found] == [TOO_LITTLE, LEANS]
    assert "9 patients of a class are fewer than 10" in verdicts.sentence(found[0])


def test_one_that_was_not_scored_has_no_numbers():
    images = pd.DataFrame({"label": [0, 1, 1]})
    found = findings.of_unscored("tag", "it falls between the pixels", images)
    assert (found.n, found.positives, verdicts.verdict(found)) == (3, 2, NOT_VISIBLE)
    assert np.isnan([found.effect, found.low, found.high, found.p, found.detectable]).all()


def groups(*rows):
    table = pd.DataFrame(rows, columns=["attribute", "value", "lean", "lean_error", "rarer"])
    return table.assign(lean_low=table["lean"] - 0.1, lean_high=table["lean"] + 0.1, n=50, positives=20)


def test_of_two_groups_that_mirror_each_other_one_is_told():
    table = groups(
        ("sex", "F", -0.2, 0.03, 20), ("sex", "M", 0.2, 0.03, 20),
        ("age", "0-40", 0.1, 0.05, 20), ("age", "40-60", -0.06, 0.05, 20), ("age", "60-", 0.0, 0.05, 20),
        ("site", "", np.nan, np.nan, 20),
    )  # fmt: skip
    found = findings.of_groups(table)
    assert [one.confounder for one in found] == ["sex M", "age 0-40"] and {one.measure for one in found} == {"group"}
    assert [one.p for one in found] == pytest.approx([2 * p_alone(0.2, 0.03), p_alone(0.1, 0.05)])
    assert verdicts.sentence(found[0]).startswith("the model leans on sex M, or on what goes with it: where it goes ")
    assert "AUC is 0.40 lower" in verdicts.sentence(found[0])
    assert findings.of_groups(table[:0]) == []


def test_the_negative_control_in_both_sentences():
    quiet = findings.negative_control(measured(("one_grey_level", 0.002, 0.004, 40)))
    assert quiet == "Negative control: one grey level moves the AUC by 0.002 [-0.006, 0.010]."
    failed = findings.negative_control(measured(("one_grey_level", 0.3, 0.02, 40)))
    assert failed.startswith("Negative control failed: one grey level moves the AUC by 0.300 [0.261, 0.339].")
    assert failed.endswith("What is said of the others may be true of anything at all.")

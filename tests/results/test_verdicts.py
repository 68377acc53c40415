"""Four verdicts, and sentences that say no more than the numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from sourcematters.results import verdicts
from sourcematters.results.verdicts import LEANS, NO_SIGN, NOT_VISIBLE, TOO_LITTLE, Finding


def found(effect=0.3, error=0.02, **changes):
    values = dict(who="the model", confounder="tag", effect=effect, low=effect - 2 * error, high=effect + 2 * error)
    values |= dict(p=verdicts.beyond_small(effect, error), detectable=verdicts.detectable(error), n=480, positives=240)
    return Finding(**values | changes)


@pytest.mark.parametrize("case, expected", [
    (found(), LEANS),
    (found(-0.3), LEANS),
    (found(0.06, 0.001), LEANS),
    (found(0.04, 0.004), NO_SIGN),  # beyond chance, and within what nobody would act on
    (found(0.0, 0.02), NO_SIGN),
    (found(0.0, 0.02, unseen="a probe tells it at .50"), NOT_VISIBLE),
    (found(0.3, unseen="a probe tells it at .50"), LEANS),  # what moves the score is seen
    (found(0.0, 0.1), TOO_LITTLE),
    (found(0.07, 0.02), TOO_LITTLE),  # beyond 0, and perhaps within what nobody would act on
    (found(np.nan, np.nan, unseen="it changes no pixel"), NOT_VISIBLE),
    (found(0.19, 0.05), LEANS),
    (found(0.14, 0.05), TOO_LITTLE),  # .24 is not excluded
    (found(0.3, few="4 patients with the disease"), TOO_LITTLE),
    (found(p=np.nan), TOO_LITTLE),
])  # fmt: skip
def test_each_verdict(case, expected):
    assert verdicts.verdict(case) == expected


def test_p_is_of_an_effect_within_what_nobody_would_act_on():
    assert verdicts.beyond_small(0.09, 0.02) == pytest.approx(2 * norm.sf(2))
    assert verdicts.beyond_small(-0.09, 0.02, df=7) == pytest.approx(2 * t.sf(2, 7))
    assert verdicts.beyond_small(0.05, 0.02) == 1 and verdicts.beyond_small(0.01, 0.02) == 1
    assert verdicts.beyond_small(0.06, 0) == 0 and verdicts.beyond_small(0.04, 0) == 1
    assert np.isnan(verdicts.beyond_small(np.nan, 0.1))


def test_an_effect_of_what_is_detectable_is_found_four_times_in_five():
    error = 0.03
    draws = np.random.default_rng(0).normal(verdicts.detectable(error), error, 20_000)
    assert np.mean([verdicts.beyond_small(x, error) < 0.05 for x in draws]) == pytest.approx(0.8, abs=0.01)


def test_no_effect_is_called_leaning_rarely_even_at_the_edge_of_what_is_small():
    draws = np.random.default_rng(0).normal(verdicts.SMALL, 0.03, 20_000)
    assert np.mean([verdicts.beyond_small(x, 0.03) < 0.05 for x in draws]) < 0.03


def test_holm_leaves_the_declared_one_alone():
    assert verdicts.corrected([0.01, 0.02, 0.04]) == pytest.approx([0.03, 0.04, 0.04])
    assert verdicts.corrected([0.01, 0.02, 0.04], primary=2) == pytest.approx([0.02, 0.02, 0.04])
    assert verdicts.corrected([0.01, np.nan]) == pytest.approx([0.01, np.nan], nan_ok=True)


def test_sentences_hold_effect_interval_and_number():
    assert verdicts.sentence(found(p=0.016)) == (
        "the model leans on tag, as a sign of disease: it alone moves the AUC by 0.30 [0.26, 0.34] (p 0.016; n = 480, "
        "240 positive)."
    )
    assert "as a sign of health" in verdicts.sentence(found(-0.3))
    assert "by 0.30 [0.26, 0.34] (p below 0.001" in verdicts.sentence(found(-0.3))
    assert verdicts.sentence(found(0.01)) == (
        "the model shows no sign of leaning on tag: 0.01 [-0.03, 0.05], and a fall of 0.11 would have been seen "
        "(n = 480, 240 positive)."
    )
    assert verdicts.sentence(found(0, unseen="a probe tells it at .50")) == (
        "tag is not visible to the model: a probe tells it at .50. That it does nothing says nothing."
    )
    assert "4 patients with the disease" in verdicts.sentence(found(few="4 patients with the disease"))


def test_the_sentence_on_top_names_what_is_leaned_on_strongest_first():
    several = [found(0.2, confounder="noise"), found(0.4), found(0.0, confounder="gender"), found(0, 0.1)]
    assert verdicts.on_top(several) == (
        "the model leans on tag (0.40), noise (0.20) (1 without a sign of it, 1 with too little data to tell)."
    )
    assert verdicts.on_top([found(0.0)]) == "No leaning was found on any of 1 confounders (1 without a sign of it)."
    assert verdicts.on_top([]) == "Nothing was tried."


def test_what_is_leaned_on_comes_first_and_strongest():
    several = [found(0.0, confounder="a"), found(0, 0.1, confounder="b"), found(0.2, confounder="c"), found(-0.3)]
    several.append(found(np.nan, np.nan, confounder="d", unseen="it changes no pixel"))
    assert [each.confounder for each in verdicts.ordered(several)] == ["tag", "c", "b", "d", "a"]


def test_nothing_is_zero_without_a_sign():
    assert "on tag: 0.00 [-0.02, 0.02]" in verdicts.sentence(found(-0.001, 0.01))


def test_the_table_holds_the_words():
    table = verdicts.as_table([found()])
    assert table.loc[0, "verdict"] == LEANS and table.loc[0, "sentence"] == verdicts.sentence(found())


def source(reliance, error=0.03, learned=(1, 1), seen=1.0, df=40.0, problem=""):
    keys = {"task": "Mass", "confounder": "tag", "backbone": "resnet50", "source": "imagenet"}
    row = keys | {"reliance": reliance, "reliance_low": reliance - 2 * error, "reliance_high": reliance + 2 * error}
    row |= {"reliance_error": error, "reliance_df": df, "problem": problem, "n": 120, "positives": 60}
    runs = [{**keys, "run_id": str(k), "learned": each, "input_seen_in": seen} for k, each in enumerate(learned)]
    return verdicts.of_sources(pd.DataFrame([row]), pd.DataFrame(runs))[0]


def test_of_a_source_reliance_tells_and_below_zero_it_is_no_leaning():
    assert verdicts.sentence(source(0.4)) == (
        "imagenet leans on tag (Mass): having learned it, it ranks worse where it misleads, by an AUC of 0.40 "
        "[0.34, 0.46] (p below 0.001; n = 120, 60 positive)."
    )
    assert source(0.4).p == pytest.approx(2 * t.sf(0.35 / 0.03, 40))
    assert verdicts.verdict(source(-0.4)) == NO_SIGN


def test_of_networks_that_did_not_learn_or_see_nothing_is_said():
    unlearned = source(0.0, learned=(1, 0))
    assert verdicts.verdict(unlearned) == TOO_LITTLE
    assert "1 of 2 networks rank no better than guessing" in verdicts.sentence(unlearned)
    assert verdicts.verdict(source(0.0, seen=0.1)) == NOT_VISIBLE
    single = source(0.3, df=np.nan, problem="one fold: how much training varies is not known, run more")
    assert verdicts.verdict(single) == TOO_LITTLE and "one fold" in verdicts.sentence(single)

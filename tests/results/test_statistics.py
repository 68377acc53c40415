"""Every statistic against one worked out by hand, by another library, or by simulation."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.results import statistics

PAIR = [("natural", "radiology")]


def results(aucs, **columns):
    """One row a value; `aucs` maps (source, p_art) or source to one AUC a fold."""
    rows = []
    for key, values in aucs.items():
        source, p_art = key if isinstance(key, tuple) else (key, 0.5)
        for fold, auc in enumerate(values):
            rows.append(
                {"run_id": f"{source}-{p_art}-{fold}", "source": source, "p_art": p_art, "fold": fold, "auc": auc}
            )
    fixed = {"task": "mass", "confounder": "tag", "backbone": "resnet50", "test_set": "ood"}
    return pd.DataFrame(rows).assign(**{**fixed, **columns})


def test_pairs_are_all_or_those_with_the_reference():
    names = ["natural", "radiology", "random"]
    assert statistics.pairs(names) == [("natural", "radiology"), ("natural", "random"), ("radiology", "random")]
    assert statistics.pairs(names, "radiology") == [("radiology", "natural"), ("radiology", "random")]
    with pytest.raises(StudyError, match="'mine' is not one of the sources"):
        statistics.pairs(names, "mine")
    assert statistics.pairs(["natural", "natural"]) == []


def permutation_p_by_hand(a, b):
    """The share of all ways to deal the values into groups of these sizes whose |t| is at least the one seen."""
    pooled, observed = [*a, *b], abs(scipy.stats.ttest_ind(a, b).statistic)
    ways = list(itertools.combinations(range(len(pooled)), len(a)))
    reached = 0
    for chosen in ways:
        others = [value for k, value in enumerate(pooled) if k not in chosen]
        reached += abs(scipy.stats.ttest_ind([pooled[k] for k in chosen], others).statistic) >= observed * (1 - 1e-9)
    return reached / len(ways)


@pytest.mark.parametrize(
    ("a", "b"),
    [([0.1, 0.5, 0.3], [0.4, 0.62, 0.71]), ([0.2, 0.9, 0.35, 0.4], [0.3, 0.5, 0.55]), ([0.1, 0.2], [0.3, 0.1, 0.25])],
)
def test_p_is_the_share_of_permutations_with_as_large_a_t(a, b):
    row = statistics.permutation_tests(results({"natural": a, "radiology": b}), pairs=PAIR).iloc[0]
    assert row["p"] == pytest.approx(permutation_p_by_hand(a, b))
    assert row["t"] == pytest.approx(scipy.stats.ttest_ind(a, b).statistic)
    assert row["difference"] == pytest.approx(np.mean(a) - np.mean(b))
    assert row["exact"]


@pytest.mark.parametrize(("folds", "ways"), [(3, 20), (4, 70), (5, 252)])
def test_complete_separation_gives_the_floor_and_nothing_smaller(folds, ways):
    # The authors' .007937, printed for 5 folds against 5, is two of 252.
    high = results({"natural": 0.8 + 0.01 * np.arange(folds) ** 2, "radiology": 0.1 + 0.02 * np.arange(folds)})
    row = statistics.permutation_tests(high, pairs=PAIR).iloc[0]
    assert row["p"] == row["floor"] == pytest.approx(2 / ways) and row["permutations"] == ways


def test_equal_sources_differ_by_nothing():
    for values in ([0.5, 0.6, 0.7], [0.5, 0.5, 0.5]):
        row = statistics.permutation_tests(results({"natural": values, "radiology": values}), pairs=PAIR).iloc[0]
        assert (row["p"], row["difference"]) == (1, 0)


def test_folds_that_do_not_vary_have_no_t_but_a_p():
    row = statistics.permutation_tests(results({"natural": [0.9] * 3, "radiology": [0.1] * 3}), pairs=PAIR).iloc[0]
    assert np.isnan(row["t"]) and row["p"] == pytest.approx(2 / 20)
    one = statistics.permutation_tests(results({"natural": [0.9], "radiology": [0.1]}), pairs=PAIR).iloc[0]
    assert np.isnan(one["t"]) and (one["p"], one["floor"]) == (1, 1)


def test_many_folds_are_sampled_seeded_and_close_to_exact():
    rng = np.random.default_rng(1)
    table = results({"natural": rng.normal(0.5, 0.1, 6), "radiology": rng.normal(0.6, 0.1, 6)})
    exact = statistics.permutation_tests(table, pairs=PAIR).iloc[0]
    drawn = [statistics.permutation_tests(table, pairs=PAIR, resamples=900, seed=s).iloc[0] for s in (0, 0, 1)]
    assert exact["exact"] and exact["permutations"] == 924
    assert not drawn[0]["exact"] and drawn[0]["floor"] == pytest.approx(max(1 / 901, 2 / 924))
    assert drawn[0]["p"] == drawn[1]["p"] and drawn[0]["p"] != drawn[2]["p"]
    assert drawn[0]["p"] == pytest.approx(exact["p"], abs=4 * np.sqrt(exact["p"] / 900))


def test_only_the_asked_test_sets_and_sources_that_meet_are_tested():
    table = pd.concat([
        results({("natural", 0.0): [0.5, 0.6], ("radiology", 0.0): [0.7, 0.8], ("natural", 1.0): [0.1, 0.2]}),
        results({"natural": [0.9, 0.8], "radiology": [0.9, 0.7]}, test_set="iid"),
    ])  # fmt: skip
    assert statistics.permutation_tests(table, pairs=PAIR)[["test_set", "p_art"]].values.tolist() == [["ood", 0.0]]
    both = statistics.permutation_tests(table, pairs=PAIR, test_sets=["iid", "ood"])
    assert both["test_set"].tolist() == ["iid", "ood"]
    absent = statistics.permutation_tests(table, pairs=[("natural", "random")])
    assert statistics.holm(absent).empty and list(absent.columns) == list(both.columns)
    with pytest.raises(StudyError, match="two runs for task mass"):
        statistics.permutation_tests(pd.concat([table, table]), pairs=PAIR)


def a_table_of(p, **columns):
    fixed = {"backbone": "resnet50", "test_set": "ood", "a": "natural", "b": "radiology", "floor": 2 / 252}
    return pd.DataFrame({"p": p, **{**fixed, **columns}})


def test_holm_by_hand():
    found = statistics.holm(a_table_of([0.04, 0.01, 0.03, 0.5]))
    # Sorted .01, .03, .04, .5 times 4, 3, 2, 1, then never below the one before.
    assert found["p_holm"].tolist() == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert set(found["family"]) == {"4 tests of backbone resnet50, test_set ood, a natural, b radiology"}


def test_each_pair_is_a_family_and_its_floor_grows_with_it():
    found = statistics.holm(a_table_of([2 / 252, 0.5, 2 / 252], b=["radiology", "radiology", "random"]))
    assert found["p_holm"].tolist() == pytest.approx([4 / 252, 0.5, 2 / 252])
    assert found["family_size"].tolist() == [2, 2, 1]
    seven = statistics.holm(a_table_of([2 / 252] * 7))
    assert seven["floor_holm"].tolist() == pytest.approx([14 / 252] * 7) and 14 / 252 > 0.05
    together = statistics.holm(a_table_of([0.01, 0.02], b=["radiology", "random"]), by=["test_set"])
    assert together["p_holm"].tolist() == pytest.approx([0.02, 0.02])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.1, 0.2, 0.7, 0.9]), st.integers(0, 3)), min_size=4),
)
def test_weighted_auc_is_the_auc_of_repeated_images(rows):
    labels, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    (found,) = metrics.weighted_auc(labels, scores, weights[None].astype(float))
    repeated = np.repeat(labels, weights), np.repeat(scores, weights)
    if len(set(repeated[0])) == 2:
        assert found == pytest.approx(roc_auc_score(*repeated))
    else:
        assert np.isnan(found)


@pytest.fixture
def runs(tmp_path):
    """Write predictions of runs; `write(table, scores)` with scores[run_id] for the same 60 patients' images."""

    def write(table, scores, labels, patients):
        for run_id in table["run_id"]:
            (tmp_path / run_id).mkdir(exist_ok=True)
            images = [f"i{k}" for k in range(len(labels))]
            columns = {"image_id": images, "patient_id": patients, "label": labels, "score": scores[run_id]}
            frame = pd.DataFrame(columns).assign(test_set="ood", carries=0)
            frame.to_csv(tmp_path / run_id / "predictions.csv", index=False)
        return tmp_path

    return write


def test_bootstrap_resamples_patients_not_images(runs):
    # Ten patients, each with 30 copies of one image: images one by one would look like 300 independent ones.
    rng = np.random.default_rng(0)
    labels, a, b = np.arange(10) % 2, rng.normal(size=10), rng.normal(size=10)
    scores = {"natural-0.5-0": np.repeat(a, 30), "radiology-0.5-0": np.repeat(b, 30)}
    table = results({"natural": [0.5], "radiology": [0.5]})
    folder = runs(table, scores, np.repeat(labels, 30), np.repeat([f"p{k}" for k in range(10)], 30))
    row = statistics.bootstrap(table, folder, pairs=PAIR, resamples=2000).iloc[0]
    assert row["patients"] == 10
    assert row["difference"] == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b))
    differences = []
    for drawn in rng.integers(0, 10, (3000, 10)):
        if 0 < labels[drawn].sum() < 10:
            positive, negative = drawn[labels[drawn] == 1], drawn[labels[drawn] == 0]
            first, second = (np.mean(s[positive][:, None] > s[negative]) for s in (a, b))
            differences.append(first - second)
    low, high = np.percentile(differences, [2.5, 97.5])
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=0.05)


def simulated(rng, shift, folds=2, patients=80):
    labels = np.arange(patients) % 2
    shared = rng.normal(size=patients)  # what makes a patient hard for both sources
    scores = {}
    for fold in range(folds):
        for source, signal in (("natural", 1.0), ("radiology", 1.0 + shift)):
            scores[f"{source}-0.5-{fold}"] = signal * labels + shared + 0.5 * rng.normal(size=patients)
    return scores, labels, [f"p{k}" for k in range(patients)]


def test_bootstrap_interval_covers_the_true_difference(runs):
    table = results({"natural": [0.5, 0.5], "radiology": [0.5, 0.5]})
    # AUC of N(m, 1.25) against N(0, 1.25) is Phi(m / sqrt 2.5).
    truth = scipy.stats.norm.cdf(1 / np.sqrt(2.5)) - scipy.stats.norm.cdf(1.8 / np.sqrt(2.5))
    rng, covered = np.random.default_rng(5), 0
    for _ in range(30):
        folder = runs(table, *simulated(rng, 0.8))
        row = statistics.bootstrap(table, folder, pairs=PAIR, resamples=300).iloc[0]
        covered += row["ci_low"] <= truth <= row["ci_high"]
    assert covered >= 25, "of 30; at 95 % coverage fewer happen once in 300"


def test_bootstrap_is_reproducible_and_zero_for_equal_sources(runs):
    table = results({"natural": [0.5, 0.5], "radiology": [0.5, 0.5]})
    scores, labels, patients = simulated(np.random.default_rng(2), 0)
    folder = runs(table, scores, labels, patients)
    first, again, other = (statistics.bootstrap(table, folder, pairs=PAIR, resamples=200, seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert first["ci_low"].item() != other["ci_low"].item()
    shuffled = statistics.bootstrap(table.sample(frac=1, random_state=3), folder, pairs=PAIR, resamples=200)
    pd.testing.assert_frame_equal(first, shuffled)
    same = {key: scores[f"natural-0.5-{key[-1]}"] for key in scores}
    row = statistics.bootstrap(table, runs(table, same, labels, patients), pairs=PAIR, resamples=200).iloc[0]
    assert (row["difference"], row["ci_low"], row["ci_high"]) == (0, 0, 0)


def test_bootstrap_refuses_what_cannot_be_paired(runs):
    table = results({"natural": [0.5], "radiology": [0.5]})
    scores, labels, patients = simulated(np.random.default_rng(2), 0, folds=1)
    folder = runs(table, scores, labels, patients)
    path = folder / "radiology-0.5-0" / "predictions.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    with pytest.raises(StudyError, match="natural and radiology, fold 0.*not tested on the same images"):
        statistics.bootstrap(table, folder, pairs=PAIR)


def graded(rng, folds=5):
    """natural falls by .7 over p_art, radiology by .2; folds shift everything."""
    shift = rng.normal(0, 0.03, folds)
    aucs = {}
    for source, slope in (("natural", -0.7), ("radiology", -0.2)):
        for p in (0.0, 0.1, 0.2, 0.5, 0.8, 1.0):
            aucs[source, p] = 0.85 + slope * p + shift + rng.normal(0, 0.01, folds)
    return results(aucs)


def test_mixed_model_agrees_with_the_formula_and_finds_the_slopes():
    table = graded(np.random.default_rng(0))
    found = statistics.mixed_model(table, reference="natural").set_index("term")
    percent = table.assign(auc=100 * table["auc"])
    by_formula = smf.mixedlm("auc ~ C(source) * p_art", percent, groups=table["fold"]).fit(reml=True)
    names = {
        "natural at p_art 0": "Intercept",
        "radiology - natural at p_art 0": "C(source)[T.radiology]",
        "natural, slope over p_art": "p_art",
        "radiology - natural, slope": "C(source)[T.radiology]:p_art",
    }
    assert set(found.index) == set(names)
    for ours, theirs in names.items():
        assert found.loc[ours, "estimate"] == pytest.approx(by_formula.params[theirs] / 100, abs=1e-6)
        low, high = by_formula.conf_int().loc[theirs] / 100
        assert (found.loc[ours, "ci_low"], found.loc[ours, "ci_high"]) == pytest.approx((low, high), abs=1e-4)
    assert found["converged"].all() and (found["problem"] == "").all()
    assert found.loc["radiology - natural, slope", "estimate"] == pytest.approx(0.5, abs=0.02)
    assert found["runs"].unique() == [60] and found["folds"].unique() == [5]


def test_mixed_model_says_why_it_has_no_estimate(recwarn):
    one = statistics.mixed_model(results({("natural", 0.0): [0.5], ("natural", 1.0): [0.1]}), reference="natural")
    assert one["problem"].tolist() == ["needs at least two folds and two strengths"] and not one["converged"].any()
    absent = statistics.mixed_model(results({"natural": [0.5, 0.6]}), reference="random")
    assert absent["problem"].tolist() == ["random was not run"]
    # Without any variance the optimum lies on the boundary: told in the table, not printed.
    flat = results({("natural", p): [0.5] * 3 for p in (0.0, 1.0)} | {("radiology", p): [0.5] * 3 for p in (0.0, 1.0)})
    assert (statistics.mixed_model(flat, reference="natural")["problem"] != "").all()
    assert len(recwarn) == 0


def test_summary_by_source_by_hand():
    ood = results({("natural", 0.0): [0.8, 0.9], ("natural", 1.0): [0.2, 0.1]})
    iid = results({("natural", 0.0): [0.8, 0.9], ("natural", 1.0): [1.0, 0.9]}, test_set="iid")
    row = statistics.by_source(pd.concat([ood, iid])).iloc[0]
    assert (row["strengths"], row["folds"]) == (2, 2)
    assert (row["iid"], row["ood"], row["gap"]) == pytest.approx((0.9, 0.5, 0.4))
    # Both folds have the same mean over strengths on both tests, so nothing varies.
    assert (row["ood_low"], row["gap_high"]) == pytest.approx((0.5, 0.4))
    with pytest.raises(StudyError, match="lacks a strength, fold or test"):
        statistics.by_source(pd.concat([ood, iid.iloc[1:]]))
    with pytest.raises(StudyError, match="lacks a strength, fold or test"):
        statistics.by_source(ood)

"""The declared analysis and the paper's test against examples by hand, other libraries, and simulation."""

import itertools
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.metrics import patient_parts
from sourcematters.results import statistics

PAIR = [("natural", "radiology")]
FIXED = {"task": "mass", "confounder": "tag", "backbone": "resnet50", "test_set": "ood", "n": 8}


def results(aucs, **columns):
    """One row a value; `aucs` maps (source, p_art) or source to one AUC a fold."""
    rows = []
    for key, values in aucs.items():
        source, p_art = key if isinstance(key, tuple) else (key, 0.5)
        for fold, auc in enumerate(values):
            rows.append(
                {"run_id": f"{source}-{p_art}-{fold}", "source": source, "p_art": p_art, "fold": fold, "auc": auc}
            )
    return pd.DataFrame(rows).assign(**{**FIXED, **columns})


def still(table):
    """Parts by which no patient makes a difference: only folds vary."""
    none = pd.DataFrame({"positive": [0.0, 0, np.nan, np.nan], "negative": [np.nan, np.nan, 0, 0]}, index=list("abcd"))
    return dict.fromkeys(zip(table["run_id"], table["test_set"], strict=True), none)


def compare(table, parts=None, pairs=PAIR):
    return statistics.compare(table, None, pairs=pairs, parts=parts or still(table))


GRID = results({
    ("natural", 0): [0.80, 0.84, 0.82], ("natural", 0.5): [0.50, 0.60, 0.46], ("natural", 1): [0.30, 0.20, 0.30],
    ("radiology", 0): [0.78, 0.80, 0.82], ("radiology", 0.5): [0.60, 0.70, 0.62], ("radiology", 1): [0.60, 0.50, 0.60],
})  # fmt: skip


def test_the_difference_in_reliance_by_hand():
    # natural loses .80 - .40, .84 - .40, .82 - .38; radiology .78 - .60, .80 - .60, .82 - .61.
    a, b = np.array([0.40, 0.44, 0.44]), np.array([0.18, 0.20, 0.21])
    row = compare(GRID).iloc[0]
    paired = scipy.stats.ttest_rel(a, b)
    interval = paired.confidence_interval()
    assert (row["reliance_a"], row["reliance_b"]) == pytest.approx((a.mean(), b.mean()))
    assert row["difference"] == pytest.approx((a - b).mean())
    assert (row["t"], row["df"], row["p"]) == pytest.approx((paired.statistic, 2, paired.pvalue))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert (row["folds"], row["patients"], row["n"], row["patient_variance"], row["problem"]) == (3, 4, 8, 0, "")


def test_the_other_way_round_the_sign_is_the_other_and_nothing_else_changes():
    there, back = compare(GRID).iloc[0], compare(GRID, pairs=[("radiology", "natural")]).iloc[0]
    assert back["difference"] == pytest.approx(-there["difference"]) and back["t"] == pytest.approx(-there["t"])
    assert (back["ci_low"], back["ci_high"]) == pytest.approx((-there["ci_high"], -there["ci_low"]))
    same = ["df", "p", "fold_variance", "patient_variance", "detectable", "p_development"]
    assert back[same].tolist() == pytest.approx(there[same].tolist())
    shuffled = compare(GRID.sample(frac=1, random_state=3)).iloc[0]
    assert shuffled["difference"] == pytest.approx(there["difference"]) and shuffled["p"] == pytest.approx(there["p"])


def by_patient(names, labels, scores):
    found = patient_parts(pd.DataFrame({"patient_id": names, "label": labels, "score": scores}))
    return found[["positive", "negative"]].loc[names]


def simulated(rng, *, folds=5, patients=40, shift=0.0, luck=0.4, strengths=(0.0, 1.0)):
    """A results table and its parts: shared patients, some hard for one source, and luck of training."""
    labels, names = np.arange(patients) % 2, [f"p{k}" for k in range(patients)]
    shared, own = rng.normal(size=patients), rng.normal(0, 0.6, (2, patients))
    rows, parts = [], {}
    for (k, source), fold, p in itertools.product(enumerate(PAIR[0]), range(folds), strengths):
        apart = 1.6 - (1.5 + shift * (source == "natural")) * p + luck * rng.normal()
        scores = apart * labels + shared + own[k] + 0.7 * rng.normal(size=patients)
        # Of one image a patient, by the definition; `patient_parts` would do, a hundred times as slowly.
        wins = scores[labels == 1][:, None] > scores[labels == 0]  # (ill, healthy)
        moved = np.full((2, patients), np.nan)
        for row, label, axis in ((0, 1, 1), (1, 0, 0)):
            moved[row, labels == label] = (wins.mean(axis) - wins.mean()) / (labels == label).sum()
        run = f"{source}-{p}-{fold}"
        rows.append({"run_id": run, "source": source, "p_art": p, "fold": fold, "auc": wins.mean()})
        parts[run, "ood"] = pd.DataFrame(moved.T, index=names, columns=["positive", "negative"])
        if not fold:
            pd.testing.assert_frame_equal(parts[run, "ood"], by_patient(names, labels, scores), check_names=False)
    return pd.DataFrame(rows).assign(**FIXED), parts


def together(studies):
    """Many studies in one table, a confounder each."""
    tables, parts = [], {}
    for number, (table, own) in enumerate(studies):
        tables.append(table.assign(confounder=f"c{number}", run_id=f"{number}-" + table["run_id"]))
        parts |= {(f"{number}-{run}", test_set): part for (run, test_set), part in own.items()}
    return pd.concat(tables, ignore_index=True), parts


def test_the_size_is_what_it_should_be():
    rng = np.random.default_rng(7)
    rows = compare(*together(simulated(rng) for _ in range(300)))
    # 300 tests at .05: fewer than 5 or more than 26 happen once in 300.
    low, high = scipy.stats.binom.ppf([0.0015, 0.9985], 300, 0.05)
    assert low <= (rows["p"] < 0.05).sum() <= high
    assert ((rows["ci_low"] <= 0) & (rows["ci_high"] >= 0)).mean() >= 0.91
    # The bound for other development patients is never below.
    assert (rows["p_development"] >= rows["p"]).all()


def test_what_is_there_is_found_and_the_variance_is_that_of_the_differences():
    rng = np.random.default_rng(8)
    rows = compare(*together(simulated(rng, shift=1.2) for _ in range(80)))
    assert (rows["p"] < 0.05).mean() > 0.5 and rows["difference"].mean() > 0.1
    error = np.sqrt((rows["fold_variance"] + rows["patient_variance"]).mean())
    assert error == pytest.approx(rows["difference"].std(), rel=0.25)  # of 80: sd 8 %


def test_detectable_is_found_four_times_in_five():
    row = compare(GRID).iloc[0]
    error = np.sqrt(row["fold_variance"])
    # Central by Student's t, as the test is: P(t > t(.975) - shift) is .8 at this shift.
    assert scipy.stats.t.sf(scipy.stats.t.ppf(0.975, 2) - row["detectable"] / error, 2) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("fold_variance", "patient_variance", "says"),
    [
        # (.05 / (1.960 + .842))^2 = 3.185e-4 may vary. 5 folds of .002: 10e-3 / 3.185e-4 = 31.4 folds.
        (0.002, 0.0, "needs about 32 folds"),
        # Patients alone .001: half may be theirs, 100 x .001 / 1.592e-4 = 628 patients; folds .0005 x 5 / 1.592e-4.
        (0.0005, 0.001, "needs about 16 folds and 628 test patients"),
        (0.00001, 0.00001, "would be found"),
    ],
)
def test_how_many_folds_or_patients_are_needed(fold_variance, patient_variance, says):
    found = metrics.Estimate(0.01, 5, 100, 49, fold_variance, patient_variance)
    assert says in statistics.needed(found)


def test_tables_without_a_test_say_why():
    def problem(table):
        row = compare(table).iloc[0]
        assert np.isnan(row["p"]) and np.isnan(row["p_holm"])
        return row["problem"]

    assert "one fold" in problem(GRID[GRID["fold"] == 0])
    assert "no 0 in p_art" in problem(GRID[GRID["p_art"] > 0])
    assert "no strength above 0" in problem(GRID[GRID["p_art"] == 0])
    assert "no fold with every strength" in problem(GRID[(GRID["source"] == "natural") ^ (GRID["fold"] == 0)])
    flat = {(source, p): [0.9] * 3 for source in PAIR[0] for p in (0.0, 1.0)}
    assert "nothing to measure by" in problem(results(flat))
    alone = pd.DataFrame({"positive": [0.0, np.nan], "negative": [np.nan, 0.0]}, index=["a", "b"])
    row = compare(GRID, dict.fromkeys(still(GRID), alone)).iloc[0]
    assert "a single patient" in row["problem"] and np.isnan(row["p"])
    told = statistics.told(compare(GRID[GRID["fold"] == 0]))
    assert told == ["natural and radiology, tag (mass): no test, " + compare(GRID[GRID["fold"] == 0])["problem"][0]]


def test_unequal_folds_and_strengths_are_paired_where_both_are_and_it_is_said():
    fewer = GRID[~((GRID["source"] == "radiology") & ((GRID["fold"] == 2) | (GRID["p_art"] == 0.5)))]
    row, alike = compare(fewer).iloc[0], compare(GRID[(GRID["fold"] < 2) & (GRID["p_art"] != 0.5)]).iloc[0]
    assert row["problem"] == "left out, for not every source and fold has it: p_art 0.5 and fold 2"
    assert row["folds"] == 2 and alike["problem"] == ""
    assert row["difference"] == alike["difference"] and row["p"] == alike["p"]


def test_a_family_is_all_tasks_and_confounders_of_a_pair():
    several = [GRID.assign(confounder=name, run_id=name + GRID["run_id"]) for name in ("tag", "noise")]
    several.append(several[1].assign(task="mass-ct", run_id="ct" + GRID["run_id"]))
    third = GRID[GRID["source"] == "natural"].assign(source="random", run_id="r" + GRID["run_id"])
    third["auc"] += 0.05 * third["fold"] * (third["p_art"] == 0)
    table = pd.concat([*several, third])
    found = compare(table, pairs=[*PAIR, ("natural", "random")])
    assert found[["task", "confounder", "a", "b"]].values.tolist() == [
        ["mass", "noise", "natural", "radiology"],
        ["mass", "tag", "natural", "radiology"],
        ["mass", "tag", "natural", "random"],
        ["mass-ct", "noise", "natural", "radiology"],
    ]
    assert found["family_size"].tolist() == [3, 3, 1, 3]
    assert found["p_holm"].tolist() == pytest.approx((found["p"] * [3, 3, 1, 3]).tolist())
    assert found["family"][0] == "3 tests of backbone resnet50, a natural, b radiology"
    said = statistics.told(found)
    assert "natural relies more than radiology on tag (mass), for any development patients" in said[0]
    narrower = statistics.told(found.assign(p_holm_development=0.06))
    assert "natural relies more than radiology on tag (mass), for these development patients" in narrower[0]
    assert any("no difference found" in line for line in said)


def test_bars_cover_folds_and_patients_and_say_where_there_are_none():
    table, parts = simulated(np.random.default_rng(3), folds=4)
    rows = statistics.summarise(table, None, parts=parts)
    assert list(rows.columns) == statistics.SUMMARY and (rows["problem"] == "").all()
    natural = table[(table["source"] == "natural") & (table["p_art"] == 1)]
    of = [np.array([parts[run, "ood"][column] for run in natural["run_id"]]) for column in ("positive", "negative")]
    found, row = metrics.estimate(natural["auc"].to_numpy(), *of), rows.iloc[1]
    assert row[["mean", "ci_low", "ci_high"]].tolist() == pytest.approx([found.value, *found.interval_of_auc])
    # Folds alone: Student's t, 4.303 sd / sqrt(3) with sd .02, on the logit scale, where d logit = dA / (A (1 - A)).
    only = statistics.summarise(GRID, None, parts=still(GRID)).iloc[0]
    half = 4.3027 * 0.02 / np.sqrt(3) / (0.82 * 0.18)
    ends = [1 / (1 + np.exp(-(np.log(0.82 / 0.18) + side))) for side in (-half, half)]
    assert [only["ci_low"], only["ci_high"]] == pytest.approx(ends, abs=1e-5)
    assert (only["lowest"], only["highest"]) == pytest.approx((0.80, 0.84))
    # One fold: the patients alone.
    first = table[table["fold"] == 0]
    row = statistics.summarise(first, None, parts=parts).iloc[1]
    one = metrics.estimate(natural["auc"].to_numpy()[:1], *(each[:1] for each in of))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(one.interval_of_auc)
    assert "one fold" in row["problem"]
    flat = results({"natural": [1.0, 1.0]})
    row = statistics.summarise(flat, None, parts=still(flat)).iloc[0]
    assert np.isnan(row["ci_low"]) and "nothing to measure by" in row["problem"]


def test_shift_and_reliance_are_told_apart():
    clean = results({("natural", 0): [0.90, 0.88, 0.92]}, test_set="clean")
    table = pd.concat([GRID[GRID["source"] == "natural"], clean])
    row = statistics.by_source(table, None, still(table)).iloc[0]
    # ood(0) - clean(0): -.10, -.04, -.10. Reliance: .40, .44, .44.
    assert (row["clean"], row["shift"], row["reliance"]) == pytest.approx((0.90, -0.08, 0.42666667))
    for name, values in (("shift", [-0.10, -0.04, -0.10]), ("reliance", [0.40, 0.44, 0.44])):
        interval = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(interval)
    assert (row["folds"], row["strengths"], row["patients"], row["problem"]) == (3, 3, 4, "")


def test_what_a_source_lacks_is_said():
    def row(table):
        return statistics.by_source(table, None, still(table)).iloc[0]

    natural = GRID[GRID["source"] == "natural"]
    assert row(natural)["problem"] == "no clean test at p_art 0: no shift" and np.isnan(row(natural)["shift"])
    late = row(natural[natural["p_art"] > 0])
    assert "no 0 in p_art" in late["problem"] and np.isnan([late["shift"], late["reliance"]]).all()
    clean = natural[natural["p_art"] == 0].assign(test_set="clean")
    only = row(pd.concat([natural[natural["p_art"] == 0], clean]))
    assert only["shift"] == 0 and np.isnan(only["reliance"]) and "no strength above 0" in only["problem"]
    assert "nothing to measure by" in only["problem"], "a shift of nothing in every fold"


def test_parts_are_read_from_the_predictions_of_each_test(monkeypatch, tmp_path):
    images = {"patient_id": ["07", "07", "8", "9"], "label": [0, 1, 0, 1], "score": [0.1, 0.9, 0.2, 0.15]}
    table = pd.concat([pd.DataFrame(images).assign(test_set=name) for name in ("ood", "clean", "iid")])
    monkeypatch.setattr(statistics, "predictions", lambda folder, **how: table)
    asked = results({"natural": [0.5]})
    parts = statistics.read_parts(asked, tmp_path)
    assert list(parts) == [("natural-0.5-0", "ood")]
    pd.testing.assert_frame_equal(parts["natural-0.5-0", "ood"], patient_parts(table[table["test_set"] == "ood"]))


def test_tests_on_other_patients_for_each_fold_are_independent():
    # Two folds that share no patient vary together by nothing.
    table = GRID[(GRID["fold"] < 2)]
    one = pd.DataFrame({"positive": [0.1, -0.1, np.nan, np.nan], "negative": [np.nan, np.nan, 0.1, -0.1]})
    parts = {
        (run, "ood"): one.set_index(pd.Index([f"{fold}{k}" for k in range(4)], name="patient_id"))
        for run, fold in zip(table["run_id"], table["fold"], strict=True)
    }
    row = compare(table, parts).iloc[0]
    assert row["patients"] == 8 and row["patient_variance"] == 0


def test_how_often_each_analysis_is_wrong_is_said_from_the_simulation():
    said = statistics.false_alarms(5)
    assert said.startswith("With 5 folds and nothing to find, the paper's test has p below 0.05 in ")
    assert statistics.false_alarms(6) == said and statistics.false_alarms(3, "primary") != said


def test_the_table_in_the_docs_is_the_one_that_is_quoted():
    text = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    with (files("sourcematters.results") / "false_alarms.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    shown = ["paper", "primary", "development", "bars", "power: primary", "power: development", "power: paper"]
    assert len(table) == (5 + 2) * 3 * 5
    for row in table.to_dict("records"):
        numbers = ["" if np.isnan(row[name]) else f"{row[name]:.3f}" for name in shown]
        assert f"| {' | '.join([row['null'], row['patients'], str(row['folds']), *numbers])} |\n" in text
    # What was asked of the primary analysis, within what 1,000 replications leave open: an sd of .007.
    asked = table[(table["folds"] >= 5) & ~table["null"].str.contains("anew")]
    assert (asked["primary"] <= 0.06 + 0.007).all() and (asked["bars"] >= 0.93 - 0.008).all()
    assert (table.loc[table["folds"] >= 5, "development"] <= 0.06).all()


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


def test_sources_that_meet_are_tested_on_the_ood_test():
    table = pd.concat([
        results({("natural", 0.0): [0.5, 0.6], ("radiology", 0.0): [0.7, 0.8], ("natural", 1.0): [0.1, 0.2]}),
        results({"natural": [0.9, 0.8], "radiology": [0.9, 0.7]}, test_set="iid"),
    ])  # fmt: skip
    assert statistics.permutation_tests(table, pairs=PAIR)[["test_set", "p_art"]].values.tolist() == [["ood", 0.0]]
    both = statistics.permutation_tests(table, pairs=PAIR)
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
    assert set(found["family"]) == {"4 tests of backbone resnet50, a natural, b radiology"}


def test_each_pair_is_a_family_and_its_floor_grows_with_it():
    found = statistics.holm(a_table_of([2 / 252, 0.5, 2 / 252], b=["radiology", "radiology", "random"]))
    assert found["p_holm"].tolist() == pytest.approx([4 / 252, 0.5, 2 / 252])
    assert found["family_size"].tolist() == [2, 2, 1]
    seven = statistics.holm(a_table_of([2 / 252] * 7))
    assert seven["floor_holm"].tolist() == pytest.approx([14 / 252] * 7) and 14 / 252 > 0.05
    together = statistics.holm(a_table_of([0.01, 0.02], b=["radiology", "random"]), by=["test_set"])
    assert together["p_holm"].tolist() == pytest.approx([0.02, 0.02])


def test_a_test_without_p_is_none_of_the_family():
    found = statistics.holm(a_table_of([0.04, np.nan, 0.03]))
    assert found["p_holm"].tolist() == pytest.approx([0.06, np.nan, 0.06], nan_ok=True)
    assert found["family_size"].tolist() == [2, 2, 2]

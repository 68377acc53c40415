"""Does one source lean harder on a confounder than another? The declared test, the paper's, and every interval.

Of a source, in fold k:

    shift_k = ood_k(0) - clean_k(0)          what the artefact does to a network that never saw it
    reliance_k = ood_k(0) - mean ood_k(p)    what networks lose that learned it, over the strengths p > 0

`compare` is the primary analysis, declared before any of it is computed: for each task, confounder and backbone the
mean over folds of reliance_a,k - reliance_b,k, two-sided, corrected by Holm over all tasks and confounders of a pair.
`by_source` has shift and reliance of each source, `summarise` the curves of the figures, `permutation_tests` is the
paper's test. How often each is wrong where there is nothing to find was simulated: docs/statistics.md.

All raise StudyError as `metrics.of_tests` does.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.special
import scipy.stats
from numpy.typing import NDArray

from sourcematters import metrics, seeds
from sourcematters.errors import StudyError
from sourcematters.metrics import DETECTED, GROUP, Estimate, estimate, of_tests, patient_parts
from sourcematters.runs.run_folder import predictions

Names = Sequence[str]
Values = NDArray[np.float64]
Pairs = Sequence[tuple[str, str]]
Parts = Mapping[tuple[str, str], pd.DataFrame]
"""`metrics.patient_parts` of each run and test set."""

PANEL = ["task", "confounder", "backbone"]
SOURCE = [*PANEL, "source"]
SUMMARY = [*GROUP, "folds", "mean", "ci_low", "ci_high", "lowest", "highest", "problem"]
CELL = [*PANEL, "test_set", "p_art"]
FAMILY = ("backbone", "a", "b")
ANALYSES = {"paper": "the paper's test", "primary": "the primary analysis", "development": "p_development"}
WORTH_FINDING = 0.05  # a difference in reliance, in AUC, for which `needed` says how many folds and patients it takes
TEXT = {"image_id": str, "patient_id": str}
DECIMALS = 12  # values that differ by rounding alone are ties


def read_parts(results: pd.DataFrame, runs: Path, metric: str = "auc") -> dict[tuple[str, str], pd.DataFrame]:
    """`metrics.patient_parts` by run and test set, of all of `results`; `runs` is the folder of the run folders."""
    parts: dict[tuple[str, str], pd.DataFrame] = {}
    for run_id, asked in results.groupby("run_id", sort=False)["test_set"]:
        by_test = dict(list(predictions(runs / str(run_id), dtype=TEXT).groupby("test_set", sort=False)))
        parts |= {(str(run_id), name): patient_parts(by_test[name], metric) for name in asked.unique()}
    return parts


def _over_folds(rows: pd.DataFrame, weights: Values, parts: Parts, metric: str = "auc") -> Estimate:
    """`estimate` of the weighted sum of the AUCs of `rows` in each fold; every fold has all of them."""
    found = [parts[key] for key in zip(rows["run_id"], rows["test_set"], strict=True)]
    patients = np.unique(np.concatenate([table.index.to_numpy(str) for table in found]))
    both = np.full((2, len(rows), len(patients)), np.nan)
    for row, table in enumerate(found):
        both[:, row, np.searchsorted(patients, table.index.to_numpy(str))] = table.to_numpy().T
    # A row of `sums` a fold: which rows it adds up, and how.
    folds = rows["fold"].to_numpy()
    sums = np.where(folds == np.unique(folds)[:, None], weights, 0.0)
    positive, negative = (np.where(np.isfinite(of).any(axis=0), sums @ np.nan_to_num(of), np.nan) for of in both)
    return estimate(sums @ rows[metric].to_numpy(float), positive, negative)


def summarise(results: pd.DataFrame, runs: Path, metric: str = "auc", parts: Parts | None = None) -> pd.DataFrame:
    """Mean `metric` over folds with its 95 % interval: `SUMMARY`, one row a group of `GROUP`.

    The interval covers other folds and other test patients (`metrics.Estimate`), of a single fold the patients only,
    and lies within 0..1; where there is none, `problem` says why. lowest and highest are of the folds. `runs` is the
    folder of the run folders, from which `parts` are read if they are not given.
    """
    results = of_tests(results, metric)
    parts = parts or read_parts(results, runs, metric)
    rows = []
    for names, group in results.groupby(GROUP, sort=True):
        found = _over_folds(group, np.ones(len(group)), parts, metric)
        folds = group[metric].min(), group[metric].max()
        rows.append((*names, found.folds, found.value, *found.interval_of_auc, *folds, found.problem))
    return pd.DataFrame(rows, columns=SUMMARY)


def _grid(group: pd.DataFrame, sources: Names) -> tuple[pd.DataFrame, str]:
    """The o.o.d. rows of the strengths and folds that all of `sources` have, and in words what that leaves out."""
    ood = group[(group["test_set"] == "ood") & group["source"].isin(list(sources))]
    strengths = set.intersection(*(set(ood.loc[ood["source"] == source, "p_art"]) for source in sources))
    kept = ood[ood["p_art"].isin(strengths)]
    runs = kept.groupby("fold").size()
    kept = kept[kept["fold"].isin(runs.index[runs == len(strengths) * len(sources)])]
    lost = {column: sorted(set(ood[column]) - set(kept[column])) for column in ("p_art", "fold")}
    said = [f"{column} {', '.join(f'{value:g}' for value in values)}" for column, values in lost.items() if values]
    return kept, f"left out, for not every source and fold has it: {' and '.join(said)}" if said else ""


def _reliance(rows: pd.DataFrame) -> tuple[Values, str]:
    """The weights that make a fold's reliance of its o.o.d. AUCs, or why there is none."""
    above = rows["p_art"].to_numpy() > 0
    if rows.empty or above.all() or not above.any():
        wanted = "no fold with every strength" if rows.empty else "no strength above 0" if not above.any() else "no 0"
        return np.zeros(0), f"{wanted} in p_art: reliance is what is lost from p_art 0 to those above it"
    return np.where(above, -1 / rows.loc[above, "p_art"].nunique(), 1.0), ""


def pairs(sources: Iterable[str], reference: str = "") -> list[tuple[str, str]]:
    """Every pair of sources, in the order given; with `reference`, that one against each other."""
    names = list(dict.fromkeys(sources))
    if not reference:
        return list(itertools.combinations(names, 2))
    if reference not in names:
        raise StudyError(f"reference = {reference!r} is not one of the sources: {', '.join(names)}.")
    return [(reference, name) for name in names if name != reference]


COMPARED = [
    *PANEL, "a", "b", "folds", "patients", "n", "reliance_a", "reliance_b", "difference", "ci_low", "ci_high", "t",
    "df", "p", "p_holm", "p_development", "p_holm_development", "family", "family_size", "fold_variance",
    "patient_variance", "detectable", "needed", "problem",
]  # fmt: skip


def compare(results: pd.DataFrame, runs: Path, *, pairs: Pairs, parts: Parts | None = None) -> pd.DataFrame:
    """The primary analysis: the difference in reliance between two sources, for each task, confounder and backbone.

    `COMPARED`, one row a pair that was run. Strengths and folds are those that both sources have. What that leaves out
    is said in `problem`, as is why there is no test (one fold, no p_art of 0, nothing that varies): then p is NaN. n
    counts the images of the o.o.d. test. The difference has the variance `fold_variance` + `patient_variance`
    (`metrics.Estimate`), for these development patients; p_development holds for others too, as if all that varies
    from fold to fold came from the patients left out. `detectable` is the smallest true difference that is found four
    times in five; `needed` says in words what would find one of .05.
    """
    results = of_tests(results, "auc")
    parts = parts or read_parts(results[results["test_set"] == "ood"], runs)
    rows = [
        {**dict(zip(PANEL, names, strict=True)), "a": a, "b": b, **_compared(group, a, b, parts)}
        for names, group in results.groupby(PANEL, sort=True)
        for a, b in pairs
        if {a, b} <= set(group["source"])
    ]
    table = holm(pd.DataFrame(rows, columns=[name for name in COMPARED if "holm" not in name and "family" not in name]))
    corrected = table.groupby(list(FAMILY), sort=False)["p_development"].transform(metrics.holm)
    return table.assign(p_holm_development=corrected)[COMPARED]


def _compared(group: pd.DataFrame, a: str, b: str, parts: Parts) -> dict[str, Any]:
    kept, said = _grid(group, (a, b))
    weights, problem = _reliance(kept)
    if problem:
        return {"folds": kept["fold"].nunique(), "problem": problem, "needed": ""}
    of_a, aucs = (kept["source"] == a).to_numpy(), kept["auc"].to_numpy(float)
    found = _over_folds(kept, np.where(of_a, weights, -weights), parts)
    measured = {
        "folds": found.folds,
        "patients": found.patients,
        "n": int(kept["n"].iloc[0]),
        "reliance_a": weights[of_a] @ aucs[of_a] / found.folds,
        "reliance_b": weights[~of_a] @ aucs[~of_a] / found.folds,
        "difference": found.value,
        "fold_variance": found.fold_variance,
        "patient_variance": found.patient_variance,
        "needed": "",
        "problem": "; ".join(filter(None, (found.problem, said))),
    }
    if not found.problem:
        measured |= {name: getattr(found, name) for name in ("t", "df", "p", "detectable")}
        measured |= {"p_development": found.development.p, "needed": needed(found)}
        measured["ci_low"], measured["ci_high"] = found.interval
    return measured


def needed(found: Estimate, difference: float = WORTH_FINDING) -> str:
    """In words: how many folds, or folds and test patients, would find a true `difference` four times in five.

    As if what was seen to vary were known, so by the normal distribution: with few folds a rough guide.
    """
    if found.detectable <= difference:
        return f"a difference of {difference:g} would be found"
    aim = (difference / sum(scipy.special.ndtri(q) for q in DETECTED)) ** 2
    a_fold, a_patient = found.fold_variance * found.folds, found.patient_variance * found.patients
    # Half of what may vary is left to each source where the patients at hand alone vary by more than half of it.
    patients = found.patients if found.patient_variance <= aim / 2 else math.ceil(2 * a_patient / aim)
    folds = max(math.ceil(a_fold / (aim - a_patient / patients)), 2)
    more = f" and {patients} test patients" if patients > found.patients else ""
    return f"a difference of {difference:g} needs about {max(folds, found.folds)} folds{more}"


def holm(tests: pd.DataFrame, by: Names = FAMILY) -> pd.DataFrame:
    """`tests` with Holm's correction of column p: columns family (in words), family_size, p_holm.

    A family is all tests that agree in the columns `by`; as declared, all tasks and confounders of one pair of
    sources. A test without p (NaN) is none and has none. Where the tests have a floor, `floor_holm` is the smallest
    corrected p that the family can give.
    """
    families = tests.groupby(list(by), sort=False)
    size = families["p"].transform("count")
    names = [", ".join(f"{column} {row[column]}" for column in by) for row in tests[list(by)].to_dict("records")]
    found = tests.assign(
        family=[f"{n} tests of {name}" for n, name in zip(size, names, strict=True)],
        family_size=size,
        p_holm=families["p"].transform(metrics.holm),
    )
    if "floor" in tests:
        found["floor_holm"] = (size * families["floor"].transform("min")).clip(upper=1.0)
    return found


def told(table: pd.DataFrame) -> list[str]:
    """What the table of `compare` says, a sentence a family, and why some have no test."""
    said = []
    for family, tests in table[table["p"].notna()].groupby("family", sort=False):
        found = tests[tests["p_holm"] < 0.05]
        more = [(row.a, row.b, row) if row.difference > 0 else (row.b, row.a, row) for row in found.itertuples()]
        whose = {True: "for any development patients", False: "for these development patients"}
        what = [
            f"{one} relies more than {other} on {row.confounder} ({row.task}), {whose[row.p_holm_development < 0.05]}"
            for one, other, row in more
        ]
        said.append(
            f"{family}: {'; '.join(what) or 'no difference found'}. Four times in five each finds a difference of "
            f"{tests['detectable'].min():.2f} to {tests['detectable'].max():.2f}, before the correction."
        )
        said += [f"{row.confounder} ({row.task}): {row.needed}" for row in tests.itertuples() if row.p_holm >= 0.05]
    for row in table[table["p"].isna()].itertuples():
        said.append(f"{row.a} and {row.b}, {row.confounder} ({row.task}): no test, {row.problem}")
    return said


BY_SOURCE = [
    "clean", "shift", "shift_low", "shift_high", "reliance", "reliance_low", "reliance_high", "reliance_error",
    "reliance_df", "problem",
]  # fmt: skip


def by_source(results: pd.DataFrame, runs: Path, parts: Parts | None = None) -> pd.DataFrame:
    """What the confounder does to each source: `SOURCE`, folds, strengths, patients, `BY_SOURCE`; a row a source.

    clean is the mean AUC of networks that never saw the confounder, on the clean test; shift what they gain or lose
    where it misleads, reliance what those lose that learned it; 95 % intervals as in `summarise`, and of the reliance
    its standard error and degrees of freedom. What a table lacks
    for one of them (a strength of 0, one above it, the clean test) is said in `problem`, and it is NaN.
    """
    results = of_tests(results, "auc", ("ood", "clean"))
    parts, rows = parts or read_parts(results, runs), []
    for names, group in results.groupby(SOURCE, sort=True):
        kept, said = _grid(group, [names[-1]])
        weights, problem = _reliance(kept)
        unseen = group[group["p_art"] == 0]
        both = unseen[unseen.groupby("fold")["fold"].transform("size") == 2]
        cleans = both[both["test_set"] == "clean"]
        clean, shift, reliance = math.nan, [math.nan] * 3, [math.nan] * 5
        if cleans.empty:
            said = "; ".join(filter(None, (said, "no clean test at p_art 0: no shift")))
        else:
            clean = cleans["auc"].mean()
            found = _over_folds(both, np.where(both["test_set"] == "ood", 1.0, -1.0), parts)
            shift, problem = [found.value, *found.interval], "; ".join(filter(None, (problem, found.problem)))
        if len(weights):
            found = _over_folds(kept, weights, parts)
            reliance = [found.value, *found.interval, found.error, found.df]
            problem = "; ".join(filter(None, (problem, found.problem)))
        counts = kept["fold"].nunique(), kept["p_art"].nunique(), _patients(group, parts)
        said = "; ".join(dict.fromkeys(filter(None, (*problem.split("; "), said))))
        rows.append((*names, *counts, clean, *shift, *reliance, said))
    return pd.DataFrame(rows, columns=[*SOURCE, "folds", "strengths", "patients", *BY_SOURCE])


def _patients(group: pd.DataFrame, parts: Parts) -> int:
    ood = group[group["test_set"] == "ood"]
    return len(set().union(*(parts[run, "ood"].index for run in ood["run_id"])))


def false_alarms(folds: int, analysis: str = "paper") -> str:
    """In words, how often `analysis` (paper, primary or development) has p below .05 with nothing to find.

    From the table of docs/statistics.md, for the number of folds nearest to `folds`.
    """
    with (package_files(__package__) / "false_alarms.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file)
    nearest = min(table["folds"].unique(), key=lambda there: abs(there - folds))
    rows = table[table["folds"] == nearest]
    of_others = rows["null"].str.contains("anew")
    sizes, others = rows.loc[~of_others, analysis].dropna(), rows.loc[of_others, analysis]
    return (
        f"With {nearest} folds and nothing to find, {ANALYSES[analysis]} has p below 0.05 in {sizes.min():.2f} to "
        f"{sizes.max():.2f} of simulated studies, and in up to {others.max():.2f} where the development patients, too, "
        "are others (docs/statistics.md)."
    )


def permutation_tests(results: pd.DataFrame, *, pairs: Pairs, resamples: int = 9999, seed: int = 0) -> pd.DataFrame:
    """The paper's permutation t-test of the o.o.d. AUC, two-sided, for each pair of sources at each strength.

    One row a test: `CELL`, a, b, folds_a, folds_b, mean_a, mean_b, difference, t (Student's, equal variances; NaN
    where nothing varies), p, floor, exact, permutations. If there are at most `resamples` ways to deal the folds
    to the two sources, all of them are tried and p is exact; else so many are drawn. `floor` is the smallest p
    that this number of folds can give: 2/252 = .0079 for 5 against 5, when all folds of one source lie above all of
    the other. One fold a side tells nothing: p is 1. A source is compared where it was run. All folds share the test
    patients and most of the training images, which the test leaves out: `false_alarms` says how often it is wrong.
    """
    rows = []
    for cell, group in of_tests(results, "auc", ("ood",)).groupby(CELL, sort=True):
        aucs = {source: part["auc"].to_numpy(float) for source, part in group.groupby("source")}
        for a, b in pairs:
            if a in aucs and b in aucs:
                rng = seeds.generator(seed, "permutation", *map(str, cell), a, b)
                rows.append((*cell, a, b, *_permutation_test(aucs[a], aucs[b], resamples, rng)))
    measures = ["folds_a", "folds_b", "mean_a", "mean_b", "difference", "t", "p", "floor", "exact", "permutations"]
    return pd.DataFrame(rows, columns=[*CELL, "a", "b", *measures])


def _permutation_test(a: Values, b: Values, resamples: int, rng: np.random.Generator) -> tuple[Any, ...]:
    ways = math.comb(len(a) + len(b), len(a))
    exact = ways <= resamples
    measured = len(a), len(b), a.mean(), b.mean(), a.mean() - b.mean()
    if min(len(a), len(b)) < 2:
        return *measured, math.nan, 1.0, 1.0, exact, ways

    # |t| of a permutation grows with the difference of means, which is also defined where nothing varies.
    def distance(x: Values, y: Values, axis: int = -1) -> Values:
        return np.round(np.abs(x.mean(axis) - y.mean(axis)), DECIMALS)

    p = scipy.stats.permutation_test(
        (a, b), distance, permutation_type="independent", alternative="greater",
        n_resamples=np.inf if exact else resamples, rng=rng, vectorized=True, batch=1000,
    ).pvalue  # fmt: skip
    varies = np.ptp(np.round(np.concatenate([a - a.mean(), b - b.mean()]), DECIMALS)) > 0
    t = scipy.stats.ttest_ind(a, b).statistic if varies else math.nan
    extreme = (2 if len(a) == len(b) else 1) / ways
    floor = extreme if exact else max(extreme, 1 / (resamples + 1))
    return *measured, t, p, floor, exact, ways if exact else resamples

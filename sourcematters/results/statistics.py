"""Is the difference between two sources more than chance? Four views, from the results table and predictions.

- `permutation_tests` with `holm`: the paper's test, over folds. They share most of their training images and all
  test patients, so its p-values are optimistic.
- `bootstrap`: over patients, for the networks at hand. It asks how the difference would vary with other patients.
- `mixed_model`: all strengths at once, folds as groups; a secondary view, for AUC is neither linear nor normal.
- `by_source`: one row a source.

A difference is always source `a` minus source `b`. All raise StudyError as `metrics.of_tests` does.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray

from sourcematters import seeds
from sourcematters.errors import StudyError
from sourcematters.metrics import SOURCE, of_tests, weighted_auc

Names = Sequence[str]
Values = NDArray[np.float64]
Pairs = Sequence[tuple[str, str]]

CURVE = ["task", "confounder", "backbone", "test_set"]
CELL = [*CURVE, "p_art"]
TESTED = ["image_id", "patient_id", "label", "carries"]
OOD = ("ood",)
CONFIDENCE = 0.95
DECIMALS = 12  # values that differ by rounding alone are ties


def pairs(sources: Names, reference: str = "") -> list[tuple[str, str]]:
    """Every pair of sources, in the order given; with `reference`, that one against each other."""
    names = list(dict.fromkeys(sources))
    if not reference:
        return list(itertools.combinations(names, 2))
    if reference not in names:
        raise StudyError(f"reference = {reference!r} is not one of the sources: {', '.join(names)}.")
    return [(reference, name) for name in names if name != reference]


def permutation_tests(
    results: pd.DataFrame, *, pairs: Pairs, test_sets: Names = OOD, resamples: int = 9999, seed: int = 0
) -> pd.DataFrame:
    """The paper's permutation t-test of the binary AUC, two-sided, for each pair of sources at each strength.

    One row a test: `CELL`, a, b, folds_a, folds_b, mean_a, mean_b, difference, t (Student's, equal variances; NaN
    where nothing varies), p, floor, exact, permutations. If there are at most `resamples` ways to deal the folds
    to the two sources, all of them are tried and p is exact; else so many are drawn. `floor` is the smallest p
    that this number of folds can give: 2/252 = .0079 for 5 against 5, when all folds of one source lie above all of
    the other. One fold a side tells nothing: p is 1. A source is compared where it was run.
    """
    rows = []
    for cell, group in of_tests(results, "auc", test_sets).groupby(CELL, sort=True):
        aucs = {source: part["auc"].to_numpy(float) for source, part in group.groupby("source")}
        for a, b in pairs:
            if a in aucs and b in aucs:
                rng = seeds.generator(seed, "permutation", *map(str, cell), a, b)
                rows.append((*cell, a, b, *_permutation_test(aucs[a], aucs[b], resamples, rng)))
    measures = ["folds_a", "folds_b", "mean_a", "mean_b", "difference", "t", "p", "floor", "exact", "permutations"]
    return pd.DataFrame(rows, columns=[*CELL, "a", "b", *measures])


def _permutation_test(a: Values, b: Values, resamples: int, rng: np.random.Generator) -> tuple:
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


def holm(tests: pd.DataFrame, by: Names = ("backbone", "test_set", "a", "b")) -> pd.DataFrame:
    """`tests` with Holm's correction: columns family (in words), family_size, p_holm, floor_holm.

    A family is all tests that agree in the columns `by`; as declared, all strengths and all confounders of one
    pair of sources on one test set. `floor_holm` is the smallest corrected p that the family can give: with five
    folds a side and more than six tests it lies above .05, and no such test can be significant whatever happens.
    """
    from statsmodels.stats.multitest import multipletests

    families = tests.groupby(list(by), sort=False)
    size = families["p"].transform("size")
    names = [", ".join(f"{column} {row[column]}" for column in by) for row in tests[list(by)].to_dict("records")]
    return tests.assign(
        family=[f"{n} tests of {name}" for n, name in zip(size, names, strict=True)],
        family_size=size,
        p_holm=families["p"].transform(lambda p: multipletests(p, method="holm")[1]),
        floor_holm=(size * families["floor"].transform("min")).clip(upper=1.0),
    )


def bootstrap(
    results: pd.DataFrame, runs: Path, *, pairs: Pairs, test_sets: Names = OOD, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Difference in binary AUC between two sources, with a bootstrap interval over test patients.

    As many patients as there are are drawn with replacement, all images of a patient together; both sources and all
    folds are scored on the same patients (paired), and the difference is the mean over the folds that both have. One
    row a pair and cell: `CELL`, a, b, folds, patients, difference, ci_low, ci_high (95 %, percentiles), resamples
    (those with both classes). `runs` is the folder of the run folders. Raises StudyError if two sources of a fold were
    not tested on the same images.
    """
    chosen, text = of_tests(results, "auc", test_sets), {"image_id": str, "patient_id": str}
    read = {run_id: pd.read_csv(runs / run_id / "predictions.csv", dtype=text) for run_id in chosen["run_id"].unique()}
    scores = pd.concat(read, names=["run_id"]).reset_index("run_id").sort_values("image_id")
    rows = []
    for cell, group in chosen[[*CELL, "source", "fold", "run_id"]].merge(scores).groupby(CELL, sort=True):
        parts = {run: part.reset_index(drop=True) for run, part in group.groupby(["source", "fold"])}
        patients = np.unique(group["patient_id"].to_numpy(str))
        # The same patients get the same weights at every strength, so curves move together.
        rng = seeds.generator(seed, "bootstrap", *map(str, cell[:-1]))
        drawn = rng.multinomial(len(patients), np.full(len(patients), 1 / len(patients)), size=resamples)
        counts = np.vstack([np.ones(len(patients)), drawn])  # (1 + resamples, patients); the first is the sample itself
        aucs = {}
        for key, part in parts.items():
            weights = counts[:, np.searchsorted(patients, part["patient_id"].to_numpy(str))]
            aucs[key] = weighted_auc(part["label"].to_numpy(int), part["score"].to_numpy(float), weights)
        for a, b in pairs:
            if not (folds := sorted({fold for source, fold in parts if source == a and (b, fold) in parts})):
                continue
            for fold in folds:
                if not parts[a, fold][TESTED].equals(parts[b, fold][TESTED]):
                    where = f"{a} and {b}, fold {fold}, {cell}"
                    raise StudyError(f"{where}: not tested on the same images, so their scores cannot be paired.")
            difference = np.mean([aucs[a, fold] - aucs[b, fold] for fold in folds], axis=0)
            whole, varied = difference[0], difference[1:][np.isfinite(difference[1:])]
            if len(varied) < resamples / 2:
                raise StudyError(f"{a} against {b}, {cell}: too few patients of one class for a bootstrap.")
            low, high = np.percentile(varied, [100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2])
            rows.append((*cell, a, b, len(folds), len(patients), whole, low, high, len(varied)))
    measures = ["folds", "patients", "difference", "ci_low", "ci_high", "resamples"]
    return pd.DataFrame(rows, columns=[*CELL, "a", "b", *measures])


def mixed_model(results: pd.DataFrame, *, reference: str, test_sets: Names = OOD) -> pd.DataFrame:
    """AUC ~ source x p_art with the fold as random intercept (REML), for each confounder and test set.

    One row a fixed effect: `CURVE`, term, estimate, ci_low, ci_high (95 %, normal), p (Wald), converged, problem
    (what statsmodels warned of, or why there is no fit), runs, folds. Terms: level and slope of `reference`, then
    how each other source differs from it in both. A straight line in p_art and normal errors are approximations,
    and few folds estimate the fold's variance badly: read it beside the tests.
    """
    rows = []
    for names, group in of_tests(results, "auc", test_sets).groupby(CURVE, sort=True):
        rows += [(*names, *row, len(group), group["fold"].nunique()) for row in _fit(group, reference)]
    measures = ["term", "estimate", "ci_low", "ci_high", "p", "converged", "problem", "runs", "folds"]
    return pd.DataFrame(rows, columns=[*CURVE, *measures])


def _fit(group: pd.DataFrame, reference: str) -> list[tuple]:
    from statsmodels.regression.mixed_linear_model import MixedLM

    def none(problem: str) -> list[tuple]:
        return [("none", *[math.nan] * 4, False, problem)]

    if reference not in set(group["source"]):
        return none(f"{reference} was not run")
    if group["fold"].nunique() < 2 or group["p_art"].nunique() < 2:
        return none("needs at least two folds and two strengths")
    strength = group["p_art"].to_numpy(float)
    design = {f"{reference} at p_art 0": np.ones(len(group)), f"{reference}, slope over p_art": strength}
    for source in group.loc[group["source"] != reference, "source"].unique():
        chosen = (group["source"] == source).to_numpy(float)
        design |= {f"{source} - {reference} at p_art 0": chosen, f"{source} - {reference}, slope": chosen * strength}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # In percent: statsmodels calls any variance below .01 a boundary, whatever the unit.
            model = MixedLM(100 * group["auc"].to_numpy(float), pd.DataFrame(design), groups=group["fold"].to_numpy())
            fit = model.fit(reml=True)
            bounds = fit.conf_int().to_numpy()[: len(design)]
        except (np.linalg.LinAlgError, ValueError) as error:
            return none(f"no fit: {error}")
    problem = "; ".join(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))
    measured = np.column_stack([np.column_stack([fit.fe_params, bounds]) / 100, fit.pvalues[: len(design)]])
    return [(term, *row, bool(fit.converged), problem) for term, row in zip(design, measured.tolist(), strict=True)]


def by_source(results: pd.DataFrame) -> pd.DataFrame:
    """Each source in one row a confounder: how it does where the confounder misleads, averaged over strengths.

    Columns: `SOURCE`, strengths, folds, iid, ood (mean AUC over folds of the mean over p_art), ood_low, ood_high,
    gap (i.i.d. minus o.o.d.), gap_low, gap_high. Intervals are 95 %, Student's t over folds, NaN for one fold.
    Raises StudyError unless every fold has every strength on both tests.
    """
    rows = []
    for names, group in of_tests(results, "auc", ("iid", "ood")).groupby(SOURCE, sort=False):
        grid = group.pivot(index="fold", columns=["test_set", "p_art"], values="auc")
        if grid.isna().any(axis=None) or {"iid", "ood"} - set(group["test_set"]):
            raise StudyError(f"results: {', '.join(names)} lacks a strength, fold or test. Run the grid again.")
        row = [*names, grid["ood"].shape[1], len(grid), grid["iid"].mean(axis=1).mean()]
        for values in (grid["ood"].mean(axis=1), grid["iid"].mean(axis=1) - grid["ood"].mean(axis=1)):
            half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.sem()
            row += [values.mean(), values.mean() - half, values.mean() + half]
        rows.append(row)
    measures = ["strengths", "folds", "iid", "ood", "ood_low", "ood_high", "gap", "gap_low", "gap_high"]
    return pd.DataFrame(rows, columns=[*SOURCE, *measures])

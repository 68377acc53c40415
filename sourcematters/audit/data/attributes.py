"""What is known of the images, and how each of it goes with the label in the data at hand."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.sparse
import scipy.stats
from numpy.typing import NDArray

from sourcematters import metrics
from sourcematters.audit.data.telling import (
    CATEGORY,
    MISSING,
    NOTHING,
    NUMBER,
    SMALL,
    TOO_MANY,
    categories,
    fewest_patients,
    kind_of,
    tells,
)
from sourcematters.cohorts import cohort
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.spelling import together
from sourcematters.seeds import generator

CRAMER, AUC = "Cramér's V", "AUC"
COLUMNS = [
    "attribute", "kind", "values", "n", "missing", "measure", "value", "ci_low", "ci_high", "auc", "auc_low",
    "auc_high", "p", "p_holm", "note",
]  # fmt: skip
PERMUTATIONS, CHUNK = 1999, 100
BANDS = 4  # of a number, in the counts: with as many images each as ties allow
THE_LABEL = 0.99  # AUC: what tells the label better is the label in other words
REQUIRED = ["image_id", "patient_id", "label"]


def known(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The attributes of a cohort's table by name, and `NAME: missing or there` of a number or text with gaps."""
    found: dict[str, pd.Series] = {}
    for name in cohort.attributes(table):
        found[str(name)] = values = table[name]
        gaps = values.isna()
        if kind_of(values) != CATEGORY and min(gaps.sum(), (~gaps).sum()) >= SMALL:
            found[f"{name}: missing or there"] = gaps.map({True: MISSING, False: "there"})
    return found


def associations(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """How each attribute of a cohort's table goes with the label: one row an attribute, `COLUMNS`.

    `value` is Cramér's V, 0..1, corrected for bias (Bergsma 2013, Journal of the Korean Statistical Society 42, 323);
    of a number the AUC of the number as it is, of .5 if it tells nothing, above it if it is larger with label 1.
    Missing is a category of its own, and left out of a number. `ci_low, ci_high` are 95 % with patients as clusters: of
    V from the noncentral chi square, of an AUC Obuchowski's. `p` is by permutation of the patients' labels, `p_holm`
    Holm's. `auc, auc_low, auc_high`: how well the attribute alone tells the label of others' patients (`tells`).
    `note` says why something was not measured. Raises StudyError below two patients of a class.
    """
    metrics.check(table, REQUIRED, "the cohort's table")
    fewest_patients(table)
    found = known(table)
    usable = {
        name: values
        for name, values in found.items()
        if (kind_of(values) == NUMBER) or (kind_of(values) == CATEGORY and values.nunique(dropna=False) > 1)
    }
    p = _permutation_p(usable, table, seed)
    rows = []
    for name, values in found.items():
        kind, measure = kind_of(values), AUC if kind_of(values) == NUMBER else CRAMER
        one = (math.nan,) * 3
        if name in usable:
            one = _auc(values, table) if kind == NUMBER else cramer(categories(values), table)
        told = tells(values.to_frame(name), table, seed=seed) if name in usable else NOTHING
        rows.append({
            "attribute": name, "kind": kind, "values": values.nunique(), "n": int(values.notna().sum()),
            "missing": int(values.isna().sum()), "measure": measure if name in usable else "",
            **dict(zip(("value", "ci_low", "ci_high"), one, strict=True)),
            "auc": told.auc, "auc_low": told.ci_low, "auc_high": told.ci_high,
            "p": p.get(name, math.nan), "note": _note(values, told.auc, told.note),
        })  # fmt: skip
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "p_holm"])
    return table.assign(p_holm=metrics.holm(table["p"].astype(float)))[COLUMNS]


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Images by attribute and value: `attribute, value, negatives, positives, share_positive`.

    A number is counted in `BANDS` bands; missing is a value of its own. What has too many values is not counted.
    """
    metrics.check(table, REQUIRED, "the cohort's table")
    rows = []
    for name, values in known(table).items():
        if kind_of(values) == TOO_MANY:
            continue
        plain, order = _bands(values) if kind_of(values) == NUMBER else (categories(values), None)
        found = pd.crosstab(plain, table["label"]).reindex(columns=[0, 1], fill_value=0)
        found = found.loc[order] if order else found.loc[found.sum(axis=1).sort_values(ascending=False).index]
        rows += [(name, value, int(n), int(m), m / (n + m)) for value, (n, m) in found.T.items()]
    return pd.DataFrame(rows, columns=["attribute", "value", "negatives", "positives", "share_positive"])


def cramer(values: pd.Series, table: pd.DataFrame) -> tuple[float, float, float]:
    """Cramér's V of categories with the label, and its 95 % interval.

    With 2 labels and k categories. Images of one patient are worth less than as many patients: chi square, and with it
    n, are divided by the mean design effect (Rao and Scott 1981, JASA 76, 221), at least 1. The interval holds those
    noncentralities of chi square for which the one found is not in a tail of 2.5 % (Smithson 2003, Confidence
    Intervals, chapter 5). NaN for a single category.
    """
    label = table["label"].to_numpy(float)
    codes, names = pd.factorize(values, sort=True)
    n, k, share = len(label), len(names), label.mean()
    if k < 2:
        return math.nan, math.nan, math.nan
    chi_square = scipy.stats.chi2_contingency(pd.crosstab(codes, label), correction=False).statistic
    effective = n / _design_effect(codes, label - share, table["patient_id"])
    phi = chi_square / n
    corrected = max(0.0, phi - (k - 1) / (effective - 1))
    ways = min(k - (k - 1) ** 2 / (effective - 1), 2 - 1 / (effective - 1)) - 1
    # A chi square below what chance gives in the mean would make the upper end 0, as if there were nothing to doubt.
    low = _noncentrality(phi * effective, k - 1, 0.975)
    high = _noncentrality(max(phi * effective, k - 1), k - 1, 0.025)
    value = math.sqrt(corrected / ways) if ways > 0 else math.nan
    return min(value, 1.0), min(math.sqrt(low / effective), 1.0), min(math.sqrt(high / effective), 1.0)


def _noncentrality(chi_square: float, df: int, tail: float) -> float:
    """At which noncentrality a share `tail` of chi squares is below this one; 0 if that is so at none."""

    def beyond(noncentrality: float) -> float:
        return float(scipy.stats.ncx2.cdf(chi_square, df, noncentrality)) - tail

    if float(scipy.stats.chi2.cdf(chi_square, df)) <= tail:
        return 0.0
    most = 2 * chi_square + 20 * math.sqrt(chi_square + df) + 40
    return float(scipy.optimize.brentq(beyond, 1e-9, most))


def _design_effect(codes: NDArray[np.int64], residuals: NDArray[np.float64], patients: pd.Series) -> float:
    """Variance of the categories' sums of residuals with patients as clusters, over that of single images; mean."""
    names, patient = np.unique(together(patients).to_numpy(str), return_inverse=True)
    if len(names) == len(codes):
        return 1.0
    each = np.eye(codes.max() + 1)[codes][:, 1:]
    centred = each - each.mean(axis=0)
    sums = np.zeros((len(names), each.shape[1]))
    np.add.at(sums, patient, residuals[:, None] * centred)
    single = residuals.var() * centred.T @ centred
    return max(1.0, float(np.trace(np.linalg.pinv(single) @ (sums.T @ sums)) / each.shape[1]))


def _auc(values: pd.Series, table: pd.DataFrame) -> tuple[float, float, float]:
    """Of a number as it is, with its interval; NaN where one class has no number."""
    there = pd.DataFrame(
        {"label": table["label"], "score": _numbers(values), "patient_id": together(table["patient_id"])}
    )
    there = there.dropna()
    if there["label"].nunique() < 2:
        return math.nan, math.nan, math.nan
    parts = metrics.patient_parts(there).T.to_numpy()
    found = metrics.estimate(np.array([metrics.auc(there)]), parts[:1], parts[1:])
    return found.value, *metrics.interval_of_ranking(found)


def _numbers(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values).astype(float).replace([np.inf, -np.inf], np.nan)


def _permutation_p(found: dict[str, pd.Series], table: pd.DataFrame, seed: int) -> dict[str, float]:
    """Two-sided p of each attribute: how often labels that were dealt out anew go with it as much.

    A patient's labels stay together, and go to another patient with as many images, so that neither what patients'
    images have in common nor their number is taken for an association.
    """
    label = table["label"].to_numpy(np.uint8)
    blocks = {name: _sums(values, label.mean()) for name, values in found.items()}
    if not blocks:
        return {}
    sides = scipy.sparse.hstack([block for block, _ in blocks.values()]).T.tocsr()
    ends = np.cumsum([0, *(block.shape[1] for block, _ in blocks.values())])
    places = {name: slice(*ends[k : k + 2]) for k, name in enumerate(blocks)}

    def strengths(labels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        sums = sides @ labels.T.astype(float)
        return {name: blocks[name][1](sums[place]) for name, place in places.items()}

    seen, larger = strengths(label[None]), dict.fromkeys(blocks, 0)
    for dealt in _dealt(label, together(table["patient_id"]), seed):
        for name, drawn in strengths(dealt).items():
            larger[name] += int((drawn >= seen[name] - 1e-9).sum())
    return {name: (1 + more) / (1 + PERMUTATIONS) for name, more in larger.items()}


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _sums(values: pd.Series, share: float) -> tuple[scipy.sparse.csr_array, Statistic]:
    """A matrix (images, m), and how its sums over positives, (m, drawings), become a strength of association."""
    if kind_of(values) == CATEGORY:
        codes, _ = pd.factorize(categories(values), sort=True)
        each = scipy.sparse.csr_array((np.ones(len(codes)), (np.arange(len(codes)), codes)))
        n = np.bincount(codes)[:, None]
        return each, lambda positives: ((positives - share * n) ** 2 / n).sum(axis=0)
    ranks = _numbers(values).rank()
    both = scipy.sparse.csr_array(np.stack([ranks.fillna(0), ranks.notna()], axis=1))
    n_there = int(ranks.notna().sum())

    def from_half(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        positives = sums[1]
        pairs = positives * (n_there - positives)
        return np.abs((sums[0] - positives * (positives + 1) / 2) / np.maximum(pairs, 1) - 0.5) * (pairs > 0)

    return both, from_half


def _dealt(label: NDArray[np.uint8], patients: pd.Series, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Labels dealt anew among patients with as many images, (drawings, images), `CHUNK` at a time."""
    _, patient, images = np.unique(patients.to_numpy(str), return_inverse=True, return_counts=True)
    order = np.argsort(patient, kind="stable")
    ends = np.cumsum(images)
    rows = [
        np.stack([order[ends[who] - size : ends[who]] for who in np.flatnonzero(images == size)])
        for size in np.unique(images)
    ]
    rng = generator(seed, "permutation")
    for start in range(0, PERMUTATIONS, CHUNK):
        dealt = np.empty((min(CHUNK, PERMUTATIONS - start), len(label)), np.uint8)
        for drawing in dealt:
            for of_size in rows:
                drawing[of_size] = label[of_size[rng.permutation(len(of_size))]]
        yield dealt


def _bands(values: pd.Series) -> tuple[pd.Series, list[str]]:
    """Each number as its band, `low to high` as found in it, and the bands in order, `MISSING` last."""
    numbers = _numbers(values)
    codes = pd.qcut(numbers, BANDS, labels=False, duplicates="drop")
    spans = numbers.groupby(codes).agg(["min", "max"])
    names = {code: f"{low:g} to {high:g}" if high > low else f"{low:g}" for code, (low, high) in spans.T.items()}
    plain = codes.map(names).astype(object).where(codes.notna(), MISSING)
    return plain, [name for name in (*names.values(), MISSING) if (plain == name).any()]


def _note(values: pd.Series, auc: float, more: str) -> str:
    """Why an attribute was not measured, or what to think of its number."""
    kind, distinct = kind_of(values), values.nunique(dropna=False)
    if values.isna().all():
        return "empty in all images"
    if distinct == 1:
        return f"one value only, {categories(values).iloc[0]}: it cannot go with the label"
    if kind == TOO_MANY:
        return f"{values.nunique()} values in {len(values)} images: free text or an id, not measured; make groups of it"
    said = [more] if more else []
    if kind == CATEGORY:
        sizes = categories(values).value_counts()
        if len(small := sizes[sizes < SMALL]):
            groups = some(f"{value} ({n})" for value, n in sorted(small.items()))
            said.append(f"groups of fewer than {SMALL} images tell nothing by themselves: {groups}")
    if auc > THE_LABEL:
        said.append("it tells the label all but without error: is it the label in other words?")
    return "; ".join(said)

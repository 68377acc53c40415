"""How often each analysis is wrong where there is nothing to find, and how often it finds what is there.

    python tests/benchmarks/false_alarms.py                            # the tables of docs/statistics.md, in markdown
    python tests/benchmarks/false_alarms.py --replications 200 --nulls luck --folds 5 --patients 20

Two sources are simulated at the level of predictions: test patients with one to three images each, half of them ill,
the same for all folds; of each source and fold a score for every image at each strength. In a null the two sources
are exchangeable, so every rejection is a false one. Each replication draws all of it anew. Deterministic by --seed.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sourcematters.metrics import estimate

STRENGTHS = np.array([0, 0.5, 1])
SEPARATION = np.array([1.7, 0.6, -0.8])  # of the two classes in logits, at each strength: AUCs of .8, .6 and .35
LUCK = 0.35  # sd of a network's separation: AUCs of folds then vary by an sd of .05 to .07, as on real radiographs
SHIFT = 0.5  # logits that source a falls further at each strength above 0, where there is something to find
DEVELOPMENT, LEFT_OUT = 250, 0.15  # images to train and validate on; the share that validates
PERMUTATIONS = 1999
GIVEN, ANEW = "lda, these development images", "lda, development images anew"

Scores = np.ndarray
"""(2 sources, folds, strengths, images)."""


@dataclass(frozen=True)
class Patients:
    """Test patients: `patient` and `label` of each image; the first half of the patients is ill."""

    patient: np.ndarray
    label: np.ndarray
    count: int


def draw_patients(rng: np.random.Generator, each: int) -> Patients:
    """`each` ill and as many healthy patients, with one to three images each."""
    patient = np.repeat(np.arange(2 * each), rng.integers(1, 4, 2 * each))
    return Patients(patient, (patient < each).astype(int), 2 * each)


def _scores(
    rng: np.random.Generator, of: Patients, folds: int, shift: float, *, shared: bool, persistent: bool, luck: float
) -> Scores:
    images, shape = len(of.label), (2, folds, len(STRENGTHS))
    separation = np.broadcast_to(SEPARATION, shape).copy()
    separation[0, :, 1:] -= shift
    separation += luck * rng.normal(size=shape)
    scores = separation[..., None] * of.label + (0.7 if shared else 1.4) * rng.normal(size=(*shape, images))
    if shared:
        scores += rng.normal(size=of.count)[of.patient] + 0.7 * rng.normal(size=images)
    if persistent:
        always, learned = 0.6 * rng.normal(size=(2, 2, 1, 1, of.count))
        scores += (always + STRENGTHS[:, None] * learned)[..., of.patient]
    return scores


def independent(rng: np.random.Generator, of: Patients, folds: int, shift: float) -> Scores:
    """Every score on its own, as if each fold had test patients of its own."""
    return _scores(rng, of, folds, shift, shared=False, persistent=False, luck=0)


def shared(rng: np.random.Generator, of: Patients, folds: int, shift: float) -> Scores:
    """A patient and an image are as hard for every network."""
    return _scores(rng, of, folds, shift, shared=True, persistent=False, luck=0)


def persistent(rng: np.random.Generator, of: Patients, folds: int, shift: float) -> Scores:
    """And each source finds patients of its own hard, in all folds alike, more so with the strength."""
    return _scores(rng, of, folds, shift, shared=True, persistent=True, luck=0)


def luck(rng: np.random.Generator, of: Patients, folds: int, shift: float) -> Scores:
    """Each network is better or worse as training went, by an sd of `LUCK`; patients as in `shared`."""
    return _scores(rng, of, folds, shift, shared=True, persistent=False, luck=LUCK)


def everything(rng: np.random.Generator, of: Patients, folds: int, shift: float) -> Scores:
    """Luck of training, and patients that are hard for one source."""
    return _scores(rng, of, folds, shift, shared=True, persistent=True, luck=LUCK)


FEATURES, SEEN = 8, 1.0  # of an image, beside the artefact's; how far the artefact moves its own, in sd
NOISE, OF_PATIENT = 0.8, 0.8  # sd of a source's own noise; the share of a test image's noise that is its patient's
MORE_FOLDS = 100  # to know what these development images come to in the end


def lda(rng: np.random.Generator, of: Patients, folds: int, shift: float) -> tuple[Scores, np.ndarray]:
    """Linear discriminants, really trained: folds leave out 15 % of the same development images each.

    Returns, beside the scores, the AUCs, (2 sources, strengths), to which any number of folds of these images comes.

    A source is a noisy view of the same latent features, and one feature more that shows the artefact. Half of the
    development images are ill; round(p n) of those carry it, in the o.o.d. test every healthy one does.
    """
    ill = np.arange(DEVELOPMENT) % 2 == 1
    apart = np.full(FEATURES, 1.1 / np.sqrt(FEATURES))
    latent = rng.normal(size=(DEVELOPMENT, FEATURES)) + ill[:, None] * apart
    carriers = rng.permutation(np.flatnonzero(ill))
    training = np.ones((folds + MORE_FOLDS, DEVELOPMENT))
    for label in (False, True):
        rows = np.flatnonzero(ill == label)
        left_out = rng.random((len(training), len(rows))).argsort(1)[:, : round(LEFT_OUT * len(rows))]
        np.put_along_axis(training, rows[left_out], 0, axis=1)

    def view() -> np.ndarray:
        of_patient = rng.normal(size=(of.count, FEATURES))[of.patient]
        return OF_PATIENT * of_patient + np.sqrt(1 - OF_PATIENT**2) * rng.normal(size=of_patient.shape)

    tested = view() + of.label[:, None] * apart
    scores = np.empty((2, folds, len(STRENGTHS), len(of.label)))
    known = np.empty((2, MORE_FOLDS, len(STRENGTHS)))
    for source in range(2):
        seen = SEEN * (1 + shift * (source == 0))
        features, artefact = latent + NOISE * rng.normal(size=latent.shape), rng.normal(size=DEVELOPMENT)
        test = np.c_[tested + NOISE * view(), seen * (1 - of.label) + rng.normal(size=len(of.label))]
        for k, p in enumerate(STRENGTHS):
            carries = np.zeros(DEVELOPMENT)
            carries[carriers[: round(p * len(carriers))]] = 1
            found = _discriminants(np.c_[features, artefact + seen * carries], ill, training)
            scores[source, :, k] = found[:folds] @ test.T
            # Two normal distributions: AUC = Phi(distance / sqrt(2 variance)).
            distance = found @ np.r_[apart, -seen]
            variance = found**2 @ np.r_[np.full(FEATURES, 1 + NOISE**2), 1.0]
            known[source, :, k] = stats.norm.cdf(distance / np.sqrt(2 * variance))[folds:]
    return scores, known.mean(1)


def _discriminants(x: np.ndarray, ill: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Fisher's direction in each fold, (folds, features), of the rows that `training`, (folds, rows), gives weight."""
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    within = (training @ products).reshape(len(training), x.shape[1], x.shape[1])
    means = []
    for label in (False, True):
        weights = training * (ill == label)
        sizes = weights.sum(1)[:, None]
        means.append(weights @ x / sizes)
        within -= sizes[..., None] * means[-1][:, :, None] * means[-1][:, None, :]
    within /= (training.sum(1) - 2)[:, None, None]
    return np.linalg.solve(within, (means[1] - means[0])[..., None])[..., 0]


NULLS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (independent, shared, persistent, luck, everything, lda)
}


def parts_of(of: Patients, scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUCs, (...), and each patient's part of them, positive and negative, (..., patients), NaN where it has none.

    `metrics.patient_parts` for many runs at once; continuous scores have no ties.
    """
    ill, ranks = of.label == 1, _ranks(scores)
    found = []
    for own in (ill, ~ill):
        below = (ranks[..., own] - _ranks(scores[..., own])) / (~own).sum()
        found.append(below if own is ill else 1 - below)
    aucs = found[0].mean(-1)
    parts = []
    for shares, own in zip(found, (ill, ~ill), strict=True):
        to_patient = np.zeros((own.sum(), of.count))
        to_patient[np.arange(own.sum()), of.patient[own]] = 1 / own.sum()
        moved = (shares - aucs[..., None]) @ to_patient
        moved[..., to_patient.sum(0) == 0] = np.nan
        parts.append(moved)
    return aucs, parts[0], parts[1]


def _ranks(values: np.ndarray) -> np.ndarray:
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, values.argsort(-1), np.broadcast_to(np.arange(values.shape[-1]), values.shape), -1)
    return ranks


def _reliance(of_strengths: np.ndarray) -> np.ndarray:
    return of_strengths[:, :, 0] - of_strengths[:, :, 1:].mean(2)


def candidates(reliance: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> dict[str, tuple[float, float]]:
    """Standard error and degrees of freedom of each analysis of the difference, by name.

    `reliance` is (2, folds); `positive` and `negative` are the parts of the difference, (folds, patients).
    """
    difference = reliance[0] - reliance[1]
    folds = len(difference)
    ours = estimate(difference, positive, negative)
    between, together, few = ours.fold_variance, ours.patient_variance, ours.patients_df
    mean = np.tile(positive.mean(0), (2, 1)), np.tile(negative.mean(0), (2, 1))
    whole = estimate(np.zeros(2), *mean).patient_variance  # of the mean over folds, these folds given
    unpaired = reliance.var(axis=1, ddof=1).sum() / folds

    def joined(fold_part: float, patient_part: float, fold_df: float) -> tuple[float, float]:
        total = fold_part + patient_part
        spread = fold_part**2 / fold_df + patient_part**2 / few
        return np.sqrt(total), total**2 / spread if spread else np.nan  # where nothing varies there is no test

    def corrected(per_variance: float) -> tuple[float, float]:
        """With so many times the variance between folds added, for the development images that all folds share."""
        return joined(between * (1 + folds * per_variance), together, folds - 1)

    return {
        "primary": (ours.error, ours.df),
        "development": (ours.development.error, ours.development.df),
        "sum, Satterthwaite": joined(between, whole, folds - 1),
        "sum, t(2K-2)": (np.sqrt(unpaired + whole), 2 * folds - 2),
        "sum, t(K-1)": (np.sqrt(between + whole), folds - 1),
        "primary, t(K-1)": (ours.error, folds - 1),
        "Nadeau-Bengio": corrected(LEFT_OUT / (1 - LEFT_OUT)),
        "variance not divided by K": corrected(1 - 1 / folds),
    }


def permutations(folds: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Ways to deal 2 x folds to two sources, a row each; and whether these are all."""
    if folds <= 5:
        dealt = itertools.combinations(range(2 * folds), folds)
        return np.array([np.isin(np.arange(2 * folds), chosen) for chosen in dealt], float), True
    return np.array([rng.permutation(2 * folds) < folds for _ in range(PERMUTATIONS)], float), False


def permutation_p(a: np.ndarray, b: np.ndarray, dealt: np.ndarray, every: bool) -> float:
    """The paper's test, two-sided: `statistics.permutation_tests`."""
    both = np.concatenate([a, b])
    distances = np.abs(2 * dealt @ both - both.sum())
    reached = int((distances >= abs(a.sum() - b.sum()) - 1e-9).sum())
    return reached / len(dealt) if every else (reached + 1) / (len(dealt) + 1)


def simulate(name: str, *, folds: int, each: int, shift: float, replications: int, seed: int) -> pd.DataFrame:
    """One row a replication: the difference, each candidate's standard error and df, the permutation p, the bars."""
    rng = np.random.default_rng([seed, folds, each, list(NULLS).index(name), round(10 * shift)])
    dealt, every = permutations(folds, rng)
    rows = []
    for _ in range(replications):
        of, given = draw_patients(rng, each), np.full((2, len(STRENGTHS)), np.nan)
        scores = NULLS[name](rng, of, folds, shift)
        if isinstance(scores, tuple):
            scores, given = scores
        aucs, positive, negative = parts_of(of, scores)
        reliance = _reliance(aucs)
        parts = [values[0] - values[1] for values in map(_reliance, (positive, negative))]
        row = {"difference": reliance[0].mean() - reliance[1].mean(), "sd": aucs[..., 1].std(axis=1, ddof=1).mean()}
        row["given"] = -np.diff(_reliance(given[:, None])[:, 0])[0]
        for key, (error, df) in candidates(reliance, *parts).items():
            row |= {key: error * stats.t.ppf(0.975, df)}
        row["paper"] = permutation_p(aucs[0, :, 2], aucs[1, :, 2], dealt, every)
        for k in range(len(STRENGTHS)):
            bar = estimate(aucs[0, :, k], positive[0, :, k], negative[0, :, k])
            low, high = bar.interval_of_auc
            row |= {f"mean {k}": bar.value, f"low {k}": low, f"high {k}": high, f"given {k}": given[0, k]}
        rows.append(row)
    return pd.DataFrame(rows)


def rejected(found: pd.DataFrame, name: str, truth: float | pd.Series = 0.0) -> float:
    """How often analysis `name` finds the difference to be another than `truth`, at .05."""
    return float(((found["difference"] - truth).abs() > found[name]).mean())


def covered(found: pd.DataFrame, *, given: bool) -> float:
    """How often a bar holds the true AUC, at the strength where it does so least: the mean of all replications'."""
    truths = [found[f"given {k}"] if given else found[f"mean {k}"].mean() for k in range(len(STRENGTHS))]
    inside = [(found[f"low {k}"] <= truth) & (truth <= found[f"high {k}"]) for k, truth in enumerate(truths)]
    return float(min(hits.mean() for hits in inside))


def row_of(null: pd.DataFrame, there: pd.DataFrame, *, given: bool) -> dict[str, float]:
    """Size of each analysis, coverage of the bars, and power; `given`: the development images are these."""
    names = [
        column for column in null.columns[3:] if column.split()[0] not in ("paper", "mean", "low", "high", "given")
    ]
    truth = null["given"] if given else 0.0
    sizes = {name: rejected(null, name, truth) for name in names}
    paper = np.nan if given else float((null["paper"] < 0.05).mean())
    power = {f"power: {name}": rejected(there, name) for name in names}
    power["power: paper"] = float((there["paper"] < 0.05).mean())
    return {"sd": null["sd"].mean(), "paper": paper, **sizes, "bars": covered(null, given=given), **power}


def as_markdown(table: pd.DataFrame) -> str:
    """The table as docs/statistics.md shows it: the primary and the paper's test; then every candidate at its worst."""
    shown = ["paper", "primary", "development", "bars", "power: primary", "power: development", "power: paper"]
    lines = ["| " + " | ".join(["null", "patients", "folds", *shown]) + " |", "|---" * (3 + len(shown)) + "|"]
    for row in table.to_dict("records"):
        numbers = ["" if np.isnan(row[key]) else f"{row[key]:.3f}" for key in shown]
        lines.append(f"| {row['null']} | {row['patients']} | {row['folds']} | {' | '.join(numbers)} |")
    own = table[(table["null"] != ANEW) & (table["folds"] >= 5)]
    other = table[(table["null"] == ANEW) & (table["folds"] >= 5)]
    lines += ["", "| analysis | largest size | largest size, " + ANEW + " | mean power |", "|---" * 4 + "|"]
    for name in [key.removeprefix("power: ") for key in table if key.startswith("power: ")]:
        numbers = own[name].max(), other[name].max(), own[f"power: {name}"].mean()
        lines.append(f"| {name} | " + " | ".join(f"{number:.3f}" for number in numbers) + " |")
    return "\n".join(lines)


def main() -> None:
    """Simulate, keep the table where --csv says, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--nulls", nargs="+", default=list(NULLS), choices=list(NULLS))
    parser.add_argument("--folds", nargs="+", type=int, default=[2, 3, 5, 10, 20])
    parser.add_argument("--patients", nargs="+", type=int, default=[10, 20, 80], help="ill ones, and as many healthy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", help="where to keep the table")
    asked = parser.parse_args()
    rows = []
    for name, each, folds in itertools.product(asked.nulls, asked.patients, asked.folds):
        how = {"folds": folds, "each": each, "seed": asked.seed}
        null = simulate(name, shift=0, replications=asked.replications, **how)
        there = simulate(name, shift=SHIFT, replications=asked.replications // 2, **how)
        about = {"patients": f"{each}+{each}", "folds": folds, "replications": asked.replications}
        named = [(GIVEN, True), (ANEW, False)] if name == "lda" else [(name, False)]
        rows += [{"null": called, **about, **row_of(null, there, given=given)} for called, given in named]
        if asked.csv:
            pd.DataFrame(rows).round(4).to_csv(asked.csv, index=False)
    print(as_markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()

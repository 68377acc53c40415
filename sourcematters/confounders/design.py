"""The design: which image is trained and tested on, and which carries the confounder.

`p_art` is the share of positives that carry the confounder in training. The i.i.d. test is drawn as the
training set was; the o.o.d. test reverses the correlation (every negative carries, no positive does); in
the clean test nobody carries. Source: arXiv 2403.04484, section 2.

A cohort may bring its own folds (see `cohorts.cohort`); else they are drawn here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sourcematters.cohorts.cohort import FOLD, attributes, fold_column, fold_columns, split_by_patient
from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.metrics import TEST_SETS
from sourcematters.seeds import derive, uniform

P_ART = (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)
"""The paper's grid of strengths."""


def fold_parts(
    cohort: pd.DataFrame,
    *,
    fold: int,
    val_fraction: float = 0.15,
    split_seed: int = 42,
    strata: Sequence[str] = (),
    p_art: float | None = None,
) -> pd.Series:
    """The part of every row in one fold: "train", "val" or "test", indexed like `cohort`.

    A fold that the cohort brings is taken as it is, the one for `p_art` where they differ by strength; a row that it
    leaves out is missing there.

    Folds are repeated random splits of the development patients, as in the paper: no patient is in two parts, and
    the validation sets of different folds overlap. Other than there, they are stratified by label (and by the
    columns `strata`), so that a small cohort has both classes in each part. Fold k is the same however many folds
    are used. Raises StudyError if there are not more patients than folds, if a part lacks a class, or if the cohort
    brings folds but not this one.
    """
    if brought := fold_columns(cohort):
        return cohort[_brought_fold(brought, fold, p_art)]
    dev = cohort[cohort["split"] == "dev"]
    patients = dev["patient_id"].nunique()
    if patients <= fold + 1:
        raise StudyError(
            f"fold {fold} of a development set with {patients} patients: there must be more patients than folds. "
            "Use fewer folds or a larger cohort."
        )
    if not (cohort["split"] == "test").any():
        raise StudyError("the cohort has no test part: every row's split is dev.")
    try:
        halves = split_by_patient(
            dev, test_fraction=val_fraction, seed=derive(split_seed, "fold", fold), strata=strata
        )["split"]
    except StudyError as error:
        raise StudyError(f"fold {fold}, taking validation patients from the dev part: {error}") from error
    parts = pd.Series("test", index=cohort.index)
    parts[halves.index] = halves.map({"dev": "train", "test": "val"})
    return parts


def _brought_fold(columns: list[str], fold: int, p_art: float | None) -> str:
    names = [fold_column(fold)]
    # A name holds p_art in per cent: a strength between two of them has no folds.
    if p_art is not None and abs(100 * p_art - round(100 * p_art)) < 1e-9:
        names.append(fold_column(fold, p_art))
    for name in names:
        if name in columns:
            return name
    if by_strength(columns) and p_art is None:
        raise StudyError("the cohort's folds differ by strength, and none was given.")
    folds = sorted({int(match[1]) for match in map(FOLD.fullmatch, columns)})
    strengths = sorted({int(match[2]) / 100 for match in map(FOLD.fullmatch, columns) if match[2]})
    raise StudyError(
        f"the cohort brings no fold {fold}{f' at p_art = {p_art:g}' if strengths else ''}: it has "
        f"{', '.join(map(str, folds))}{f' at p_art {strengths}' if strengths else ''}. "
        "Ask for those, or for splits of our own."
    )


def by_strength(columns: Sequence[str]) -> bool:
    """Whether these fold columns hold other images at every strength."""
    return any(FOLD.fullmatch(column)[2] for column in columns)


def n_carriers(p_art: float, positives: int) -> int:
    """Exactly round(p_art * n) of n positives carry the confounder. Raises StudyError outside 0..1."""
    if not 0 <= p_art <= 1:
        raise StudyError(f"p_art = {p_art}: the share of positives that carry the confounder lies in 0..1.")
    return round(p_art * positives)


def sets(
    cohort: pd.DataFrame,
    confounder: Confounder | None,
    *,
    p_art: float,
    fold: int,
    seed: int,
    val_fraction: float = 0.15,
    split_seed: int = 42,
) -> pd.DataFrame:
    """All sets of one run, one row an image in a set.

    Returns columns `row` (position in `cohort`), `image_id, patient_id, label`, `part` (train, val, iid, ood,
    clean) and `carries` (0/1). Carriers are nested: a carrier at p is one at every larger p. For a sampled
    confounder the sets are chosen so that the same shares hold for the attribute, and the size of each set
    does not change with p; a test set is there if the test part has every group (label, value) it is made of, at
    whatever strength: o.o.d. needs positives without and negatives with it and must be possible, i.i.d. and clean
    also need negatives without it, and i.i.d. positives with it. All have the size that the smallest group in any
    of them allows. Without a confounder nobody carries, and the clean test is the only one.

    Where the cohort brings folds for each strength, the sets are those, whole, and the test part is the o.o.d. test.

    Raises StudyError if `p_art` is outside 0..1, a needed group has no image, or the sets that a cohort brings do
    not have the shares of `p_art`.
    """
    table = cohort[["image_id", "patient_id", "label"]].copy()
    table.insert(0, "row", np.arange(len(cohort)))
    table["rank"] = uniform(seed, table["image_id"].tolist(), "carrier")
    sampled = confounder is not None and confounder.sampled
    if sampled:
        if confounder.attribute not in cohort:
            known = ", ".join(attributes(cohort))
            raise StudyError(f"the cohort has no attribute {confounder.attribute!r}. It has: {known or 'none'}.")
        table["value"] = cohort[confounder.attribute].astype(str)
    strata = [confounder.attribute] if sampled else []
    parts = fold_parts(cohort, fold=fold, val_fraction=val_fraction, split_seed=split_seed, strata=strata, p_art=p_art)
    if brought := by_strength(fold_columns(cohort)):
        _check_brought(table.assign(part=parts), confounder, p_art)
    table = table.sort_values(["rank", "image_id"])
    frames = []
    for part in ("train", "val", "test"):
        rows = table[parts[table.index] == part]
        names = (part,) if part != "test" else TEST_SETS if confounder else ("clean",)
        if brought:
            carries = (rows["value"] == confounder.value).astype(int)
            frames.append(rows.assign(part="ood" if part == "test" else part, carries=carries))
        else:
            frames += _sample(rows, part, names, confounder, p_art) if sampled else _draw(rows, names, p_art)
    columns = ["row", "image_id", "patient_id", "label", "part", "carries"]
    return pd.concat(frames)[columns].sort_values(["part", "row"], kind="stable").reset_index(drop=True)


def _draw(table: pd.DataFrame, names: tuple[str, ...], p_art: float) -> list[pd.DataFrame]:
    positive = table["label"] == 1
    chosen = positive & (positive.cumsum() <= n_carriers(p_art, int(positive.sum())))
    carries = {"ood": ~positive, "clean": positive & False}
    return [table.assign(part=name, carries=carries.get(name, chosen).astype(int)) for name in names]


def _sample(
    table: pd.DataFrame, part: str, names: tuple[str, ...], confounder: Confounder, p_art: float
) -> list[pd.DataFrame]:
    def group(label: int, value: str) -> pd.DataFrame:
        rows = table[(table["label"] == label) & (table["value"] == value)]
        return rows.assign(carries=int(value == confounder.value))

    with_, without = confounder.value, confounder.other
    groups = {(label, value): group(label, value) for label in (1, 0) for value in (with_, without)}
    needs = dict.fromkeys(("train", "val", "iid"), {(1, with_), (1, without), (0, without)})
    needs |= {"ood": {(1, without), (0, with_)}, "clean": {(1, without), (0, without)}}
    for key in groups:
        if groups[key].empty and key in needs["ood" if part == "test" else part]:
            raise StudyError(
                f"the {part} part has no image with label {key[0]} and {confounder.attribute} = {key[1]!r}. "
                f"A confounder sampled on {confounder.attribute!r} needs all of them: use a larger cohort."
            )
    names = [name for name in names if not any(groups[key].empty for key in needs[name])]
    n = min(len(groups[key]) for name in names for key in needs[name])
    carriers = n_carriers(p_art, n)
    as_training = [(1, with_, carriers), (1, without, n - carriers), (0, without, n)]
    members = {
        "ood": [(1, without, n), (0, with_, n)],
        "clean": [(1, without, n), (0, without, n)],
    }
    return [
        pd.concat([groups[label, value].head(k) for label, value, k in members.get(name, as_training)]).assign(
            part=name
        )
        for name in names
    ]


def _check_brought(table: pd.DataFrame, confounder: Confounder | None, p_art: float) -> None:
    """Raise StudyError unless sets made for one strength of a sampled confounder are used for just that."""
    if confounder is None or not confounder.sampled:
        name = confounder.name if confounder else "no confounder"
        raise StudyError(
            f"the cohort brings folds for each strength of a sampled confounder; they do not fit {name}. "
            "Use splits of our own, or another cohort."
        )
    carries = table["value"] == confounder.value
    wanted = {("dev", 0): 0.0, ("dev", 1): p_art, ("test", 0): 1.0, ("test", 1): 0.0}
    for (split, label), share in wanted.items():
        rows = (table["label"] == label) & (
            table["part"] == "test" if split == "test" else table["part"].isin(["train", "val"])
        )
        if carries[rows].sum() != n_carriers(share, int(rows.sum())):
            raise StudyError(
                f"at p_art = {p_art:g} the cohort's own sets have {carries[rows].sum()} of {rows.sum()} images with "
                f"label {label} and {confounder.attribute} = {confounder.value!r} in {split}, not a share of "
                f"{share:g}: they were made for another confounder than {confounder.name}, or changed."
            )

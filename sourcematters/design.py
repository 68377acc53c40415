"""The design: which image is trained and tested on, and which carries the confounder.

`p_art` is the share of positives that carry the confounder in training. The i.i.d. test is drawn as the
training set was; the o.o.d. test reverses the correlation (every negative carries, no positive does); in
the clean test nobody carries. Source: arXiv 2403.04484, section 2.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sourcematters.cohorts.table import split_by_patient
from sourcematters.confounders import Confounder
from sourcematters.errors import StudyError
from sourcematters.seeds import derive, uniform

P_ART = (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)
"""The paper's grid of strengths."""

TEST_SETS = ("iid", "ood", "clean")


def fold_parts(
    cohort: pd.DataFrame,
    *,
    fold: int,
    val_fraction: float = 0.15,
    split_seed: int = 42,
    strata: Sequence[str] = (),
) -> pd.Series:
    """The part of every row in one fold: "train", "val" or "test", indexed like `cohort`.

    Folds are repeated random splits of the development patients, as in the paper: no patient is in two parts, and
    the validation sets of different folds overlap. Other than there, they are stratified by label (and by the
    columns `strata`), so that a small cohort has both classes in each part. Fold k is the same however many folds
    are used. Raises StudyError if there are not more patients than folds, or if a part lacks a class.
    """
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
    does not change with p. Without a confounder nobody carries, and the clean test is the only one. Raises
    StudyError if `p_art` is outside 0..1 or a needed group has no image.
    """
    table = cohort[["image_id", "patient_id", "label"]].copy()
    table.insert(0, "row", np.arange(len(cohort)))
    table["rank"] = uniform(seed, table["image_id"].tolist(), "carrier")
    sampled = confounder is not None and confounder.sampled
    if sampled:
        if confounder.attribute not in cohort:
            known = ", ".join(c for c in cohort if c not in ("image_id", "path", "patient_id", "label", "split"))
            raise StudyError(f"the cohort has no attribute {confounder.attribute!r}. It has: {known or 'none'}.")
        table["value"] = cohort[confounder.attribute].astype(str)
    strata = [confounder.attribute] if sampled else []
    parts = fold_parts(cohort, fold=fold, val_fraction=val_fraction, split_seed=split_seed, strata=strata)
    table = table.sort_values(["rank", "image_id"])
    frames = []
    for part in ("train", "val", "test"):
        rows = table[parts[table.index] == part]
        names = (part,) if part != "test" else TEST_SETS if confounder else ("clean",)
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

    groups = {(label, value): group(label, value) for label in (1, 0) for value in (confounder.value, confounder.other)}
    needed = [key for key in groups if part == "test" or key != (0, confounder.value)]
    n = min(len(groups[key]) for key in needed)
    if n == 0:
        lacking = next(key for key in needed if groups[key].empty)
        raise StudyError(
            f"the {part} part has no image with label {lacking[0]} and {confounder.attribute} = {lacking[1]!r}. "
            f"A confounder sampled on {confounder.attribute!r} needs all of them: use a larger cohort."
        )
    carriers = n_carriers(p_art, n)
    with_, without = confounder.value, confounder.other
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

"""The design: which image is trained and tested on, and which carries the confounder.

`p_art` is the share of positives that carry the confounder in training. The i.i.d. test is drawn as the
training set was; the o.o.d. test reverses the correlation (every negative carries, no positive does); in
the clean test nobody carries. Source: arXiv 2403.04484, section 2.

A cohort may bring its own folds (see `cohorts.table`); else they are drawn here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sourcematters.cohorts import table as tables
from sourcematters.confounders.attribute import Attribute
from sourcematters.confounders.confounder import Confounder
from sourcematters.errors import StudyError
from sourcematters.metrics import TEST_SETS
from sourcematters.seeds import derive, uniform


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
    leaves out is missing there. Else folds are repeated random splits of the development patients, as in the paper: no
    patient is in two parts, and the validation sets of different folds overlap. Other than there, they are stratified
    by label (and by the columns `strata`), so that a small cohort has both classes in each part. Fold k is the same
    however many folds are used.

    Raises StudyError if there are not more patients than folds, if a part lacks a class, or if the cohort brings folds
    but not this one.
    """
    if brought := _brought(cohort):
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
        halves = tables.split_by_patient(
            dev, test_fraction=val_fraction, seed=derive(split_seed, "fold", fold), strata=strata
        )["split"]
    except StudyError as error:
        raise StudyError(f"fold {fold}, taking validation patients from the dev part: {error}") from error
    parts = pd.Series("test", index=cohort.index)
    parts[halves.index] = halves.map({"dev": "train", "test": "val"})
    return parts


def _brought(cohort: pd.DataFrame) -> dict[tuple[int, int | None], str]:
    """The columns of the folds that a cohort brings, by fold and, where they differ by strength, p_art in per cent."""
    names = [tables.FOLD.fullmatch(column) for column in tables.fold_columns(cohort)]
    return {(int(name[1]), int(name[2]) if name[2] else None): name[0] for name in names if name}


def _brought_fold(brought: dict[tuple[int, int | None], str], fold: int, p_art: float | None) -> str:
    # In per cent a strength between two of them has no folds.
    for key in ((fold, None), (fold, None if p_art is None else round(100 * p_art, 7))):
        if key in brought:
            return brought[key]
    folds = ", ".join(map(str, sorted({of for of, _ in brought})))
    strengths = sorted({percent / 100 for _, percent in brought if percent is not None})
    raise StudyError(
        f"the cohort brings no fold {fold}{f' at p_art = {p_art}' if strengths else ''}: it has {folds}"
        f"{f' at p_art {strengths}' if strengths else ''}. Ask for those, or for splits of our own."
    )


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

    Returns columns `row` (position in `cohort`), `image_id, patient_id, label`, `part` (train, val, iid, ood, clean)
    and `carries` (0/1). Carriers are nested: a carrier at p is one at every larger p. For a sampled confounder the sets
    are chosen so that the same shares hold for the attribute, and the size of each does not change with p: it is what
    the smallest group (label, value) in any of them allows. A test set is there if the test part has every group it is
    made of, at whatever strength: o.o.d. needs positives without and negatives with the confounder and must be
    possible, i.i.d. and clean also need negatives without it, and i.i.d. positives with it. Without a confounder nobody
    carries, and the clean test is the only one. Where the cohort brings folds for each strength, the sets are those,
    whole, and the test part is the o.o.d. test.

    Raises StudyError if `p_art` is outside 0..1, a needed group has no image, or the sets that a cohort brings do
    not have the shares of `p_art`.
    """
    sampled = confounder if isinstance(confounder, Attribute) else None
    table = cohort[["image_id", "patient_id", "label"]].copy()
    table.insert(0, "row", np.arange(len(cohort)))
    table["rank"] = uniform(seed, table["image_id"].tolist(), "carrier")
    if sampled and sampled.attribute not in cohort:
        known = ", ".join(tables.attributes(cohort)) or "none"
        raise StudyError(f"the cohort has no attribute {sampled.attribute!r}. It has: {known}.")
    table["value"] = cohort[sampled.attribute].astype(str) if sampled else ""
    strata = [sampled.attribute] if sampled else []
    parts = fold_parts(cohort, fold=fold, val_fraction=val_fraction, split_seed=split_seed, strata=strata, p_art=p_art)
    table = table.assign(part=parts).sort_values(["rank", "image_id"])
    if any(percent is not None for _, percent in _brought(cohort)):
        frames = [_take(table, confounder, p_art)]
    else:
        frames = []
        for part, names in {"train": ["train"], "val": ["val"], "test": TEST_SETS if confounder else ["clean"]}.items():
            rows = table[table["part"] == part]
            frames += _sample(rows, part, names, sampled, p_art) if sampled else _draw(rows, names, p_art)
    columns = ["row", "image_id", "patient_id", "label", "part", "carries"]
    return pd.concat(frames)[columns].sort_values(["part", "row"], kind="stable").reset_index(drop=True)


def _draw(table: pd.DataFrame, names: Sequence[str], p_art: float) -> list[pd.DataFrame]:
    positive = table["label"] == 1
    chosen = positive & (positive.cumsum() <= n_carriers(p_art, int(positive.sum())))
    carries = {"ood": ~positive, "clean": positive & False}
    return [table.assign(part=name, carries=carries.get(name, chosen).astype(int)) for name in names]


def _sample(
    table: pd.DataFrame, part: str, names: Sequence[str], sampled: Attribute, p_art: float
) -> list[pd.DataFrame]:
    groups = {
        (label, carries): table[(table["label"] == label) & (table["value"] == value)].assign(carries=carries)
        for label in (1, 0)
        for carries, value in ((1, sampled.value), (0, sampled.other))
    }
    for label, carries in _make_up("ood" if part == "test" else part, 0, 0):
        if groups[label, carries].empty:
            value = sampled.value if carries else sampled.other
            raise StudyError(
                f"the {part} part has no image with label {label} and {sampled.attribute} = {value!r}. "
                f"A confounder sampled on {sampled.attribute!r} needs all of them: use a larger cohort."
            )
    names = [name for name in names if not any(groups[group].empty for group in _make_up(name, 0, 0))]
    n = min(len(groups[group]) for name in names for group in _make_up(name, 0, 0))
    carriers = n_carriers(p_art, n)
    return [
        pd.concat([groups[group].head(size) for group, size in _make_up(name, n, carriers).items()]).assign(part=name)
        for name in names
    ]


def _make_up(name: str, n: int, carriers: int) -> dict[tuple[int, int], int]:
    """How many images of each group, (label, carries), are in a set of `n` positives and `n` negatives."""
    reversed_or_free = {"ood": {(1, 0): n, (0, 1): n}, "clean": {(1, 0): n, (0, 0): n}}
    return reversed_or_free.get(name, {(1, 1): carriers, (1, 0): n - carriers, (0, 0): n})


def _take(table: pd.DataFrame, confounder: Confounder | None, p_art: float) -> pd.DataFrame:
    """The sets that a cohort brings; raise StudyError unless they fit the confounder and the strength."""
    if not isinstance(confounder, Attribute):
        name = confounder.name if confounder else "no confounder"
        raise StudyError(
            f"the cohort brings folds for each strength of a sampled confounder; they do not fit {name}. "
            "Use splits of our own, or another cohort."
        )
    table = table.assign(carries=(table["value"] == confounder.value).astype(int))
    split = table["part"].map({"train": "dev", "val": "dev", "test": "test"})
    wanted = {("dev", 0): 0.0, ("dev", 1): p_art, ("test", 0): 1.0, ("test", 1): 0.0}
    for (name, label), share in wanted.items():
        carries = table.loc[(split == name) & (table["label"] == label), "carries"]
        if carries.sum() != n_carriers(share, len(carries)):
            raise StudyError(
                f"at p_art = {p_art:g} the cohort's own sets have {carries.sum()} of {len(carries)} images with "
                f"label {label} and {confounder.attribute} = {confounder.value!r} in {name}, not a share of "
                f"{share:g}: they were made for another confounder than {confounder.name}, or changed."
            )
    return table[split.notna()].replace({"part": {"test": "ood"}})

"""The design: which image is trained and tested on, and which carries the confounder.

`p_art` is the share of positives that carry the confounder in training. The i.i.d. test is drawn as the
training set was; the o.o.d. test reverses the correlation (every negative carries, no positive does); in
the clean test nobody carries. Source: arXiv 2403.04484, section 2.

Who carries is drawn from the seed and the image, so all folds share it, as they share the test part and the order in
which images are trained on. What differs between folds is who validates and what the classifier starts from: their
spread tells of these two, and of no other draw of carriers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sourcematters.checked import nearest
from sourcematters.cohorts.cohort import FOLD, attributes, fold_columns, some, split_by_patient
from sourcematters.cohorts.spelling import column_of
from sourcematters.confounders.attribute import Attribute
from sourcematters.confounders.confounder import Confounder
from sourcematters.errors import StudyError
from sourcematters.metrics import TEST_SETS
from sourcematters.seeds import derive, uniform

# Of each class in the parts that a network is made from; of fewer it is said.
FEWEST = {"train": (10, "a network learns little from so few"), "val": (5, "which epoch is kept rests on few")}
WRITTEN = {"iid": "i.i.d.", "ood": "o.o.d.", "clean": "clean"}


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

    A fold that the cohort brings (see `cohorts.cohort`) is taken as it is; a row that it leaves out is missing. Else
    folds are repeated random splits of the development patients, stratified by label and the columns `strata`, and
    their validation sets overlap, as in the paper. Raises StudyError for too few patients, a part without a class, or a
    cohort that brings other folds only.
    """
    if own := _own_folds(cohort):
        if column := own.get((fold, None)) or own.get((fold, p_art and round(p_art, 9))):
            return cohort[column]
        folds = ", ".join(map(str, sorted({number for number, _ in own})))
        strengths = sorted({strength for _, strength in own if strength is not None})
        asked, there = (f" at p_art = {p_art}", f" at p_art {strengths}") if strengths else ("", "")
        raise StudyError(
            f"the cohort brings no fold {fold}{asked}: it has {folds}{there}. Ask for those, or for splits of our own."
        )
    dev = cohort[cohort["split"] == "dev"]
    if (patients := dev["patient_id"].nunique()) <= fold + 1:
        raise StudyError(
            f"fold {fold} of a development set with {patients} patients: there must be more patients than folds. "
            "Use fewer folds or a larger cohort."
        )
    try:
        dev = split_by_patient(dev, test_fraction=val_fraction, seed=derive(split_seed, "fold", fold), strata=strata)
    except StudyError as error:
        raise StudyError(f"fold {fold}, taking validation patients from the dev part: {error}") from error
    return dev["split"].map({"dev": "train", "test": "val"}).reindex(cohort.index, fill_value="test")


def _own_folds(cohort: pd.DataFrame) -> dict[tuple[int, float | None], str]:
    """The columns of the folds that a cohort brings, by fold and p_art; by None if they are the same at any."""
    matches = [FOLD.fullmatch(column) for column in fold_columns(cohort)]
    return {(int(match[1]), int(match[2]) / 100 if match[2] else None): match[0] for match in matches if match}


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
    and `carries` (0/1). Exactly round(p_art * n) of n positives carry, and still do at every larger p_art. Without
    a confounder nobody does, and the clean test is the only one. Where the cohort brings folds for each strength, the
    sets are those, whole, and the test part is the o.o.d. test.

    For a sampled confounder images are chosen so that the same shares hold for the attribute. Each set has n images of
    either class, n being the size of the smallest of *its own* groups (label, value) in its part, whatever p_art: the
    o.o.d. test is made of two groups, the clean test of two, all others of three. A test set is there if its groups
    are; the o.o.d. test must be. Raises StudyError if it is not, or the cohort's own sets do not fit `p_art`.
    """
    if not 0 <= p_art <= 1:
        raise StudyError(f"p_art = {p_art}: the share of positives that carry the confounder lies in 0..1.")
    sampled = confounder if isinstance(confounder, Attribute) else None
    strata = [_column(cohort, sampled)] if sampled else []
    table = cohort[["image_id", "patient_id", "label"]].assign(
        row=np.arange(len(cohort)),
        rank=uniform(seed, cohort["image_id"].tolist(), "carrier"),
        value=values_of(cohort, sampled) if sampled else "",
        part=fold_parts(
            cohort, fold=fold, val_fraction=val_fraction, split_seed=split_seed, strata=strata, p_art=p_art
        ),
    )
    table = table.sort_values(["rank", "image_id"])
    if any(strength is not None for _, strength in _own_folds(cohort)):
        frames = [_own_sets(table, confounder, p_art)]
    else:
        frames = []
        for part, names in {"train": ["train"], "val": ["val"], "test": TEST_SETS if confounder else ["clean"]}.items():
            rows = table[table["part"] == part]
            frames += _sample(rows, part, names, sampled, p_art) if sampled else _draw(rows, names, p_art)
    columns = ["row", "image_id", "patient_id", "label", "part", "carries"]
    return pd.concat(frames)[columns].sort_values(["part", "row"], kind="stable").reset_index(drop=True)


def few_to_learn_from(sets: pd.DataFrame) -> list[str]:
    """A sentence for the training and the validation part of `sets`, if a class has fewer than `FEWEST` images."""
    found = []
    for part, (fewest, why) in FEWEST.items():
        labels = sets.loc[sets["part"] == part, "label"]
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        if min(positives, negatives) < fewest:
            found.append(f"the {part} part has {positives} positive and {negatives} negative images: {why}.")
    return found


def carriers(sets: pd.DataFrame) -> dict[str, int]:
    """Of the training part of `sets`: how many images, how many are positive, and how many carry."""
    train = sets[sets["part"] == "train"]
    return {
        "train_n": len(train),
        "train_positives": int(train["label"].sum()),
        "carriers": int(train["carries"].sum()),
    }


def refuse_alike(counted: Mapping[float, Mapping[str, int]]) -> None:
    """Raise StudyError where `carriers` are as many at two strengths, or none at one above 0; `counted` is by p_art."""
    known: dict[int, float] = {}
    for p, of in sorted(counted.items()):
        number, positives = of["carriers"], of["train_positives"]
        twin = known.setdefault(number, p)
        if twin != p or (p > 0 and not number):
            what = f"p_art {twin:g} and {p:g} are the same study" if twin != p else f"p_art {p:g} is the study without"
            raise StudyError(
                f"{what}: {number} of the {positives} positive training images carry the confounder. Leave one out, or "
                f"choose strengths that are more than {1 / positives:.2g} apart."
            )


def values_of(cohort: pd.DataFrame, sampled: Attribute) -> pd.Series:
    """The attribute of every image, as text, and a number as `sampled` writes it: 1 for 01 or 1.0.

    Raises StudyError if there is no such column, or not both values in it.
    """
    values = cohort[_column(cohort, sampled)].astype(str)
    there, absent = values.value_counts(), []
    for value in (sampled.value, sampled.other):
        same = [other for other in there.index if _number(other) == _number(value) is not None]
        if value not in there.index and len(same) == 1:
            values = values.replace(same[0], value)
        elif value not in there.index:
            absent.append(value)
    if absent:
        counted = some(f"{name!r} ({number:,})" for name, number in there.sort_index().items())
        raise StudyError(
            f"{sampled.name}: {sampled.attribute} is {' or '.join(map(repr, absent))} in none of the "
            f"{len(values):,} images. It is {counted}.{nearest(absent[0], there.index)}"
        )
    return values


def _column(cohort: pd.DataFrame, sampled: Attribute) -> str:
    known = attributes(cohort)
    if column := column_of(known, sampled.attribute, "the cohort"):
        return column
    there = ", ".join(known) or "none"
    raise StudyError(
        f"the cohort has no attribute {sampled.attribute!r}. It has: {there}.{nearest(sampled.attribute, known)}"
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _draw(table: pd.DataFrame, names: Sequence[str], p_art: float) -> list[pd.DataFrame]:
    positive = table["label"] == 1
    chosen = positive & (positive.cumsum() <= round(p_art * int(positive.sum())))
    carries = {"ood": ~positive, "clean": positive & False}
    return [table.assign(part=name, carries=carries.get(name, chosen).astype(int)) for name in names]


def _sample(
    table: pd.DataFrame, part: str, names: Sequence[str], sampled: Attribute, p_art: float
) -> list[pd.DataFrame]:
    table = table.assign(carries=table["value"].map({sampled.value: 1, sampled.other: 0})).dropna(subset="carries")
    groups = dict(list(table.astype({"carries": int}).groupby(["label", "carries"])))
    for label, carrier in _make_up("ood" if part == "test" else part):
        if (label, carrier) not in groups:
            value = sampled.value if carrier else sampled.other
            raise StudyError(
                f"the {part} part has no image with label {label} and {sampled.attribute} = {value!r}. "
                f"A confounder sampled on {sampled.attribute!r} needs all of them: use a larger cohort."
            )
    frames = []
    for name in names:
        if all(group in groups for group in _make_up(name)):
            n = min(len(groups[group]) for group in _make_up(name))
            chosen = _make_up(name, n, round(p_art * n)).items()
            frames.append(pd.concat(groups[group].head(k) for group, k in chosen).assign(part=name))
    return frames


def _make_up(name: str, n: int = 0, carriers: int = 0) -> dict[tuple[int, int], int]:
    """How many images of each group, (label, carries), are in a set of `n` positives and `n` negatives."""
    reversed_or_free = {"ood": {(1, 0): n, (0, 1): n}, "clean": {(1, 0): n, (0, 0): n}}
    return reversed_or_free.get(name, {(1, 1): carriers, (1, 0): n - carriers, (0, 0): n})


def small_tests(cohort: pd.DataFrame, confounder: Confounder | None, sets: pd.DataFrame, *, smallest: int) -> list[str]:
    """A sentence for each test set of `sets` with fewer than `smallest` images of a class: what it has, and why.

    Raises StudyError with that sentence and what helps if it is the o.o.d. test, without which there is no study.
    """
    sampled, found = confounder if isinstance(confounder, Attribute) else None, []
    for name in [name for name in TEST_SETS if name in set(sets["part"])]:
        labels = sets.loc[sets["part"] == name, "label"]
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        if min(positives, negatives) >= smallest:
            continue
        sentence = (
            f"{confounder.name if confounder else 'no confounder'}: the {WRITTEN[name]} test has {positives} positive "
            f"and {negatives} negative images; smallest_test asks for {smallest} of each."
        )
        if sampled:
            test, made_of = cohort.assign(value=values_of(cohort, sampled))[cohort["split"] == "test"], []
            for label, carrier in _make_up(name):
                value = sampled.value if carrier else sampled.other
                of_group = (test["label"] == label) & (test["value"] == value)
                made_of.append(f"{of_group.sum()} with label {label} and {sampled.attribute} {value!r}")
            sentence += f" The test part has {', '.join(made_of)}."
        if name == "ood":
            raise StudyError(
                f"{sentence} Get more images of the smallest group, a larger test part (test_fraction), or lower "
                "smallest_test: an AUC of so few says little."
            )
        found.append(f"{sentence} It is left out.")
    return found


def _own_sets(table: pd.DataFrame, confounder: Confounder | None, p_art: float) -> pd.DataFrame:
    """The sets that a cohort brings; raise StudyError unless they fit the confounder and the strength."""
    if not isinstance(confounder, Attribute):
        name = confounder.name if confounder else "no confounder"
        raise StudyError(
            f"the cohort brings folds for each strength of a sampled confounder; they do not fit {name}. "
            "Use splits of our own, or another cohort."
        )
    table = table.dropna(subset="part").replace({"part": {"test": "ood"}})
    table["carries"] = (table["value"] == confounder.value).astype(int)
    for (ood, label), carries in table.groupby([table["part"] == "ood", "label"])["carries"]:
        share = 1 - label if ood else p_art * label
        if carries.sum() != round(share * len(carries)):
            raise StudyError(
                f"at p_art = {p_art:g} the cohort's own sets have {carries.sum()} of {len(carries)} images with "
                f"label {label} and {confounder.attribute} = {confounder.value!r} in {'test' if ood else 'dev'}, not a "
                f"share of {share:g}: they were made for another confounder than {confounder.name}, or changed."
            )
    return table

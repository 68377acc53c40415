"""What would make a study empty or misleading, looked at before its first run: raised, or said on every figure.

With `force` the study goes on all the same, and its figures say why it should not have.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters.cohorts import Cohort
from sourcematters.confounders import Confounder, design
from sourcematters.errors import StudyError
from sourcematters.training import image_bank, reach
from sourcematters.training.image_bank import Rendering
from sourcematters.training.recipe import Preprocessing

LEAKED = 0.1  # share of the test images that may be in training too, before a study is refused
COLUMNS = ["train_n", "train_positives", "carriers", *(f"input_{name}" for name in reach.Reach._fields)]
"""What came out of a run's design: of its training images, and of the confounder at the input (`reach.Reach`)."""

FORCED = "To go on all the same, set force to true; every figure will then say so."
Counts = Mapping[tuple[int, float], Mapping[str, float]]


def strengths(cohort: Cohort, confounder: Confounder, *, p_art: Any, folds: int, seed: int, smallest: int) -> Counts:
    """`design.carriers` by fold and strength; prints which tests are left out, having fewer than `smallest` of a class,
    and which sets are too small to learn from.

    Raises StudyError for a cohort that is too small for the folds, the confounder or an o.o.d. test of `smallest`, and
    for two strengths at which the same images carry.
    """
    found: dict[tuple[int, float], Mapping[str, float]] = {}
    small: list[str] = []
    for fold in range(folds):
        counted = {}
        for p in p_art:
            sets = design.sets(cohort.table, confounder, p_art=p, fold=fold, seed=seed)
            small += design.small_tests(cohort.table, confounder, sets, smallest=smallest)
            small += [f"{confounder.name}, fold {fold}: {sentence}" for sentence in design.few_to_learn_from(sets)]
            counted[p] = design.carriers(sets)
        design.refuse_alike(counted)
        found |= {(fold, p): of for p, of in counted.items()}
    for sentence in dict.fromkeys(small):
        print(sentence)
    return found


def seen(
    cohort: pd.DataFrame,
    confounder: Confounder,
    how: Preprocessing,
    *,
    seed: int,
    force: bool = False,
    workers: int = 1,
) -> tuple[dict[str, float], str]:
    """How far a drawn confounder reaches the network, as columns input_*, and what every figure must say of it.

    Of a sampled one there is nothing to say. Raises StudyError for one that is not seen enough, unless forced.
    """
    if confounder.sampled:
        return {}, ""
    found = reach.of_cohort(cohort, confounder, how, seed=seed, workers=workers)
    if not (found.enough or force):
        raise StudyError(f"{reach.complaint(found, cohort, confounder, how, seed=seed)} {FORCED}")
    caution = "" if found.enough else f"{confounder.name} cannot be seen at {how.size} px"
    return {f"input_{name}": value for name, value in found._asdict().items()}, caution


def flaws(
    name: str, cohort: pd.DataFrame, how: Preprocessing, folder: Any, *, force: bool = False, workers: int = 1
) -> str:
    """What every figure must say of blank images, and of test images that are in training too; "" for nothing.

    They are looked at as the network gets them, in the image bank in `folder`; `name` is what the cohort is called.
    Raises StudyError, unless forced, where all images of a class are blank in the development or test part, or more
    than `LEAKED` of the test is in training.
    """
    rendering = Rendering(**how.model_dump(include=set(Preprocessing.model_fields)))
    bank = image_bank.build(cohort, [rendering], folder, workers=workers)[0]
    test = (cohort["split"] == "test").to_numpy()
    blank, leaked = blank_and_leaked(bank, test)
    wrong = []
    for (split, label), all_blank in pd.Series(blank).groupby(
        [cohort["split"].to_numpy(), cohort["label"].to_numpy()]
    ).all().items():  # fmt: skip
        if all_blank:
            wrong.append(
                f"all images with label {label} in the {split} part are of one grey level as the network gets them, at "
                f"{how.size} px. Look at them in notebook 10; on CT, at the window."
            )
    if leaked.sum() > LEAKED * test.sum():
        first = cohort.loc[leaked, "image_id"].iloc[0]
        wrong.append(
            f"{leaked.sum()} of {test.sum()} test images are in the development part too, pixel by pixel, e.g. "
            f"{first}: their AUC would tell what was learned by heart. Give copies the same patient_id, or drop them."
        )
    if wrong and not force:
        raise StudyError(f"{name}: {' '.join(wrong)} {FORCED}")
    said = [f"{blank.sum()} of {len(blank)} images are blank"] if blank.any() else []
    said += [f"{leaked.sum()} of {test.sum()} test images are also in training"] if leaked.any() else []
    return "; ".join(said)


def blank_and_leaked(bank: NDArray[np.uint8], test: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images, of a bank (N, size, size), are of one grey level, and which test images are in training too.

    `test` is True for those of the test part. Blank images are alike, and are not counted as copies. Both (N,).
    """
    blank = np.array([image.min() == image.max() for image in bank], bool)
    pixels = [hashlib.sha256(image).digest() for image in bank]  # all the bytes would be the whole bank in memory
    trained = {each for each, in_test in zip(pixels, test, strict=True) if not in_test}
    return blank, np.array([each in trained for each in pixels], bool) & test & ~blank

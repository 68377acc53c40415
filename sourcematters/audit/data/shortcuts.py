"""How well the label is told without reading anatomy: from what is known of the images, and from their statistics.

Where one of these tells it, a network can, and its AUC on such images is no evidence that it reads anatomy.
"""

import re
from pathlib import Path

import pandas as pd

from sourcematters import metrics
from sourcematters.audit.data.attributes import THE_LABEL, known
from sourcematters.audit.data.image_statistics import BORDER, HISTOGRAM
from sourcematters.audit.data.telling import NOTHING, TOO_MANY, Told, fewest_patients, kind_of, tells
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.spelling import together
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform

COLUMNS = ["what", "of", "features", "auc", "ci_low", "ci_high", "p", "p_holm", "n", "patients", "note"]
ATTRIBUTE, IMAGE, ORDER = "attribute", "image", "order"
METADATA, NUMBER_OF_PATIENT, FILE_ORDER, ALL = (
    "all attributes together", "the patient's number", "the order of the files", "all image statistics",
)  # fmt: skip
STATISTICS = {
    "size of picture and file": ["width", "height", "aspect", "bytes"],
    "border": BORDER,
    "noise and sharpness": ["noise", "sharpness"],
    "mean and spread of grey": ["mean", "std"],
    "a histogram of 32 greys": HISTOGRAM,
    "burnt-in text": ["text_signs", "text_share"],
    "compression and format": ["bytes_a_pixel", "stored", "jpeg_quality", "blockiness"],
}
MOST = 20_000  # images: of more, so many are looked at, drawn by patient


def shortcuts(table: pd.DataFrame, statistics: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """How well the label of a cohort's table is told by each of what is no anatomy: one row each, `COLUMNS`.

    `statistics` is the table of `image_statistics.of_images`. `of` is `attribute`, `image` or `order`, `features` a
    number; `auc` that of `telling.tells`, of others' patients, with its 95 % interval over patients; `p` one-sided, of
    no more than .5, `p_holm` after Holm's correction over all rows. `n` and `patients` are what was looked at. What is
    the label in other words is not taken into all attributes together; `note` says so, and what cannot be measured.
    Raises StudyError below two patients of a class, or for statistics of other images.
    """
    metrics.check(table, ["image_id", "patient_id", "label", "path"], "the cohort's table")
    metrics.check(statistics, ["image_id", "width"], "the image statistics")
    table = _some_patients(table, seed).reset_index(drop=True)
    fewest_patients(table)
    measured = statistics.set_index("image_id")
    if absent := sorted(set(table["image_id"]) - set(measured.index)):
        raise StudyError(f"{len(absent)} images have no image statistics: {some(absent)}. Measure these images again.")
    measured = measured.loc[table["image_id"]].reset_index(drop=True)
    rows = [*_attributes(table, seed), *_images(table, measured, seed), *_order(table, seed)]
    sizes = len(table), table["patient_id"].nunique()
    cells = [
        (what, of, n, told.auc, told.ci_low, told.ci_high, told.p, *sizes, told.note) for what, of, n, told in rows
    ]
    found = pd.DataFrame(cells, columns=[name for name in COLUMNS if name != "p_holm"])
    return found.assign(p_holm=metrics.holm(found["p"].astype(float)))[COLUMNS]


Row = tuple[str, str, int, Told]


def _some_patients(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    if len(table) <= MOST:
        return table.sort_values("image_id")
    person = together(table["patient_id"])
    names = sorted(person.unique())
    rank = person.map(dict(zip(names, uniform(seed, names, "shortcuts"), strict=True)))
    order = table.assign(_rank=rank).sort_values(["_rank", "image_id"])
    last = order["_rank"].iloc[MOST - 1]
    return order[order["_rank"] <= last].drop(columns="_rank").sort_values("image_id")


def _attributes(table: pd.DataFrame, seed: int) -> list[Row]:
    """Each attribute alone, and all together."""
    rows, joined, left_out = list[Row](), dict[str, pd.Series](), list[str]()
    for name, values in known(table).items():
        if kind_of(values) == TOO_MANY:
            rows.append((name, ATTRIBUTE, 1, NOTHING._replace(note=f"{values.nunique()} values: not measured")))
            continue
        told = tells(values.to_frame(name), table, seed=seed)
        rows.append((name, ATTRIBUTE, 1, told))
        if told.auc > THE_LABEL:
            left_out.append(name)
        elif name in table:  # a number's gaps are a feature of it
            joined[name] = values
    if len(joined) > 1:
        told = tells(pd.DataFrame(joined), table, seed=seed)
        if left_out:
            note = f"without {some(left_out)}, which might be the label in other words"
            told = told._replace(note="; ".join(filter(None, (told.note, note))))
        rows.append((METADATA, ATTRIBUTE, len(joined), told))
    return rows


def _images(table: pd.DataFrame, measured: pd.DataFrame, seed: int) -> list[Row]:
    rows = list[Row]()
    for what, columns in {**STATISTICS, ALL: [name for part in STATISTICS.values() for name in part]}.items():
        features = measured[columns].dropna(axis=1, how="all")
        if features.empty:
            told = NOTHING._replace(note="not measured in any image, as these are too small for it")
        else:
            told = tells(features, table, seed=seed)
        rows.append((what, IMAGE, features.shape[1], told))
    return rows


def _order(table: pd.DataFrame, seed: int) -> list[Row]:
    """What the names of patients and files give away, as where one class was collected after the other."""
    rows = list[Row]()
    if table["patient_id"].nunique() < len(table) or not (table["patient_id"] == table["image_id"]).all():
        number = _number(table["patient_id"])
        rows.append((NUMBER_OF_PATIENT, ORDER, 1, tells(number.to_frame(), table, seed=seed)))
    # The folder may be the class, as where the label was taken from it.
    place = table["path"].map(lambda path: Path(path).name).rank(method="dense").rename("place")
    rows.append((FILE_ORDER, ORDER, 1, tells(place.to_frame(), table, seed=seed)))
    return rows


def _number(ids: pd.Series) -> pd.Series:
    """The last number in each id, or its place among them sorted where one has none or two share it."""
    numbers = ids.map(lambda name: int((re.findall(r"\d+", name) or ["-1"])[-1]))
    if (numbers < 0).any() or numbers.nunique() < ids.nunique():
        return ids.rank(method="dense")
    return numbers.astype(float)

"""The split files that the paper's authors published.

Juodelyte et al., https://github.com/DovileDo/source-matters, folder data/chest14 (MIT). "Five folds" are five
repeats of a grouped shuffle split, so validation sets overlap. For gender there is a set of folds for each
strength: which positives stand in it depends on the strength.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters import files
from sourcematters.cohorts import tables
from sourcematters.cohorts.cohort import fold_column, fold_columns
from sourcematters.cohorts.spelling import alike
from sourcematters.errors import StudyError

REPOSITORY = "https://github.com/DovileDo/source-matters"
COMMIT = "92513944a1c25e6637e34c872a8d64a6325f4833"
URL = f"https://raw.githubusercontent.com/DovileDo/source-matters/{COMMIT}/data/chest14/"
FOLDS = range(5)
STRENGTHS = (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)


@dataclass(frozen=True)
class Layout:
    """Where the authors put one task's files: the test file, and (train, val) for each fold column.

    `digest` is that of the table which the files make: see `are_published`.
    """

    test: str
    folds: dict[str, tuple[str, str]]
    classes: dict[str, int]
    digest: str

    @property
    def files(self) -> list[str]:
        """Every file, relative to the folder chest14."""
        return [self.test, *(name for pair in self.folds.values() for name in pair)]


def _pair(fold: int, folder: str = "") -> tuple[str, str]:
    return f"{folder}train_fold{fold + 1}.csv", f"{folder}val_fold{fold + 1}.csv"


LUNG_MASS = Layout(
    "test.csv",
    {fold_column(k): _pair(k) for k in FOLDS},
    {"YES": 1, "NO": 0},
    "e892e06842a48b41216450d2984cc41b10e7ef5d7b5068e02896811e58f55e58",
)
GENDER = Layout(
    "gender/test.csv",
    {fold_column(k, p): _pair(k, f"gender/F_{100 * p:.0f}/") for p in STRENGTHS for k in FOLDS},
    {"Atelectasis": 1, "No Finding": 0},
    "d0158f7eef22343a243996072ad9b2ddf4a03703a6fab21240ce420a60be1f25",
)


def read(splits: str | Path, layout: Layout) -> tuple[pd.DataFrame, str]:
    """The cohort that split files describe, sorted by `image_id`, and a sentence saying which files they are.

    `splits` is "published" (fetched once, each file checked against its SHA-256) or a folder with the authors'
    layout. Columns: `image_id, patient_id, label, split`, and for each fold its column. Patients in two parts are left
    as they are: see `cohort.leaks`. Raises StudyError when a file is not to be had, or contradicts another.
    """
    folder = fetch(layout) if str(splits) == "published" else Path(splits)
    if absent := [name for name in layout.files if not (folder / name).is_file()]:
        raise StudyError(
            f"{folder}: {len(absent)} of {len(layout.files)} split files are not there, e.g. {absent[0]}. Give own, "
            f"published, or a folder laid out as data/chest14 of {REPOSITORY}."
        )
    rows = [_read_file(folder / name, layout.classes) for name in layout.files]
    every = pd.concat(rows).drop_duplicates()
    _refuse_twice(every, folder, "has two classes or two patients in the split files")
    table = every.set_index("image_id").sort_index()
    table["split"] = np.where(table.index.isin(rows[0]["image_id"]), "test", "dev")
    test = rows[0].assign(part="test")
    for column, train, val in zip(layout.folds, rows[1::2], rows[2::2], strict=True):
        named = pd.concat([train.assign(part="train"), val.assign(part="val"), test])
        _refuse_twice(named, folder, f"is in two parts of {' and '.join(layout.folds[column])}")
        table[column] = named.set_index("image_id")["part"]
    other, number = sum(files.sha256(folder / name) != checksums()[name] for name in layout.files), len(layout.files)
    origin = f"Split as the authors published it: all {number} files are those of commit {COMMIT[:7]}."
    if other:
        origin = f"Split by the files in {folder}; {other} of {number} are not those that were published."
    return table.reset_index(), origin


def are_published(table: pd.DataFrame) -> bool:
    """Whether a cohort's images, labels, parts and folds are those of the published files, of either task."""
    return digest(table) in (LUNG_MASS.digest, GENDER.digest)


def digest(table: pd.DataFrame) -> str:
    """SHA-256 of a cohort's `image_id, label, split` and fold columns; the order of rows and columns does not count."""
    rows = table[["image_id", "label", "split", *sorted(fold_columns(table))]].sort_values("image_id")
    return hashlib.sha256(rows.to_csv(index=False, lineterminator="\n").encode()).hexdigest()


def fetch(layout: Layout) -> Path:
    """Download a task's files, unless they are there, into the user's cache folder; return their folder."""
    import pooch

    registry = {name: checksums()[name] for name in layout.files}
    store = pooch.create(pooch.os_cache("sourcematters") / "published-splits", base_url=URL, registry=registry)
    try:
        for name in layout.files:
            store.fetch(name)
    except (OSError, ValueError) as error:  # no connection (requests' errors are OSErrors), or another checksum
        raise StudyError(
            f"{URL}: cannot fetch the published splits ({error}). Or clone {REPOSITORY} elsewhere, "
            "and give the path of its folder data/chest14 as splits."
        ) from error
    return Path(store.path)


@cache
def checksums() -> dict[str, str]:
    """File (relative to chest14) to SHA-256, of all 72 published files."""
    return pd.read_csv(Path(__file__).with_name("published_splits.csv"), index_col=0)["sha256"].to_dict()


def _read_file(path: Path, classes: dict[str, int]) -> pd.DataFrame:
    columns = {"path": "image_id", "pid": "patient_id", "class": "label"}
    rows = tables.columns_of(path, columns, f"The authors' files have {', '.join(columns)}.")
    good = rows["label"].isin(list(classes)) & rows.notna().all(axis=1)
    advice = f"or an image or patient is missing; the classes are {', '.join(classes)}."
    tables.refuse_rows(path, rows["label"].rename("class"), good, advice)
    # A patient is the same in all files, however the id is written.
    return rows.assign(label=rows["label"].map(classes).astype(int), patient_id=rows["patient_id"].map(alike))


def _refuse_twice(rows: pd.DataFrame, folder: Path, what: str) -> None:
    if (twice := rows["image_id"].duplicated()).any():
        raise StudyError(f"{folder}: image {rows.loc[twice, 'image_id'].iloc[0]} {what}.")

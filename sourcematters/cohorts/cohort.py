"""A cohort: one tidy table, one row an image, what is known of it, and the checks that every reader's table passes.

Columns: `image_id` (str, unique), `path` (str), `patient_id` (str), `label` (0 or 1), `split` ("dev" or
"test"), then any attributes (`sex`, `age` in years, `view`, ...). Sorted by `image_id`.
Folds are drawn (see `design`), unless the table brings its own: `fold_0`, `fold_1`, ... with "train" or "val" for
dev images, "test" for those of the test part, and nothing for an image that the fold leaves out. Where a fold
differs by the confounder's strength it has a column for each, `fold_0_p050` at p_art = 0.5.
"""

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters.cohorts.spelling import alike, kind, spellings, together
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform

REQUIRED = ("image_id", "path", "patient_id", "label")
COLUMNS = (*REQUIRED, "split")
SPLITS = ("dev", "test")
PARTS = ("train", "val", "test")
FOLD = re.compile(r"fold_(\d+)(?:_p(\d{3}))?")
SHOWN = 5
MANY = 50  # an attribute with more values is free text
NOBODY = re.compile(r"nan|n/?a|none|null|unknown|unbekannt|missing|[?.-]+", re.IGNORECASE)
SHORTENED = re.compile(r"\d([.,]\d+)?e\+\d+", re.IGNORECASE)


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """The images of one question, in parts that share no patient; shown, it counts them.

    >>> rows = [("a", 1, "p", "dev"), ("b", 0, "q", "dev"), ("c", 0, "q", "dev"), ("d", 1, "r", "test")]
    >>> Cohort(pd.DataFrame(rows, columns=["image_id", "label", "patient_id", "split"]), name="mine", task="Mass")
    Cohort mine, Mass: 4 images of 3 patients
                 images  patients
    split label
    dev   0           2         1
          1           1         1
    test  1           1         1

    `name` is a slug of the data (results' column `data`), `task` what label 1 is, `origin` the file or folder it was
    made from. `notes` are sentences for the reader, `problems` (kind, where, what) of all that was left out or is odd,
    `caution` is what every figure made from it must say, if anything. Where `patients_known` is False each image counts
    as a patient of its own, and nobody can tell whether a patient is in two parts.
    """

    table: pd.DataFrame
    name: str
    task: str
    origin: str = ""
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    caution: str = ""
    patients_known: bool = True

    @property
    def counts(self) -> pd.DataFrame:
        """Images and patients, by split and label."""
        groups = self.table.groupby(["split", "label"])
        return groups.agg(images=("image_id", "size"), patients=("patient_id", "nunique"))

    @property
    def _title(self) -> str:
        patients = f"{self.table['patient_id'].nunique():,} patients" if self.patients_known else "unknown patients"
        return f"{self.name}, {self.task}: {len(self.table):,} images of {patients}"

    def __repr__(self) -> str:
        return "\n".join(line.rstrip() for line in f"Cohort {self._title}\n{self.counts}".splitlines())

    def _repr_html_(self) -> str:
        title, *sentences = (html.escape(text) for text in (self._title, self.caution, *self.notes) if text)
        return "".join(f"<p>{text}</p>" for text in [f"<b>{title}</b>", *sentences]) + self.counts.to_html()


def fold_column(fold: int, p_art: float | None = None) -> str:
    """The name of a fold's column, `fold_2`, or `fold_2_p050` where folds differ by strength."""
    return f"fold_{fold}" if p_art is None else f"fold_{fold}_p{round(100 * p_art):03d}"


def fold_columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold folds, in the table's order."""
    return [column for column in table if FOLD.fullmatch(str(column))]


def attributes(table: pd.DataFrame) -> list[str]:
    """The columns that are none of the contract's: what images and patients are known by besides."""
    return [column for column in table if column not in COLUMNS and not FOLD.fullmatch(str(column))]


def check(table: pd.DataFrame, *, origin: str, shared_patients_allowed: bool = False) -> pd.DataFrame:
    """Return the table sorted by `image_id`, with fixed dtypes, or raise StudyError naming row and value.

    `split` may be absent; attributes are left as they are. `shared_patients_allowed` lets a patient be in two parts,
    for splits that others published (`leaks` finds them). No file is opened (see `check_files`, `verify`).
    `origin` names the table in messages; rows are counted from its index.
    """
    if missing := [column for column in REQUIRED if column not in table]:
        raise StudyError(
            f"{origin}: no column {', '.join(missing)}; the table has {', '.join(map(str, table)) or 'none'}. "
            f"A cohort needs {', '.join(REQUIRED)}."
        )
    if table.empty:
        raise StudyError(f"{origin}: the table has no rows, so there is no image to study.")
    table = table.copy() if pd.api.types.is_integer_dtype(table.index) else table.reset_index(drop=True)
    for column in (c for c in COLUMNS if c in table):
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if empty.any():
            raise StudyError(f"{origin}: {column} is missing in {_rows(table.index[empty])}. Fill it in.")
        if column != "label":
            table[column] = table[column].astype(str)
    label = pd.to_numeric(table["label"], errors="coerce")
    if (wrong := ~label.isin([0, 1])).any():
        value = table.loc[wrong, "label"].iloc[0]
        raise StudyError(f"{origin}: label must be 0 or 1; it is {value!r} in {_rows(table.index[wrong])}.")
    table["label"] = label.astype(int)
    if (repeated := table["image_id"].duplicated(keep=False)).any():
        groups = table[repeated].groupby("image_id").groups
        found = some(f"{name} in {_rows(rows)}" for name, rows in groups.items())
        raise StudyError(f"{origin}: {len(groups)} image_id(s) occur more than once: {found}. Keep one row an image.")
    folds = fold_columns(table)
    if "split" in table:
        for column in ("split", *folds):
            _check_parts(table, column, origin, shared_patients_allowed)
    elif folds:
        raise StudyError(f"{origin}: it has a column {folds[0]} but no split. A table with folds names its test part.")
    else:
        _check_classes(table["label"], origin)
    return table.sort_values("image_id", ignore_index=True)


def check_files(table: pd.DataFrame) -> None:
    """Raise StudyError, with the first few and their number, if a file of the cohort does not exist."""
    if absent := [path for path in table["path"] if not Path(path).is_file()]:
        number = f"{len(absent)} of {len(table)}"
        raise StudyError(f"{number} image files do not exist: {some(absent)}. Correct the paths, or remove these rows.")


def shared_patients(table: pd.DataFrame, column: str = "split") -> list[str]:
    """Patients, sorted, with images in more than one part of `column`; images that it leaves out do not count."""
    parts = table.groupby("patient_id")[column].nunique()
    return sorted(parts.index[parts > 1])


def doubtful_patients(table: pd.DataFrame, column: str = "split") -> list[str]:
    """Ids, sorted, that might be one patient's (see `spelling.alike`) with images in more than one part of `column`."""
    person = together(table["patient_id"])
    shared = set(shared_patients(table.assign(patient_id=person), column))
    return sorted(set(table.loc[person.isin(shared), "patient_id"]) - set(shared_patients(table, column)))


def remarks(table: pd.DataFrame) -> list[str]:
    """Sentences on what a checked table may not mean as it says it: ids, values of attributes, ages."""
    ids, found = pd.Series(table["patient_id"].unique()), []
    if pairs := spellings(ids, ids.map(alike)):
        found.append(f"Ids that might be of one patient: {some(pairs)}. A split that is drawn keeps them together.")
    for column in ["split", *fold_columns(table)] if pairs else []:
        if apart := doubtful_patients(table, column):
            found.append(
                f"Of these ids, {some(apart)} stand in two parts of {column}. Write alike what is one patient."
            )
    for pattern, what in (
        (NOBODY, "is no patient's id; all its images pass for one patient's"),
        (SHORTENED, "was shortened by a spreadsheet, in which several patients may have become one"),
    ):
        if odd := [name for name in ids if pattern.fullmatch(name)]:
            found.append(f"patient_id {some(map(repr, odd))} {what}: {table['patient_id'].isin(odd).sum()} images.")
    for column in attributes(table):
        values = pd.Series(table[column].dropna().astype(str).unique(), dtype=str)
        if kind(column) == "age" and not pd.api.types.is_numeric_dtype(table[column]):
            odd = [value for value in values if not re.fullmatch(r"\d+(\.\d*)?", value)]
            found.append(
                f"{column} is text, {some(map(repr, odd))}: it is not counted in bands. Leave unknown ages empty."
            )
        plain = values.map(alike).str[: 1 if kind(column) == "sex" else None]  # F is female
        if len(values) <= MANY and (pairs := spellings(values, plain)):
            found.append(f"{column} might be the same in {some(pairs)}; as they stand these are different values.")
    return found


def leaks(table: pd.DataFrame) -> pd.DataFrame:
    """Patients with images in two parts of a fold that the table brings, one row a fold column.

    Columns: `fold` (the column's name), `train, val, test` (images), `patients` (how many are in two parts), and
    `names` (a list of them, sorted).
    """
    rows = []
    for column in fold_columns(table):
        images, names = table[column].value_counts(), shared_patients(table, column)
        rows.append((column, *(int(images.get(part, 0)) for part in PARTS), len(names), names))
    return pd.DataFrame(rows, columns=["fold", *PARTS, "patients", "names"])


def split_by_patient(
    table: pd.DataFrame, *, test_fraction: float = 0.25, seed: int, strata: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the table with `split`: every patient wholly in "dev" or in "test".

    Within each stratum (label, then the columns `strata`) patients are ranked by `seed` and identity, and
    the first go to test until it holds `test_fraction` of the images; what one stratum has too many or too
    few of, the next makes up for. Ids that might be one patient's (see `spelling.alike`) stay together. A patient
    whose images differ counts under the largest of their values: a patient with any positive image as positive. Row
    order does not matter.

    Raises StudyError if a part would lack a class.
    """
    # As ordered categories the largest value of a patient is a number's; of texts pandas asks one by one.
    keys = pd.DataFrame(
        {column: pd.Categorical(table[column].astype(str).fillna(""), ordered=True) for column in ("label", *strata)},
        index=table.index,
    )
    person = together(table["patient_id"])
    patients = keys.groupby(person).max()
    patients["images"] = person.value_counts()
    patients["rank"] = uniform(seed, patients.index.tolist(), "split")
    still_to_test, chosen = 0.0, set()
    for _, stratum in patients.sort_values("rank").groupby(list(keys.columns), sort=True, observed=True):
        still_to_test += test_fraction * stratum["images"].sum()
        # A patient belongs to test if the middle one of their images does: no drift towards large patients.
        middles = stratum["images"].cumsum() - stratum["images"] / 2
        taken = stratum[middles <= still_to_test]
        still_to_test -= taken["images"].sum()
        chosen.update(taken.index)
    split = table.assign(split=np.where(person.isin(chosen), "test", "dev"))
    for part in SPLITS:
        if absent := {0, 1} - set(split.loc[split["split"] == part, "label"]):
            counts = patients["label"].value_counts()
            raise StudyError(
                f"splitting by patient leaves {part} without images of class {min(absent)} at "
                f"test_fraction = {test_fraction} (patients with a positive image: {counts.get('1', 0)}, "
                f"without: {counts.get('0', 0)}). Add patients, or choose another fraction."
            )
    return split


def _check_classes(label: pd.Series, where: str) -> None:
    if label.nunique() < 2:
        classes = ", ".join(map(str, label.unique())) or "none"
        raise StudyError(f"{where}: both classes are needed, label 0 and label 1; there is only: {classes}.")


def _check_parts(table: pd.DataFrame, column: str, origin: str, shared_patients_allowed: bool) -> None:
    cells, split = table[column], table["split"]
    if column == "split":
        good, rule = cells.isin(SPLITS), "It is dev or test."
    else:
        good = cells.isna() | cells.isin(PARTS) & ((cells == "test") == (split == "test"))
        rule = "It is train or val in dev, test in test, or empty."
    if not good.all():
        row = int((~good).to_numpy().argmax())
        where = f" where split is {split.iloc[row]}" if column != "split" else ""
        place = _rows(table.index[[row]])
        raise StudyError(f"{origin}: {column} is {cells.iloc[row]!r}{where}, in {place}. {rule}")
    for part in SPLITS if column == "split" else PARTS:
        _check_classes(table.loc[cells == part, "label"], f"{origin}, {column} {part}")
    if (shared := shared_patients(table, column)) and not shared_patients_allowed:
        raise StudyError(
            f"{origin}: {len(shared)} patient(s) have images in two parts of {column}: {some(shared)}. "
            "Put all images of a patient in one part, or remove the column to have it drawn."
        )


def _rows(index: Iterable[int]) -> str:
    rows = [str(int(i) + 2) for i in index]
    return f"row{'s' if len(rows) > 1 else ''} {some(rows)} (the header is row 1)"


def some(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

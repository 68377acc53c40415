"""Open every image of a cohort, and say in plain text what is there and what is wrong."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from sourcematters.cohorts.cohort import (
    SPLITS,
    Cohort,
    attributes,
    doubtful_patients,
    fold_columns,
    leaks,
    shared_patients,
)
from sourcematters.cohorts.pixels import seen
from sourcematters.cohorts.spelling import kind
from sourcematters.errors import StudyError
from sourcematters.processes import over_processes, progress

WORTH_PROCESSES = 1000  # starting processes takes longer than opening fewer images than this
FEW = 10
MOST_SHOWN = 50
AGE_BANDS = {"0-17": 0, "18-39": 18, "40-59": 40, "60-79": 60, "80 and over": 80}


def report(cohort: Cohort, *, workers: int = 1) -> tuple[str, pd.DataFrame]:
    """Open every file of a cohort. Returns a text to print and the problems found.

    Problems, one row an image and problem: `path, image_id, problem`: a file missing or unreadable (and
    why), a blank image, the same pixels under two ids, a patient in both parts. The text also has `counts`, sizes and
    modes of the files, what the cohort left out, and patients in two parts of folds that it brings.
    """
    table = cohort.table
    paths = table["path"].unique().tolist()
    found = over_processes(_open, paths, workers if len(paths) > WORTH_PROCESSES else 1)
    opened = dict(progress(found, total=len(paths), desc="opening every image", unit="image"))
    files = pd.DataFrame([opened[path] for path in table["path"]], columns=["size", "mode", "digest", "problem"])
    rows = _problems(table[["path", "image_id", "patient_id", "split"]].reset_index(drop=True).join(files))
    problems = pd.DataFrame(rows, columns=["path", "image_id", "problem"])
    return "\n\n".join(_sections(cohort, files, problems)) + "\n", problems


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Images by class in columns (dev 0, dev 1, test 0, test 1, all), by attribute and value in rows.

    The first two rows count images and patients; then come the attributes that have at most 10 values, ages in bands.
    """
    split, label = table["split"], table["label"]
    parts = {f"{part} {k}": (split == part) & (label == k) for part in SPLITS for k in (0, 1)}
    parts["all"] = pd.Series(True, index=table.index)
    rows = {
        ("images", ""): {part: rows.sum() for part, rows in parts.items()},
        ("patients", ""): {part: table.loc[rows, "patient_id"].nunique() for part, rows in parts.items()},
    }
    for attribute in attributes(table):
        values = table[attribute]
        if kind(attribute) == "age" and pd.api.types.is_numeric_dtype(values):
            values = pd.cut(values, [*AGE_BANDS.values(), np.inf], right=False, labels=list(AGE_BANDS))
        if values.nunique() > FEW:
            continue
        values = values.astype(object).where(values.notna(), "unknown")
        for value in sorted(set(values), key=str):
            rows[attribute, str(value)] = {part: (values[rows] == value).sum() for part, rows in parts.items()}
    return pd.DataFrame.from_dict(rows, orient="index").astype(int)


def _open(path: str) -> tuple[str, str, str, str]:
    """Size, mode (`pixels.seen`) and digest of a file's pixels, and what is wrong with them, if anything."""
    try:
        pixels, mode = seen(path)
    except StudyError as error:
        return "(not opened)", "(not opened)", "", str(error).removeprefix(f"{path}: ")
    size = f"{pixels.shape[1]} x {pixels.shape[0]}"
    blank = f"blank: every pixel is {pixels.flat[0]}." if pixels.min() == pixels.max() else ""
    return size, mode, hashlib.sha256(size.encode() + pixels.tobytes()).hexdigest(), blank


def _problems(table: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    split_patients, doubtful = set(shared_patients(table)), set(doubtful_patients(table))
    first: dict[str, str] = {}
    for row in table.itertuples():
        if row.problem:
            yield row.path, row.image_id, row.problem
        elif (other := first.setdefault(row.digest, row.image_id)) != row.image_id:
            yield row.path, row.image_id, f"the same pixels as {other}."
        if row.patient_id in split_patients:
            yield row.path, row.image_id, f"patient {row.patient_id} is in both dev and test."
        elif row.patient_id in doubtful:
            yield row.path, row.image_id, f"patient {row.patient_id} might be in both dev and test, by ids much alike."


def _sections(cohort: Cohort, files: pd.DataFrame, problems: pd.DataFrame) -> Iterator[str]:
    table, title = cohort.table, f"{cohort.name}, {cohort.task} (0: no, 1: yes)"
    yield "\n".join([title, "=" * len(title), cohort.origin, *cohort.notes])
    yield "Images by part, class and attribute\n" + counts(table).to_string()
    for what in ("size", "mode"):
        seen = files[what].value_counts().items()
        yield f"Files by {what}\n" + "\n".join(f"{number:>9,}  {value}" for value, number in seen)
    if cohort.problems:
        kinds = pd.DataFrame(cohort.problems, columns=["kind", "where", "what"]).groupby("kind", sort=False)
        firsts = (f"{len(rows):>9,}  {kind}, such as {': '.join(rows.iloc[0, 1:])}" for kind, rows in kinds)
        yield "Left out of the cohort, or odd\n" + "\n".join(firsts)
    doubtful = doubtful_patients(table)
    might = f"; by ids much alike there might be more: {', '.join(doubtful)}" if doubtful else ""
    if cohort.patients_known:
        yield f"Patients in both dev and test: {len(shared_patients(table))}{might}"
    else:
        yield "Patients in both dev and test: cannot be told, since the patients are not known"
    if fold_columns(table):
        folds = leaks(table).to_string(index=False, formatters={"names": ", ".join})
        yield f"Images by fold, and patients in two of its parts\n{folds}"
    if problems.empty:
        yield f"No problems: all {len(table):,} images were opened."
        return
    lines = [f"  {row.image_id}: {row.problem}\n    {row.path}" for row in problems.head(MOST_SHOWN).itertuples()]
    if len(problems) > MOST_SHOWN:
        lines.append(f"  ... and {len(problems) - MOST_SHOWN:,} more")
    yield f"{len(problems):,} problems\n" + "\n".join(lines)

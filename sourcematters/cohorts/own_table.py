"""A cohort of your own: a table with a row an image, as people write them."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from sourcematters.cohorts import mapping, tables
from sourcematters.cohorts.assembly import Listed, assembled
from sourcematters.cohorts.cohort import COLUMNS, FOLD, Cohort, check, some
from sourcematters.cohorts.readers import Choice, Reader, Request, register, what_is_there
from sourcematters.cohorts.spelling import as_one, column_of, kind, spellings
from sourcematters.errors import StudyError


def read_own(path: str | Path, how: Choice, find: Callable[[pd.Series], pd.Series] | None = None) -> Listed:
    """Read and check a table as people write them, and say in sentences what was taken for something else.

    Columns may be called otherwise (see `how.columns` and `spelling`), blanks around cells go, ids that are one become
    one, and labels are what `how.positive` and `how.negative` say. Without a patient each image has its own, if no
    column is left that might be it; without an id the path is it. `find` gives the file of each path or id, missing
    where there is none. Raises StudyError as `parse` and `cohort.check` do, and for a column that is not there.
    """
    table, notes = tables.parse(path)
    table, renamed = mapping.named(table, how.columns, str(path))
    folds = filter(FOLD.fullmatch, (re.sub(r"\W+", "_", column.casefold()) for column in table))
    names = {column: name for name in (*COLUMNS, *folds) if (column := column_of(table, name, str(path)))}
    if "label" not in names.values() and how.task and (column := column_of(table, how.task, str(path))):
        names[column] = "label"
    meant = [(column, name) for name, column in renamed.items()]
    meant += [(column, name) for column, name in names.items() if column != name]
    if meant:
        notes.append(f"Columns by what they mean: {', '.join(f'{column!r} as {name}' for column, name in meant)}.")
    table = table.rename(columns=names)
    stripped = table.apply(tables.stripped)
    for name in {"image_id", "patient_id"}.intersection(table):
        stripped[name] = as_one(stripped[name])
        if found := spellings(table[name], stripped[name]):
            notes.append(f"Ids that are one are taken as one: {name} {some(found)}.")
    hints: list[str] = []
    problems: list[tuple[str, str, str]] = []
    if find:
        stripped = _with_files(stripped, find, str(path), notes, problems)
    known = "patient_id" in stripped
    stripped = _with_ids(stripped, how, hints)
    if "label" in stripped:
        before = stripped["label"]
        stripped["label"], said, out = mapping.labels(before, how.positive, how.negative, str(path))
        notes, problems = notes + said, problems + out
        hints += [] if said else mapping.advice(before)
        stripped = stripped[stripped["label"].notna()] if said else stripped
    stripped = _with_parts(stripped, notes)
    try:
        finished = tables.finished(path, stripped, how.root)
        return Listed(check(finished, origin=str(path)), notes, problems, known)
    except StudyError as error:
        raise StudyError(" ".join([str(error), *hints, *notes])) from None


def _with_files(
    table: pd.DataFrame,
    find: Callable[[pd.Series], pd.Series],
    origin: str,
    notes: list[str],
    problems: list[tuple[str, str, str]],
) -> pd.DataFrame:
    """The rows whose image is there, with its file as `path`."""
    key = next((name for name in ("path", "image_id") if name in table), None)
    if key is None:
        raise StudyError(
            f"{origin}: no column says which image a row is of; the table has {', '.join(table)}. "
            "Name it, as in columns: {image: COLUMN}."
        )
    found = find(table[key])
    absent = table.loc[found.isna(), key].astype(str).tolist()
    if len(absent) == len(table):
        raise StudyError(f"{origin}: none of its {len(table):,} rows names an image that is there: {absent[0]}.")
    if absent:
        notes.append(f"{len(absent):,} of {len(table):,} rows of the table are of images that are not there.")
        problems += [("no image", name, "a row of the table without its file") for name in absent]
    kept = table.assign(path=found).loc[found.notna()]
    return kept if "image_id" in kept else kept.assign(image_id=table.loc[kept.index, key])


def _with_ids(table: pd.DataFrame, how: Choice, hints: list[str]) -> pd.DataFrame:
    """The table with ids of images and patients, if it has paths and nothing else might be the patient."""
    if "path" in table and "image_id" not in table and (how.columns or "patient_id" not in table):
        table = table.assign(image_id=table["path"])
    if "patient_id" in table or "image_id" not in table:
        return table
    strange = [c for c in table if c not in COLUMNS and not FOLD.fullmatch(c) and kind(c) not in ("sex", "age", "view")]
    if how.columns or not strange:
        return table.assign(patient_id=table["image_id"])
    hints.append(
        f"If {some(strange)} is the patient, say so: columns: {{patient: {strange[0]}}}. If the patient is not known, "
        "give columns without it, such as columns: {path: path}, and each image counts as a patient of its own."
    )
    return table


def _with_parts(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with `split` as dev or test, where people say train and val."""
    if "split" not in table:
        return table
    said = table["split"].map(mapping.plain, na_action="ignore")
    if table["split"].isna().any() or set(said) <= {"dev", "test"} or not set(said) <= set(mapping.PARTS):
        return table
    others = sorted(set(said) - {"dev", "test"})
    notes.append(f"Of split, {', '.join(f'{word} is taken as {mapping.PARTS[word]}' for word in others)}.")
    return table.assign(split=said.map(mapping.PARTS))


@register
class OwnTable(Reader):
    """A table of your own; without the column `split`, one is drawn by patient."""

    name = "csv"
    help = (
        "a table (.csv, .tsv, .xlsx, .ods, .parquet) with a row an image: image_id, path, patient_id, label; "
        "any task, which names label 1"
    )
    views = None
    uses = ("columns", "positive", "negative", "root")

    def claims(self, data: str) -> bool:
        """Whether it is a file, or named as a table is."""
        return Path(data).is_file() or data.lower().removesuffix(".gz").endswith(tables.ENDINGS)

    def open(self, request: Request) -> Cohort:
        """The checked table, of one view if one was asked for. Raises StudyError for an image that is not there."""
        path = Path(request.data)
        if request.root and not Path(request.root).is_dir():
            raise StudyError(f"root {request.root}: {what_is_there(request.root)}. Give the folder of the images.")
        name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "cohort"
        return assembled(read_own(path, request), request, name=name, origin=str(path))

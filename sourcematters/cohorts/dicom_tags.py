"""What DICOM files tell of their patients and machines, as attributes: read once, and remembered."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sourcematters import checksums
from sourcematters.cohorts.lidc import dicom
from sourcematters.cohorts.pixels import is_dicom
from sourcematters.cohorts.readers import Request
from sourcematters.cohorts.spelling import column_of
from sourcematters.processes import over_processes, progress

TAGS = {
    "sex": "PatientSex",
    "age": "PatientAge",
    "view": "ViewPosition",
    "manufacturer": "Manufacturer",
    "station": "StationName",
    "kvp": "KVP",
    "site": "InstitutionName",
}
"""Attributes, and DICOM's keyword for each (PS3.6, https://dicom.nema.org/medical/dicom/current/output/html/part06.html)."""
IDS = {"patient_id": "PatientID", "sop_uid": "SOPInstanceUID"}
MOST_FILES = 100_000  # of a table whose tags are read unasked
FILES_A_TASK = 256
STAMP = ("path", "size", "mtime", "ctime", "inode")  # checksums.stamp
YEARS_A_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def years(age: str) -> float:
    """A PatientAge (PS3.5, AS) in years, NaN if it is none; without a unit, as RSNA's release has it, in years.

    >>> years("045Y"), years("018M"), years("51")
    (45.0, 1.5, 51.0)
    """
    found = re.fullmatch(r"(\d{1,3})([YMWD]?)", age.strip())
    return int(found[1]) * YEARS_A_UNIT[found[2] or "Y"] if found else np.nan


def read(paths: list[str], cache: str | Path, workers: int = 1) -> pd.DataFrame:
    """The tags of DICOM files, one row a file by `path`, as text, empty where a file has none.

    Columns: those of IDS and TAGS, and `problem`, why a file could not be read. `cache` is a folder in which they are
    remembered: a file is opened again only when its `checksums.stamp` changed.
    """
    columns = [*STAMP, *IDS, *TAGS, "problem"]
    stamps = pd.DataFrame([checksums.stamp(path) for path in sorted(set(paths))], columns=list(STAMP)).astype(str)
    code = hashlib.sha256(repr([sorted(set(paths)), columns]).encode()).hexdigest()[:8]
    kept = Path(cache).absolute() / f"dicom-tags-{code}.csv"
    known = pd.DataFrame(columns=columns, dtype=str)
    if str(cache) and checksums.usable(kept, "all tags are read again"):
        known = pd.read_csv(kept, dtype=str, keep_default_na=False)
    table = stamps.merge(known, on=list(STAMP))
    new = stamps.loc[~stamps["path"].isin(table["path"]), "path"].tolist()
    tasks, rows = [new[i : i + FILES_A_TASK] for i in range(0, len(new), FILES_A_TASK)], list[tuple[str, ...]]()
    with progress(total=len(new), desc="read DICOM tags", unit="file", disable=len(new) < 1000) as bar:
        for task, read_now in over_processes(_read, tasks, workers if len(new) > 1000 else 1):
            rows += read_now
            bar.update(len(task))
    fresh = stamps.merge(pd.DataFrame(rows, columns=["path", *IDS, *TAGS, "problem"], dtype=str), on="path")
    table = pd.concat([table, fresh]).sort_values("path", ignore_index=True)
    if rows and str(cache):
        checksums.write_csv(kept, table)
    return table.set_index("path")[[*IDS, *TAGS, "problem"]]


def _read(paths: list[str]) -> list[tuple[str, ...]]:
    """Path, the values of IDS and TAGS, and what is wrong, of each file."""
    keywords, rows = [*IDS.values(), *TAGS.values()], list[tuple[str, ...]]()
    for path in paths:
        try:
            rows.append((path, *dicom.read_tags(path, keywords), ""))
        except dicom.Unusable as error:
            rows.append((path, *[""] * len(keywords), error.what))
    return rows


def attribute(name: str, cells: pd.Series) -> pd.Series:
    """The cells of one of TAGS as an attribute: ages in years, kV as numbers, missing where a file says nothing."""
    if name == "age":
        return cells.map(years)
    return pd.to_numeric(cells, errors="coerce") if name == "kvp" else cells.where(cells != "", None)


def added(table: pd.DataFrame, request: Request) -> tuple[pd.DataFrame, pd.Series | None, list[str]]:
    """A table of images with the attributes of TAGS that it lacks and its DICOM files have; their PatientID; sentences.

    PatientID is None unless every file has one. Of more than MOST_FILES files, and where the first, the middle and the
    last are not all DICOM, nothing is read.
    """
    paths = table["path"].tolist()
    if not all(is_dicom(paths[k]) for k in (0, len(paths) // 2, -1)):
        return table, None, []
    if len(paths) > MOST_FILES:
        return table, None, [f"DICOM tags are not read of more than {MOST_FILES:,} files: bring them as columns."]
    there = [path for path in paths if is_dicom(path)]
    tags = read(there, request.cache, request.workers).reindex(paths).fillna("").set_axis(table.index)
    values: dict[str, Any] = {
        name: attribute(name, tags[name]) for name in TAGS if column_of(table, name, request.data) is None
    }
    values = {name: cells for name, cells in values.items() if cells.notna().any()}
    said = [f"From DICOM tags: {', '.join(f'{name} ({TAGS[name]})' for name in values)}."] if values else []
    if wrong := (tags["problem"] != "").sum():
        said.append(f"The DICOM tags of {wrong:,} files could not be read; their attributes are missing.")
    return table.assign(**values), tags["patient_id"] if (tags["patient_id"] != "").all() else None, said

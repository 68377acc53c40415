"""A folder of DICOM files to CT series: what is there, in which order, and what is wrong with it.

Made for LIDC-IDRI as TCIA distributes it (https://www.cancerimagingarchive.net/collection/lidc-idri/), with chest
films (CR, DX) and segmentations among the slices. Neither folders nor names are believed: series are grouped by Series
Instance UID, slices ordered by their position in the patient.

What is wrong with one file or series does not end the reading; it becomes a row of a table of problems:

- files left out by `index`: no slice in Hounsfield units (`dicom.Unusable` names the kinds, `not CT: CR` for a film);
- files left out by `series`: a copy (same SOP Instance UID, header and size; the first path stays); two different
  files under one SOP Instance UID ("conflict": neither can be trusted, both go);
- series left out: several patients or studies, differing image sizes, spacings or orientations, not axial (the
  slice's normal over 30 degrees from the body's axis: more than a gantry tilts);
- named, but kept: slices that share a position, missing slices, uneven spacing.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sourcematters import checksums
from sourcematters.cohorts.lidc.dicom import HEADER, NUMBERS, Unusable, read_header
from sourcematters.cohorts.readers import what_is_there
from sourcematters.errors import StudyError
from sourcematters.processes import over_processes, progress

STAMP = {"path": "str", "size": "int64", "mtime": "int64", "ctime": "int64", "inode": "int64"}  # checksums.stamp
COLUMNS = STAMP | {"kind": "str", "what": "str"} | HEADER
PROBLEMS = ["kind", "where", "what"]

SAME_PLACE_MM = 0.01
SAME_GEOMETRY = 1e-3  # mm of spacing, or a component of a direction: far below what moves a pixel
SAME_STEP = 0.2  # of the spacing: positions of thin slices are often rounded to 0.1 mm
AXIAL_COSINE = math.cos(math.radians(30))
FILES_A_TASK = 256
ADVICE = "Give the folder that TCIA's downloader made, with LIDC-IDRI-0001/, LIDC-IDRI-0002/ and so on in it."


def index(root: str | Path, *, cache: str | Path | None = None, workers: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every CT slice below `root`, and every file that is none, from headers alone.

    The first table has one row a slice, by path: `path` (absolute), `size` (bytes), and the values of
    `dicom.read_header`. The second has `kind`, `where` (the path) and `what`, one row a file left out.
    Links to folders are followed, each folder once; names that begin with a dot are passed over. `cache`, a CSV file,
    remembers what was read, even when interrupted: a file is opened again only when its `checksums.stamp` changed, or
    the cache is damaged. Raises StudyError when there is no such folder or no CT slice in it, or `cache` is another
    table.
    """
    files, problems = _files(Path(root))
    known = _remembered(cache)
    table = files.merge(known, on=list(STAMP))
    new = list(files[~files["path"].isin(table["path"])].itertuples(index=False, name=None))
    rows: list[tuple[Any, ...]] = []
    try:
        tasks = [new[i : i + FILES_A_TASK] for i in range(0, len(new), FILES_A_TASK)]
        with progress(total=len(new), desc="read CT headers", unit="file", disable=len(new) < 1000) as bar:
            for task, headers in over_processes(_read_headers, tasks, workers):
                rows += headers
                bar.update(len(task))
    finally:
        fresh = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
        table = pd.concat([table, fresh]).sort_values("path", ignore_index=True)
        if cache is not None and (rows or len(table) < len(known)):
            checksums.write_csv(cache, table[table["kind"] != "unreadable"])  # a permission may change without a trace
    problems += table.loc[table["kind"] != "", ["kind", "path", "what"]].itertuples(index=False, name=None)
    problems = pd.DataFrame(sorted(problems, key=lambda row: row[1]), columns=PROBLEMS)
    slices = table.loc[table["kind"] == "", ["path", "size", *HEADER]].reset_index(drop=True)
    if slices.empty:
        raise StudyError(f"{root}: no CT slice among {len(files):,} files ({counted(problems)}). {ADVICE}")
    return slices.astype({"rows": "int64", "columns": "int64", "instance": "Int64"}), problems


def series(slices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Put the slices of `index` into their series: (slices, scans, problems).

    - slices: the rows that stay, by patient, series and position, with `slice`, 0 at the lowest `z_mm` (the feet).
    - scans: one row a series: `patient_id, study_uid, series_uid, rows, columns` (px), `slices` (how many),
      `spacing_mm` (the median distance of neighbouring positions; nan for a single slice), `missing` (slices).
    - problems: `kind`, `where` (patient and series, or the path) and `what`.

    A gap of k spacings counts k - 1 missing slices; one that is off by over 20 % of a spacing is uneven.
    Raises StudyError when nothing is left.
    """
    slices = slices.sort_values("path", kind="stable")
    copy = slices.duplicated([name for name in slices if name != "path"])
    conflict = slices[~copy].duplicated("sop_uid", keep=False).reindex(slices.index, fill_value=False)
    stays = slices[~copy].groupby("sop_uid")["path"].first()
    problems = []
    for kind, rows, what in (
        ("copy", copy, "same header and size as {1}, which stays."),
        ("conflict", conflict, "another file with other content has the same SOP Instance UID {0}; both are left out."),
    ):
        pairs = slices.loc[rows, ["path", "sop_uid"]].to_numpy()
        problems += [(kind, path, what.format(uid, stays[uid])) for path, uid in pairs]
    kept, scans = [], []
    for series_uid, group in slices[~copy & ~conflict].groupby("series_uid"):
        where = f"{group['patient_id'].iloc[0]}, series {series_uid}"
        if refused := _refused(group):
            problems.append((refused[0], where, refused[1]))
            continue
        group = group.sort_values(["z_mm", "instance", "sop_uid"])
        spacing, missing, found = _positions(group)
        problems += [(kind, where, what) for kind, what in found]
        kept.append(group.assign(slice=np.arange(len(group))))
        same = group.iloc[0][["patient_id", "study_uid", "series_uid", "rows", "columns"]]
        scans.append({**same, "slices": len(group), "spacing_mm": spacing, "missing": missing})
    problems = pd.DataFrame(problems, columns=PROBLEMS)
    if not kept:
        raise StudyError(f"none of the CT series can be used ({counted(problems)}). The table of problems names each.")
    order = ["patient_id", "series_uid"]
    table = pd.concat(kept).sort_values([*order, "slice"], ignore_index=True)
    return table, pd.DataFrame(scans).sort_values(order, ignore_index=True), problems


def counted(problems: pd.DataFrame) -> str:
    """How many problems of each kind, the most frequent first."""
    return ", ".join(f"{n:,} {kind}" for kind, n in problems["kind"].value_counts().items()) or "nothing"


def _files(root: Path) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    if not root.is_dir():
        raise StudyError(f"{root}: {what_is_there(root)}. {ADVICE}")
    rows, problems, seen = [], [], set()

    def unreadable(error: OSError) -> None:
        problems.append(("unreadable", str(error.filename), f"cannot be read ({error.strerror})."))

    for folder, folders, names in os.walk(root.absolute(), onerror=unreadable, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link to a folder above it, or to one that was read
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (os.path.join(folder, name) for name in names if not name.startswith(".")):
            try:
                rows.append(checksums.stamp(path))
            except OSError as error:
                unreadable(error)
    return pd.DataFrame(rows, columns=list(STAMP)).astype(STAMP), problems


def _remembered(cache: str | Path | None) -> pd.DataFrame:
    nothing = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    if cache is None:
        return nothing
    if not checksums.usable(cache, "all headers are read again"):
        if Path(cache).exists() and not checksums.seal_of(cache).exists() and not _is_index(Path(cache)):
            raise StudyError(f"{cache}: not an index of CT slices. Delete it, or name another file.")
        return nothing
    # As text first: "NA" may be a patient, and not every pandas parses a float to its last digit.
    known = pd.read_csv(cache, dtype=str, keep_default_na=False)
    if list(known) != list(COLUMNS):  # of another version
        return nothing
    known[NUMBERS] = known[NUMBERS].replace("", "nan")
    return known.astype(COLUMNS).drop_duplicates("path")


def _is_index(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n") == ",".join(COLUMNS)


def _read_headers(files: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The values of COLUMNS for each file, of which those of STAMP are given."""
    rows: list[tuple[Any, ...]] = []
    for stamp in files:
        try:
            rows.append((*stamp, "", "", *read_header(stamp[0])))
        except Unusable as error:
            blank = ("" if kind == "str" else math.nan for kind in HEADER.values())
            rows.append((*stamp, error.kind, error.what, *blank))
    return rows


def _refused(group: pd.DataFrame) -> tuple[str, str] | None:
    for name in ("patient_id", "study_uid"):
        if group[name].nunique() > 1:
            values = ", ".join(group[name].unique()[:3])
            return f"several {name}", f"its files belong to {group[name].nunique()} values of {name}: {values}."
    sizes = group[["rows", "columns"]].value_counts()
    if len(sizes) > 1:
        found = ", ".join(f"{n} of {rows} x {columns} px" for (rows, columns), n in sizes.items())
        return "mixed sizes", f"images of different size: {found}."
    spacing = group[["spacing_row_mm", "spacing_column_mm"]].to_numpy()
    if np.ptp(spacing, axis=0).max() > SAME_GEOMETRY:
        return "mixed spacing", f"pixel spacings from {spacing.min():g} to {spacing.max():g} mm in one series."
    directions = np.array([text.split("\\") for text in group["orientation"].unique()], float)
    if np.ptp(directions, axis=0).max() > SAME_GEOMETRY:
        return "mixed orientation", f"{len(directions)} orientations: {'; '.join(group['orientation'].unique()[:3])}."
    normal = np.cross(directions[0, :3], directions[0, 3:])
    if abs(normal[2]) < AXIAL_COSINE:
        return "not axial", f"the slices' normal is ({', '.join(f'{value:.2f}' for value in normal)}): not axial."
    return None


def _positions(group: pd.DataFrame) -> tuple[float, int, list[tuple[str, str]]]:
    """Of slices sorted by position: their spacing (mm), how many are missing, and (kind, what) of each irregularity."""
    z, missing, found = group["z_mm"].to_numpy(), 0, []
    starts = np.flatnonzero(np.diff(z, prepend=-math.inf) >= SAME_PLACE_MM)
    for start, end in zip(starts, [*starts[1:], len(z)], strict=True):
        if end - start > 1:
            names = ", ".join(os.path.basename(path) for path in group["path"].iloc[start:end])
            found.append(("shared position", f"{end - start} slices at z = {z[start]:g} mm: {names}."))
    places, gaps = z[starts], np.diff(z[starts])
    spacing = float(np.quantile(gaps, 0.5, method="lower")) if len(gaps) else math.nan  # one that occurs, even of few
    for place, gap in zip(places, gaps, strict=False):
        steps = max(1, round(gap / spacing))
        between = f"between z = {place:g} and {place + gap:g} mm, spacing {spacing:g} mm"
        if abs(gap / spacing - steps) > SAME_STEP:
            found.append(("uneven spacing", f"a gap of {gap:g} mm {between}."))
        elif steps > 1:
            missing += steps - 1
            found.append(("missing slices", f"{steps - 1} missing {between}."))
    return spacing, missing, found

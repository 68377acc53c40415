"""From a list of images to a cohort: the view that is asked for, the files that are there, DICOM's tags, the split."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from sourcematters import files
from sourcematters.checked import unknown
from sourcematters.cohorts import dicom_tags
from sourcematters.cohorts.cohort import Cohort, check, check_files, some, split_by_patient
from sourcematters.cohorts.readers import Request
from sourcematters.cohorts.spelling import column_of
from sourcematters.errors import StudyError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")
"""Endings that a table may leave out."""
UNKNOWN = "The patient is not known: each image counts as a patient of its own, and no leak can be ruled out."
UNLISTED = "Left out, as their files are not there: {:,} of {:,} images."


@dataclass
class Listed:
    """What a reader knows of its images before it looks at their files: a table, and what is to be said of it.

    `patients_known` is False where `patient_id` is the image's own.
    """

    table: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    patients_known: bool = True


def assembled(
    listed: Listed,
    request: Request,
    *,
    name: str,
    origin: str,
    a_part_will_do: bool = False,
    patient_from_tags: bool = True,
    strata: Sequence[str] = (),
) -> Cohort:
    """The cohort of a list: of the view that is asked for, with the tags of DICOM files, and split by patient.

    Without `a_part_will_do` an image that is not there is refused, with it left out and counted.
    Raises StudyError for a view or files that are not there, and as `cohort.check` does.
    """
    table, notes, problems = listed.table, [*listed.notes], [*listed.problems]
    if request.view:
        table = of_view(table, request.view, origin)
        table = table if a_part_will_do else check(table, origin=f"{origin}, view {request.view}")
    table = with_files(table, notes)
    if a_part_will_do:
        there = table["path"].map(os.path.isfile)
        if not there.any():
            raise StudyError(f"{origin}: none of the {len(table):,} images is there, such as {table['path'].iloc[0]}.")
        if not there.all():
            notes.append(UNLISTED.format((~there).sum(), len(table)))
            problems += [("no file", path, "listed, but not there") for path in table.loc[~there, "path"]]
            table = table[there]
        table = _with_whole_parts(table, notes)
    elif request.require_files:
        check_files(table)
    known = listed.patients_known
    table, patient, said = dicom_tags.added(table, request)
    notes += said
    if not known and patient_from_tags and patient is not None:
        table, known = table.assign(patient_id=patient), True
        notes.append("The patient is DICOM's PatientID.")
    elif not known:
        notes.append(UNKNOWN)
    table = check(table, origin=origin)
    if "split" not in table:
        table = split_by_patient(table, test_fraction=request.test_fraction, seed=request.seed, strata=strata)
        unit = "patient" if known else "image"
        notes.append(f"Split by {unit} with seed {request.seed}: the table has no column split.")
    return Cohort(table, name, request.task, origin, notes, problems, patients_known=known)


def of_view(table: pd.DataFrame, view: str, origin: str) -> pd.DataFrame:
    """The images of one view. Raises StudyError if there is no such view."""
    if not (column := column_of(table, "view", origin)):
        raise StudyError(f"{origin}: view {view!r} was asked for, but the table has no column view.")
    if view not in (views := table[column].dropna().astype(str).unique()):
        raise StudyError(f"{origin}: {unknown('view', view, views)}")
    return table[table[column].astype(str) == view]


def with_files(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table with each path as it is on disk: in its Unicode letters, and with the ending that it lacks.

    Raises StudyError where an ending that is missing could be two.
    """
    spelt = [str(files.spelt_as_on_disk(cell)) for cell in table["path"]]
    if others := sum(found != cell for found, cell in zip(spelt, table["path"], strict=True)):
        notes.append(f"{others} image files are named in other Unicode letters than in the table; taken as meant.")
    found = [path if os.path.exists(path) else _ended(path) for path in spelt]
    if ended := sum(path != cell for path, cell in zip(found, spelt, strict=True)):
        notes.append(f"{ended:,} image files are named without their ending in the table; they were found.")
    return table.assign(path=found)


def _ended(path: str) -> str:
    if path.lower().endswith(SUFFIXES):
        return path
    found = [path + end for suffix in SUFFIXES for end in (suffix, suffix.upper()) if os.path.isfile(path + end)]
    if len(found) > 1 and len({os.stat(one).st_ino for one in found}) > 1:
        raise StudyError(f"{path}: could be {some(found)}. Name the one that is meant with its ending.")
    return found[0] if found else path


def _with_whole_parts(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The table without its `split`, if of the images that are there a part lacks a class."""
    if "split" in table and table.groupby("split", dropna=False)["label"].nunique().tolist() != [2, 2]:
        notes.append("The release's own split is not taken: of the images that are there, a part of it lacks a class.")
        return table.drop(columns="split")
    return table

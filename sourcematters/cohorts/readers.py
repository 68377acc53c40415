"""Cohorts: which images, of which patients, with which label.

Radiographs: drawn phantoms, the NIH ChestX-ray14 release, or a CSV. CT: LIDC-IDRI as it is distributed, or phantoms
in its format. All of them give the one table of `cohorts.table`.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sourcematters.cohorts import nih_cxr14, paper_tasks, table
from sourcematters.cohorts.lidc import lidc_idri
from sourcematters.demo import ct_phantom_cohort, phantom_cohort
from sourcematters.errors import StudyError


def open_cohort(
    data: str | Path,
    *,
    task: str,
    cache: str | Path,
    view: str = "",
    patients: int = 400,
    size: int = 256,
    test_fraction: float = 0.25,
    splits: str | Path = "own",
    seed: int = 0,
    workers: int = 1,
    require_files: bool = True,
) -> pd.DataFrame:
    """The checked cohort of `task` in `data`, with dev and test parts that share no patient.

    `data` is "phantoms" (`patients` of them, `size` pixels, drawn into the folder `cache` by `workers`
    processes; task "lesion"), a ChestX-ray14 folder (task: one of its findings, or one of the paper's tasks in
    `paper_tasks.TASKS`), a LIDC-IDRI folder (task lung-mass-ct, see `open_ct_cohort`), or a .csv or .csv.gz with the
    columns of `cohorts.table` (task: any name; without `split` one is drawn). `view` keeps one projection. `attrs`:
    name (a short slug), task, origin, notes.

    For the paper's tasks view and `test_fraction` are the paper's, `splits` chooses ours ("own"), the authors'
    ("published"), or a folder of theirs, and `require_files=False` lets images be missing, to be reported by `verify`.
    Raises StudyError saying what is wrong and where.
    """
    if lidc_idri.is_release(data):
        if task != lidc_idri.TASK or view or str(splits) != "own":
            raise StudyError(f"{data}: LIDC-IDRI has the task {lidc_idri.TASK}, no views, and no published splits.")
        return open_ct_cohort(data, cache=cache, seed=seed, workers=workers)
    if task not in paper_tasks.TASKS and str(splits) != "own":
        raise StudyError(
            f"splits {str(splits)!r}: only {' and '.join(paper_tasks.TASKS)} have published ones, not task {task!r}."
        )
    if str(data) == "phantoms":
        if task != "lesion" or view:
            raise StudyError(f"phantoms have the task lesion and no choice of view, not task {task!r}, view {view!r}.")
        return phantom_cohort.cohort(
            cache, patients=patients, seed=seed, size=size, test_fraction=test_fraction, workers=workers
        )
    if str(data).lower().endswith((".csv", ".csv.gz")):
        return _from_csv(Path(data), task=task, view=view, test_fraction=test_fraction, seed=seed)
    if task not in paper_tasks.TASKS:
        nih_cxr14.find_metadata(data)
        nih_cxr14.check_finding(task, others=paper_tasks.TASKS)
        return nih_cxr14.cohort(data, finding=task, view=view or None, test_fraction=test_fraction, seed=seed)
    if view not in ("", paper_tasks.TASKS[task].view):
        raise StudyError(
            f"task {task} is defined in view {paper_tasks.TASKS[task].view}: leave view empty, not {view!r}."
        )
    return paper_tasks.cohort(data, task=task, splits=splits, seed=seed, require_files=require_files)


def open_ct_cohort(
    data: str | Path,
    *,
    cache: str | Path,
    patients: int = 60,
    readers: int = 3,
    margin_mm: float = 10.0,
    images: Sequence[int] = lidc_idri.IMAGES,
    seed: int = 0,
    workers: int = 1,
) -> pd.DataFrame:
    """The checked cohort of lung mass on CT slices (see `lidc_idri.cohort`).

    `data` is a folder with LIDC-IDRI as TCIA distributes it, or "phantoms": `patients` of them, drawn into the folder
    `cache` as DICOM series with annotations and read by the same reader. `cache` also remembers the slices' headers.
    Raises StudyError saying what is wrong and where.
    """
    drawn = str(data) == "phantoms"
    root = ct_phantom_cohort.write(cache, patients=patients, seed=seed, workers=workers) if drawn else Path(data)
    digest = hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:8]
    cohort = lidc_idri.cohort(
        root,
        cache=Path(cache) / f"headers-{digest}.csv",
        readers=readers,
        margin_mm=margin_mm,
        images=tuple(images),
        seed=seed,
        workers=workers,
    )
    if drawn:
        cohort.attrs["name"] = "ct-phantoms"
        cohort.attrs["notes"] = [phantom_cohort.DISCLAIMER, *cohort.attrs["notes"]]
    return cohort


def _from_csv(path: Path, *, task: str, view: str, test_fraction: float, seed: int) -> pd.DataFrame:
    cohort = table.read_csv(path)
    if view:
        if "view" not in cohort:
            raise StudyError(f"{path}: view {view!r} was asked for, but the table has no column view.")
        cohort = table.check(cohort[cohort["view"] == view], origin=f"{path}, view {view}")
    table.check_files(cohort)
    notes = []
    if "split" not in cohort:
        cohort = table.split_by_patient(cohort, test_fraction=test_fraction, seed=seed)
        notes = [f"Split by patient with seed {seed}: the table has no column split."]
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "cohort"
    cohort.attrs = {"name": name, "task": task, "origin": str(path), "notes": notes}
    return cohort

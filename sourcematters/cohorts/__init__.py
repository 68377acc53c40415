"""Cohorts: which images, of which patients, with which label.

Three ways in, one table out (see `cohorts.table`): drawn phantoms, the NIH ChestX-ray14 release, or a CSV.
"""

import re
from pathlib import Path

import pandas as pd

from sourcematters.cohorts import nih_cxr14, paper, phantom, table
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
    `paper.TASKS`), or a .csv or .csv.gz with the columns of `cohorts.table` (task: any name; without `split` one is
    drawn). `view` keeps one projection. `attrs`: name (a short slug), task, origin, notes.

    For the paper's tasks view and `test_fraction` are the paper's, `splits` chooses ours ("own"), the authors'
    ("published"), or a folder of theirs, and `require_files=False` lets images be missing, to be reported by `verify`.
    Raises StudyError saying what is wrong and where.
    """
    if task not in paper.TASKS and str(splits) != "own":
        raise StudyError(
            f"splits {str(splits)!r}: only {' and '.join(paper.TASKS)} have published ones, not task {task!r}."
        )
    if str(data) == "phantoms":
        if task != "lesion" or view:
            raise StudyError(f"phantoms have the task lesion and no choice of view, not task {task!r}, view {view!r}.")
        return phantom.cohort(
            cache, patients=patients, seed=seed, size=size, test_fraction=test_fraction, workers=workers
        )
    if str(data).lower().endswith((".csv", ".csv.gz")):
        return _from_csv(Path(data), task=task, view=view, test_fraction=test_fraction, seed=seed)
    if task not in paper.TASKS:
        nih_cxr14.find_metadata(data)
        nih_cxr14.check_finding(task, others=paper.TASKS)
        return nih_cxr14.cohort(data, finding=task, view=view or None, test_fraction=test_fraction, seed=seed)
    if view not in ("", paper.TASKS[task].view):
        raise StudyError(f"task {task} is defined in view {paper.TASKS[task].view}: leave view empty, not {view!r}.")
    return paper.cohort(data, task=task, splits=splits, seed=seed, require_files=require_files)


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

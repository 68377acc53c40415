"""Would another pretraining source lean less? The study's experiment on the data at hand, within a time."""

import contextlib
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sourcematters.audit import budget
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.processes import cores
from sourcematters.runs import grids
from sourcematters.runs.specs import RunSpec
from sourcematters.study.finished import FinishedRuns
from sourcematters.study.study import Study

NAME = "audit_sources"


def planned(study: Study, names: Sequence[str]) -> list[budget.Step]:
    """What each step of the grid takes, by the runs that are done; if none is, one is made, and timed.

    Prints what it rests on. Raises StudyError as `Study.run` does.
    """
    specs = _specs(_of_step(study, budget.STEPS[0]), names)
    if not _seconds(study, specs):
        print("One run is made and timed.")
        grids.run(
            specs[:1], study.workspace, name=NAME, workers=1, device=study.settings.device, keep=study.settings.keep
        )
    if not (timed := _seconds(study, specs)):
        raise StudyError(
            f"{study.workspace.run(specs[0].fit)}: env.json does not tell what the run took. Delete the folder."
        )
    seconds = float(np.mean(timed))
    at_once = study.settings.workers or cores()
    test = study.cohort.table[study.cohort.table["split"] == "test"]
    patients = test.groupby("label")["patient_id"].nunique()
    print(
        f"A fine-tuning takes {seconds:.0f} s, {at_once} at once; the test has {patients[1]} patients with label 1 and "
        f"{patients[0]} with label 0."
    )
    return budget.steps(
        sources=len(study.settings.sources),
        confounders=len(names),
        seconds_a_fit=seconds,
        at_once=at_once,
        positives=int(patients[1]),
        negatives=int(patients[0]),
    )


def proposed(study: Study, names: Sequence[str]) -> tuple[pd.DataFrame, budget.Step]:
    """The steps as a table, and the largest one that fits into the budget.

    Raises StudyError where not even the first one does.
    """
    seconds = budget.seconds_of(study.settings.budget)
    steps = planned(study, names)
    largest = budget.largest(steps, seconds)
    if largest is None:
        raise StudyError(
            f"budget {study.settings.budget}: the smallest comparison, {steps[0].fits} fine-tunings, takes about "
            f"{steps[0].seconds / 60:.0f} min. Give it that, or fewer sources, confounders or epochs."
        )
    return budget.as_table(steps, seconds), largest


def run(study: Study, names: Sequence[str]) -> FinishedRuns:
    """Make the largest grid that fits into the budget, step by step, and return its runs.

    Before each step the time that it needs is estimated anew from the runs that are done: it is begun only if there is
    as much. So the end comes early rather than late, and whatever was done holds.
    """
    began, seconds = time.monotonic(), budget.seconds_of(study.settings.budget)
    table, largest = proposed(study, names)
    print(table.to_string(index=False))
    runs, last = None, 0
    for step in budget.STEPS:
        asked = _of_step(study, step)
        specs = _specs(asked, names)
        missing = len({spec.fit.id for spec in specs if not (study.workspace.run(spec.fit) / "done").exists()})
        each = float(np.mean(_seconds(study, specs)))
        needed = np.ceil(missing / (study.settings.workers or cores())) * each
        if runs is not None and (time.monotonic() - began + needed > seconds or last >= largest.fits):
            break
        runs, last = asked.run(*names, save_as=NAME), len({spec.fit.id for spec in specs})
        strengths = ", ".join(f"{p:g}" for p in step[1])
        print(f"{step[0]} folds, strengths {strengths}: done after {(time.monotonic() - began) / 60:.1f} min")
    assert runs is not None  # the first step is always made
    return runs


def _of_step(study: Study, step: tuple[int, tuple[float, ...]]) -> Study:
    changes = {**study.changes, "folds": step[0], "p_art": list(step[1])}
    return Study(study.profile_file, changes, study.results)


def _specs(study: Study, names: Sequence[str]) -> list[RunSpec]:
    return [spec for name in names for spec in study.specs(name)]


def _seconds(study: Study, specs: Sequence[RunSpec]) -> list[float]:
    """How long the fine-tunings took of those runs that are done, as far as they tell."""
    found = []
    for folder in sorted({study.workspace.run(spec.fit) for spec in specs}):
        with contextlib.suppress(OSError, StudyError, KeyError, ValueError):  # env.json is no part of the numbers
            found += [float(read_json(folder / "env.json")["seconds"])] if (folder / "done").exists() else []
    return found

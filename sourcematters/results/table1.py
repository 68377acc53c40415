"""Table 1 of the paper, from the runs: what the networks were trained and tested on, and how."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sourcematters.confounders import design

from sourcematters import metrics

from sourcematters.results import published
from sourcematters.confounders import Attribute
from sourcematters.errors import StudyError
from sourcematters.files import read_json
from sourcematters.runs.run_folder import Workspace, open_registered

COUNTS = (
    "train_val", "train_val_positives", "train_val_negatives", "test", "test_positives", "test_negatives", "patients",
)  # fmt: skip
SHARED = ("data", "task", "cohort", "size", "batch_size", "confounder")
COLUMNS = ["data", "task", "confounders", *COUNTS, "size", "batch_size", "folds", "strengths", "cohort"]
PAPERS = [f"paper_{field}" for field in published.Target._fields]


def summarise(results: pd.DataFrame, workspace: Workspace) -> pd.DataFrame:
    """Table 1: `COLUMNS` and, where the task is the paper's, its own values in `PAPERS`.

    One row a data and task; confounders whose numbers are alike share it (comma list), others have a row of their own.
    `results` is the table of `grids.collect_plans`, so grids that are not done are left out.

    Images, positives and negatives are those of *one run*: `design.sets` draws its sets again from its spec.json and
    the registered cohort. A drawn confounder uses every image of the cohort, a sampled one (gender) fewer, and each
    of its test sets has the size given. `patients` counts those in any set of the run. Where folds or strengths
    differ, the count is the text "fewest to most". `size` is in px; `strengths` lists p_art; `cohort` is the digest
    under which the cohort is kept. `paper_recalled` names those of the paper's values that are recalled from it, not
    checked against its files.

    Raises StudyError for a missing column or no row, or if a run's spec.json or its cohort is not there.
    """
    metrics.check(results, ["run_id", "data", "task", "confounder", "p_art", "fold"], "results")
    runs = results.drop_duplicates("run_id")
    specs = [_spec(workspace, run_id) for run_id in runs["run_id"]]
    runs = runs.assign(
        spec=specs,
        cohort=[spec["cohort"] for spec in specs],
        size=[spec["training"]["size"] for spec in specs],
        batch_size=[spec["training"]["batch_size"] for spec in specs],
    )
    counted: dict[tuple, dict[str, int]] = {}
    rows = []
    for names, part in runs.groupby(list(SHARED), sort=False):
        counts = pd.DataFrame([_counts(spec, workspace, counted) for spec in part["spec"]])
        row = dict(zip(SHARED, names, strict=True)) | {column: _span(counts[column]) for column in COUNTS}
        row["folds"] = part["fold"].nunique()
        row["strengths"] = ", ".join(f"{p:g}" for p in sorted(part["p_art"].unique()))
        rows.append(row)
    table = pd.DataFrame(rows)
    alike = [column for column in table if column != "confounder"]
    table = table.groupby(alike, sort=False)["confounder"].agg(", ".join).rename("confounders").reset_index()
    theirs = [_papers(data, task) for data, task in zip(table["data"], table["task"], strict=True)]
    theirs = pd.DataFrame(theirs, columns=PAPERS).convert_dtypes()
    return pd.concat([table[COLUMNS], theirs], axis=1)


def _spec(workspace: Workspace, run_id: str) -> dict[str, Any]:
    path = workspace.shared("runs") / run_id / "spec.json"
    if not path.exists():
        raise StudyError(f"{path}: no such file. Run the grid again, or give the folder of the runs.")
    return read_json(path)


def _counts(spec: Mapping[str, Any], workspace: Workspace, counted: dict[tuple, dict[str, int]]) -> dict[str, int]:
    """Images and patients in the sets of one run, `COUNTS`; `counted` keeps what was counted before."""
    told = spec["confounder"] or {}
    # A drawn confounder alters pixels, not sets: they are the same images at any strength, and without it.
    confounder = Attribute(**told) if "attribute" in told else None
    drawing = {key: spec[key] for key in ("fold", "seed", "val_fraction", "split_seed")}
    drawing["p_art"] = spec["p_art"] if confounder else 0
    key = (spec["cohort"], confounder, *drawing.values())
    if key not in counted:
        sets = design.sets(open_registered(spec["cohort"], workspace), confounder, **drawing)
        # All test sets have one size; the o.o.d. test is the one that no cohort lacks.
        test = sets["part"] == ("ood" if confounder else "clean")
        row = {}
        for name, part in (("train_val", sets[sets["part"].isin(["train", "val"])]), ("test", sets[test])):
            positives = int(part["label"].sum())
            row |= {name: len(part), f"{name}_positives": positives, f"{name}_negatives": len(part) - positives}
        counted[key] = row | {"patients": sets["patient_id"].nunique()}
    return counted[key]


def _span(counts: pd.Series) -> int | str:
    fewest, most = int(counts.min()), int(counts.max())
    return fewest if fewest == most else f"{fewest} to {most}"


def _papers(data: str, task: str) -> tuple[Any, ...]:
    found = [target for (name, of), target in published.TARGETS.items() if data.startswith(name) and task == of]
    return tuple(found[0]) if found else (None,) * len(PAPERS)

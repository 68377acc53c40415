"""Table 1 of the paper, from the runs: what the networks were trained and tested on, and how."""

from functools import cache
from typing import Any

import pandas as pd

from sourcematters import metrics
from sourcematters.confounders import Attribute, design
from sourcematters.files import read_json
from sourcematters.results import published
from sourcematters.runs.run_folder import Workspace, open_registered

COUNTS = [
    "train_val", "train_val_positives", "train_val_negatives", "test", "test_positives", "test_negatives", "patients",
]  # fmt: skip
SHARED = ["data", "task", "cohort", "backbone", "size", "batch_size"]
COLUMNS = ["data", "task", "confounders", *COUNTS, "backbone", "size", "batch_size", "folds", "strengths", "cohort"]


def summarise(results: pd.DataFrame, workspace: Workspace) -> pd.DataFrame:
    """Table 1: `COLUMNS` and, where data and task are the paper's, its own values as `paper_...`.

    One row a data and task; confounders whose numbers are alike share it (comma list), others have a row of their own.
    Images, positives and negatives are those of *one run* (`test`: of its o.o.d. test), `patients` those in any of its
    sets: `design.sets` draws them again from its spec.json and the registered cohort. A drawn confounder uses every
    image of the cohort, a sampled one (gender) fewer. Where folds or strengths differ, the count is the text "fewest to
    most". `size` is in px; `strengths` lists p_art; `cohort` is the digest under which the cohort is kept;
    `paper_recalled` names values recalled from the paper, not checked against its files. Raises StudyError if the
    cohort of a run is not there.
    """
    metrics.check(results, ["run_id", "data", "task", "confounder", "p_art", "fold"], "results")

    @cache
    def counts(cohort: str, confounder: Attribute | None, **drawing: Any) -> dict[str, int]:
        sets = design.sets(open_registered(cohort, workspace), confounder, **drawing)
        # The o.o.d. test is the one that no cohort lacks; a sampled confounder's others may be larger or smaller.
        parts = {"train_val": ["train", "val"], "test": ["ood" if confounder else "clean"]}
        row = {"patients": sets["patient_id"].nunique()}
        for name, chosen in parts.items():
            labels = sets.loc[sets["part"].isin(chosen), "label"]
            row |= {name: len(labels), f"{name}_positives": labels.sum(), f"{name}_negatives": (labels == 0).sum()}
        return row

    rows = []
    for run in results[["run_id", "confounder", "p_art", "fold"]].drop_duplicates("run_id").to_dict("records"):
        spec = read_json(workspace.shared("runs") / run["run_id"] / "spec.json")
        about = spec["confounder"] or {}
        # A drawn confounder alters pixels, not sets: they are the same images at any strength, and without it.
        confounder = Attribute(**about) if "attribute" in about else None
        drawing = {key: spec[key] for key in ("fold", "seed", "val_fraction", "split_seed")}
        run |= counts(spec["cohort"], confounder, p_art=spec["p_art"] if confounder else 0, **drawing)
        rows.append(spec | spec["training"] | run)
    each = pd.DataFrame(rows).groupby([*SHARED, "confounder"], sort=False)
    table = each[COUNTS].agg(_span).reset_index()
    table["folds"] = each["fold"].nunique().to_numpy()
    table["strengths"] = [", ".join(f"{p:g}" for p in sorted(values.unique())) for _, values in each["p_art"]]
    alike = [column for column in table if column != "confounder"]
    table = table.groupby(alike, sort=False)["confounder"].agg(", ".join).rename("confounders").reset_index()
    targets = published.table("table1")
    papers: list[dict[str, Any]] = [
        next((row for row in targets.to_dict("records") if data.startswith(row["data"]) and task == row["task"]), {})
        for data, task in zip(table["data"], table["task"], strict=True)
    ]
    paper = pd.DataFrame(papers, columns=targets.columns.drop(["data", "task"])).convert_dtypes().add_prefix("paper_")
    return table[COLUMNS].join(paper)


def _span(counts: pd.Series) -> int | str:
    fewest, most = int(counts.min()), int(counts.max())
    return fewest if fewest == most else f"{fewest} to {most}"

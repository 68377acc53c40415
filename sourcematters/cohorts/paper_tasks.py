"""The paper's two cohorts of ChestX-ray14: lung mass from expert labels, atelectasis by gender.

Each is a fixed list of images, so it is complete or not there at all: a part of it would pass for the paper's.
The list is made from tables alone (`listed`), then looked up on disk (`cohort`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters.cohorts import nih_cxr14, published_splits
from sourcematters.cohorts import table as tables
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform

TEST_FRACTION = 83 / 331
"""Share of the lung-mass images in the paper's test part."""

GENDER_GROUPS = {
    ("test", 1, "M"): 200,
    ("test", 0, "F"): 200,
    ("dev", 1, "M"): 200,
    ("dev", 1, "F"): 200,
    ("dev", 0, "M"): 200,
}
"""Images, each of another patient, by part, label and sex: the test is the o.o.d. test, and the only one."""

EXPERT_LABELS = "all_findings_expert_labels/test_labels.csv"
EXPERT_RECIPE = f"""Lung mass needs the expert labels of Nabulsi et al. (Scientific Reports 2021) in the same folder, as
  FOLDER/{EXPERT_LABELS}
Google gives them away in the Cloud Storage bucket gcs-public-data--healthcare-nih-chest-xray-labels, see
https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest (additional labels)."""


@dataclass(frozen=True)
class Task:
    """One of the paper's tasks: what it tells apart, the finding behind it, the authors' files, and our own list."""

    positives: str
    negatives: str
    finding: str
    view: str
    layout: published_splits.Layout
    listed: Callable[[str | Path, int], pd.DataFrame]


def listed(root: str | Path, *, task: str, splits: str | Path = "own", seed: int = 0) -> pd.DataFrame:
    """The cohort of a paper task as the tables in `root` describe it, checked; no image need be there.

    `splits` "own" draws parts that share no patient: for lung mass a quarter of the images for test, stratified by
    label and sex; for atelectasis the images too are drawn by `seed`, one a patient. "published", or a folder with
    the authors' layout, takes their images, parts and folds. Their gender files have patients in two parts: that is
    said in `attrs["notes"]`, not refused.

    Raises StudyError for missing or contradictory tables.
    """
    known = TASKS[task]
    if str(splits) == "own":
        table = known.listed(root, seed)
        notes = [f"Split by patient with seed {seed}; no patient is in two parts."]
    else:
        table, origin = published_splits.read(splits, known.layout)
        table = _with_metadata(table, root, known)
        notes = [origin, *_leak_notes(table)]
    table["path"] = [str(Path(root).absolute() / "images" / image) for image in table["image_id"]]
    origin = str(nih_cxr14.find_metadata(root))
    table = tables.check(table, origin=origin, shared_patients_allowed=str(splits) != "own")
    table = table[[*tables.COLUMNS, "sex", "age", "view", "follow_up", "findings", *tables.fold_columns(table)]]
    positives = int(table["label"].sum())
    counted = f"{positives} {known.positives}, {len(table) - positives} {known.negatives}, view {known.view}."
    table.attrs = {"name": "cxr14", "task": task, "origin": origin, "notes": [counted, *notes]}
    return table


def cohort(
    root: str | Path, *, task: str, splits: str | Path = "own", seed: int = 0, require_files: bool = True
) -> pd.DataFrame:
    """`listed`, with the path of every image. Raises StudyError if one is not on disk, unless told otherwise."""
    table = listed(root, task=task, splits=splits, seed=seed)
    paths = nih_cxr14.find_images(root)
    absent = [image for image in table["image_id"] if image not in paths]
    if absent and require_files:
        raise StudyError(
            f"{root}: {len(absent)} of the {len(table)} images of {task} are not on disk: {tables.some(absent)}. "
            "The paper's cohort is whole or it is another one: unpack all twelve image archives of the release, or "
            f"take a finding as task ({TASKS[task].finding}), which uses what is there."
        )
    return table.assign(path=table["image_id"].map(paths).fillna(table["path"]))


def _lung_mass(root: str | Path, seed: int) -> pd.DataFrame:
    table = _with_metadata(expert_labels(root), root, TASKS["lung-mass"])
    return tables.split_by_patient(table, test_fraction=TEST_FRACTION, seed=seed, strata=["sex"])


def expert_labels(root: str | Path) -> pd.DataFrame:
    """Lung mass by the majority of three experts: `image_id, patient_id, label`.

    Positives are Mass == YES, negatives Abnormal == NO; the others have another finding and are left out. Raises
    StudyError, saying where the file comes from, if it is missing or not as released.
    """
    path = Path(root) / EXPERT_LABELS
    if not path.is_file():
        raise StudyError(f"{path}: there is no such file.\n{EXPERT_RECIPE}")
    table = tables.parse_csv(path, dtype=str)
    columns = {"Image ID": "image_id", "Patient ID": "patient_id", "Abnormal": "abnormal", "Mass": "mass"}
    if absent := [column for column in columns if column not in table]:
        raise StudyError(f"{path}: no column {', '.join(absent)}. Download it again, unedited.")
    table = table[list(columns)].rename(columns=columns)
    for column in ("mass", "abnormal"):
        wrong = ~table[column].isin(["YES", "NO"])
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise StudyError(
                f"{path}, row {row + 2} (the header is row 1): {column} is {table[column].iloc[row]!r}, neither YES "
                "nor NO. Download it again, unedited."
            )
    mass, normal = table["mass"] == "YES", table["abnormal"] == "NO"
    return table[mass | normal].assign(label=mass.astype(int))[["image_id", "patient_id", "label"]]


def _atelectasis(root: str | Path, seed: int) -> pd.DataFrame:
    metadata = nih_cxr14.read_metadata(root)
    metadata = metadata[metadata["view"] == TASKS["atelectasis-gender"].view]
    positive = ("|" + metadata["findings"] + "|").str.contains("|Atelectasis|", regex=False)
    negative = metadata["findings"] == nih_cxr14.NO_FINDING
    table = metadata.assign(label=positive.astype(int))[positive | negative]
    # A coin for each patient, and one image of each: no patient is in two parts, and folds come out level.
    coin = dict(zip(ids := table["patient_id"].unique().tolist(), uniform(seed, ids, "gender split"), strict=True))
    table["split"] = np.where(table["patient_id"].map(coin) < 0.5, "test", "dev")
    table["rank"] = uniform(seed, table["image_id"].tolist(), "gender sample")
    table = table.sort_values("rank").drop_duplicates("patient_id")
    chosen = []
    for (split, label, sex), wanted in GENDER_GROUPS.items():
        group = table[(table["split"] == split) & (table["label"] == label) & (table["sex"] == sex)]
        if len(group) < wanted:
            raise StudyError(
                f"{nih_cxr14.find_metadata(root)}: only {len(group)} patients with label {label} and sex {sex} fall "
                f"into the {split} part, {wanted} are needed. Give NIH's table of all 112,120 images."
            )
        chosen.append(group.head(wanted))
    return pd.concat(chosen).drop(columns="rank")


def _with_metadata(table: pd.DataFrame, root: str | Path, task: Task) -> pd.DataFrame:
    """Join NIH's columns by image; raise StudyError where the two tables speak of different patients."""
    path, metadata = nih_cxr14.find_metadata(root), nih_cxr14.read_metadata(root)
    joined = table.merge(metadata, on="image_id", how="left", suffixes=("", "_nih"))
    for wrong, what in (
        (joined["patient_id_nih"].isna(), "not listed"),
        (joined["patient_id_nih"] != joined["patient_id"], "another patient's"),
        (joined["view"] != task.view, f"in another view than {task.view}"),
    ):
        if wrong.any():
            raise StudyError(
                f"{path}: {wrong.sum()} image(s) of the cohort are {what} there: "
                f"{tables.some(joined.loc[wrong, 'image_id'])}. Download NIH's table and the labels again, unedited."
            )
    return joined.drop(columns="patient_id_nih")


def _leak_notes(table: pd.DataFrame) -> list[str]:
    shared = tables.leaks(table)
    shared = shared[shared["patients"] > 0]
    if shared.empty:
        return []
    fewest, most = shared["patients"].min(), shared["patients"].max()
    return [
        f"Patients in two parts: {fewest} to {most} in each of {len(shared)} folds. Their images are known to the "
        "network that is tested on them; `python -m sourcematters verify` names them."
    ]


TASKS = {
    "lung-mass": Task(
        positives="images with a mass to the experts",
        negatives="without any abnormality",
        finding="Mass",
        view="PA",
        layout=published_splits.LUNG_MASS,
        listed=_lung_mass,
    ),
    "atelectasis-gender": Task(
        positives="images labelled Atelectasis",
        negatives="No Finding",
        finding="Atelectasis",
        view="PA",
        layout=published_splits.GENDER,
        listed=_atelectasis,
    ),
}
"""The paper's tasks on ChestX-ray14, by the name that `open_cohort` takes."""

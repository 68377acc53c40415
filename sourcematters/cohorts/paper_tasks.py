"""The paper's two cohorts of ChestX-ray14: lung mass from expert labels, atelectasis by gender.

Each is a fixed list of images, so it is complete or not there at all: a part of it would pass for the paper's.
The reader of ChestX-ray14 is here too, since it serves these tasks besides the release's findings.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters.cohorts import nih_cxr14, published_splits, tables
from sourcematters.cohorts.cohort import COLUMNS, Cohort, check, fold_columns, leaks, some, split_by_patient
from sourcematters.cohorts.readers import Reader, Request, register
from sourcematters.cohorts.spelling import alike, together
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform

VIEW = "PA"
TEST_FRACTION = 83 / 331  # share of the lung-mass images in the paper's test part

GENDER_GROUPS = dict.fromkeys(
    [("test", 1, "M"), ("test", 0, "F"), ("dev", 1, "M"), ("dev", 1, "F"), ("dev", 0, "M")], 200
)
"""Images, each of another patient, by part, label and sex: the test is the o.o.d. test, and the only one."""

EXPERT_LABELS = "all_findings_expert_labels/test_labels.csv"
EXPERT_RECIPE = f"""Lung mass needs the expert labels of Nabulsi et al. (Scientific Reports 2021) in the same folder, as
  FOLDER/{EXPERT_LABELS}
Google gives them away in the Cloud Storage bucket gcs-public-data--healthcare-nih-chest-xray-labels, see
https://cloud.google.com/healthcare-api/docs/resources/public-datasets/nih-chest (additional labels)."""


@dataclass(frozen=True)
class Task:
    """One of the paper's tasks: its classes in words, the finding, the authors' files, and our own list."""

    classes: str
    finding: str
    layout: published_splits.Layout
    listed: Callable[[str | Path, int], pd.DataFrame]


def listed(root: str | Path, *, task: str, splits: str | Path = "own", seed: int = 0) -> Cohort:
    """The cohort of a paper task as the tables in `root` describe it, checked; no image need be there.

    `splits` "own" draws parts that share no patient: for lung mass a quarter of the images for test, stratified by
    label and sex; for atelectasis the images too are drawn by `seed`, one a patient. "published", or a folder with
    the authors' layout, takes their images, parts and folds. Their gender files have patients in two parts: that is
    noted, not refused.

    Raises StudyError for missing or contradictory tables.
    """
    paper = TASKS[task]
    if str(splits) == "own":
        table = paper.listed(root, seed)
        notes = [f"Split by patient with seed {seed}; no patient is in two parts."]
    else:
        table, origin = published_splits.read(splits, paper.layout)
        table, shared = _with_metadata(table, root, f"the split files ({splits})"), leaks(table)["patients"]
        notes = [origin]
        if (shared := shared[shared > 0]).any():
            notes.append(
                f"Patients in two parts: {shared.min()} to {shared.max()} in each of {len(shared)} folds. Their images "
                "are known to the network that is tested on them; `python -m sourcematters verify` names them."
            )
    table["path"] = [str(Path(root).absolute() / "images" / image) for image in table["image_id"]]
    origin = str(nih_cxr14.find_metadata(root))
    table = check(table, origin=origin, shared_patients_allowed=str(splits) != "own")
    table = table[[*COLUMNS, *nih_cxr14.ATTRIBUTES, *fold_columns(table)]]
    positives = int(table["label"].sum())
    counted = paper.classes.format(positives, len(table) - positives)
    return Cohort(table, "cxr14", task, origin, [f"{counted}, view {VIEW}.", *notes])


def _lung_mass(root: str | Path, seed: int) -> pd.DataFrame:
    """By the majority of three experts: positives are Mass == YES, negatives Abnormal == NO, others are left out."""
    path, advice = Path(root) / EXPERT_LABELS, "Download it again, unedited."
    if not path.is_file():
        raise StudyError(f"{path}: there is no such file.\n{EXPERT_RECIPE}")
    columns = {"Image ID": "image_id", "Patient ID": "patient_id", "Abnormal": "abnormal", "Mass": "mass"}
    table = tables.columns_of(path, columns, advice)
    for column in ("mass", "abnormal"):
        tables.refuse_rows(path, table[column], table[column].isin(["YES", "NO"]), f"neither YES nor NO. {advice}")
    mass, normal = table["mass"] == "YES", table["abnormal"] == "NO"
    table = table[mass | normal].assign(label=mass.astype(int))[["image_id", "patient_id", "label"]]
    table = _with_metadata(table, root, path)
    return split_by_patient(table, test_fraction=TEST_FRACTION, seed=seed, strata=["sex"])


def _atelectasis(root: str | Path, seed: int) -> pd.DataFrame:
    metadata = nih_cxr14.read_metadata(root)
    table = nih_cxr14.against_no_finding(metadata[metadata["view"] == VIEW], "Atelectasis")
    # A coin for each patient, and one image of each: no patient is in two parts, and folds come out level.
    table["person"] = together(table["patient_id"])
    coin = dict(zip(ids := table["person"].unique().tolist(), uniform(seed, ids, "gender split"), strict=True))
    table["split"] = np.where(table["person"].map(coin) < 0.5, "test", "dev")
    table["rank"] = uniform(seed, table["image_id"].tolist(), "gender sample")
    table = table.sort_values("rank").drop_duplicates("person")
    chosen = []
    for (split, label, sex), wanted in GENDER_GROUPS.items():
        group = table.query("split == @split and label == @label and sex == @sex")
        if len(group) < wanted:
            raise StudyError(
                f"{nih_cxr14.find_metadata(root)}: only {len(group)} patients with label {label} and sex {sex} fall "
                f"into the {split} part, {wanted} are needed. Give NIH's table of all 112,120 images."
            )
        chosen.append(group.head(wanted))
    return pd.concat(chosen).drop(columns=["rank", "person"])


def _with_metadata(table: pd.DataFrame, root: str | Path, origin: str | Path) -> pd.DataFrame:
    """Join NIH's columns by image; raise StudyError where they disagree with the rows, which are from `origin`."""
    path, metadata = nih_cxr14.find_metadata(root), nih_cxr14.read_metadata(root)
    joined = table.merge(metadata, on="image_id", how="left", suffixes=("", "_nih"))
    nih, here = (joined[column].map(alike, na_action="ignore") for column in ("patient_id_nih", "patient_id"))
    named = joined["image_id"].str.split("_").str[0].map(alike)  # an image is named after its patient
    edition = f"Take NIH's {nih_cxr14.CORRECTED}: the edition without v2020 is older and has other views."
    for wrong, what, how in (
        (nih.isna(), f"not listed in {path}", f"That table is a part, or {origin} names images that are not NIH's."),
        (nih != named, f"another patient's in {path} than their names say", "Restore the patients of that table."),
        (here != named, f"another patient's in {origin} than their names say", "Restore the patients of that file."),
        (joined["view"] != VIEW, f"in another view than {VIEW} in {path}", edition),
    ):
        if wrong.any():
            some_of = some(joined.loc[wrong, "image_id"])
            raise StudyError(f"{wrong.sum()} image(s) of the cohort are {what}: {some_of}. {how}")
    return joined.assign(patient_id=joined["patient_id_nih"]).drop(columns="patient_id_nih")


TASKS = {
    "lung-mass": Task(
        classes="{} images with a mass to the experts, {} without any abnormality",
        finding="Mass",
        layout=published_splits.LUNG_MASS,
        listed=_lung_mass,
    ),
    "atelectasis-gender": Task(
        classes="{} images labelled Atelectasis, {} No Finding",
        finding="Atelectasis",
        layout=published_splits.GENDER,
        listed=_atelectasis,
    ),
}
"""The paper's tasks on ChestX-ray14, by the name that `open_cohort` takes."""


@register
class ChestXray14(Reader):
    """NIH ChestX-ray14: one of its findings against "No Finding", of the images that are there; or a paper's task."""

    name = "chestx-ray14"
    help = f"a folder of NIH ChestX-ray14; task {', '.join(TASKS)}, or a finding: {', '.join(nih_cxr14.FINDINGS)}"
    recipe = nih_cxr14.RECIPE
    tasks = (*TASKS, *nih_cxr14.FINDINGS)
    views = nih_cxr14.VIEWS
    published = tuple(TASKS)

    def claims(self, data: str) -> bool:
        """Whether NIH's table, or a folder of images, is there."""
        return any(any(Path(data).glob(pattern)) for pattern in ("Data_Entry_2017*", "images*/"))

    def open(self, request: Request) -> Cohort:
        """The cohort, which for a paper's task is whole, or refused unless the request lets images be missing."""
        root, task, view, seed = request.data, request.task, request.view, request.seed
        if task not in TASKS:
            return nih_cxr14.cohort(root, finding=task, view=view, test_fraction=request.test_fraction, seed=seed)
        if view not in ("", VIEW):
            raise StudyError(f"task {task} is defined in view {VIEW}: leave view empty, not {view!r}.")
        cohort, paths = listed(root, task=task, splits=request.splits, seed=seed), nih_cxr14.find_images(root)
        absent = [image for image in cohort.table["image_id"] if image not in paths]
        if absent and request.require_files:
            raise StudyError(
                f"{root}: {len(absent)} of the {len(cohort.table)} images of {task} are not on disk: {some(absent)}. "
                "The paper's cohort is whole or it is another one: unpack all twelve image archives of the release, "
                f"or take a finding as task ({TASKS[task].finding}), which uses what is there."
            )
        found = cohort.table["image_id"].map(paths).fillna(cohort.table["path"])
        return replace(cohort, table=cohort.table.assign(path=found))

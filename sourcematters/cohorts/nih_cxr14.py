"""NIH ChestX-ray14 as the NIH Clinical Center distributes it (Wang et al., CVPR 2017).

Labels were mined from reports by a program: they say what a radiologist wrote, not what an expert sees again in the
picture. The release's own lists of train and test images are not used: its split is drawn anew, by patient.
"""

import os
from pathlib import Path

import pandas as pd

from sourcematters.cohorts import tables
from sourcematters.cohorts.cohort import COLUMNS, Cohort, check, split_by_patient
from sourcematters.cohorts.readers import what_is_there
from sourcematters.errors import StudyError

FINDINGS = tuple(
    "Atelectasis Cardiomegaly Consolidation Edema Effusion Emphysema Fibrosis Hernia Infiltration Mass Nodule "
    "Pleural_Thickening Pneumonia Pneumothorax".split()
)
NO_FINDING = "No Finding"
VIEWS = ("PA", "AP")
CORRECTED = "Data_Entry_2017_v2020.csv"
OLDEST = 120
YEARS_A_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}

# By any name that means the same: the editions have Patient Gender or Patient Sex.
RELEASED = {
    "Image Index": "image_id",
    "Patient ID": "patient_id",
    "Finding Labels": "findings",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "View Position": "view",
    "Follow-up #": "follow_up",
}
ATTRIBUTES = ["sex", "age", "view", "follow_up", "findings"]

RECIPE = """Give the folder of the ChestX-ray14 release, laid out as it is distributed:
  FOLDER/Data_Entry_2017_v2020.csv           (or Data_Entry_2017.csv; .gz is fine)
  FOLDER/images/00000001_000.png, ...        (or images_001/images/ ... images_012/images/)
The NIH Clinical Center gives both away as "ChestX-ray14", https://nihcc.app.box.com/v/ChestXray-NIHCC:
the CSV, and the images in twelve archives to unpack (about 45 GB; any part of the images will do)."""


def cohort(root: str | Path, *, finding: str, view: str = "", test_fraction: float = 0.25, seed: int = 0) -> Cohort:
    """One finding against "No Finding" (see `against_no_finding`), with `sex, age, view, follow_up, findings`.

    Only images that are on disk, of `view` "PA" or "AP", or "" for both. The split is by patient, stratified by label
    and sex. Raises StudyError for an incomplete tree, or a class without images.
    """
    csv = find_metadata(root)
    metadata, paths = read_metadata(root), find_images(root)
    listed = against_no_finding(metadata[metadata["view"] == view] if view else metadata, finding)
    table = listed.assign(path=listed["image_id"].map(paths)).dropna(subset=["path"])
    counted = []
    for label, name in ((1, finding), (0, NO_FINDING)):
        there, in_all = (table["label"] == label).sum(), (listed["label"] == label).sum()
        if not there:
            raise StudyError(
                f"{root}: none of the {len(paths):,} images on disk{f' in view {view}' if view else ''} is labelled "
                f"{name} ({in_all:,} are listed). Download more of the images, or choose another finding or view."
            )
        counted.append(f"{name}: {there:,} of {in_all:,} images on disk.")
    notes = [
        f"{len(metadata):,} images are listed in {csv.name}, {metadata['image_id'].isin(paths).sum():,} of "
        f"them are on disk; {len(set(paths) - set(metadata['image_id'])):,} files on disk are not listed.",
        f"{' '.join(counted)} Views: {view or 'PA and AP'}.",
    ]
    if table["age"].isna().any():
        notes.append(f"{table['age'].isna().sum():,} images have an impossible age (over {OLDEST}), taken as unknown.")
    table = split_by_patient(check(table, origin=str(csv)), test_fraction=test_fraction, seed=seed, strata=["sex"])
    return Cohort(table[[*COLUMNS, *ATTRIBUTES]], "cxr14", finding, str(csv), notes)


def against_no_finding(metadata: pd.DataFrame, finding: str) -> pd.DataFrame:
    """The images with `finding`, alone or beside others, label 1, and those with "No Finding" alone, label 0."""
    positive = ("|" + metadata["findings"] + "|").str.contains(f"|{finding}|", regex=False)
    return metadata.assign(label=positive.astype(int))[positive | (metadata["findings"] == NO_FINDING)]


def read_metadata(root: str | Path) -> pd.DataFrame:
    """The release's table, one row an image, in the order of the file.

    Columns: `image_id` (file name), `patient_id`, `findings` ("A|B"), `age` (years), `sex` ("F" or "M"),
    `view` ("PA" or "AP"), `follow_up` (int). Reads the tables of 2017 and 2020, and ages as 58 or as DICOM's
    058Y, 009M, 002W, 013D. That of 2017 has a few ages above 120 (414, for example): they become NaN.
    Raises StudyError naming file, row and value where the table is not as released.
    """
    path = find_metadata(root)
    advice = "Is the file cut short or edited? Download it again."
    # The header's unquoted commas, and the trailing one of 2017, stand after the columns that are read.
    table = tables.columns_of(path, RELEASED, advice)
    known = {NO_FINDING, *FINDINGS}
    labels = {text for text in table["findings"].dropna().unique() if known.issuperset(text.split("|"))}
    for column, good in {
        "image_id": table["image_id"].str.endswith((".png", ".PNG"), na=False),
        "findings": table["findings"].isin(labels),
        "patient_id": table["patient_id"].notna(),
        "follow_up": table["follow_up"].str.fullmatch(r"\d+", na=False),
        "age": table["age"].str.fullmatch(r"\d+[YMWD]?", na=False),
        "sex": table["sex"].isin(["F", "M"]),
        "view": table["view"].isin(VIEWS),
    }.items():
        tables.refuse_rows(path, table[column], good, f"as it never is in ChestX-ray14. {advice}")
    years = table["age"].str.rstrip("YMWD").astype(float) * table["age"].str[-1].map(YEARS_A_UNIT).astype(float).fillna(
        1
    )
    table["age"] = years.where(years <= OLDEST)
    return table.astype({"follow_up": int})


def find_metadata(root: str | Path) -> Path:
    """The release's table below `root`: the v2020 version if both are there, the plain file rather than .gz."""
    found = [path for end in (".csv", ".csv.gz") for path in Path(root).glob(f"Data_Entry_2017*{end}")]
    if not found:
        raise StudyError(f"{root}: no Data_Entry_2017*.csv here; {what_is_there(root)}.\n{RECIPE}")
    return min(found, key=lambda path: ("v2020" not in path.name, path.suffix == ".gz", path.name))


def find_images(root: str | Path) -> dict[str, str]:
    """File name to absolute path of every PNG in `images/`, `images_*/` and `images_*/images/` below `root`."""
    found = (path for pattern in ("images*", "images*/images") for path in sorted(Path(root).glob(pattern)))
    paths: dict[str, str] = {}
    for folder in reversed([path for path in found if path.is_dir()]):
        with os.scandir(folder.absolute()) as entries:
            paths |= {entry.name: entry.path for entry in entries if entry.name.lower().endswith(".png")}
    if not paths:
        raise StudyError(f"{root}: no PNG images in images/ or images_*/; {what_is_there(root)}.\n{RECIPE}")
    return paths

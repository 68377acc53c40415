"""NIH ChestX-ray14 as the NIH Clinical Center distributes it (Wang et al., CVPR 2017).

Labels were mined from reports by a program: the text says what a radiologist wrote, not what an expert
sees again in the picture. The release's own `train_val_list.txt` and `test_list.txt` are not used: a
cohort is a small, matched part of the release, so its split is drawn anew, by patient.
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters.cohorts import table as tables
from sourcematters.errors import StudyError
from sourcematters.seeds import uniform

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
NO_FINDING = "No Finding"
VIEWS = ("PA", "AP")
OLDEST = 120
YEARS_A_UNIT = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}

COLUMNS = {
    "Image Index": "image_id",
    "Finding Labels": "findings",
    "Follow-up #": "follow_up",
    "Patient ID": "patient_id",
    "Patient Age": "age",
    "Patient Gender": "sex",
    "View Position": "view",
}

RECIPE = """Give the folder of the ChestX-ray14 release, laid out as it is distributed:
  FOLDER/Data_Entry_2017_v2020.csv           (or Data_Entry_2017.csv; .gz is fine)
  FOLDER/images/00000001_000.png, ...        (or images_001/images/ ... images_012/images/)
The NIH Clinical Center gives both away as "ChestX-ray14", https://nihcc.app.box.com/v/ChestXray-NIHCC:
the CSV, and the images in twelve archives to unpack (about 45 GB; any part of the images will do)."""


def cohort(
    root: str | Path,
    *,
    finding: str,
    view: str | None = None,
    test_fraction: float = 0.25,
    seed: int = 0,
    limit_per_class: int | None = None,
) -> pd.DataFrame:
    """One finding against "No Finding", as a cohort table with `sex, age, view, follow_up, findings`.

    Positives are the images whose labels contain `finding` (others may stand beside it), negatives those
    labelled "No Finding" and nothing else; only images that are on disk, `view` "PA", "AP" or None for
    both. `limit_per_class` keeps that many images of each class, chosen by `seed`. The split is by patient,
    stratified by label and sex. `attrs["notes"]` says how many images are listed and how many are on disk.

    Raises StudyError for an unknown finding or view, an incomplete tree, or a class without images.
    """
    csv = find_metadata(root)
    check_finding(finding)
    if view not in (None, *VIEWS):
        raise StudyError(f"unknown view {view!r}: choose PA or AP, or none for both.")
    if limit_per_class is not None and limit_per_class < 1:
        raise StudyError(f"limit_per_class = {limit_per_class}: it must be at least 1.")
    metadata, paths = read_metadata(root), find_images(root)
    positive = ("|" + metadata["findings"] + "|").str.contains(f"|{finding}|", regex=False)
    negative = metadata["findings"] == NO_FINDING
    listed = metadata.assign(label=positive.astype(int))[
        (positive | negative) & ((metadata["view"] == view) if view else True)
    ]
    table = listed.assign(path=listed["image_id"].map(paths)).dropna(subset=["path"])
    for label, name in ((1, finding), (0, NO_FINDING)):
        if not (table["label"] == label).any():
            raise StudyError(
                f"{root}: none of the {len(paths):,} images on disk is labelled {name}"
                f"{f' in view {view}' if view else ''} ({(listed['label'] == label).sum():,} are listed). "
                "Download more of the images, or choose another finding or view."
            )
    notes = [
        f"{len(metadata):,} images are listed in {csv.name}, {metadata['image_id'].isin(paths).sum():,} of "
        f"them are on disk; {len(set(paths) - set(metadata['image_id'])):,} files on disk are not listed.",
        f"{finding}: {_on_disk(listed, table, 1)}. {NO_FINDING}: {_on_disk(listed, table, 0)}. "
        f"Views: {view or 'PA and AP'}.",
    ]
    if limit_per_class is not None:
        ranked = table.assign(rank=uniform(seed, table["image_id"].tolist(), "limit")).sort_values("rank")
        table = ranked.groupby("label").head(limit_per_class).drop(columns="rank")
        notes.append(f"Kept at most {limit_per_class:,} images a class.")
    if table["age"].isna().any():
        notes.append(f"{table['age'].isna().sum():,} images have an impossible age (over {OLDEST}), taken as unknown.")
    table = tables.check(table, origin=str(csv))
    table = tables.split_by_patient(table, test_fraction=test_fraction, seed=seed, strata=["sex"])
    table = table[[*tables.COLUMNS, "sex", "age", "view", "follow_up", "findings"]]
    table.attrs = {"name": "cxr14", "task": finding, "origin": str(csv), "notes": notes}
    return table


def check_finding(finding: str, *, others: Iterable[str] = ()) -> None:
    """Raise StudyError, with all of them and the nearest, unless `finding` is one; `others` are named besides."""
    if finding in FINDINGS:
        return
    near = {name.lower().replace("_", " "): name for name in (*FINDINGS, *others)}
    close = difflib.get_close_matches(finding.lower().replace("_", " "), near, n=1)
    raise StudyError(
        f"unknown finding {finding!r}.{f' Did you mean {near[close[0]]}?' if close else ''} "
        f"ChestX-ray14 has: {', '.join(FINDINGS)}." + (f" The paper's tasks: {', '.join(others)}." if others else "")
    )


def read_metadata(root: str | Path) -> pd.DataFrame:
    """The release's table, one row an image, in the order of the file.

    Columns: `image_id` (file name), `patient_id`, `findings` ("A|B"), `age` (years), `sex` ("F" or "M"),
    `view` ("PA" or "AP"), `follow_up` (int). Reads the 2017 and the 2020 header, and ages as 58 or as DICOM's
    058Y, 009M, 002W, 013D. The 2017 version has a few ages above 120 (414, for example): they become NaN,
    and the row stays, since nothing else about it is in doubt.

    Raises StudyError naming file, row and value where the table is not as released.
    """
    path = find_metadata(root)
    # The header's unquoted commas, and the trailing one of 2017, stand after the columns that are read.
    table = tables.parse_csv(path, dtype=str, usecols=lambda name: name in COLUMNS)
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise StudyError(f"{path}: no column {', '.join(absent)}. Download NIH's file again, unedited.")
    table = table.rename(columns=COLUMNS)
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
        if not good.all():
            row = int(np.argmin(good))
            raise StudyError(
                f"{path}, row {row + 2} (the header is row 1): {column} is {table[column].iloc[row]!r}, "
                "as it never is in ChestX-ray14. Is the file cut short or edited? Download it again."
            )
    table["age"] = table["age"].map({age: _years(age) for age in table["age"].unique()}).astype(float)
    table["follow_up"] = table["follow_up"].astype(int)
    return table[["image_id", "patient_id", "findings", "age", "sex", "view", "follow_up"]]


def find_metadata(root: str | Path) -> Path:
    """The release's table below `root`: the v2020 version if both are there, the plain file rather than .gz.

    Raises StudyError with the tree that is expected and what is there instead.
    """
    root = Path(root)
    found = [path for path in _listing(root) if path.name.startswith("Data_Entry_2017")]
    found = [path for path in found if path.name.endswith((".csv", ".csv.gz"))]
    if not found:
        raise StudyError(f"{root}: no Data_Entry_2017*.csv here; there is {_content(root)}.\n{RECIPE}")
    return min(found, key=lambda path: ("v2020" not in path.name, path.suffix == ".gz", path.name))


def find_images(root: str | Path) -> dict[str, str]:
    """File name to absolute path of every PNG in `images/`, `images_*/` and `images_*/images/` below `root`.

    Raises StudyError with the tree that is expected if there is none.
    """
    root = Path(root)
    folders = [path for path in _listing(root) if path.is_dir() and path.name.startswith("images")]
    folders += [path / "images" for path in folders if (path / "images").is_dir()]
    paths = {}
    for folder in reversed(folders):
        with os.scandir(folder.absolute()) as entries:
            paths |= {entry.name: entry.path for entry in entries if entry.name.lower().endswith(".png")}
    if not paths:
        raise StudyError(f"{root}: no PNG images in images/ or images_*/; there is {_content(root)}.\n{RECIPE}")
    return paths


def _listing(root: Path) -> list[Path]:
    if not root.is_dir():
        raise StudyError(f"{root}: there is no such folder.\n{RECIPE}")
    return sorted(root.iterdir())


def _content(root: Path) -> str:
    names = [path.name + ("/" if path.is_dir() else "") for path in _listing(root)]
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _on_disk(listed: pd.DataFrame, table: pd.DataFrame, label: int) -> str:
    return f"{(table['label'] == label).sum():,} of {(listed['label'] == label).sum():,} images on disk"


def _years(age: str) -> float:
    years = float(age.rstrip("YMWD")) * YEARS_A_UNIT.get(age[-1], 1.0)
    return years if years <= OLDEST else np.nan

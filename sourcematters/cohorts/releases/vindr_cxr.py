"""VinDr-CXR (Nguyen et al., Scientific Data 9, 429, 2022; https://physionet.org/content/vindr-cxr).

In training three radiologists read each image: a finding is there if most of them say so. The test labels are the
consensus of five. What is not marked is absent; `No finding` is the healthy. The release hides its patients.
"""

from pathlib import Path

import pandas as pd

from sourcematters.cohorts.readers import register
from sourcematters.cohorts.releases.release import Images, Release, first_there
from sourcematters.cohorts.tables import parse, stripped
from sourcematters.errors import StudyError

READERS = ("image_id", "rad_id", "rad_ID")


@register
class VinDrCxr(Release):
    """VinDr-CXR; sex and age are the DICOM files', as far as they tell."""

    name = "vindr-cxr"
    help = "a folder of VinDr-CXR, with annotations/image_labels_train.csv; task a finding of its, such as Pneumonia"

    def claims(self, data: str) -> bool:
        """Whether the release's labels are there."""
        return bool(_tables(Path(data)))

    def listed(self, root: Path) -> Images:
        """All images of both tables, by the majority of their readers; train is dev, test is test."""
        parts, found = [], _tables(root)
        for name, path in found.items():
            table, _ = parse(path)
            if "image_id" not in table:
                raise StudyError(f"{path}: no column image_id, as the release has it. Download it again.")
            marks = table.apply(stripped).set_index("image_id").drop(columns=list(READERS), errors="ignore")
            votes = marks.apply(pd.to_numeric, errors="coerce").groupby(level=0).mean()
            parts.append((votes > 0.5).assign(split={"train": "dev", "test": "test"}[name], folder=name))
        table = pd.concat(parts).reset_index()
        findings = [name for name in table if name not in ("image_id", "split", "folder")]
        places = zip(table["folder"], table["image_id"], strict=True)
        paths = [str(_file(root / folder, name)) for folder, name in places]
        listed = table[["image_id", "split"]].assign(path=paths)
        notes = [
            f"{len(listed):,} images are listed; a finding is there if most readers of an image marked it, and absent "
            "otherwise; negative: [No finding] takes the healthy only."
        ]
        says = {True: "1", False: "0"}
        return Images(listed, findings, lambda name: table[name].fillna(False).astype(bool).map(says), root, notes)


def _tables(root: Path) -> dict[str, Path]:
    files = {part: first_there(root / "annotations" / f"image_labels_{part}.csv") for part in ("train", "test")}
    return {part: path for part, path in files.items() if path}


def _file(folder: Path, name: str) -> Path:
    endings = ("dicom", "dcm", "png", "jpg")
    return first_there(*(folder / f"{name}.{ending}" for ending in endings)) or folder / f"{name}.dicom"

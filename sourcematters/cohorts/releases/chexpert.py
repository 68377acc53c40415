"""CheXpert (Irvin et al., AAAI 2019; https://stanfordmlgroup.github.io/competitions/chexpert), also its small edition.

`train.csv` is labelled by a program: 1, 0, -1 (uncertain) or nothing; `valid.csv` by three radiologists. Both are read
and the split is drawn by patient, since the 200 patients of `valid.csv` are too few to test on.
"""

from pathlib import Path

import pandas as pd

from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.readers import register
from sourcematters.cohorts.releases.release import LABELLED, Images, Release, begins, columns, plain_cells
from sourcematters.errors import StudyError

COLUMNS = {"Path": "path", "Sex": "sex", "Age": "age", "Frontal/Lateral": "side", "AP/PA": "projection"}


@register
class CheXpert(Release):
    """CheXpert; the patient is the folder patient00001, `view` AP, PA or Lateral."""

    name = "chexpert"
    help = f"a folder of CheXpert, with train.csv; task a finding: {', '.join(LABELLED)}; view AP, PA or Lateral"

    def claims(self, data: str) -> bool:
        """Whether a train.csv or valid.csv of CheXpert's columns is there."""
        return bool(_tables(Path(data)))

    def listed(self, root: Path) -> Images:
        """All rows of both tables; `view` is AP/PA, or Lateral."""
        found = _tables(root)
        parts = [columns(path, COLUMNS, LABELLED).assign(subset=path.stem) for path in found]
        table = pd.concat(parts, ignore_index=True)
        patient = table["path"].str.extract(r"(patient\d+)", expand=False)
        if patient.isna().any():
            odd = some(table.loc[patient.isna(), "path"].astype(str))
            raise StudyError(f"{found[0]}: no patient00001 in the paths {odd}. Download it again, unedited.")
        view = table["projection"].where(table["side"] != "Lateral", "Lateral").fillna(table["side"])
        ids = table["path"].str.extract(r"(?:^|/)((?:train|valid|test)/.*)", expand=False).fillna(table["path"])
        # Paths begin with the name that the release's folder had when it was made.
        folder = found[0].parent
        there = folder.parent if (folder.parent / str(table["path"].iloc[0])).exists() else None
        paths = [
            str((there / path) if there else (folder / name)) for path, name in zip(table["path"], ids, strict=True)
        ]
        listed = pd.DataFrame({"image_id": ids, "path": paths, "patient_id": patient, "sex": table["sex"]})
        listed["sex"] = listed["sex"].replace({"Male": "M", "Female": "F", "Unknown": None})
        listed["age"] = pd.to_numeric(table["age"], errors="coerce")
        listed["view"], listed["subset"] = view, table["subset"]
        note = f"{len(listed):,} images are listed in {some(path.name for path in found)}."
        findings = [finding for finding in LABELLED if finding in table]
        return Images(listed, findings, lambda finding: plain_cells(table[finding]), found[0], [note])


def _tables(root: Path) -> list[Path]:
    for folder in (root, *sorted(root.glob("CheXpert*"))):
        found = [
            folder / name for name in ("train.csv", "valid.csv") if begins(folder / name, "Path", "Frontal/Lateral")
        ]
        if found:
            return found
    return []

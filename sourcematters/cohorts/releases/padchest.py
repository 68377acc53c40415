"""PadChest (Bustos et al., Medical Image Analysis 66, 2020; https://bimcv.cipf.es/bimcv-projects/padchest).

Images are 16-bit PNGs in numbered folders. A finding that a report does not name is taken as absent; images whose
report was not labelled, or is called `suboptimal study`, `exclude` or `unchanged`, tell nothing and are left out.
"""

from pathlib import Path

import pandas as pd

from sourcematters.cohorts.readers import register
from sourcematters.cohorts.releases.release import Images, Release, columns

PATTERN = "PADCHEST_chest_x_ray_images_labels_160K*.csv"
COLUMNS = {
    "ImageID": "image_id", "ImageDir": "folder", "PatientID": "patient_id", "PatientSex_DICOM": "sex",
    "PatientBirth": "birth", "StudyDate_DICOM": "date", "Projection": "view", "Manufacturer_DICOM": "manufacturer",
    "Labels": "labels",
}  # fmt: skip
SILENT = {"", "suboptimal study", "exclude", "unchanged"}


@register
class PadChest(Release):
    """PadChest; `view` is Projection, such as PA, L or AP_horizontal."""

    name = "padchest"
    help = f"a folder of PadChest, with {PATTERN}; task a label of its, such as pneumonia; any view"

    def claims(self, data: str) -> bool:
        """Whether the release's table is there."""
        return bool(_tables(Path(data)))

    def listed(self, root: Path) -> Images:
        """All rows of the table; age is the year of the study less that of birth."""
        path = _tables(root)[0]
        table = columns(path, COLUMNS)
        # The cell is a Python list as text: "['pneumonia', 'pleural effusion']", its texts free of quotes and commas.
        cells = table["labels"].fillna("").str.strip("[]").str.split(",")
        sets = [{part.strip().strip("'\"").strip().casefold() for part in parts} for parts in cells]
        named = pd.Series([found - SILENT for found in sets], index=table.index)
        counts = pd.Series([name for found in named for name in found], dtype=str).value_counts()
        years = [pd.to_numeric(table[name].str[:4], errors="coerce") for name in ("birth", "date")]
        age = (years[1] - years[0]).where(lambda age: age.between(0, 120))
        folders = table["folder"].fillna("")
        bases = {
            name: next((base for base in (root / name, root / "images" / name) if base.is_dir()), root / name)
            for name in folders.unique()
        }
        paths = [str(bases[folder] / name) for folder, name in zip(folders, table["image_id"], strict=True)]
        listed = table[["image_id", "patient_id", "sex", "view", "manufacturer"]].assign(path=paths, age=age)
        listed["sex"] = listed["sex"].where(listed["sex"].isin(["F", "M"]), None)
        listed["manufacturer"] = listed["manufacturer"].where(listed["manufacturer"].notna(), None)
        notes = [f"{len(listed):,} images are listed in {path.name}; what a report does not name is taken as absent."]

        def says(finding: str) -> pd.Series:
            told = [None if not found else "1" if finding in found else "0" for found in named]
            return pd.Series(told, index=table.index, dtype=object)

        return Images(listed, counts.index.tolist(), says, path, notes)


def _tables(root: Path) -> list[Path]:
    return sorted(path for pattern in (PATTERN, f"{PATTERN}.gz") for path in root.glob(pattern))

"""RSNA Pneumonia Detection Challenge, stage 2 (Shih et al., Radiology: Artificial Intelligence 1(1), 2019; on Kaggle).

Its `patientId` names an image, not a patient: these are NIH ChestX-ray14's images, of whose patients several have more
than one. So the patient is not known here.
"""

from pathlib import Path

import pandas as pd

from sourcematters.cohorts.readers import register
from sourcematters.cohorts.releases.release import Images, Release, columns, first_there

LABELS, CLASSES, FOLDER = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv", "stage_2_train_images"
PNEUMONIA = "Pneumonia"


@register
class Rsna(Release):
    """RSNA's pneumonia challenge: opacities that suggest pneumonia, against all others or the normal ones."""

    name = "rsna-pneumonia"
    help = f"a folder of the RSNA pneumonia challenge, with {LABELS}; task {PNEUMONIA}, or a class; any view"

    def claims(self, data: str) -> bool:
        """Whether the challenge's table is there."""
        return (Path(data) / LABELS).is_file()

    def listed(self, root: Path) -> Images:
        """All images of the table; an image has a row for each box."""
        rows = columns(root / LABELS, {"patientId": "image_id", "Target": "target"})
        target = rows.groupby("image_id")["target"].max()
        listed = pd.DataFrame(
            {"image_id": target.index, "path": [str(root / FOLDER / f"{i}.dcm") for i in target.index]}
        )
        findings, classes = [PNEUMONIA], pd.Series(dtype=str)
        if path := first_there(root / CLASSES):
            named = columns(path, {"patientId": "image_id", "class": "class"}).drop_duplicates("image_id")
            classes = listed["image_id"].map(named.set_index("image_id")["class"])
            findings += sorted(classes.dropna().unique())

        def says(finding: str) -> pd.Series:
            if finding == PNEUMONIA:
                return listed["image_id"].map(target)
            return (classes == finding).map({True: "1", False: "0"}).where(classes.notna(), None)

        notes = [
            f"{len(listed):,} images are listed in {LABELS}. Label 0 is every image without such an opacity, other "
            "diseases among them; negative: [Normal] takes the normal ones only."
        ]
        return Images(listed, findings, says, root / LABELS, notes)

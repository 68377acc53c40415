"""MIMIC-CXR-JPG (Johnson et al., 2019; https://physionet.org/content/mimic-cxr-jpg), labels by CheXpert's labeller.

A report has one label, for all its images. The release's split is taken, train and validate as dev, where its test
images are there with both classes; otherwise one is drawn.
"""

from pathlib import Path

from sourcematters.cohorts.readers import register
from sourcematters.cohorts.releases.release import LABELLED, Images, Release, columns, first_there, plain_cells
from sourcematters.errors import StudyError

STEM = "mimic-cxr-2.0.0-"
SPLIT = {"train": "dev", "validate": "dev", "test": "test"}


def _table(root: Path, what: str) -> Path | None:
    return first_there(root / f"{STEM}{what}.csv.gz", root / f"{STEM}{what}.csv")


@register
class MimicCxr(Release):
    """MIMIC-CXR-JPG; `view` is ViewPosition, such as PA, AP or LATERAL."""

    name = "mimic-cxr"
    help = f"a folder of MIMIC-CXR-JPG, with {STEM}chexpert.csv.gz and files/; task a finding of CheXpert's; any view"

    def claims(self, data: str) -> bool:
        """Whether the release's labels are there."""
        return _table(Path(data), "chexpert") is not None

    def listed(self, root: Path) -> Images:
        """All images of the metadata whose study has a label row."""
        labels, metadata, split = (_table(root, what) for what in ("chexpert", "metadata", "split"))
        if labels is None or metadata is None:
            raise StudyError(f"{root}: no {STEM}metadata.csv.gz, which lists the images. Download it of the release.")
        ids = {"subject_id": "patient_id", "study_id": "study"}
        images = columns(metadata, {"dicom_id": "image_id", **ids, "ViewPosition": "view"})
        table = images.merge(columns(labels, ids, LABELLED), on=["patient_id", "study"], how="left", indicator=True)
        notes = [f"{len(images):,} images are listed in {metadata.name}."]
        if unlabelled := (table["_merge"] == "left_only").sum():
            notes.append(f"{unlabelled:,} of them are of studies without labels.")
        places = zip(table["patient_id"], table["study"], table["image_id"], strict=True)
        files = root / "files"
        table["path"] = [str(files / f"p{p[:2]}" / f"p{p}" / f"s{study}" / f"{name}.jpg") for p, study, name in places]
        if split:
            parts = columns(split, {"dicom_id": "image_id", "split": "split"}).set_index("image_id")["split"]
            table["split"] = table["image_id"].map(parts).map(SPLIT)
        listed = table[["image_id", "path", "patient_id", *(["split"] if split else []), "view", "study"]]
        findings = [finding for finding in LABELLED if finding in table]
        return Images(listed, findings, lambda finding: plain_cells(table[finding]), labels, notes)

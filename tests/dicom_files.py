"""CT slices and series on disk for the tests, in folders as TCIA lays them out."""

from pathlib import Path

import numpy as np
import pydicom

from sourcematters.cohorts.lidc import nodules
from sourcematters.demo import ct_phantoms
from sourcematters.demo.ct_phantoms import uid

BODY = np.pad(np.full((40, 60), 40, np.int16), ((12, 12), (2, 2)), constant_values=-1000)
"""A slab of soft tissue (40 HU) in air: 64 x 64."""


KEYWORDS = {
    "patient_id": "PatientID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
    "instance": "InstanceNumber",
    "spacing_mm": "PixelSpacing",
    "thickness_mm": "SliceThickness",
    "intercept": "RescaleIntercept",
    "signed": "PixelRepresentation",
    "kernel": "ConvolutionKernel",
}


def write_slice(path, hu, *, z_mm, **options):
    """Write one slice as the demo does, its tags under the names of `dicom.HEADER`."""
    ct_phantoms.write_slice(path, hu, z_mm, **{KEYWORDS[name]: value for name, value in options.items()})


def write_series(root, patient=1, *, positions=range(4), hu=None, name="{instance:06d}.dcm", series=0, **options):
    """Write one slice for each position (mm), instance 1 the highest as scanners often number; return their paths.

    `hu` is an image, or a function of the position (mm) that gives one. `options` go to `write_slice`.
    """
    patient_id = f"LIDC-IDRI-{patient:04d}"
    study, series_uid = uid(patient_id, "study"), uid(patient_id, "series", series)
    folder = Path(root) / patient_id / study / series_uid
    paths = []
    for instance, z in enumerate(sorted(positions, reverse=True), 1):
        path = folder / name.format(instance=instance)
        image = BODY if hu is None else hu(z) if callable(hu) else hu
        identity = {
            "patient_id": patient_id,
            "study_uid": study,
            "series_uid": series_uid,
            "sop_uid": uid(series_uid, instance),
        }
        write_slice(path, image, z_mm=z, instance=instance, **{**identity, **options})
        paths.append(path)
    return paths


def edit(path, *, delete=(), to=None, **tags):
    """Set and delete tags of a DICOM file by keyword, as no scanner would; write it in place, or as `to`."""
    dataset = pydicom.dcmread(path)
    for tag, value in tags.items():
        if tag.startswith("PixelPadding"):
            dataset.add_new(tag, "SS" if value < 0 else "US", value)  # the standard allows both
        else:
            setattr(dataset, tag, value)
    for tag in delete:
        delattr(dataset, tag)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(to or path)
    return to or path


def mask(contours, shape, **options):
    """Boolean (H, W): what LIDC contours enclose (`nodules.enclosed`)."""
    found = np.zeros(shape, bool)
    if len(contours):
        x, y = nodules.enclosed(contours, **options).T
        found[y, x] = True
    return found

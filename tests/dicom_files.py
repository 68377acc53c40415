"""CT series on disk for the tests: what `dicom_writer.write_slice` writes, in folders as TCIA lays them out."""

from pathlib import Path

import numpy as np
import pydicom

from sourcematters.cohorts.lidc import nodules
from sourcematters.demo import dicom_writer

BODY = np.pad(np.full((40, 60), 40, np.int16), ((12, 12), (2, 2)), constant_values=-1000)
"""A slab of soft tissue (40 HU) in air: 64 x 64."""


def write_series(root, patient=1, *, positions=range(4), hu=None, name="{instance:06d}.dcm", series=0, **options):
    """Write one slice for each position (mm), instance 1 the highest as scanners often number; return their paths.

    `hu` is an image, or a function of the position (mm) that gives one. `options` go to `dicom_writer.write_slice`.
    """
    patient_id = f"LIDC-IDRI-{patient:04d}"
    study, uid = dicom_writer.uid(patient_id, "study"), dicom_writer.uid(patient_id, "series", series)
    folder = Path(root) / patient_id / study / uid
    paths = []
    for instance, z in enumerate(sorted(positions, reverse=True), 1):
        path = folder / name.format(instance=instance)
        image = BODY if hu is None else hu(z) if callable(hu) else hu
        identity = {
            "patient_id": patient_id,
            "study_uid": study,
            "series_uid": uid,
            "sop_uid": dicom_writer.uid(uid, instance),
        }
        dicom_writer.write_slice(path, image, z_mm=z, instance=instance, **{**identity, **options})
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

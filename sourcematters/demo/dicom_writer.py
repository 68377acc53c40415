"""A writer of CT slices as DICOM files, for slices of our own."""

import uuid
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from sourcematters.errors import StudyError
from sourcematters.files import replacing

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_slice(
    path: str | Path,
    hu: NDArray[np.integer],
    *,
    patient_id: str,
    study_uid: str,
    series_uid: str,
    sop_uid: str,
    z_mm: float,
    instance: int = 1,
    spacing_mm: tuple[float, float] = (0.7, 0.7),
    thickness_mm: float = 2.5,
    intercept: int = -1024,
    signed: bool = True,
    kernel: str = "",
) -> None:
    """Write Hounsfield units (rows, columns) as a CT Image: explicit VR little endian, 16 bits, slope 1, axial.

    The slice is centred on the patient's axis. The same arguments give the same bytes: the file has no date.
    `uid` makes identifiers. All of the file is written, or nothing.

    Raises StudyError when `hu` is not a 2-D array of integers that 16 bits hold after `intercept`, or when an
    identifier is not valid in DICOM.
    """
    hu = np.asarray(hu)
    kind = np.dtype("<i2" if signed else "<u2")
    if hu.ndim != 2 or not hu.size or max(hu.shape) > 0xFFFF or not np.issubdtype(hu.dtype, np.integer):
        raise StudyError(f"{path}: a slice is a 2-D array of integers, not {hu.dtype} {hu.shape}.")
    stored = hu.astype(np.int64) - intercept
    if stored.min() < np.iinfo(kind).min or stored.max() > np.iinfo(kind).max:
        raise StudyError(
            f"{path}: {hu.min()} to {hu.max()} HU do not fit {'' if signed else 'un'}signed 16 bits with intercept "
            f"{intercept}; choose another."
        )
    for identifier in (study_uid, series_uid, sop_uid):
        if not UID(identifier, pydicom.config.IGNORE).is_valid:
            raise StudyError(f"{path}: {identifier!r} is not a DICOM identifier; `dicom_writer.uid` makes one.")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for tag in (  # the standard wants these present even when nothing is known
        "PatientName PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber "
        "SeriesNumber PositionReferenceIndicator Manufacturer AcquisitionNumber KVP"
    ).split():
        setattr(dataset, tag, None)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, sop_uid
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
    dataset.FrameOfReferenceUID = uid(study_uid, "frame of reference")
    dataset.ImageType, dataset.Modality, dataset.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "HFS"
    dataset.PatientID, dataset.InstanceNumber = patient_id, instance
    if kernel:
        dataset.ConvolutionKernel = kernel
    dataset.Rows, dataset.Columns = hu.shape
    corner = [-(n - 1) / 2 * step for n, step in zip(hu.shape[::-1], spacing_mm[::-1], strict=True)]
    dataset.ImagePositionPatient = [format_number_as_ds(float(value)) for value in (*corner, z_mm)]
    dataset.ImageOrientationPatient = list(AXIAL)
    dataset.PixelSpacing = [format_number_as_ds(float(step)) for step in spacing_mm]
    dataset.SliceThickness = format_number_as_ds(float(thickness_mm))
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = intercept, 1, "HU"
    dataset.PixelData = stored.astype(kind).tobytes()
    dataset["PixelData"].VR = "OW"
    with replacing(path) as beside:
        dataset.save_as(beside, enforce_file_format=True)


def uid(*names: object) -> str:
    """A DICOM identifier that these names always give: a name-based UUID below 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, repr(tuple(map(str, names)))).int}"

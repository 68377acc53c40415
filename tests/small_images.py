"""Small images and trees of them for the tests of readers."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from sourcematters.cohorts import Request, open_cohort
from sourcematters.errors import StudyError


def opened(data, **request):
    """The cohort of `data`, with task x unless another is given."""
    return open_cohort(Request(data=data, **{"task": "x", "cache": "", **request}))


def refusal(data, **request):
    """The sentence with which `data` are refused."""
    with pytest.raises(StudyError) as caught:
        opened(data, **request)
    return str(caught.value)


def png(path, seed=0, bits=8, size=32):
    """Write a small grey image, PNG, JPEG or TIFF by its ending, and return its path."""
    levels = np.random.default_rng(seed).integers(0, 2**bits, (size, size))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.astype(np.uint8 if bits == 8 else np.uint16)).save(path)
    return path


def film(path, patient="p", **tags):
    """Write a small radiograph as DICOM, with tags by keyword, and return its path."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = "1.2.840.10008.5.1.4.1.1.1.1", ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = tags.get("SOPInstanceUID") or generate_uid()
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.Modality, data.PhotometricInterpretation = patient, "DX", "MONOCHROME2"
    data.Rows = data.Columns = 32
    data.BitsAllocated, data.BitsStored, data.HighBit, data.SamplesPerPixel, data.PixelRepresentation = 8, 8, 7, 1, 0
    data.PixelData = np.arange(1024).astype(np.uint8).tobytes()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that releases have, and the standard has not
        for keyword, value in tags.items():
            setattr(data, keyword, value)
        pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def csv(path, header, rows):
    """Write a table with commas, and return its path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join([header, *rows]) + "\n")
    return path

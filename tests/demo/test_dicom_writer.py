import uuid
import warnings

import numpy as np
import pydicom
import pytest
from dicom_files import BODY
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sourcematters import files
from sourcematters.cohorts.lidc import dicom
from sourcematters.demo.dicom_writer import uid, write_slice
from sourcematters.errors import StudyError

NAMES = {name: uid(name) for name in ("study_uid", "series_uid", "sop_uid")}
IDENTITY = {"patient_id": "LIDC-IDRI-0001", "z_mm": -12.5, **NAMES}

HU = hnp.arrays(np.int16, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(-1024, 3071))


@settings(max_examples=60, deadline=None)
@given(hu=HU, signed=st.booleans(), intercept=st.sampled_from([-1024, -2048, -8192]))
def test_what_is_written_is_read(tmp_path_factory, hu, signed, intercept):
    path = tmp_path_factory.mktemp("slice") / "1-001.dcm"
    write_slice(path, hu, **IDENTITY, signed=signed, intercept=intercept)
    read = dicom.read_hu(path)
    assert read.dtype == np.int16 and np.array_equal(read, hu)
    # The same through pydicom alone.
    dataset = pydicom.dcmread(path)
    assert np.array_equal(dataset.pixel_array.astype(int) + intercept, hu)


def test_every_value_of_the_scale_survives(tmp_path):
    hu = np.arange(-1024, 3072, dtype=np.int16).reshape(64, 64)
    write_slice(tmp_path / "a.dcm", hu, **IDENTITY)
    assert np.array_equal(dicom.read_hu(tmp_path / "a.dcm"), hu)


def test_a_written_slice_is_a_valid_ct_image(tmp_path):
    """The attributes that PS3.3 calls type 1 (present, not empty) in the modules of the CT Image IOD (table A.3-1)."""
    path = tmp_path / "a.dcm"
    write_slice(path, BODY, **IDENTITY, instance=7, spacing_mm=(0.5, 0.8), thickness_mm=1.25, kernel="B30f")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = pydicom.dcmread(path)
        str(dataset)
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == NAMES["sop_uid"]
    filled = """StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality ImageType SamplesPerPixel Rows Columns
        PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelSpacing PixelData
        ImageOrientationPatient ImagePositionPatient RescaleSlope RescaleIntercept PatientPosition"""
    assert [tag for tag in filled.split() if dataset.get(tag) in (None, "", [])] == []
    there = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber KVP
        ReferringPhysicianName SeriesNumber PositionReferenceIndicator Manufacturer InstanceNumber AcquisitionNumber"""
    assert [tag for tag in there.split() if tag not in dataset] == []
    assert (dataset.PixelSpacing, dataset.SliceThickness, dataset.ConvolutionKernel) == ([0.5, 0.8], 1.25, "B30f")
    # 64 x 64 pixels, centred: the first is 31.5 pixels left of and before the axis; x goes with the columns.
    assert np.allclose(dataset.ImagePositionPatient, [-31.5 * 0.8, -31.5 * 0.5, -12.5])


def test_writing_depends_on_nothing_but_the_arguments(tmp_path):
    for name in "ab":
        write_slice(tmp_path / f"{name}.dcm", BODY, **IDENTITY)
    assert files.sha256(tmp_path / "a.dcm") == files.sha256(tmp_path / "b.dcm")
    assert uid("a", 1) == uid("a", "1") != uid("a1") and uid("a", "b") != uid("ab")
    number = int(uid("a").removeprefix("2.25."))
    assert uuid.UUID(int=number).version == 5 and len(uid("a")) <= 64


def test_an_interrupted_writer_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.Dataset, "save_as", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_slice(tmp_path / "a.dcm", BODY, **IDENTITY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("hu", "options", "message"),
    [
        (np.zeros((2, 2)), {}, "2-D array of integers, not float64"),
        (np.zeros(4, np.int16), {}, "2-D array of integers"),
        (np.zeros((0, 4), np.int16), {}, "2-D array of integers"),
        (np.full((2, 2), -1025), {"signed": False}, "do not fit unsigned 16 bits with intercept -1024"),
        (np.full((2, 2), 31744), {}, "do not fit signed 16 bits"),
        (BODY, {"sop_uid": "not a uid"}, "is not a DICOM identifier"),
    ],
)
def test_what_cannot_be_written(tmp_path, hu, options, message):
    with pytest.raises(StudyError, match=message):
        write_slice(tmp_path / "a.dcm", hu, **{**IDENTITY, **options})
    assert not (tmp_path / "a.dcm").exists()

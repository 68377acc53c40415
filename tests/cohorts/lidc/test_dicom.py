import hashlib
import pickle
import struct

import dicom_files
import numpy as np
import pydicom
import pytest
from dicom_files import BODY, edit, write_series
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from sourcematters.cohorts.lidc import dicom
from sourcematters.errors import StudyError

NAMES = {name: dicom_files.uid(name) for name in ("study_uid", "series_uid", "sop_uid")}
IDENTITY = {"patient_id": "LIDC-IDRI-0001", "z_mm": -12.5, **NAMES}


def raw(tmp_path, words, **tags):
    """A slice with exactly these 16-bit words; tags as given."""
    words = np.asarray(words, np.uint16)
    dicom_files.write_slice(tmp_path / "raw.dcm", np.zeros(words.shape, np.int16), **IDENTITY)
    return edit(tmp_path / "raw.dcm", PixelData=words.astype("<u2").tobytes(), **tags)


def test_slope_and_intercept(tmp_path):
    path = raw(tmp_path, [[0, 1, 2, 3]], RescaleSlope="0.5", RescaleIntercept="-100")
    # -100, -99.5, -99, -98.5; halves go to the even neighbour, as IEEE 754 rounds.
    assert dicom.read_hu(path).tolist() == [[-100, -100, -99, -98]]


def test_padding_of_ge_scanners(tmp_path):
    # -2000 is the word 63536; 24 is -1000 HU.
    path = raw(tmp_path, [[63536, 24, 1024]], PixelPaddingValue=-2000)
    assert dicom.read_hu(path).tolist() == [[-1024, -1000, 0]]
    # Undeclared, it lies below the scale and is raised to its floor; -1500 HU (the word 65060) too.
    path = raw(tmp_path, [[63536, 24, 65060]])
    assert dicom.read_hu(path).tolist() == [[-1024, -1000, -1024]]


def test_padding_above_the_scale(tmp_path):
    """63536 read as unsigned would be 62512 HU; in 12 bits it is 2096, 1072 HU: a ring of bone."""
    path = raw(tmp_path, [[63536, 24, 2096]], PixelPaddingValue=63536, PixelRepresentation=0)
    assert dicom.read_hu(path).tolist() == [[-1024, -1000, 1072]]
    path = raw(tmp_path, [[63536, 24, 2096]], PixelPaddingValue=63536, PixelRepresentation=0, BitsStored=12, HighBit=11)
    assert dicom.read_hu(path).tolist() == [[-1024, -1000, 1072]]
    path = raw(tmp_path, [[63536, 24]], PixelRepresentation=0)
    with pytest.raises(StudyError, match="largest value is 62512 HU"):
        dicom.read_hu(path)


def test_a_range_of_padding(tmp_path):
    tags = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -10}
    # Words: -2000, -1500, -10, -9 and 0 as 16-bit two's complement; intercept 0.
    path = raw(tmp_path, [[63536, 64036, 65526, 65527, 0]], RescaleIntercept=0, **tags)
    assert dicom.read_hu(path).tolist() == [[-1024, -1024, -1024, -9, 0]]


def test_twelve_signed_bits_without_their_sign(tmp_path):
    # 0x830 is -2000 in 12 bits, 0xFFF is -1; the four high bits hold rubbish that is not the pixel's.
    path = raw(tmp_path, [[0x0830, 0x0FFF, 0x7FFF, 0x0018]], BitsStored=12, HighBit=11, RescaleIntercept=0)
    assert dicom.read_hu(path).tolist() == [[-1024, -1, -1, 24]]


def test_monochrome1_changes_the_display_not_the_measurement(tmp_path):
    path = raw(tmp_path, [[1024, 24]], PhotometricInterpretation="MONOCHROME1")
    assert dicom.read_hu(path).tolist() == [[0, -1000]]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_transfer_syntaxes(tmp_path, syntax):
    path = tmp_path / "a.dcm"
    hu = np.arange(-1024, 3072, dtype=np.int16).reshape(64, 64)
    dicom_files.write_slice(path, hu, **IDENTITY)
    dataset = pydicom.dcmread(path)
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    assert np.array_equal(dicom.read_hu(path), hu)
    assert dicom.read_header(path)[0] == "LIDC-IDRI-0001"


def test_a_slice_of_a_real_scanner():
    """A GE slice of 128 x 128 that pydicom brings along, in signed 16 bits with padding -2000."""
    path = get_testdata_file("CT_small.dcm", download=False)
    words = np.frombuffer(pydicom.dcmread(path).PixelData, "<i2").reshape(128, 128)
    hu = dicom.read_hu(path)
    assert np.array_equal(hu, np.where(words == -2000, -1024, np.maximum(words.astype(int) - 1024, -1024)))
    header = dict(zip(dicom.HEADER, dicom.read_header(path), strict=True))
    assert header["patient_id"] == "1CT1" and header["z_mm"] == -75.699997
    assert (header["rows"], header["spacing_row_mm"], header["thickness_mm"]) == (128, 0.661468, 5)


@pytest.mark.parametrize("name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_compressed_slices_of_real_scanners(name):
    """JPEG 2000 in 14 and 13 bits, which Pillow decodes; one codestream is unsigned where its header says signed."""
    path = get_testdata_file(name, download=False)
    dataset = pydicom.dcmread(path)
    reference = pydicom.pixels.apply_rescale(dataset.pixel_array, dataset)
    assert reference.min() < -1024 and np.array_equal(dicom.read_hu(path), np.maximum(reference, -1024))


def test_the_position_is_measured_along_the_normal(tmp_path):
    [path] = write_series(tmp_path, positions=[-30.25])
    position = {"ImagePositionPatient": [3, 5, -30.25]}
    names = list(dicom.HEADER)
    z = names.index("z_mm")
    tilt = np.radians(20)
    # Prone, seen from behind, tilted about x; sagittal last. The normal is row direction x column direction.
    for orientation, expected in [
        ([1, 0, 0, 0, 1, 0], -30.25),
        ([-1, 0, 0, 0, -1, 0], -30.25),
        ([-1, 0, 0, 0, 1, 0], -30.25),
        ([1, 0, 0, 0, np.cos(tilt), np.sin(tilt)], -5 * np.sin(tilt) - 30.25 * np.cos(tilt)),
        ([0, 1, 0, 0, 0, -1], 3),
    ]:
        edit(path, ImageOrientationPatient=[f"{value:.10f}" for value in orientation], **position)
        assert dicom.read_header(path)[z] == pytest.approx(expected, abs=1e-6)


REFUSED = [
    ({"Modality": "CR"}, (), "not CT: CR", "modality CR"),
    ({}, ["RescaleSlope"], "no Hounsfield units", "RescaleSlope is None"),
    ({}, ["RescaleIntercept"], "no Hounsfield units", "RescaleIntercept None"),
    ({"RescaleSlope": 0}, (), "no Hounsfield units", "RescaleSlope is 0"),
    ({"RescaleType": "MGML"}, (), "no Hounsfield units", "in MGML, not in HU"),
    ({"NumberOfFrames": 3}, (), "multi-frame", "3 frames in one file"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, (), "colour", "3 samples a pixel, RGB"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, (), "colour", "PALETTE COLOR"),
    ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, (), "localizer", "scout view"),
    ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, (), "damaged", r"\(8, 8, 7\); CT has"),
    ({"HighBit": 14}, (), "damaged", r"\(16, 16, 14\)"),
    ({}, ["PixelRepresentation"], "damaged", "signed or unsigned"),
    ({}, ["Rows"], "no image", "holds no image"),
    ({}, ["Modality"], "not CT: none", "modality none"),
]


@pytest.mark.parametrize(("tags", "delete", "kind", "message"), REFUSED)
def test_no_hounsfield_units(tmp_path, tags, delete, kind, message):
    dicom_files.write_slice(tmp_path / "a.dcm", BODY, **IDENTITY)
    edit(tmp_path / "a.dcm", delete=delete, **tags)
    for read in (dicom.read_hu, dicom.read_header):
        with pytest.raises(dicom.Unusable, match=message) as caught:
            read(tmp_path / "a.dcm")
        assert caught.value.kind == kind and str(caught.value) == f"{tmp_path / 'a.dcm'}: {caught.value.what}"


@pytest.mark.parametrize(
    ("tags", "delete", "message"),
    [
        ({}, ["ImagePositionPatient"], "no usable ImagePositionPatient"),
        ({"PatientID": ""}, ["SeriesInstanceUID"], "no usable PatientID, SeriesInstanceUID"),
        ({"PixelSpacing": [0.7, 0]}, (), "is no geometry"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, (), "is no geometry"),
    ],
)
def test_no_place_in_a_series(tmp_path, tags, delete, message):
    dicom_files.write_slice(tmp_path / "a.dcm", BODY, **IDENTITY)
    edit(tmp_path / "a.dcm", delete=delete, **tags)
    with pytest.raises(dicom.Unusable, match=message):
        dicom.read_header(tmp_path / "a.dcm")
    assert np.array_equal(dicom.read_hu(tmp_path / "a.dcm"), BODY)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.102"])
def test_a_missing_decoder_is_named_by_pydicom(tmp_path, syntax):
    dicom_files.write_slice(tmp_path / "a.dcm", BODY, **IDENTITY)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(dicom.Unusable, match="compressed: .*(requires pylibjpeg|not supported)"):
        dicom.read_hu(tmp_path / "a.dcm")
    assert dicom.read_header(tmp_path / "a.dcm")[4] == "CT"


def test_files_that_are_no_dicom(tmp_path):
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "text.dcm").write_text("not an image " * 50)
    for name in ("empty.dcm", "text.dcm"):
        with pytest.raises(dicom.Unusable, match=f"{name}: not a DICOM file"):
            dicom.read_hu(tmp_path / name)
    with pytest.raises(dicom.Unusable, match="cannot be read .No such file"):
        dicom.read_hu(tmp_path / "absent.dcm")
    with pytest.raises(dicom.Unusable, match="cannot be read"):
        dicom.read_hu(tmp_path)


def test_a_file_cut_anywhere_or_damaged_gives_a_sentence(tmp_path, capfd):
    """Cut short, no file is read as if it were whole; with a byte changed, pydicom's own errors never get out."""
    path, broken = tmp_path / "a.dcm", tmp_path / "b.dcm"
    dicom_files.write_slice(path, BODY, **IDENTITY)
    content = path.read_bytes()
    for length in [*range(0, 1010, 7), len(content) - 5000, len(content) - 1]:
        broken.write_bytes(content[:length])
        for read in (dicom.read_hu, dicom.read_header):
            with pytest.raises(dicom.Unusable, match="b.dcm: "):
                read(broken)
    for place in range(128, 1010, 3):
        changed = hashlib.sha256(struct.pack("<I", place)).digest()[0]
        broken.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
        for read in (dicom.read_hu, dicom.read_header):
            try:
                read(broken)
            except dicom.Unusable:
                pass
    assert capfd.readouterr().err == ""


def test_the_reason_survives_the_way_back_from_a_worker(tmp_path):
    with pytest.raises(dicom.Unusable) as caught:
        dicom.read_hu(tmp_path / "absent.dcm")
    back = pickle.loads(pickle.dumps(caught.value))
    assert (str(back), back.kind, back.what) == (
        str(caught.value),
        "unreadable",
        "cannot be read (No such file or directory).",
    )

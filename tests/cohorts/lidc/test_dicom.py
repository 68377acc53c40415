import hashlib
import itertools
import pickle
import struct
import zlib

import dicom_files
import gdcm
import numpy as np
import pydicom
import pytest
from dicom_files import BODY, edit, write_series
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian

from sourcematters.cohorts.lidc import dicom
from sourcematters.errors import StudyError

NAMES = {name: dicom_files.uid(name) for name in ("study_uid", "series_uid", "sop_uid")}
IDENTITY = {"patient_id": "LIDC-IDRI-0001", "z_mm": -12.5, **NAMES}


def raw(tmp_path, words, delete=(), **tags):
    """A slice with exactly these 16-bit words; tags as given."""
    words = np.asarray(words, np.uint16)
    dicom_files.write_slice(tmp_path / "raw.dcm", np.zeros(words.shape, np.int16), **IDENTITY)
    return edit(tmp_path / "raw.dcm", delete=delete, PixelData=words.astype("<u2").tobytes(), **tags)


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


SYNTAXES = """ImplicitVRLittleEndian ExplicitVRLittleEndian ExplicitVRBigEndian DeflatedExplicitVRLittleEndian
RLELossless JPEGLosslessProcess14 JPEGLosslessProcess14_1 JPEGLSLossless JPEG2000Lossless JPEG2000""".split()
"""Transfer syntaxes by GDCM's names, all that it writes without loss; its JPEG2000 is lossless too."""


def transcode(path, syntax):
    """Write the file again in another transfer syntax, by GDCM: the package itself reads with pydicom."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_gives_the_same_hounsfield_units(tmp_path, syntax):
    for bits, signed in itertools.product((8, 12, 16), (0, 1)):
        lowest = -(2 ** (bits - 1)) * signed
        values = np.linspace(lowest, lowest + 2**bits - 1, 32 * 40).round().astype(int)
        values = np.random.default_rng(0).permutation(values).reshape(32, 40)
        slope = 0.5 if bits == 16 else 1  # 65535 would be beyond all scanners
        how = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed, "RescaleSlope": slope}
        path = raw(tmp_path, values & 0xFFFF, **how, PixelPaddingValue=int(values[3, 4]), RescaleIntercept=-300)
        transcode(path, syntax)
        assert (pydicom.dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1") == (
            syntax == "ExplicitVRLittleEndian"
        )
        expected = np.maximum(np.rint(values * slope - 300), -1024)
        expected[values == values[3, 4]] = -1024
        assert np.array_equal(dicom.read_hu(path), expected), (bits, signed)
        assert dicom.read_header(path)[0] == "LIDC-IDRI-0001"


def test_a_big_endian_slice_of_40_hu(tmp_path):
    """Made by hand, as some old scanners write it: 0x0028 0x0428 where the order of bytes is mistaken for ours."""
    path = raw(tmp_path, np.full((4, 4), 1064))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.full((4, 4), 1064, ">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=False)
    assert (dicom.read_hu(path) == 40).all()


def test_what_a_deflated_file_may_unpack_to_has_a_limit(tmp_path, monkeypatch):
    dicom_files.write_slice(tmp_path / "a.dcm", BODY, **IDENTITY)
    content = transcode(tmp_path / "a.dcm", "ExplicitVRLittleEndian").read_bytes()
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    start = 144 + dataset.file_meta.FileMetaInformationGroupLength
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "b.dcm")
    head = (tmp_path / "b.dcm").read_bytes()[: start + 2]  # its name is two bytes longer
    bomb = zlib.compressobj(wbits=-15)
    packed = bomb.compress(content[start:]) + b"".join(bomb.compress(bytes(2**20)) for _ in range(40)) + bomb.flush()
    (tmp_path / "b.dcm").write_bytes(head + packed)
    assert len(packed) < 10**5
    monkeypatch.setattr(dicom, "MOST_BYTES", 2**25)
    for read in (dicom.read_hu, dicom.read_header, dicom.read):
        with pytest.raises(dicom.Unusable, match="b.dcm: it unpacks to over 32 MiB"):
            read(tmp_path / "b.dcm")
    edit(tmp_path / "a.dcm", Rows=5000, Columns=5000)
    with pytest.raises(dicom.Unusable, match="5000 x 5000 px are more than any scanner makes"):
        dicom.read_header(tmp_path / "a.dcm")


# Radiographs


def radiograph(tmp_path, values, *, delete=(), sequences=(), **tags):
    """A DX image of 12 unsigned bits, unless the tags say otherwise, without a rescaling."""
    tags = {"Modality": "DX", "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0} | tags
    path = raw(
        tmp_path, np.atleast_2d(values).astype(int) & 0xFFFF, delete=["RescaleSlope", "RescaleIntercept"], **tags
    )
    dataset = pydicom.dcmread(path)
    for name, (descriptor, data) in dict(sequences).items():
        item = pydicom.Dataset()
        item.add_new("LUTDescriptor", "US", descriptor)
        item.add_new("LUTData", "US", data)
        setattr(dataset, name, [item])
    dataset.save_as(path)
    return path


def grey_of(path):
    grey, how = dicom.read(path)
    assert grey.dtype == np.uint8
    return grey.ravel().tolist(), how


def linear(values, centre, width):
    """PS3.3, C.11.2.1.2.1, of which the output runs from 0 to 255."""
    share = (np.asarray(values, float) - (centre - 0.5)) / (width - 1) + 0.5
    return np.rint(255 * np.clip(share, 0, 1)).astype(int).tolist()


RAMP = [0, 500, 999, 1000, 1499, 1500, 2000, 2500, 3000, 4095]


@pytest.mark.parametrize("bits", [10, 12, 14, 15, 16])
def test_a_window_spans_black_to_white_whatever_the_bits(tmp_path, bits):
    values = [0, 100, 300, 500, 700, 1023]
    how = {"BitsStored": bits, "HighBit": bits - 1, "WindowCenter": [500, 900], "WindowWidth": [400, 10]}
    for modality in ("CR", "DX"):
        found = grey_of(radiograph(tmp_path, values, Modality=modality, **how))
        assert found == (linear(values, 500, 400), f"{modality}, {bits} bits, MONOCHROME2, in its window")
    inverted, _ = grey_of(radiograph(tmp_path, values, PhotometricInterpretation="MONOCHROME1", **how))
    assert inverted == [255 - value for value in linear(values, 500, 400)]


def test_a_window_wider_than_the_values_leaves_grey(tmp_path):
    found, _ = grey_of(radiograph(tmp_path, RAMP, WindowCenter=2048, WindowWidth=8192))
    assert found == linear(RAMP, 2048, 8192) and found[0] == 64


def test_the_other_functions_of_a_window(tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    found, _ = grey_of(radiograph(tmp_path, RAMP, VOILUTFunction="LINEAR_EXACT", **window))
    assert found == np.rint(np.clip((np.array(RAMP) - 1500) * 0.255, 0, 255)).astype(int).tolist()
    found, _ = grey_of(radiograph(tmp_path, RAMP, VOILUTFunction="SIGMOID", **window))
    assert found == np.rint(255 / (1 + np.exp(-4 * (np.array(RAMP) - 2000) / 1000))).astype(int).tolist()


def test_signed_values_and_a_rescaling_come_before_the_window(tmp_path):
    how = {"PixelRepresentation": 1, "WindowCenter": 0, "WindowWidth": 400}
    assert grey_of(radiograph(tmp_path, [-2048, -100, 0, 100, 2047], **how))[0] == linear(
        [-2048, -100, 0, 100, 2047], 0, 400
    )
    path = radiograph(tmp_path, RAMP, WindowCenter=-500, WindowWidth=1000)
    edit(path, RescaleSlope=-0.5, RescaleIntercept=100)
    assert grey_of(path)[0] == linear(100 - 0.5 * np.array(RAMP), -500, 1000)


@pytest.mark.parametrize(("depth", "top"), [(8, 255), (12, 4095), (16, 4095), (16, 65535)])
def test_a_lookup_table_goes_before_a_window(tmp_path, depth, top):
    """Also one whose entries are fewer bits than its indices, or than its descriptor says."""
    table = np.rint(np.linspace(0, 1, 3000) ** 2 * top).astype(int)
    sequences = {"VOILUTSequence": ([3000, 500, depth], table.tolist())}
    path = radiograph(tmp_path, RAMP, sequences=sequences, WindowCenter=1, WindowWidth=2)
    expected = table[np.clip(np.array(RAMP) - 500, 0, 2999)] * 255 / top
    assert grey_of(path) == (np.rint(expected).astype(int).tolist(), "DX, 12 bits, MONOCHROME2, by its lookup table")


def test_a_modality_table_comes_first(tmp_path):
    table = (4095 - np.arange(4096)).tolist()
    sequences = {"ModalityLUTSequence": ([4096, 0, 16], table)}
    path = radiograph(tmp_path, RAMP, sequences=sequences, WindowCenter=2000, WindowWidth=1000)
    assert grey_of(path)[0] == linear(4095 - np.array(RAMP), 2000, 1000)


def test_without_a_window_percentiles_are_taken_and_eight_bits_stay(tmp_path):
    steps = np.arange(201)
    found, how = grey_of(radiograph(tmp_path, 1000 + 10 * steps))
    assert found == np.clip(np.rint((steps - 1) * 255 / 198), 0, 255).tolist()
    assert how == "DX, 12 bits, MONOCHROME2, scaled between its percentiles 0.5 and 99.5"
    path = radiograph(tmp_path, np.zeros((2, 2)))
    pixels = np.array([[3, 90], [200, 254]], np.uint8)
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Modality": "CR"}
    edit(path, PixelData=pixels.tobytes(), **eight)
    assert grey_of(path) == ([3, 90, 200, 254], "CR, 8 bits, MONOCHROME2, as it is")


def test_padding_of_a_radiograph_is_black_and_counts_for_nothing(tmp_path):
    steps = np.arange(201)
    values = np.concatenate([1000 + 10 * steps, np.full(400, 4000)])
    how = {"PixelPaddingValue": 4000, "PhotometricInterpretation": "MONOCHROME1"}
    found, _ = grey_of(radiograph(tmp_path, values, **how))
    assert found == [*(255 - np.clip(np.rint((steps - 1) * 255 / 198), 0, 255)), *[0] * 400]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_radiograph_in_every_transfer_syntax(tmp_path, syntax):
    values = np.random.default_rng(0).integers(0, 4096, (24, 30))
    path = transcode(radiograph(tmp_path, values, WindowCenter=2000, WindowWidth=3000), syntax)
    assert grey_of(path)[0] == linear(values.ravel(), 2000, 3000)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Modality": "MR"}, "modality MR .*only CT is in Hounsfield units, and only CR, DX, RG, OT are radiographs"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw values, for processing. Export it for presentation"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "3 samples a pixel, RGB.*Give it in grey"),
        ({"NumberOfFrames": 2}, "2 frames in one file"),
        ({"BitsAllocated": 32}, r"bits allocated, stored, high are \(32, 12, 11\)"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "Window Width must be greater"),
    ],
)
def test_what_is_no_grey_radiograph_is_named(tmp_path, tags, message):
    with pytest.raises(dicom.Unusable, match=message):
        dicom.read(radiograph(tmp_path, RAMP, **tags))


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


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.102"])
def test_a_missing_decoder_is_named_by_pydicom(tmp_path, syntax):
    dicom_files.write_slice(tmp_path / "a.dcm", BODY, **IDENTITY)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(dicom.Unusable, match="compressed: .*(requires pylibjpeg|not support)"):
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

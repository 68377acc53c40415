"""One DICOM file: the Hounsfield units and the header of a CT slice, the grey of a radiograph.

DICOM part 3 (PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html) says what is read:

- *Hounsfield units* are stored value x Rescale Slope + Rescale Intercept (CT Image Module, C.8.2.1). A localizer
  (the scout view) is a projection and need not be in them, so it is refused.
- *MONOCHROME1 and MONOCHROME2* (C.7.6.3.1.2) say whether the smallest value is shown white or black. That is a
  matter of display, after rescaling: water is 0 HU in both, so nothing is inverted here.
- *Pixel padding* (C.7.5.1.1.2) fills what the scanner did not measure. GE scanners of LIDC-IDRI write -2000
  outside their circle, -3024 after rescaling; other makers need not declare theirs. Declared padding becomes AIR,
  and what else lies below AIR (-1024, the scale's usual floor) is raised to it.
- *The grey of a radiograph* is what its file says (Modality and VOI LUT Modules, C.11.1 and C.11.2): a lookup table,
  else the first window, applied by pydicom. MONOCHROME1 is inverted here, and padding is black.
"""

import contextlib
import math
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit

from sourcematters import files
from sourcematters.cohorts.greys import SAID, by_percentiles, scaled
from sourcematters.errors import StudyError

AIR = -1024
RADIOGRAPHS = ("CR", "DX", "RG", "OT")
"""Modalities read as radiographs (C.7.3.1.1.1): computed, digital, film that was scanned, and captured pictures."""
MOST_BYTES = 2**28  # that a file may unpack to: some times the largest radiograph
BY_PILLOW = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEG2000Lossless, JPEG2000)
"""Transfer syntaxes that pydicom is to decode by Pillow: GDCM ends the process over some files that are damaged."""

NUMBERS = "z_mm instance rows columns spacing_row_mm spacing_column_mm thickness_mm".split()
HEADER = dict.fromkeys("patient_id study_uid series_uid sop_uid modality".split(), "str")
HEADER |= dict.fromkeys(NUMBERS, "float") | {"orientation": "str", "kernel": "str"}
"""What `read_header` returns, in order; numbers may be nan only in `instance` and `thickness_mm`."""


class Unusable(StudyError):
    """A file that gives no Hounsfield units; `kind` sorts the reason, `what` is the message without the path."""

    def __init__(self, kind: str, what: str, path: str | Path = "") -> None:
        super().__init__(kind, what, path)  # as it is, so that it survives the way back from a worker process
        self.kind, self.what, self.path = kind, what, path

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def read(path: str | Path) -> tuple[NDArray[np.int16] | NDArray[np.uint8], str]:
    """The picture in a file, and what it is in words: a CT slice as `read_hu` gives it, or a radiograph's grey.

    Grey, uint8 (rows, columns), spans what the file's lookup table or window can give. Where it has neither, up to 8
    bits are taken as they are, and more are scaled between their `greys.PERCENTILES`.

    Raises Unusable as `read_hu` does; and for a radiograph in colour, or of raw values ("for processing").
    """
    with _explained(path):
        dataset = _opened(path)
        return _grey(dataset) if dataset.get("Modality") in RADIOGRAPHS else (_hu(dataset), "CT, in Hounsfield units")


def read_hu(path: str | Path) -> NDArray[np.int16]:
    """Hounsfield units of one axial slice: int16 (rows, columns), AIR (-1024) or more.

    Fractions, which a slope other than 1 can make, are rounded. Bits above Bits Stored are ignored, as PS3.5
    section 8.1.1 asks, except to recognise padding: some files declare 63536 beside 12 stored bits.

    Raises Unusable when the file is missing, no DICOM, damaged or cut short; holds no CT, a localizer, several frames,
    colour; has no rescale tags, or values beyond int16; is compressed in a way that no installed package can decode; or
    takes over MOST_BYTES when it is unpacked.
    """
    with _explained(path):
        return _hu(_opened(path))


def _hu(dataset: pydicom.Dataset) -> NDArray[np.int16]:
    _check(dataset)
    stored, padding = _stored(dataset)
    hu = np.rint(stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept))
    hu[padding] = AIR
    if hu.max() > np.iinfo(np.int16).max:
        what = f"the largest value is {hu.max():.0f} HU, beyond any scanner's range"
        raise Unusable("no Hounsfield units", f"{what}: its rescale or padding tags are wrong. Leave the file out.")
    return np.maximum(hu, AIR).astype(np.int16)


def _grey(dataset: pydicom.Dataset) -> tuple[NDArray[np.uint8], str]:
    _check_image(dataset, allocated=(8, 16))
    if dataset.get("PresentationIntentType") == "FOR PROCESSING":
        raise Unusable("raw", "a radiograph's raw values, for processing. Export it for presentation.")
    stored, padding = _stored(dataset)
    bits, form = dataset.BitsStored, dataset.PhotometricInterpretation
    lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
    shown = np.arange(lowest, lowest + 2**bits)  # every value that can be stored, and then what it is shown as
    place = stored.astype(np.int32) - lowest
    for name, apply in (("ModalityLUTSequence", apply_modality_lut), ("VOILUTSequence", apply_voi_lut)):
        if table := dataset.get(name):
            entries, first, _ = table[0].LUTDescriptor
            table[0].LUTDescriptor = [entries, first, 16]  # for 8, pydicom looks up with 8-bit indices
            shown = np.clip(np.rint(shown), first, first + (entries or 2**16) - 1).astype(np.int32)
        shown = apply(shown, dataset)
    how, ends = SAID, None
    if dataset.get("VOILUTSequence"):
        how, ends = "by its lookup table", (0, 2 ** int(shown.max()).bit_length() - 1)  # its descriptor may claim more
    elif None not in (dataset.get("WindowCenter"), dataset.get("WindowWidth")):
        how, ends = "in its window", apply_voi_lut(np.array([-1e9, 1e9]), dataset).tolist()
    elif bits <= 8:
        how, ends = "as it is", (shown.min(), shown.max())
    if ends:
        grey = scaled(shown, ends[0], ends[1] - ends[0])[place]
    else:
        grey = by_percentiles(shown[place], ~padding)
    grey = 255 - grey if form == "MONOCHROME1" else grey
    grey[padding] = 0
    return grey, f"{dataset.Modality}, {bits} bits, {form}, {how}"


def _stored(dataset: pydicom.Dataset) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """The stored values (rows, columns), without what unused bits hold, and which of them are padding."""
    allocated, kind = dataset.BitsAllocated, "i" if dataset.PixelRepresentation else "u"
    plugin = "pillow" if dataset.file_meta.TransferSyntaxUID in BY_PILLOW else ""
    decoded = pixel_array(dataset, decoding_plugin=plugin, correct_unused_bits=False)
    mask, unused = 2**allocated - 1, allocated - dataset.BitsStored
    # By value, as pixels come in the file's order of bytes, and of few bits in fewer bytes.
    words = (decoded.astype(np.int64) & mask).astype(f"u{allocated // 8}")
    stored = (words << unused).view(f"{kind}{allocated // 8}") >> unused
    padding = np.zeros(stored.shape, bool)
    if dataset.get("PixelPaddingValue") is not None:
        first = int(dataset.PixelPaddingValue) & mask
        last = int(dataset.get("PixelPaddingRangeLimit", first)) & mask
        # Files disagree on whether padding is signed, so it is read as the pixels are.
        low, high = sorted(np.array([first, last], words.dtype).view(stored.dtype).tolist())
        padding = (words == first) | ((stored >= low) & (stored <= high))
    return stored, padding


def read_header(path: str | Path) -> tuple[Any, ...]:
    """The values of HEADER for one CT slice, read without its pixels.

    `z_mm` is the position along the slice's normal, from Image Position and Orientation (Patient) (C.7.6.2.1.1),
    the normal taken towards the head: for an untilted axial slice, Image Position's third value.
    `spacing_row_mm` is the distance between rows; `orientation` is the tag's six numbers.

    Raises Unusable as `read_hu` does, save for what only the pixels tell, and when identifiers or geometry are missing.
    """
    with _explained(path):
        with files.opened(path) as file:
            _refuse_bomb(file)
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            rest = os.fstat(file.fileno()).st_size - file.tell()
        _check(dataset)
        needed = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        geometry = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
        numbers = {tag: [float(value) for value in dataset.get(tag) or []] for tag in geometry}
        absent = [tag for tag in needed if not dataset.get(tag)]
        absent += [tag for tag, n in geometry.items() if len(numbers[tag]) != n or not np.isfinite(numbers[tag]).all()]
        if absent:
            raise Unusable("incomplete header", f"no usable {', '.join(absent)}: it has no place in a series.")
        position, orientation, spacing = numbers.values()
        normal = np.cross(orientation[:3], orientation[3:])
        if abs(np.linalg.norm(normal) - 1) > 0.01 or min(spacing) <= 0:
            what = f"ImageOrientationPatient {orientation} or PixelSpacing {spacing} is no geometry."
            raise Unusable("incomplete header", what)
        syntax = dataset.file_meta.TransferSyntaxUID
        if not (syntax.is_encapsulated or syntax.is_deflated):
            rest -= 8 if syntax.is_implicit_VR else 12  # tag, type and length of the pixels' own element
            if rest < (needs := 2 * dataset.Rows * dataset.Columns):
                what = (
                    f"cut short: its pixels need {needs:,} bytes, {max(rest, 0):,} are left. Copy or download it again."
                )
                raise Unusable("damaged", what)
        normal *= np.sign(normal[np.abs(normal).argmax()])
        kernel = dataset.get("ConvolutionKernel") or ""
        return (
            *(str(dataset[tag].value).strip() for tag in needed),
            dataset.Modality,
            float(normal @ position),
            _number(dataset.get("InstanceNumber")),
            float(dataset.Rows),
            float(dataset.Columns),
            *spacing,
            _number(dataset.get("SliceThickness")),
            "\\".join(f"{value:.10g}" for value in orientation),
            kernel if isinstance(kernel, str) else "\\".join(kernel),
        )


def read_tags(path: str | Path, keywords: Sequence[str]) -> list[str]:
    """The values of some tags of any DICOM file as text, "" where it has none. Raises Unusable if it is no DICOM."""
    with _explained(path):
        with files.opened(path) as file:
            _refuse_bomb(file)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))
        return [" ".join(str(dataset.get(keyword) or "").split()) for keyword in keywords]


def _opened(path: str | Path) -> pydicom.Dataset:
    with files.opened(path) as file:
        _refuse_bomb(file)
        return pydicom.dcmread(file)


def _refuse_bomb(file: BinaryIO) -> None:
    """Unpack a deflated file as far as it may go: pydicom would go on without an end. The file is rewound."""
    if DeflatedExplicitVRLittleEndian.encode() in file.read(4096):
        file.seek(144 + read_file_meta_info(file.name).FileMetaInformationGroupLength)  # counted from its own end
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacked.decompress(file.read(), MOST_BYTES)
        if unpacked.unconsumed_tail:
            raise Unusable("too large", f"it unpacks to over {MOST_BYTES >> 20} MiB. Leave the file out.")
    file.seek(0)


def _check(dataset: pydicom.Dataset) -> None:
    modality = dataset.get("Modality") or "none"
    if modality != "CT":
        what = f"modality {modality} ({_kind(dataset)}); only CT is in Hounsfield units"
        what += f", and only {', '.join(RADIOGRAPHS)} are radiographs."
        raise Unusable(f"not CT: {modality}", what)
    _check_image(dataset, allocated=(16,))
    if "LOCALIZER" in (dataset.get("ImageType") or []):
        raise Unusable("localizer", "a localizer (scout view) is a projection, no slice.")
    scale = [_number(dataset.get(tag)) for tag in ("RescaleSlope", "RescaleIntercept")]
    if not np.isfinite(scale).all() or scale[0] <= 0:
        found = f"RescaleSlope is {dataset.get('RescaleSlope')}, RescaleIntercept {dataset.get('RescaleIntercept')}"
        raise Unusable("no Hounsfield units", f"{found}. Export the series again with these tags.")
    # "US" is "unspecified"; what is original CT is in Hounsfield units whatever else this optional tag says.
    if (dataset.get("RescaleType") or "HU") not in ("HU", "US"):
        raise Unusable("no Hounsfield units", f"its values are in {dataset.RescaleType}, not in HU.")


def _check_image(dataset: pydicom.Dataset, allocated: tuple[int, ...]) -> None:
    """Refuse what is not one grey picture with as many bits allocated as that."""
    form = dataset.get("PhotometricInterpretation")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise Unusable("no image", f"it holds no image ({_kind(dataset)}).")
    if 2 * dataset.Rows * dataset.Columns > MOST_BYTES:
        what = f"{dataset.Columns} x {dataset.Rows} px are more than any scanner makes. Leave the file out."
        raise Unusable("too large", what)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), dataset.get("SamplesPerPixel")
    if frames != 1:
        raise Unusable("multi-frame", f"{frames} frames in one file ({_kind(dataset)}). Give one file a picture.")
    if samples != 1 or form not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unusable("colour", f"{samples} samples a pixel, {form}: a picture, no measurement. Give it in grey.")
    bits = tuple(dataset.get(tag) for tag in ("BitsAllocated", "BitsStored", "HighBit"))
    if None in bits or bits[0] not in allocated or not 1 <= bits[1] <= bits[0] or bits[2] != bits[1] - 1:
        what = f"bits allocated, stored, high are {bits}; {dataset.Modality} has ({allocated[-1]}, n, n - 1)."
        raise Unusable("damaged", what)
    if dataset.get("PixelRepresentation") not in (0, 1):
        raise Unusable("damaged", "no PixelRepresentation: signed or unsigned is not said.")


def _kind(dataset: pydicom.Dataset) -> str:
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    return kind.name if kind else "of no SOP class"


def _number(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


@contextlib.contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Put whatever is wrong with the file into one sentence that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Unusable as error:
        raise Unusable(error.kind, error.what, path) from None
    except InvalidDicomError as error:
        raise Unusable("not DICOM", "not a DICOM file (no DICM mark after 128 bytes).", path) from error
    except OSError as error:
        raise Unusable("unreadable", f"cannot be read ({error.strerror or error}).", path) from error
    except Exception as error:  # pydicom raises whatever a broken file provokes, often at the first use of a value.
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise Unusable(
            "damaged", f"corrupt, cut short (copy or download it again) or compressed: {reason}", path
        ) from error

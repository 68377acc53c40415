"""One CT slice in one DICOM file: its Hounsfield units and its header.

DICOM part 3 (PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html) says what is read:

- *Hounsfield units* are stored value x Rescale Slope + Rescale Intercept (CT Image Module, C.8.2.1). A localizer
  (the scout view) is a projection and need not be in them, so it is refused.
- *MONOCHROME1 and MONOCHROME2* (C.7.6.3.1.2) say whether the smallest value is shown white or black. That is a
  matter of display, after rescaling: water is 0 HU in both, so nothing is inverted here.
- *Pixel padding* (C.7.5.1.1.2) fills what the scanner did not measure. GE scanners of LIDC-IDRI write -2000
  outside their circle, -3024 after rescaling; other makers need not declare theirs. Declared padding becomes AIR,
  and what else lies below AIR (-1024, the scale's usual floor) is raised to it.
"""

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from sourcematters.errors import StudyError

AIR = -1024

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


def read_hu(path: str | Path) -> NDArray[np.int16]:
    """Hounsfield units of one axial slice: int16 (rows, columns), AIR (-1024) or more.

    Fractions, which a slope other than 1 can make, are rounded. Bits above Bits Stored are ignored, as PS3.5
    section 8.1.1 asks, except to recognise padding: some files declare 63536 beside 12 stored bits.

    Raises Unusable when the file is missing, no DICOM, damaged or cut short; holds no CT, a localizer, several frames,
    colour; has no rescale tags, or values beyond int16; or is compressed in a way that no installed package can decode.
    """
    with _explained(path):
        dataset = pydicom.dcmread(path)
        _check(dataset)
        words = pydicom.pixels.pixel_array(dataset, correct_unused_bits=False).view(np.uint16)
        kind = np.int16 if dataset.PixelRepresentation else np.uint16
        unused = 16 - dataset.BitsStored
        stored = (words << unused).view(kind) >> unused
        hu = np.rint(stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept))
        if dataset.get("PixelPaddingValue") is not None:
            first = int(dataset.PixelPaddingValue) & 0xFFFF
            last = int(dataset.get("PixelPaddingRangeLimit", first)) & 0xFFFF
            # Files disagree on whether padding is signed, so it is read as the pixels are.
            low, high = sorted(np.array([first, last], np.uint16).view(kind).tolist())
            hu[(words == first) | ((stored >= low) & (stored <= high))] = AIR
        if hu.max() > np.iinfo(np.int16).max:
            what = f"the largest value is {hu.max():.0f} HU, beyond any scanner's range"
            raise Unusable("no Hounsfield units", f"{what}: its rescale or padding tags are wrong. Leave the file out.")
        return np.maximum(hu, AIR).astype(np.int16)


def read_header(path: str | Path) -> tuple[Any, ...]:
    """The values of HEADER for one CT slice, read without its pixels.

    `z_mm` is the position along the slice's normal, from Image Position and Orientation (Patient) (C.7.6.2.1.1),
    the normal taken towards the head: for an untilted axial slice, Image Position's third value.
    `spacing_row_mm` is the distance between rows; `orientation` is the tag's six numbers.

    Raises Unusable as `read_hu` does, save for what only the pixels tell, and when identifiers or geometry are missing.
    """
    with _explained(path):
        with open(path, "rb") as file:
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


def _check(dataset: pydicom.Dataset) -> None:
    modality, form = dataset.get("Modality") or "none", dataset.get("PhotometricInterpretation")
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    kind = kind.name if kind else "of no SOP class"
    if modality != "CT":
        raise Unusable(f"not CT: {modality}", f"modality {modality} ({kind}); only CT is in Hounsfield units.")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise Unusable("no image", f"it holds no image ({kind}).")
    frames, samples = int(dataset.get("NumberOfFrames") or 1), dataset.get("SamplesPerPixel")
    if frames != 1:
        raise Unusable("multi-frame", f"{frames} frames in one file ({kind}). Give one file a slice.")
    if samples != 1 or form not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unusable("colour", f"{samples} samples a pixel, {form}: a picture, no measurement.")
    bits = tuple(dataset.get(tag) for tag in ("BitsAllocated", "BitsStored", "HighBit"))
    if None in bits or bits[0] != 16 or not 1 <= bits[1] <= 16 or bits[2] != bits[1] - 1:
        raise Unusable("damaged", f"bits allocated, stored, high are {bits}; CT has (16, n, n - 1).")
    if dataset.get("PixelRepresentation") not in (0, 1):
        raise Unusable("damaged", "no PixelRepresentation: signed or unsigned is not said.")
    if "LOCALIZER" in (dataset.get("ImageType") or []):
        raise Unusable("localizer", "a localizer (scout view) is a projection, no slice.")
    scale = [_number(dataset.get(tag)) for tag in ("RescaleSlope", "RescaleIntercept")]
    if not np.isfinite(scale).all() or scale[0] <= 0:
        found = f"RescaleSlope is {dataset.get('RescaleSlope')}, RescaleIntercept {dataset.get('RescaleIntercept')}"
        raise Unusable("no Hounsfield units", f"{found}. Export the series again with these tags.")
    # "US" is "unspecified"; what is original CT is in Hounsfield units whatever else this optional tag says.
    if (dataset.get("RescaleType") or "HU") not in ("HU", "US"):
        raise Unusable("no Hounsfield units", f"its values are in {dataset.RescaleType}, not in HU.")


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

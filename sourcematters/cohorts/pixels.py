"""One image file to one array, grey or Hounsfield: the only place that decodes images it did not write."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sourcematters.cohorts.lidc.dicom import read_hu
from sourcematters.errors import StudyError

EIGHT_BIT_MODES = ("L", "LA", "RGB", "RGBA", "P")


def is_dicom(path: str | Path) -> bool:
    """True for a file named .dcm, or one with DICM at byte 128 (DICOM PS3.10, section 7.1)."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return path.suffix.lower() == ".dcm" or file.read(132)[128:] == b"DICM"
    except OSError:  # whoever decodes it says why it cannot be read
        return False


def decode(path: str | Path) -> Image.Image:
    """Open one 8-bit image file and decode all of it, in the mode it was stored in (one of EIGHT_BIT_MODES).

    Raises StudyError naming the file when it is missing, unreadable, truncated, corrupt, no image, unreasonably large,
    or not of 8 bits a channel.
    """
    path = Path(path)
    if is_dicom(path):
        raise StudyError(f"{path}: a DICOM file. Convert a radiograph to 8-bit grey PNG; pixels.read reads a CT slice.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            depth = str([tile[3] for tile in image.tile])
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StudyError(f"{path}: more pixels than any radiograph has ({error}). Leave the file out.") from error
    except Image.UnidentifiedImageError as error:
        what = "not an image that can be read" if content else "the file is empty"
        raise StudyError(f"{path}: {what}; give a PNG or JPEG file.") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes.
        raise StudyError(f"{path}: the image is truncated or corrupt ({error}). Copy or download it again.") from error
    # Pillow would cut 16-bit colour to its high byte in silence, which blackens 12-bit radiographs.
    if image.mode not in EIGHT_BIT_MODES or "16" in depth:
        raise StudyError(
            f"{path}: not an 8-bit image (stored as {depth.strip('[]')}, Pillow mode {image.mode}). "
            "Convert it to 8-bit grey with the window you want to study."
        )
    return image


def read(path: str | Path) -> NDArray[np.uint8] | NDArray[np.int16]:
    """Decode one file of a cohort: a CT slice to Hounsfield units, int16 (H, W), any other to grey, uint8 (H, W).

    Colour is weighted as in ITU-R 601 (Pillow's "L"); alpha is ignored, as the few RGBA files of ChestX-ray14 need.
    """
    return read_hu(path) if is_dicom(path) else np.asarray(decode(path).convert("L"))


def window(hu: NDArray[np.int16], centre: float, width: float) -> NDArray[np.uint8]:
    """Hounsfield units, int16 (H, W), as grey uint8 (H, W): centre - width/2 is 0, centre + width/2 is 255.

    Linear in between, clipped outside, rounded. This is DICOM's LINEAR_EXACT, not its LINEAR, which shortens the
    window by one unit: so the window reads as radiologists write it. Source: DICOM PS3.3, C.11.2.1.3.2
    (https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.2.html).
    """
    return np.rint(np.clip((hu - (centre - width / 2)) * (255 / width), 0, 255)).astype(np.uint8)

"""One image file to one array, grey or Hounsfield: the only place that decodes images it did not write."""

import contextlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from sourcematters import files
from sourcematters.cohorts.greys import SAID, by_percentiles, scaled
from sourcematters.cohorts.lidc import dicom
from sourcematters.errors import StudyError

EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
SIXTEEN_BITS = ("PNG", "TIFF", "PPM", "JPEG2000")  # formats whose 16-bit grey is read; those of others have signs too
FIRST_IS_WHOLE = ("MPO", "PSD")  # formats whose first frame is the picture, and the others previews or layers of it
# Of what Pillow would cut to its high byte in silence, which blackens 12-bit radiographs; "BGR;16" is 5, 6 and 5 bits.
DEEP = re.compile(r"L;16|.*;16[A-Z]+")


def is_dicom(path: str | Path) -> bool:
    """True for a file named .dcm, or one with DICM at byte 128 (DICOM PS3.10, section 7.1)."""
    path = Path(path)
    try:
        with files.opened(path) as file:
            return path.suffix.lower() == ".dcm" or (file.read(132) or b"")[128:] == b"DICM"
    except OSError:  # whoever decodes it says why it cannot be read
        return False


def read(path: str | Path) -> NDArray[np.uint8] | NDArray[np.int16]:
    """Decode one file of a cohort: a CT slice to Hounsfield units, int16 (H, W), any other to grey, uint8 (H, W).

    Colour is weighted as in ITU-R 601 (Pillow's "L"); alpha is ignored, as the few RGBA files of ChestX-ray14 need.
    Grey of 9 to 16 bits is scaled between its `greys.PERCENTILES`, a DICOM radiograph as it says itself
    (`dicom.read`). The image is turned as its EXIF says.

    Raises StudyError naming the file when it is missing, unreadable, truncated, corrupt, no image, unreasonably large,
    several images, or of more bits than that.
    """
    return seen(path)[0]


def seen(path: str | Path) -> tuple[NDArray[np.uint8] | NDArray[np.int16], str]:
    """As `read`; and in words, for a table, how the file was stored and what was done to it."""
    path = Path(path)
    if is_dicom(path):
        return dicom.read(path)
    try:
        with files.opened(path) as file:
            content = file.read()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            frames = getattr(image, "n_frames", 1) if image.format not in FIRST_IS_WHOLE else 1
            stored = _stored(image, content)
            white_is_zero = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
            # Pillow turns a TIFF while it loads, and forgets that it did; of others it may find EXIF only by loading.
            is_turned = image.format == "TIFF" and _is_turned(image)
            image.load()
            if _is_turned(image):
                is_turned = True
                ImageOps.exif_transpose(image, in_place=True)
            grey = np.asarray(image.convert("L")) if image.mode in EIGHT_BITS else None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StudyError(f"{path}: more pixels than any radiograph has ({error}). Leave the file out.") from error
    except Image.UnidentifiedImageError as error:
        what = "not an image that can be read" if content else "the file is empty"
        raise StudyError(f"{path}: {what}; give a PNG, JPEG, TIFF or DICOM file.") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes.
        raise StudyError(f"{path}: the image is truncated or corrupt ({error}). Copy or download it again.") from error
    if frames > 1:
        raise StudyError(f"{path}: {frames} pages or frames in one {image.format}. Save the one you mean by itself.")
    how = image.mode + ", turned as its EXIF says" * is_turned
    if image.mode.startswith("I;16") and image.format in SIXTEEN_BITS or (image.mode, image.format) == ("I", "PPM"):
        levels = np.asarray(image).astype(np.int32)
        levels = -levels if white_is_zero else levels
        return by_percentiles(levels), f"{how}, {SAID}"
    if grey is None or any(map(DEEP.fullmatch, stored)):
        raise StudyError(
            f"{path}: neither 8 bits a channel nor 16-bit grey (Pillow mode {image.mode}, stored as "
            f"{', '.join(stored) or image.format}). Convert it to 8-bit grey with the window you want to study."
        )
    return grey, how


def window(hu: NDArray[np.int16], centre: float, width: float) -> NDArray[np.uint8]:
    """Hounsfield units, int16 (H, W), as grey uint8 (H, W): centre - width/2 is 0, centre + width/2 is 255.

    Linear in between, clipped outside, rounded. This is DICOM's LINEAR_EXACT, not its LINEAR, which shortens the
    window by one unit: so the window reads as radiologists write it. Source: DICOM PS3.3, C.11.2.1.3.2
    (https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.2.html).
    """
    return scaled(hu, centre - width / 2, width)


def _stored(image: ImageFile.ImageFile, content: bytes) -> list[str]:
    """How an opened file stores its channels, in the words of Pillow's raw decoder, such as "L" or "RGB;16B"."""
    if image.format == "JPEG2000" and image.mode != "I;16" and (start := content.find(b"\xff\x4f\xff\x51")) >= 0:
        channels = content[start + 41]  # in ISO/IEC 15444-1, A.5.1, each has three bytes, the first of them its depth
        deepest = max(1 + (depth & 127) for depth in content[start + 42 : start + 42 + 3 * channels : 3])
        return [f"{image.mode};16B" if deepest > 8 else image.mode]
    arguments = [tile[3] for tile in image.tile]
    return [name for each in arguments if isinstance(name := each[0] if isinstance(each, tuple) else each, str)]


def _is_turned(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # damaged EXIF says nothing, and harms no pixel
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    return False

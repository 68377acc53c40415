"""One image file to one grey uint8 array: the only place that decodes images it did not write."""

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sourcematters.errors import StudyError

EIGHT_BIT_MODES = ("L", "LA", "RGB", "RGBA", "P")


def decode(path: str | Path) -> Image.Image:
    """Open one 8-bit image file and decode all of it.

    Returns the image in the mode it was stored in (one of EIGHT_BIT_MODES, as Pillow names them).
    Raises StudyError naming the file when it is missing, unreadable, empty, truncated, corrupt, no image,
    unreasonably large, or not of 8 bits a channel.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise StudyError(f"{path}: there is no such image file.") from error
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from error
    if not content:
        raise StudyError(f"{path}: the file is empty (0 bytes). Copy or download it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            depth = str([tile[3] for tile in image.tile])
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StudyError(f"{path}: more pixels than any radiograph has ({error}). Leave the file out.") from error
    except Image.UnidentifiedImageError as error:
        raise StudyError(f"{path}: not an image that can be read; give a PNG or JPEG file.") from error
    except Exception as error:  # Pillow's decoders raise whatever a broken file provokes.
        raise StudyError(f"{path}: the image is truncated or corrupt ({error}). Copy or download it again.") from error
    # Pillow would cut 16-bit colour to its high byte in silence, which blackens 12-bit radiographs.
    if image.mode not in EIGHT_BIT_MODES or "16" in depth:
        raise StudyError(
            f"{path}: not an 8-bit image (stored as {depth.strip('[]')}, Pillow mode {image.mode}). "
            "Convert it to 8-bit grey with the window you want to study."
        )
    return image


def read_grey(path: str | Path) -> NDArray[np.uint8]:
    """Decode one image file to grey: uint8 (H, W), 0..255.

    Colour is weighted as in ITU-R 601 (Pillow's "L"); an alpha channel is ignored, as the few RGBA files
    of ChestX-ray14 need. Raises StudyError as `decode` does.
    """
    return np.asarray(decode(path).convert("L"))

"""From mm to pixels, from numbers back to whole pixels, and filters given by their frequency response."""

from collections.abc import Callable

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field

FIELD_MM: float = Field(350, gt=0, description="mm, the image's shorter side: of a film 35 x 43 cm, of a chest CT")


def per_mm(image: NDArray, field_mm: float) -> float:
    """Pixels per mm in an image (H, W) whose shorter side is `field_mm`."""
    return min(image.shape) / field_mm


def whole(values: NDArray[np.floating], kind: np.dtype) -> NDArray:
    """Rounded and clipped to what `kind`, an integer type, holds.

    Rounded to 6 decimals first, for else a half would go up or down with the last bit, which machines compute
    differently.
    """
    limits = np.iinfo(kind)
    return np.rint(np.clip(np.round(values, 6), limits.min, limits.max)).astype(kind)


def filtered(image: NDArray, response: Callable[[NDArray], NDArray]) -> NDArray[np.float64]:
    """The image (H, W), each wave of it times `response` of its frequency (cycles per px, H x W of them).

    By the cosine transform, so borders are mirrored: nothing comes in from the other side, and the mean stays if
    `response(0)` is 1.
    """
    rows, columns = (np.arange(length) / (2 * length) for length in image.shape)
    waves = scipy.fft.dctn(image.astype(float), workers=1)
    return scipy.fft.idctn(waves * response(np.hypot(rows[:, None], columns)), workers=1)

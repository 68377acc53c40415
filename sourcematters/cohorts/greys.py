"""Levels of any depth to the 256 greys of a picture."""

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)
"""Where no window is given: this share of an image's pixels, in %, is black, and all above the second is white."""


def scaled(levels: NDArray, low: float, width: float) -> NDArray[np.uint8]:
    """Levels (H, W) as uint8: `low` is 0, `low + width` is 255, linear in between, clipped outside, rounded."""
    return np.rint(np.clip((levels - low) * (255 / width), 0, 255)).astype(np.uint8)


def by_percentiles(levels: NDArray, inside: NDArray[np.bool_] | bool = True) -> NDArray[np.uint8]:
    """Levels (H, W) as uint8, scaled between the PERCENTILES of those `inside`, or their ends if both are one level."""
    counted = levels[np.broadcast_to(inside, levels.shape)]
    low, high = np.percentile(counted if counted.size else levels, PERCENTILES)
    if low == high:
        low, high = levels.min(), levels.max()
    return scaled(levels, float(low), float(high - low) or 1.0)

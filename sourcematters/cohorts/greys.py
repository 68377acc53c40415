"""Levels of any depth to the 256 greys of a picture."""

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (0.5, 99.5)
"""Where no window is given: which percentiles of an image's levels become black and white."""
SAID = f"scaled between its percentiles {PERCENTILES[0]} and {PERCENTILES[1]}"


def scaled(levels: NDArray, low: float, width: float) -> NDArray[np.uint8]:
    """Levels (H, W) as uint8: `low` is 0, `low + width` is 255, linear in between, clipped outside, rounded.

    Without any width, as of a blank image, all up to `low` is 0.
    """
    return np.rint(np.clip((levels - low) * (255 / (width or 1)), 0, 255)).astype(np.uint8)


def by_percentiles(levels: NDArray, inside: NDArray[np.bool_] | bool = True) -> NDArray[np.uint8]:
    """Levels (H, W) as uint8, scaled between the PERCENTILES of those `inside`, or their ends if both are one level."""
    counted = levels[np.broadcast_to(inside, levels.shape)]
    low, high = np.percentile(counted if counted.size else levels, PERCENTILES)
    if low == high:
        low, high = levels.min(), levels.max()
    return scaled(levels, float(low), float(high - low))

"""What a chest film shows of exposure: bright is little, and greys are sigmoid in its logarithm.

So films are, and DICOM's VOI LUT function SIGMOID is (PS3.3 C.11.2.1.3.1): less exposure is never darker, and no
contrast is wholly lost or clipped.
"""

import numpy as np
from numpy.typing import NDArray

from sourcematters.confounders.confounder import Pixels

SLOPE = 1.3  # log odds of grey per neper: an average gradient of 2.2 over a density range of 3, as chest films have
SCATTER = 0.3  # share of scattered light behind a lung, through a grid; behind the mediastinum it is above a half


def shown(image: Pixels, exposure: NDArray[np.float64]) -> Pixels:
    """What pixels show when their exposure is multiplied by `exposure`, above 0: at 1 they stay as they are."""
    grey = image + 0.5
    return np.rint(256 * grey / (grey + exposure**SLOPE * (256 - grey)) - 0.5).astype(np.uint8)


def exposure_of(image: Pixels) -> NDArray[np.float64]:
    """The exposure that pixels stand for, as a multiple of that of mid-grey."""
    grey = np.arange(256) + 0.5
    return (((256 - grey) / grey) ** (1 / SLOPE))[image]

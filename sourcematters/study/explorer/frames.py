"""One frame of the explorer: what a confounder does to an image, and what the network gets of it.

Pure: the same image, confounder and keys make the same arrays, and what the network sees is made by the functions that
fill the image bank.
"""

from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sourcematters.confounders import HOUNSFIELD, ORIGINAL, Alteration, Confounder, Pixels, apply, key_for
from sourcematters.training.image_bank import altered_grey, at_input
from sourcematters.training.recipe import Preprocessing

FAINTEST = 1e-3  # grey levels^2 px^2: less power than rounding leaves, and no logarithm of zero


class Keys(NamedTuple):
    """What draws the image of those that carry a confounder, and of those that do not."""

    base: int
    carrier: int


def keys_of(confounder: Confounder, image_id: str, *, seed: int) -> Keys:
    """The keys that this image gets in a study.

    A slider keeps those of the confounder as the study has it: nothing moves but what the slider names.
    """
    return Keys(*(key_for(seed, image_id, of) for of in (confounder.base, confounder.carrier)))


def frame(image: NDArray, confounder: Confounder, how: Preprocessing, keys: Keys) -> dict[str, NDArray]:
    """What the explorer shows of a grey image, uint8 (H, W), or a CT slice in HU, int16 (H, W).

    without, carrying              uint8 (H, W), grey
    difference                     int32 (H, W), carrying less without, in `unit`
    spectrum_without, spectrum     float (H, W), `log_power` of these two
    input_without, input           uint8 (size, size), what the network gets of them

    Raises StudyError for what cannot be drawn on this image, and for an image smaller than the crop.
    """
    plain, without = _drawn(image, confounder.base, keys.base, how)
    altered, carrying = _drawn(image, confounder.carrier, keys.carrier, how)
    own = (altered, plain) if confounder.carrier.space == HOUNSFIELD else (carrying, without)
    return {
        "without": without,
        "carrying": carrying,
        "difference": own[0].astype(np.int32) - own[1],
        "spectrum_without": log_power(without),
        "spectrum": log_power(carrying),
        "input_without": at_input(without, how),
        "input": at_input(carrying, how),
    }


def unit(confounder: Confounder) -> str:
    """The unit of a frame's difference."""
    return "HU" if confounder.carrier.space == HOUNSFIELD else "grey levels"


def _drawn(image: NDArray, alteration: Alteration, key: int, how: Preprocessing) -> tuple[NDArray, Pixels]:
    """The image altered, as it came (in HU if it did), and as grey."""
    if alteration.space != HOUNSFIELD or image.dtype != HOUNSFIELD:
        return image, altered_grey(image, alteration, key, how.window)[0]
    altered, _ = apply(alteration, image, key)
    # Altered once, for drawing in projections takes a second; windowed as the bank does.
    return altered, altered_grey(altered, ORIGINAL, 0, how.window)[0]


def log_power(image: Pixels) -> NDArray[np.float32]:
    """log10 of the power at each frequency of a grey image, (H, W), the mean in the middle.

    White noise has its variance everywhere: the periodogram under a Hann window, its energy divided out, as of
    `ct_figures.power_spectrum`.
    """
    rows, columns = (np.hanning(length + 1)[:-1].astype(np.float32) for length in image.shape)
    taper = np.outer(rows, columns)
    waves = scipy.fft.fft2((image - image.mean(dtype=np.float32)) * taper, workers=1)
    power = (waves.real**2 + waves.imag**2) / max(float((taper**2).sum()), FAINTEST)
    return np.fft.fftshift(np.log10(np.maximum(power, FAINTEST))).astype(np.float32)

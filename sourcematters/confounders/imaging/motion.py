"""Motion: what moves while the shutter is open is smeared along its way."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.confounders.imaging.scales import FIELD_MM, per_mm, whole

POINTS = 16  # on the way, per px


@register
class MotionBlur(Artefact):
    """The whole picture smeared along a straight line, at constant speed.

    In quiet breathing a diaphragm moves 16 to 18 mm, in deep breathing 60 to 70 (Boussuges et al. 2009, Chest 135,
    391): at 15 breaths a minute 1.4 mm in a tenth of a second, which bedside units may need, and 5 in a deep breath.
    """

    name: str = "motion_blur"
    leaf: str = "motion"
    title = "motion blur"
    practice = (
        "Who is short of breath cannot hold it: patient motion is among the commonest reasons why radiographs are "
        "repeated (Foos et al. 2009, Journal of Digital Imaging 22, 89)."
    )

    length_mm: float = Field(3, gt=0, description="mm, of the way during the exposure")
    degrees: float = Field(90, ge=-180, le=180, description="its direction: 0 is across, 90 along the body")
    field_mm: float = FIELD_MM

    def stronger(self) -> Self:
        """Twice as far."""
        return self.replaced(length_mm=2 * self.length_mm)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Average along the way, borders mirrored; the mask is all True."""
        weights = line(self.length_mm * per_mm(image, self.field_mm), self.degrees)
        blurred = ndimage.correlate(image.astype(float), weights, mode="reflect")
        return whole(blurred, image.dtype), np.ones(image.shape, bool)


def line(length: float, degrees: float) -> NDArray[np.float64]:
    """Weights (odd, odd) of a straight line of `length` px through the middle, 1 in sum: each point goes to the four
    pixels around it, the more to the nearer. Across a wave of f cycles per px along it, sinc(f length) is left.
    """
    count = int(np.ceil(POINTS * length)) + 1
    along = (np.arange(count) + 0.5) / count * length - length / 2
    x, y = along * np.round((np.cos(np.radians(degrees)), -np.sin(np.radians(degrees))), 12)[:, None]
    across, down = (int(np.ceil(np.abs(each).max())) for each in (x, y))
    weights = np.zeros((2 * down + 3, 2 * across + 3))
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    for right in (0, 1):
        for below in (0, 1):
            share = np.abs(1 - right - (x - column)) * np.abs(1 - below - (y - row))
            np.add.at(weights, (row + below + down + 1, column + right + across + 1), share / count)
    return weights

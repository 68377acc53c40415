"""Denoising: a low-pass filter, as scanners and hospitals apply it."""

from typing import Self

import numpy as np
import scipy.fft
from pydantic import Field

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError


@register
class Denoising(Artefact):
    """The ideal low-pass of Eq. 1 on the 2-D spectrum.

    A frequency is kept if its distance from DC is at most diameter/2, in bins of a square image as large as the longer
    side: up to (diameter/2) / max(H, W) cycles per px in both directions. So the effect depends on the size: 500 at
    1024 px is 125 at 256 px. The paper calls its 500 a radius; in the authors' code, which we follow, it is a diameter.
    """

    name: str = "denoising"
    leaf: str = "denoising"
    title = "denoising"
    practice = (
        "Low-dose scans are denoised before anybody reads them, by another method in each scanner "
        "(e.g. Chen et al. 2017, IEEE Transactions on Medical Imaging 36(12), 2524)."
    )
    drawing = "low_pass"

    diameter: float = Field(500, gt=0, description="bins of the spectrum, across the disc that passes")
    truncate: bool = Field(False, description="cut decimals off as the authors' code does, half a grey level darker")

    def stronger(self) -> Self:
        """With half the frequencies in each direction."""
        return self.replaced(diameter=self.diameter / 2)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Filter, clip to [0, 255] and round; raises StudyError if the disc holds the image's whole spectrum."""
        rows, columns = image.shape
        longer = max(rows, columns)
        index = np.arange(rows)
        vertical = np.minimum(index, rows - index) * (longer / rows)
        horizontal = np.arange(columns // 2 + 1) * (longer / columns)
        kept = vertical[:, None] ** 2 + horizontal**2 <= (self.diameter / 2) ** 2  # (H, W // 2 + 1)
        if kept.all():
            raise StudyError(
                f"denoising: diameter={self.diameter:g} keeps every frequency of an image {columns} x {rows} px "
                f"(width x height). Choose a smaller one, e.g. {500 / 1024 * longer:.0f} as in the paper."
            )
        # In double precision: in single, pixels near a half would round differently from machine to machine.
        spectrum = scipy.fft.rfft2(image.astype(float), workers=1)
        smooth = np.clip(scipy.fft.irfft2(spectrum * kept, s=image.shape, workers=1), 0, 255)
        smooth = np.round(smooth, 6)  # the transform's own error: an exact 80 comes back as 79.99999999999999
        return (smooth if self.truncate else np.rint(smooth)).astype(np.uint8), np.ones(image.shape, bool)

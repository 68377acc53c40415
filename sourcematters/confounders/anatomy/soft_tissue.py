"""Body composition: how much soft tissue the X-rays cross besides the chest."""

from typing import Self

import numpy as np
from PIL import Image
from pydantic import Field
from scipy.ndimage import gaussian_filter

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.confounders.film import SCATTER, exposure_of, shown

WATER = 0.0206  # nepers per mm at 60 keV (NIST SRD 126, https://physics.nist.gov/PhysRefData/XrayMassCoef)
SPREAD = 25  # mm, standard deviation of where scattered light falls
BARE = 32  # grey, below which there is no body: bare film, or a border, from which no light is scattered
COARSE = 4  # px per standard deviation, at which scattered light is computed


@register
class SoftTissue(Artefact):
    """A layer of soft tissue more over the whole chest: contrast falls, haze rises, and mean exposure is kept.

    Of the primary beam exp(-.0206 per mm) passes, as in water; of what is stopped `scatter` falls on the detector,
    within some cm; automatic exposure control makes up for the rest. 30 mm are 15 in front and 15 behind.
    """

    name: str = "soft_tissue"
    leaf: str = "body composition"
    title = "soft tissue"
    practice = (
        "Obesity lowers contrast and raises scatter in every film, and goes with what is looked for "
        "(Uppot et al. 2007, American Journal of Roentgenology 188(2), 433)."
    )
    thickness_mm: float = Field(30, gt=0, le=400, description="mm of soft tissue more")
    scatter: float = Field(SCATTER, gt=0, le=1, description="share of what it stops that falls on the detector")
    field_mm: float = Field(350, ge=50, le=1000, description="mm of the body that the image's shorter side shows")

    def stronger(self) -> Self:
        """Half as thick again."""
        return self.replaced(thickness_mm=1.5 * self.thickness_mm)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Expose it anew; any pixel may change."""
        passes = np.exp(-WATER * self.thickness_mm)
        haze = self.scatter * (1 - passes)
        exposure = exposure_of(image)
        scattered = self._spread(np.minimum(exposure, exposure_of(np.array([BARE], np.uint8))))
        relative = (passes + haze * scattered / exposure) / (passes + haze)
        return shown(image, relative), np.ones(image.shape, bool)

    def _spread(self, exposure: np.ndarray) -> np.ndarray:
        rows, columns = exposure.shape
        sigma = SPREAD * min(rows, columns) / self.field_mm  # px
        shrink = max(1, sigma / COARSE)
        coarse = Image.fromarray(exposure.astype(np.float32))
        coarse = coarse.resize((max(1, round(columns / shrink)), max(1, round(rows / shrink))), Image.Resampling.BOX)
        spread = Image.fromarray(gaussian_filter(np.asarray(coarse), sigma / shrink, mode="nearest"))
        return np.asarray(spread.resize((columns, rows), Image.Resampling.BICUBIC), float)

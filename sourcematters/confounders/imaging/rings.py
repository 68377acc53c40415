"""Ring artefacts of CT: an element of the detector that reads too much or too little in all views."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sourcematters.confounders.confounder import HOUNSFIELD, Artefact, Drawn, Hounsfield, register
from sourcematters.confounders.imaging.scales import FIELD_MM, per_mm, whole
from sourcematters.errors import StudyError

INNER, OUTER = 0.1, 0.9  # between these shares of half the shorter side, rings are drawn


@register
class RingArtefact(Artefact):
    """Rings about the image's centre, each as filtered back-projection makes it of one element's constant error.

    Radii and signs are drawn from the key; each ring has `hu` at its radius, its opposite in its shadow just inside,
    and nothing outside. The image's centre stands for the scanner's, as in slices that are not cropped or shifted.
    Depths of some to some tens of HU are what window and eye make out; no survey that we know of gives them. Elements
    measure 0.5 to 0.6 mm at the centre; 1 mm are two of them (Bushberg et al., The Essential Physics of Medical
    Imaging). Of the taxonomy's leaves "noise" is nearest: an error of the measurement.
    """

    name: str = "ring_artefact"
    leaf: str = "noise"
    title = "ring artefact"
    practice = (
        "Rings are a scanner's own, from detector elements out of calibration, and stay until it is serviced "
        "(Barrett and Keat 2004, RadioGraphics 24(6), 1679)."
    )
    space = HOUNSFIELD

    hu: float = Field(30, gt=0, le=2000, description="HU, of each ring at its radius, up or down")
    rings: int = Field(3, ge=1, le=50, description="how many")
    width_mm: float = Field(1, gt=0, description="mm, of the element, or a pixel where that is more")
    field_mm: float = FIELD_MM

    def stronger(self) -> Self | None:
        """Twice as deep."""
        return self.replaced(hu=2 * self.hu) if self.hu <= 1000 else None

    def draw(self, image: Hounsfield, key: int) -> Drawn:
        """Add the rings; the mask is where they are a HU or more. Raises StudyError for one too wide."""
        scale, half = per_mm(image, self.field_mm), min(image.shape) / 2
        width = max(self.width_mm * scale, 1)  # px: an image cannot show less
        if width > INNER * half:
            rows, columns = image.shape
            raise StudyError(
                f"ring_artefact: width_mm={self.width_mm:g} is {width:.2g} px of an image {columns} x {rows} px (width "
                f"x height) of {self.field_mm:g} mm. Choose at most {INNER * half / scale:.3g} mm."
            )
        random = np.random.default_rng(key)
        radii, signs = random.uniform(INNER, OUTER, self.rings) * half, random.choice((-1, 1), self.rings)
        y, x = (np.arange(length) - (length - 1) / 2 for length in image.shape)
        at = np.linspace(0, np.hypot(*image.shape) / 2, 16 * max(image.shape))  # px, far finer than the image
        profile = sum(sign * ring(at, radius, width) for sign, radius in zip(signs, radii, strict=True))
        added = whole(self.hu * np.interp(np.hypot(y[:, None], x), at, profile), np.dtype(np.int32))
        limits = np.iinfo(image.dtype)
        return np.clip(image + added, limits.min, limits.max).astype(image.dtype), added != 0


def ring(r: NDArray[np.float64], radius: float, width: float) -> NDArray[np.float64]:
    """What stands at distance `r` if the rays at distance s read 1 - |s - radius| / width too much, 1 at `radius`.

    The inverse Abel transform of that triangle, which is an element between its neighbours as linear interpolation
    sees it: arcosh(s / r), 0 where s < r, summed over its three corners (Kak and Slaney 1988, chapter 3).
    """

    def corner(s: float) -> NDArray[np.float64]:
        return np.arccosh(np.maximum(s / np.maximum(r, 1e-6 * radius), 1))

    peak = np.arccosh(1 + width / radius)
    return (corner(radius + width) - 2 * corner(radius) + corner(radius - width)) / peak

"""The heart: larger, or on the other side."""

from typing import Self

import numpy as np
from pydantic import Field
from scipy.ndimage import map_coordinates

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError

BEYOND = 1.7  # radii, where the enlargement has ended


@register
class HeartSize(Artefact):
    """The heart enlarged by `factor`: what lies within `radius_mm` of its middle; what surrounds it gives way.

    From 1 to 1.7 radii the enlargement fades smoothly, beyond no pixel changes. A normal heart is up to half as wide as
    the chest (Danzer 1919, American Journal of the Medical Sciences 157, 513), 1.15 brings .47 to .54.
    """

    name: str = "heart_size"
    leaf: str = "organ size"
    title = "heart size"
    practice = (
        "A large heart is seen in heart failure, and in whoever is too ill to stand: lying, with the tube near and in "
        "front, it is magnified by 12 % (Chon et al. 2011, Journal of Korean Medical Science 26(11), 1446)."
    )
    factor: float = Field(1.15, gt=1, le=3, description="times the heart's diameter")
    x: float = Field(0.56, ge=0, le=1, description="the heart's middle, as a share of the width from the left")
    y: float = Field(0.62, ge=0, le=1, description="the heart's middle, as a share of the height from the top")
    radius_mm: float = Field(70, gt=0, le=500, description="mm from the heart's middle to its border, enlarged")
    field_mm: float = Field(350, ge=50, le=1000, description="mm of the body that the image's shorter side shows")

    def stronger(self) -> Self:
        """Enlarged twice as much."""
        return self.replaced(factor=2 * self.factor - 1)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Resample, bilinearly, what lies within 1.7 radii; raises StudyError if that is less than two pixels."""
        rows, columns = image.shape
        inner = self.radius_mm * min(rows, columns) / self.field_mm
        if inner < 2:
            raise StudyError(
                f"heart_size: radius_mm={self.radius_mm:g} is {inner:.2g} px of an image {columns} x {rows} px "
                "(width x height): choose a larger one, or say by `field_mm` how much of the body the image shows."
            )
        centre_y, centre_x = self.y * (rows - 1), self.x * (columns - 1)
        dy, dx = np.arange(rows)[:, None] - centre_y, np.arange(columns) - centre_x
        mask = np.hypot(dy, dx) < BEYOND * inner
        at_y, at_x = np.nonzero(mask)
        dy, dx = at_y - centre_y, at_x - centre_x
        fading = np.clip((np.hypot(dy, dx) / inner - 1) / (BEYOND - 1), 0, 1)
        weight = 1 - fading**2 * (3 - 2 * fading)
        nearer = 1 - (1 - 1 / self.factor) * weight
        # Towards the middle of what is in the image, so that nothing has to come from outside.
        there = [centre_y + nearer * dy, centre_x + nearer * dx]
        altered = image.copy()
        altered[mask] = np.rint(map_coordinates(image.astype(float), there, order=1, mode="nearest"))
        return altered, mask


@register
class MirroredHeart(Artefact):
    """The whole image mirrored left to right: in situs inversus everything is on the other side, markers apart."""

    name: str = "mirrored_heart"
    leaf: str = "anatomical variant"
    title = "mirrored heart"
    practice = (
        "Of 81 people with the heart on the right 57 had a malformed one, and films get turned over "
        "(Bohun et al. 2007, American Journal of Cardiology 100(2), 305)."
    )

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Mirror it; only the middle column of an odd width stays where it is."""
        mask = np.ones(image.shape, bool)
        if image.shape[1] % 2:
            mask[:, image.shape[1] // 2] = False
        return image[:, ::-1].copy(), mask

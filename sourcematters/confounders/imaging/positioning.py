"""Positioning: a patient who lies askew, a tube that is tilted, a beam that is cut narrow.

Turned pictures are sampled by Pillow's bicubic, which blurs less than a bilinear: a blur would tell carriers too.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.confounders.imaging.scales import FIELD_MM, per_mm, whole
from sourcematters.errors import StudyError


class _Turned(Artefact):
    """What the confounders by a plane that is seen from elsewhere have in common."""

    leaf: str = "patient positioning"
    fill: Literal["edge", "black"] = Field(
        "edge", description="what comes in from outside: the nearest pixel, or black"
    )

    @model_validator(mode="after")
    def _is_turned(self) -> Self:
        if getattr(self, "degrees", 1) == 0:
            raise ValueError("degrees = 0 turns nothing. Choose another angle.")
        return self

    def _seen(self, image: Pixels, sampled_at: NDArray[np.float64]) -> Drawn:
        """Each pixel (x, y, 1) of the result, from the middle, comes from `sampled_at` (3, 3) times it."""
        rows, columns = image.shape
        middle = np.array([[1, 0, columns / 2], [0, 1, rows / 2], [0, 0, 1]])
        where = middle @ sampled_at @ np.linalg.inv(middle)
        corners = where @ [[0, columns, 0, columns], [0, 0, rows, rows], [1, 1, 1, 1]]
        x, y = corners[:2] / corners[2]
        beyond = max(-x.min(), -y.min(), x.max() - columns, y.max() - rows)
        margin = 3 + max(0, int(np.ceil(beyond)))  # 3 px are what a bicubic sees
        around = np.pad(image, margin, mode="edge") if self.fill == "edge" else np.pad(image, margin)
        where = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]]) @ where
        how = Image.Transform.PERSPECTIVE, (where / where[2, 2]).ravel()[:8].tolist(), Image.Resampling.BICUBIC
        # In floating point: of 8-bit pixels Pillow cuts the decimals off, which darkens by half a grey level.
        turned = Image.fromarray(around.astype(np.float32)).transform((columns, rows), *how)
        return whole(np.asarray(turned, float), image.dtype), np.ones(image.shape, bool)


@register
class Rotated(_Turned):
    """The picture turned in its plane, about its middle, by the same angle in all carriers or by one for each.

    No survey that we know of counts angles. 10 degrees are where a shoulder line looks askew at once, and what
    augmentation commonly allows for (the paper's recipe: up to 10 degrees).
    """

    name: str = "rotated"
    title = "rotated patient"
    practice = (
        "Patients too ill to stand are imaged as they lie: of two hospitals' rejected radiographs about half were "
        "rejected for their positioning (Foos et al. 2009, Journal of Digital Imaging 22, 89)."
    )

    degrees: float = Field(10, ge=-180, le=180, description="counter-clockwise")
    drawn: bool = Field(False, description="draw each image's angle between -degrees and degrees")

    def stronger(self) -> Self | None:
        """Twice the angle."""
        return self.replaced(degrees=2 * self.degrees) if abs(self.degrees) <= 90 else None

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Turn, and fill the corners; the mask is all True."""
        degrees = np.random.default_rng(key).uniform(-1, 1) * self.degrees if self.drawn else self.degrees
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return self._seen(image, np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]))


@register
class Tilted(_Turned):
    """The keystone of a tube that is tilted towards head or feet: one end of the picture larger, the other smaller.

    The picture is read as a plane at the detector, seen from a point `distance_mm` away along a ray that meets the
    detector `degrees` off the perpendicular. What lies before that plane would move against it, such as clavicles
    over apices; one picture does not say how far, and nothing of this is drawn. Defaults: the lordotic view is taken
    at 15 to 20 degrees, a bedside film from 100 cm (Bontrager and Lampignano, Textbook of Radiographic Positioning).
    """

    name: str = "tilted"
    title = "tilted tube"
    practice = (
        "Whoever cannot stand is imaged in bed, often at a slant, and networks read from the picture who was "
        "(DeGrave et al. 2021, Nature Machine Intelligence 3, 610)."
    )

    degrees: float = Field(15, ge=-60, le=60, description="tilt of the tube; positive magnifies the lower end")
    distance_mm: float = Field(1000, gt=0, description="mm from the tube to the detector's middle")
    field_mm: float = FIELD_MM

    def stronger(self) -> Self | None:
        """Twice the angle."""
        return self.replaced(degrees=2 * self.degrees) if abs(self.degrees) <= 30 else None

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Project; the mask is all True. Raises StudyError if the detector would reach up to the tube."""
        distance, tilt = self.distance_mm * per_mm(image, self.field_mm), np.radians(self.degrees)
        if distance <= (nearest := len(image) / 2 * abs(np.sin(tilt))):
            reaches = nearest / per_mm(image, self.field_mm)
            raise StudyError(
                f"tilted: at {self.degrees:g} degrees the detector reaches {reaches:.0f} mm up, and the tube is at "
                f"distance_mm={self.distance_mm:g}. Choose a larger distance_mm; bedside films are taken from 1000."
            )
        return self._seen(image, np.array([[1, 0, 0], [0, np.cos(tilt), 0], [0, np.sin(tilt) / distance, 1]]))


@register
class Collimation(Artefact):
    """Black borders, as the collimator's four blades or a display shutter leave them (DICOM PS3.3, C.7.6.11).

    A blade 20 mm inside the film leaves 31 of 35 cm: a beam well fitted to a thorax of 30 cm.
    """

    name: str = "collimation"
    leaf: str = "patient positioning"
    title = "collimation"
    practice = (
        "Since detectors are digital radiographers collimate less, and some less than others "
        "(Zetterberg and Espeland 2011, British Journal of Radiology 84, 566)."
    )

    width_mm: float = Field(20, gt=0, description="mm, of each border; their mean where they differ")
    uneven: bool = Field(True, description="draw each image's four borders between 0 and twice width_mm")
    field_mm: float = FIELD_MM

    def stronger(self) -> Self:
        """Twice as wide."""
        return self.replaced(width_mm=2 * self.width_mm)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Blacken the borders, which are the mask; raises StudyError if nothing would be left, or nothing black."""
        rows, columns = image.shape
        factors = 2 * np.random.default_rng(key).random(4) if self.uneven else np.ones(4)
        top, bottom, left, right = np.rint(factors * self.width_mm * per_mm(image, self.field_mm)).astype(int).tolist()
        mask = np.ones(image.shape, bool)
        mask[top : max(top, rows - bottom), left : max(left, columns - right)] = False
        if mask.all() or not mask.any():
            left_over, better = ("nothing", "smaller") if mask.all() else ("all", "larger")
            raise StudyError(
                f"collimation: width_mm={self.width_mm:g} of {self.field_mm:g} leaves {left_over} of an image "
                f"{columns} x {rows} px (width x height). Choose a {better} one."
            )
        return np.where(mask, 0, image).astype(image.dtype), mask

"""A frame around the image, as scanners, viewers and shutters leave it."""

from typing import Literal, Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.annotations.ink import burnt
from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError


@register
class CropBorder(Artefact):
    """A black or white frame; its width is that in an image whose shorter side has `reference` px.

    Borders of digitized films are some percent of the side: 24 of 1024 px.
    """

    name: str = "crop_border"
    leaf: str = "annotation"
    title = "border"
    practice = (
        "Networks that tell COVID-19 look at the image's edges, where collections differ "
        "(DeGrave et al. 2021, Nature Machine Intelligence 3, 610)."
    )
    width: float = Field(24, gt=0, description="px")
    colour: Literal["black", "white"] = Field("black", description="black or white")
    reference: float = Field(1024, gt=0, description="px, shorter side of the image that the width is meant for")

    def stronger(self) -> Self:
        """Twice as wide."""
        return self.replaced(width=2 * self.width)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Paint the frame; raises StudyError if it is thinner than a pixel, or leaves less than half of a side."""
        rows, columns = image.shape
        width = round(self.width * min(rows, columns) / self.reference)
        if not 1 <= width <= min(rows, columns) / 4:
            raise StudyError(
                f"crop_border: width={self.width:g} is {width} px of an image {columns} x {rows} px (width x height): "
                "choose one from 1 px to a quarter of the shorter side."
            )
        coverage = np.ones(image.shape)
        coverage[width:-width, width:-width] = 0
        return burnt(image, coverage, grey=0 if self.colour == "black" else 255)

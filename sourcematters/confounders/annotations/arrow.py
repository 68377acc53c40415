"""An arrow that points at what somebody saw."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.annotations.ink import burnt, polygons
from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError

# Along the arrow from its tip, and across, as shares of its length and of the shaft's width.
OUTLINE = np.array([(0, 0), (0.32, 1.6), (0.27, 0.5), (1, 0.5), (1, -0.5), (0.27, -0.5), (0.32, -1.6)])


@register
class Arrow(Artefact):
    """A white arrow in any direction, its tip somewhere over the lungs and the heart.

    Lengths are those in an image whose shorter side has `reference` px. 80 px are 27 mm on a film of 350 mm, about as
    long as journals draw them.
    """

    name: str = "arrow"
    leaf: str = "annotation"
    title = "arrow"
    practice = (
        "Doctors mark what worries them: ink beside a mole raised a network's score for melanoma "
        "(Winkler et al. 2019, JAMA Dermatology 155(10), 1135)."
    )
    length: float = Field(80, gt=0, description="px from the tip to the shaft's end")
    width: float = Field(9, gt=0, description="px across the shaft; the head is three times as wide")
    reference: float = Field(1024, gt=0, description="px, shorter side of the image that the lengths are meant for")

    def stronger(self) -> Self:
        """Half as large again."""
        return self.replaced(length=1.5 * self.length, width=1.5 * self.width)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Blend the arrow in; raises StudyError if it does not fit."""
        rows, columns = image.shape
        random = np.random.default_rng(key)
        tip, turn = random.uniform((0.25, 0.22), (0.75, 0.72)) * (columns, rows), random.uniform(0, 2 * np.pi)
        along = np.array([np.cos(turn), np.sin(turn)])
        scaled = OUTLINE * (self.length, self.width) * min(rows, columns) / self.reference
        corners = tip + scaled @ np.stack([along, (-along[1], along[0])])
        if (corners < 0).any() or (corners > (columns, rows)).any():
            raise StudyError(
                f"arrow: length={self.length:g}, width={self.width:g} do not fit into an image {columns} x {rows} px "
                f"(width x height) at {tip[0]:.0f}, {tip[1]:.0f}. Choose a shorter one, or a larger `reference`."
            )
        return burnt(image, polygons(image.shape, [corners]))

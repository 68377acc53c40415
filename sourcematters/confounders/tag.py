"""The tag: a laterality marker burnt into the image."""

from typing import Self

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError


@register
class Tag(Artefact):
    """A white laterality marker, as radiographers place it.

    Lengths are those in an image of `reference` px: another size gets them in proportion (x by its width, y by its
    height, the font by the shorter of the two). The defaults give a glyph of 37 x 47 px in a 1024 px image.
    """

    name: str = "tag"
    leaf: str = "tag"
    title = "tag"
    practice = (
        "Radiographers place lead letters, and hospitals have their own: a network reads the hospital, and with it how "
        "many of its patients are ill (Zech et al. 2018, PLoS Medicine 15(11), e1002683)."
    )
    drawing = "draw_tag"

    letter: str = Field("R", min_length=1, description="text that is drawn")
    height: float = Field(64, gt=0, description="px, font size")
    x: float = Field(200, ge=0, description="px from the left to the text's origin")
    y: float = Field(200, ge=0, description="px from the top to the text's origin, its ascender line")
    reference: float = Field(1024, gt=0, description="px, side of the image that the lengths are meant for")

    def stronger(self) -> Self:
        """Twice as high."""
        return self.replaced(height=2 * self.height)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Blend edges towards white; the mask is all the glyph touches. Raises StudyError if it does not fit in."""
        rows, columns = image.shape
        where = f"in an image {columns} x {rows} px (width x height). Choose a visible letter that fits in."
        size = self.height * min(rows, columns) / self.reference
        if not 1 <= size <= min(rows, columns):
            raise StudyError(f"tag: height={self.height:g} is a font of {size:.3g} px {where}")
        origin = round(self.x * columns / self.reference), round(self.y * rows / self.reference)
        canvas = Image.new("L", (columns, rows))
        pen = ImageDraw.Draw(canvas)
        # Matplotlib ships this font, and every Pillow has this layout engine: the same glyph on every machine.
        path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
        font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        left, top, right, bottom = pen.textbbox(origin, self.letter, font=font)
        if left < 0 or top < 0 or right > columns or bottom > rows:
            span = f"columns {left:g} to {right:g} and rows {top:g} to {bottom:g}"
            raise StudyError(f"tag: {self.letter!r} would span {span} {where}")
        pen.text(origin, self.letter, fill=255, font=font)
        coverage = np.asarray(canvas, dtype=float) / 255  # (H, W), 0..1
        if not coverage.any():
            raise StudyError(f"tag: {self.letter!r} covers no pixel {where}")
        return np.rint(image + (255 - image.astype(float)) * coverage).astype(np.uint8), coverage > 0

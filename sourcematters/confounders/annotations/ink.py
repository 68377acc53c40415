"""What is burnt into a film: white or black, over whatever was there, at a size that goes with the image's."""

from functools import cache
from typing import Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels
from sourcematters.errors import StudyError

FINE = 4  # times finer than the image, shapes are drawn and then averaged: their edges are soft
Corner = Literal["top left", "top right", "bottom left", "bottom right"]


def burnt(image: Pixels, coverage: NDArray[np.float64], grey: int = 255) -> Drawn:
    """The image under ink of that grey, which covers `coverage` (H, W), 0..1, of each pixel; the mask is its touch."""
    return np.rint(image + (grey - image.astype(float)) * coverage).astype(np.uint8), coverage > 0


def polygons(shape: tuple[int, ...], shapes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What the shapes, corners (N, 2) as x and y in px, cover of each pixel (H, W): 0..1."""
    rows, columns = shape
    canvas = Image.new("L", (columns * FINE, rows * FINE))
    pen = ImageDraw.Draw(canvas)
    for corners in shapes:
        # Pillow colours the pixels whose centres lie inside, and its centres are whole numbers.
        pen.polygon([tuple(corner) for corner in corners * FINE - 0.5], fill=255)
    return np.asarray(canvas.reduce(FINE), float) / 255


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    # Matplotlib ships this font, and every Pillow has this layout engine: the same glyphs on every machine.
    path = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


class Lettering(Artefact):
    """White text in a corner; lengths are those in an image whose shorter side has `reference` px."""

    leaf: str = "annotation"
    corner: Corner = Field("top left", description="of the image, in which the text stands")
    height: float = Field(24, gt=0, le=4096, description="px, font size")
    margin: float = Field(24, ge=0, le=4096, description="px from the image's two edges to the text")
    reference: float = Field(1024, gt=0, description="px, shorter side of the image that the lengths are meant for")

    def burn(self, image: Pixels, text: str) -> Drawn:
        """The image with `text`, lines set at the corner's side. Raises StudyError if it does not fit in."""
        rows, columns = image.shape
        scale = min(rows, columns) / self.reference
        size, margin = self.height * scale, self.margin * scale
        where = f"in an image {columns} x {rows} px (width x height). Choose a height that fits in."
        if not 1 <= size <= min(rows, columns):
            raise StudyError(f"{self.name}: height={self.height:g} is a font of {size:.3g} px {where}")
        vertical, side = self.corner.split()
        canvas = Image.new("L", (columns, rows))
        pen = ImageDraw.Draw(canvas)
        style = {"font": _font(size), "align": side, "spacing": 0.2 * size}
        left, top, right, bottom = pen.multiline_textbbox((0, 0), text, **style)
        width, height = right - left + 2 * margin, bottom - top + 2 * margin
        if width > columns or height > rows:
            raise StudyError(f"{self.name}: with its margin {text!r} takes {width:.0f} x {height:.0f} px {where}")
        x = margin - left if side == "left" else columns - margin - right
        y = margin - top if vertical == "top" else rows - margin - bottom
        pen.multiline_text((round(x), round(y)), text, fill=255, **style)
        coverage = np.asarray(canvas, float) / 255
        if not coverage.any():
            raise StudyError(f"{self.name}: {text!r} covers no pixel {where}")
        return burnt(image, coverage)

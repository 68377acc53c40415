"""A ruler along an edge."""

from typing import Literal, Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.annotations.ink import burnt, polygons
from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError

OFF = 3  # mm from the edge


@register
class Ruler(Artefact):
    """White ticks every `step_mm` along the middle four fifths of an edge, each fifth twice as long.

    Viewers and digitizers draw centimetres.
    """

    name: str = "ruler"
    leaf: str = "annotation"
    title = "ruler"
    practice = (
        "Dermatologists lay a ruler beside the lesions that worry them "
        "(Narla et al. 2018, Journal of Investigative Dermatology 138, 2108)."
    )
    edge: Literal["right", "left", "bottom", "top"] = Field("right", description="along which it lies")
    step_mm: float = Field(10, gt=0, description="mm from tick to tick")
    tick_mm: float = Field(5, gt=0, description="mm, length of a short tick")
    line_mm: float = Field(0.8, gt=0, description="mm, thickness of ticks and line")
    field_mm: float = Field(350, ge=50, le=1000, description="mm of the body that the image's shorter side shows")

    def stronger(self) -> Self:
        """Twice as long and thick."""
        return self.replaced(tick_mm=2 * self.tick_mm, line_mm=2 * self.line_mm)

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Blend it in; raises StudyError if it does not fit."""
        upright = self.edge in ("right", "left")
        shape = image.shape if upright else image.shape[::-1]
        scale = min(shape) / self.field_mm
        high, wide = (side / scale for side in shape)  # mm, along the edge and across
        if OFF + 2 * self.tick_mm > wide / 2 or not self.line_mm < self.step_mm <= 0.8 * high:
            raise StudyError(
                f"ruler: ticks of {self.tick_mm:g} mm, {self.line_mm:g} mm thick and every {self.step_mm:g} mm, do not "
                f"fit into an image {wide:.0f} mm across and {high:.0f} mm along its {self.edge} edge. Choose smaller "
                "ones, or say by `field_mm` how much of the body the image shows."
            )

        def bar(start: float, end: float, top: float, bottom: float) -> np.ndarray:  # mm from the edge, mm along it
            x, y = np.array([start, end, end, start]), np.array([top, top, bottom, bottom])
            x = wide - x if self.edge in ("right", "bottom") else x
            return scale * np.stack((x, y) if upright else (y, x), axis=1)

        half, first = self.line_mm / 2, 0.1 * high
        places = first + self.step_mm * np.arange(int(0.8 * high / self.step_mm) + 1)
        bars = [bar(OFF, OFF + self.line_mm, first - half, places[-1] + half)]
        for number, place in enumerate(places):
            bars.append(bar(OFF, OFF + (1 if number % 5 else 2) * self.tick_mm, place - half, place + half))
        return burnt(image, polygons(image.shape, bars))

"""Surgical clips: what an operation leaves."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.confounder import register
from sourcematters.confounders.devices.radiopaque import TITANIUM, Film, Radiopaque

# Where operations are: armpits, hila, the neck; shares of width and height.
BEDS = ((0.13, 0.27), (0.87, 0.27), (0.40, 0.45), (0.61, 0.44), (0.50, 0.10))


@register
class SurgicalClips(Radiopaque):
    """Clips of titanium wire, closed to two legs side by side, scattered about one bed of an operation.

    Closed ligating clips are 4 to 10 mm long, of wire of about 1 mm; a lobectomy or axillary dissection leaves a few.
    """

    name: str = "surgical_clips"
    title = "surgical clips"
    practice = (
        "Clips stay where a tumour or a gland was taken out, so they tell who had cancer "
        "(Hunter et al. 2004, RadioGraphics 24(6), 1725)."
    )
    clips: int = Field(6, ge=1, le=60, description="how many")
    length_mm: float = Field(8, gt=1, le=100, description="mm, of a closed clip")
    width_mm: float = Field(2, gt=0.2, le=50, description="mm, of a closed clip: two legs side by side")
    spread_mm: float = Field(14, gt=0, le=200, description="mm, standard deviation of their places about the bed")

    def stronger(self) -> Self:
        """Half as large again."""
        return self.replaced(length_mm=1.5 * self.length_mm, width_mm=1.5 * self.width_mm)

    def lay(self, film: Film, random: np.random.Generator) -> None:
        """One bed, and each clip in any direction about it."""
        bed = film.at(*BEDS[random.integers(len(BEDS))])
        film.must_hold(self.name, bed, self.length_mm, self.length_mm)
        inside = self.length_mm / 2, self.length_mm / 2
        limits = film.width - inside[0], film.height - inside[1]
        for _ in range(self.clips):
            centre = np.clip(random.normal(bed, self.spread_mm), inside, limits)
            turn, shorter = random.uniform(0, np.pi), random.uniform(0.75, 1)  # seen more or less from its end
            along = np.array([np.cos(turn), np.sin(turn)]) * (self.length_mm - self.width_mm / 2) / 2 * shorter
            apart = np.array([-np.sin(turn), np.cos(turn)]) * self.width_mm / 4
            ends = [(1, 0.8), (-1, 1), (-1, -1), (1, -0.8)]  # out along one leg, and back along the other
            film.rod([centre + a * along + b * apart for a, b in ends], self.width_mm / 2, 3 * TITANIUM)

"""A necklace that nobody took off."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.confounder import register
from sourcematters.confounders.devices.radiopaque import STEEL, Film, Radiopaque


@register
class Necklace(Radiopaque):
    """A chain of metal beads around the neck, hanging as chains do, with a pendant.

    Beads of 2 to 6 mm are common in fashion jewellery; here hollow ones, of a wall of which X-rays cross about 1 mm.
    """

    name: str = "necklace"
    title = "necklace"
    practice = (
        "Necklaces stay on in a hurry, and there are enough of them in ChestX-ray14 to train a detector "
        "(Kufel et al. 2023, Journal of Clinical Medicine 12(18), 5841)."
    )
    bead_mm: float = Field(3, gt=0.5, le=50, description="mm across a bead")
    gap_mm: float = Field(1, ge=0, le=50, description="mm between two beads")
    pendant_mm: float = Field(12, ge=0, le=150, description="mm across the pendant; 0: none")

    def stronger(self) -> Self:
        """Half as large again."""
        return self.replaced(bead_mm=1.5 * self.bead_mm, pendant_mm=1.5 * self.pendant_mm)

    def lay(self, film: Film, random: np.random.Generator) -> None:
        """From both sides of the neck at the film's upper edge, down to the breastbone."""
        half, drop = random.uniform(0.13, 0.17) * film.width, random.uniform(0.18, 0.30) * film.height
        middle = film.at(random.uniform(0.47, 0.53), 0)[0]
        bottom = (middle, drop)
        film.must_hold(self.name, (middle, drop + self.pendant_mm / 2), self.pendant_mm, self.pendant_mm)
        # A catenary through the two points where it enters the film.
        x = np.linspace(-1, 1, 2001)
        sag = (np.cosh(2.2) - np.cosh(2.2 * x)) / (np.cosh(2.2) - 1)
        path = np.stack([middle + half * x, drop * sag], axis=1)
        length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        for at in np.arange(0, length[-1], self.bead_mm + self.gap_mm):
            film.rod([[np.interp(at, length, axis) for axis in path.T]], self.bead_mm, 1.2 / self.bead_mm * STEEL)
        film.rod(path[::40], 0.6, STEEL)
        if self.pendant_mm:
            centre = (bottom[0], bottom[1] + self.pendant_mm / 2)
            film.disc(centre, self.pendant_mm, 1.4, bevel=0.6)
            film.disc(centre, 0.7 * self.pendant_mm, -0.5, bevel=0.6)

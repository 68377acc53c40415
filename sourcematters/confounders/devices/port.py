"""A port: the chamber under the skin through which chemotherapy is given."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.confounder import register
from sourcematters.confounders.devices.pacemaker import CAVA, VEIN
from sourcematters.confounders.devices.radiopaque import BARIUM_PLASTIC, TITANIUM, Film, Radiopaque, curve


@register
class Port(Radiopaque):
    """A port of titanium with a catheter to where the upper vena cava ends, on the right in three of four images.

    25 to 30 mm across, with a septum of silicone in its middle; catheters have 6 to 9.6 French (2.7 mm: 8).
    """

    name: str = "port"
    title = "port"
    practice = (
        "Ports are implanted for chemotherapy: one tells of cancer before any shadow does "
        "(Teichgräber et al. 2011, Deutsches Ärzteblatt International 108(9), 147)."
    )
    diameter_mm: float = Field(27, gt=3, le=300, description="mm across the chamber's foot")
    catheter_mm: float = Field(2.7, gt=0.2, le=30, description="mm across the catheter")

    def stronger(self) -> Self:
        """Half as large again."""
        return self.replaced(diameter_mm=1.5 * self.diameter_mm, catheter_mm=1.5 * self.catheter_mm)

    def lay(self, film: Film, random: np.random.Generator) -> None:
        """The chamber two fingers below the clavicle, the catheter by the subclavian vein."""
        side = 1 if random.random() < 0.25 else -1
        centre = film.at(0.5 + side * random.uniform(0.24, 0.29), random.uniform(0.26, 0.32))
        size = self.diameter_mm
        film.must_hold(self.name, centre, 1.3 * size, 1.3 * size)
        film.disc(centre, size, 0.35, bevel=1.5)  # foot
        film.disc(centre, 0.72 * size, 2.2, bevel=1)  # the chamber's walls, seen along them ...
        film.disc(centre, 0.48 * size, -1.6, bevel=1)  # ... its floor, through the septum
        stem = (centre[0] - side * 0.62 * size, centre[1] - 0.14 * size)
        film.rod([(centre[0] - side * 0.34 * size, centre[1] - 0.08 * size), stem], 0.11 * size, TITANIUM)
        shares = np.asarray([*VEIN[side], *CAVA, (0.445, random.uniform(0.44, 0.50))]) + random.normal(0, 0.006, 2)
        shares += random.normal(0, 0.004, shares.shape)
        path = curve([stem, *(film.at(x, y) for x, y in shares)])
        film.rod(path, self.catheter_mm, BARIUM_PLASTIC, bore=0.5 * self.catheter_mm)

"""Electrodes of an electrocardiogram on the chest, and their wires."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.confounder import register
from sourcematters.confounders.devices.radiopaque import COPPER, PLASTIC, Film, Radiopaque, curve

# Right and left arm, left leg, right leg, and the chest's: shares of width and height.
PLACES = ((0.24, 0.19), (0.77, 0.18), (0.80, 0.74), (0.20, 0.76), (0.56, 0.52))


@register
class EcgElectrodes(Radiopaque):
    """Electrodes of a monitor, each a snap of metal on a pad of gel and foam, with a wire that leaves the film.

    Snaps have 10 mm with their clip, disposable pads about 35 mm and are hardly seen; a wire is a tinsel of copper.
    """

    name: str = "ecg_electrodes"
    title = "ECG electrodes"
    practice = (
        "Who is monitored is ill: networks found COVID-19 by the electrodes and wires on the chest "
        "(Szczepański et al. 2022, POTHER, ICCS, LNCS 13351)."
    )
    electrodes: int = Field(3, ge=1, le=5, description="how many, 1 to 5")
    snap_mm: float = Field(10, gt=1, le=100, description="mm across a snap")
    pad_mm: float = Field(35, gt=1, le=200, description="mm across a pad")
    wire_mm: float = Field(1.4, gt=0.1, le=20, description="mm across a wire")

    def stronger(self) -> Self:
        """With snaps and wires half as large again."""
        return self.replaced(snap_mm=1.5 * self.snap_mm, pad_mm=1.2 * self.pad_mm, wire_mm=1.5 * self.wire_mm)

    def lay(self, film: Film, random: np.random.Generator) -> None:
        """Each electrode within some cm of its place; wires meet below the film, or above it at a shoulder."""
        leave = film.at(random.uniform(0.3, 0.7), 1.06)
        for number in range(self.electrodes):
            x, y = film.at(*(np.asarray(PLACES[number]) + random.uniform(-0.04, 0.04, 2)))
            film.must_hold(self.name, (x, y), self.pad_mm, self.pad_mm)
            self._electrode(film, (x, y))
            # A wire hangs: away from the middle first, then down.
            middle = film.width / 2
            out = x + 0.12 * (x - middle) + random.normal(0, 8)
            bend = (out + (leave[0] - out) * 0.45 + random.normal(0, 12), y + 0.62 * (leave[1] - y))
            start = (x + 0.6 * self.snap_mm * np.sign(x - middle), y + 0.3 * self.snap_mm)
            path = curve([(x, y), start, (out, y + 0.25 * (leave[1] - y)), bend, (leave[0] + 4 * number, leave[1])])
            film.rod(path, self.wire_mm, PLASTIC)
            film.rod(path, 0.6 * self.wire_mm, 0.8 * COPPER)

    def _electrode(self, film: Film, centre: tuple[float, float]) -> None:
        film.disc(centre, self.pad_mm, 0.06, bevel=2)
        film.disc(centre, self.snap_mm, 0.7, bevel=0.5)
        film.disc(centre, 0.75 * self.snap_mm, -0.25, bevel=0.5)
        film.disc(centre, 0.4 * self.snap_mm, 1.5, bevel=0.5)

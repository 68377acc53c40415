"""A pacemaker: the generator below a clavicle, and its leads to the heart."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.confounder import register
from sourcematters.confounders.devices.radiopaque import PLATINUM, STEEL, TITANIUM, Film, Radiopaque, curve

# Shares of a frontal film's width and height, as it hangs: the patient's left is on the right.
VEIN = {1: [(0.70, 0.175), (0.61, 0.17), (0.53, 0.205)], -1: [(0.30, 0.175), (0.37, 0.18), (0.435, 0.215)]}
CAVA = [(0.465, 0.29), (0.45, 0.40)]
HEART = (
    [(0.445, 0.50), (0.47, 0.62), (0.545, 0.70), (0.625, 0.715)],  # to the right ventricle's apex
    [(0.435, 0.50), (0.455, 0.555), (0.485, 0.53), (0.485, 0.475)],  # hooked into the right atrium's appendage
    [(0.45, 0.53), (0.52, 0.56), (0.62, 0.53), (0.69, 0.59)],  # through the coronary sinus to the left ventricle
)


@register
class Pacemaker(Radiopaque):
    """A generator with leads of 2 mm, on the left in four of five images.

    The can's defaults are those of a dual-chamber one in use (50 x 45 x 8 mm); a wall of .4 mm titanium, the battery,
    and circuits between. Leads of 6 French are coils of MP35N with a ring and a tip of platinum.
    """

    name: str = "pacemaker"
    title = "pacemaker"
    practice = (
        "Patients with a pacemaker more often have heart failure, and a network takes the one for the other "
        "(Jabbour et al. 2020, Machine Learning for Healthcare, PMLR 126, 750)."
    )
    width_mm: float = Field(50, gt=5, le=500, description="mm across the can")
    height_mm: float = Field(45, gt=5, le=500, description="mm from the can's top to its bottom, without the header")
    leads: int = Field(2, ge=0, le=3, description="0 to 3: right ventricle, right atrium, left ventricle")
    lead_mm: float = Field(2, gt=0.2, le=20, description="mm across a lead")

    def stronger(self) -> Self:
        """With a can and leads half as large again."""
        sizes = {name: 1.5 * getattr(self, name) for name in ("width_mm", "height_mm", "lead_mm")}
        return self.replaced(**sizes)

    def lay(self, film: Film, random: np.random.Generator) -> None:
        """The can, turned a little, then each lead from its header through the veins."""
        side = 1 if random.random() < 0.8 else -1
        across, down, angle = random.uniform(0.27, 0.31), random.uniform(0.24, 0.28), random.uniform(-12, 12)
        centre = film.at(0.5 + side * across, down)
        self._can(film, centre, angle)
        for lead in range(self.leads):
            self._lead(film, centre, side, lead, random)

    def _can(self, film: Film, centre: tuple[float, float], angle: float) -> None:
        width, height = self.width_mm, self.height_mm
        header = 0.22 * height
        film.must_hold(self.name, centre, 1.2 * width, height + 2 * header)
        turn = np.deg2rad(angle)

        def at(x: float, y: float) -> tuple[float, float]:  # shares of the can, from its centre
            x, y = x * width, y * height
            return centre[0] + x * np.cos(turn) - y * np.sin(turn), centre[1] + x * np.sin(turn) + y * np.cos(turn)

        def part(
            x: float, y: float, w: float, h: float, nepers: float, corner: float = 0.5, bevel: float = 0.5
        ) -> None:
            film.plate(at(x, y), (w * width, h * height), nepers, corner=corner, bevel=bevel, angle=angle)

        part(0, 0, 1, 1, 1.1, corner=0.32 * height, bevel=2)  # walls, edge-on and flat, and what fills the can
        part(0, 0.22, 0.86, 0.46, 2.2, corner=0.18 * height, bevel=1)  # battery
        part(0.02, -0.2, 0.74, 0.3, 0.7, corner=1)  # circuit board
        for x, y, w, h in ((-0.22, -0.22, 0.16, 0.14), (0.02, -0.17, 0.1, 0.2), (0.24, -0.24, 0.12, 0.1)):
            part(x, y, w, h, 1.5)
        part(0, -0.5 - 0.08, 0.72, 0.3, 0.2, corner=0.1 * height, bevel=2)  # header of clear epoxy
        for y in (-0.54, -0.64):
            film.rod([at(-0.26, y), at(0.05, y)], 1.6, STEEL)
            part(-0.18, y, 0.07, 0.07, 1.5)
            part(0.0, y, 0.07, 0.07, 1.5)

    def _lead(self, film: Film, centre: tuple[float, float], side: int, lead: int, random: np.random.Generator) -> None:
        width, height, slack = self.width_mm, self.height_mm, 1 + 0.12 * lead
        # What is too long is coiled around the can: out of the header, outwards, below, and up again inwards.
        around = [(0.3, -0.6), (0.62, -0.3), (0.62, 0.3), (0.1, 0.66), (-0.5, 0.42), (-0.66, -0.2)]
        pocket = [(centre[0] + side * slack * x * width, centre[1] + slack * y * height) for x, y in around]
        shift = random.normal(0, 0.006, 2) + 0.008 * lead
        places = [*VEIN[side], *CAVA, *HEART[lead]]
        sway = random.normal(0, 0.006, (len(places), 2))
        path = curve([*pocket, *(film.at(x, y) for x, y in np.asarray(places) + shift + sway)])
        film.rod(path, self.lead_mm, TITANIUM, bore=0.3 * self.lead_mm)
        film.rod(path, 0.35 * self.lead_mm, STEEL)
        for last, first in ((1, 2), (6, 7)):  # tip and ring, 2.5 mm each, 12 mm apart
            film.rod(path[[-first, -last]], 1.15 * self.lead_mm, PLATINUM, bore=0.95 * self.lead_mm)

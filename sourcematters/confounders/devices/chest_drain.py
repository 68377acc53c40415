"""A chest drain: the tube that lets air out of the pleura, and so tells of a pneumothorax."""

from typing import Self

import numpy as np
from pydantic import Field

from sourcematters.confounders.confounder import register
from sourcematters.confounders.devices.radiopaque import Film, Radiopaque, curve


@register
class ChestDrain(Radiopaque):
    """A tube of PVC from the side of the chest to the top of the lung, with a stripe of barium sulfate.

    28 French is 9.3 mm; large drains have 24 to 32 (Laws et al. 2003, Thorax 58, suppl. 2, ii53). The stripe is
    interrupted at the holes near the tip.
    """

    name: str = "chest_drain"
    title = "chest drain"
    practice = (
        "A pneumothorax in a data set is mostly one that has its drain already, and networks find the drain "
        "(Oakden-Rayner et al. 2020, ACM Conference on Health, Inference, and Learning, 151)."
    )
    french: float = Field(28, ge=6, le=200, description="French, thirds of a mm, across the tube")

    def stronger(self) -> Self:
        """Half as thick again."""
        return self.replaced(french=1.5 * self.french)

    def lay(self, film: Film, random: np.random.Generator) -> None:
        """On either side, in between the ribs at the armpit's height, then up along the chest wall."""
        side = 1 if random.random() < 0.5 else -1
        enter, tip = random.uniform(0.52, 0.66), random.uniform(0.15, 0.22)
        shares = [
            (0.52, enter + random.uniform(0.06, 0.14)),
            (0.43, enter + 0.03),
            (0.33, enter - 0.06),
            (0.285 + random.uniform(-0.02, 0.02), 0.55 * enter + 0.45 * tip),
            (0.225 + random.uniform(-0.02, 0.02), tip + 0.09),
            (0.16 + random.uniform(-0.03, 0.02), tip),
        ]
        path = curve([film.at(0.5 + side * x, y) for x, y in shares], step=3)
        diameter = self.french / 3
        film.must_hold(self.name, tuple(path[-1]), 2 * diameter, 2 * diameter)
        film.rod(path, diameter, 0.045, bore=0.62 * diameter)
        # The stripe runs in the wall, seen somewhat from the side.
        normal = np.gradient(path, axis=0)[:, ::-1] * (1, -1)
        normal /= np.hypot(*normal.T)[:, None]
        stripe = path + random.uniform(-0.3, 0.3) * diameter * normal
        holes = [round(len(path) - mm / 3) for mm in (75, 60, 45, 30, 15)]
        for start, end in zip([0, *(hole + 1 for hole in holes)], [*holes, len(path)], strict=True):
            if end - start > 1 and start >= 0:
                film.rod(stripe[start:end], 0.2 * diameter, 0.55)

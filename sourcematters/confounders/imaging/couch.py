"""The couch on which a patient lies in the CT scanner."""

from typing import Self

import numpy as np
from pydantic import Field
from scipy import ndimage

from sourcematters.confounders.confounder import HOUNSFIELD, Artefact, Drawn, Hounsfield, register
from sourcematters.confounders.imaging.scales import FIELD_MM, per_mm, whole

BODY = -300  # HU, from which on a pixel is no lung and no air
THINNER = 10  # mm; what is thinner is no patient, such as the couch that the slice has already
CORE = -930  # HU, of the foam inside


@register
class PatientTable(Artefact):
    """A curved couch under the back: a shell of carbon fibre around foam, as wide as the image.

    It touches the lowest point of the body, as a picture of a patient who lies supine has it; where there is no room,
    it lies at the image's lower edge. Where the image is denser it covers the couch. Slices that show a couch get
    another one. Defaults: makers do not publish their tables, and differ; a shell of 2 mm, 30 mm apart, at fat's and
    muscle's HU, bent to a radius of half a metre, is about what chest CTs show.
    """

    name: str = "patient_table"
    leaf: str = "patient positioning"
    title = "patient table"
    practice = (
        "Each maker's couch has a shape of its own, stands in every slice, and is taken for part of the patient "
        "(Bandi et al. 2011, IEEE EMBC, 7783)."
    )
    space = HOUNSFIELD

    hu: float = Field(-100, ge=-900, le=3000, description="HU, of the shell")
    shell_mm: float = Field(2, gt=0, description="mm, of the shell")
    thickness_mm: float = Field(30, gt=0, description="mm, of the couch in the middle")
    radius_mm: float = Field(500, gt=0, description="mm, of its hollow upper side")
    field_mm: float = FIELD_MM

    def stronger(self) -> Self:
        """With a shell twice as thick."""
        return self.replaced(shell_mm=2 * self.shell_mm)

    def draw(self, image: Hounsfield, key: int) -> Drawn:
        """Lay it under the body; the mask is where the couch is denser than the image."""
        rows, columns = image.shape
        scale = per_mm(image, self.field_mm)
        thickness, shell = self.thickness_mm * scale, self.shell_mm * scale
        body = ndimage.uniform_filter((image > BODY).astype(float), max(1, round(THINNER * scale))) > 0.5
        lowest = np.flatnonzero(body.any(axis=1)).max(initial=-1) + 1 if body.any() else rows
        top = min(lowest, rows - thickness - 2)  # of the hollow, in its middle
        x, y = np.arange(columns) - (columns - 1) / 2, np.arange(rows)[:, None] + 0.5
        bend = x**2 / (2 * self.radius_mm * scale)  # of the upper side; the lower one is bent half as much
        below_top, above_bottom = y - (top - bend), top + thickness - bend / 2 - y  # px inside either side
        inside = np.clip(np.minimum(below_top, above_bottom) + 0.5, 0, 1)
        core = np.clip(np.minimum(below_top, above_bottom) - shell + 0.5, 0, 1)
        couch = -1000 + inside * (self.hu + 1000) + core * (CORE - self.hu)
        mask = couch > np.maximum(image, -1000)
        return np.where(mask, np.maximum(whole(couch, image.dtype), image), image), mask

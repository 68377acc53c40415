"""Metal on CT: beam hardening and starvation along the rays that pass through it, seen as streaks.

Source: De Man et al. 1999, Metal streak artifacts in X-ray computed tomography: a simulation study, IEEE Transactions
on Nuclear Science 46(3), 691; attenuation from NIST (https://physics.nist.gov/PhysRefData/XrayMassCoef/tab3.html).
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from sourcematters.confounders.back_projection import back_projection
from sourcematters.confounders.confounder import HOUNSFIELD, Artefact, Drawn, Hounsfield, register
from sourcematters.confounders.imaging.scales import FIELD_MM, per_mm, whole
from sourcematters.errors import StudyError

# At 40, 60, 80 and 100 keV: shares of the photons behind the filters of a tube of 120 kV, and attenuation per cm of
# water and of solid titanium. HU are told at 80 keV, where titanium has 8940.
PHOTONS = np.array([0.2, 0.4, 0.25, 0.15])
WATER = np.array([0.2683, 0.2059, 0.1837, 0.1707])
TITANIUM = np.array([2.214, 0.7661, 0.4052, 0.2721]) * 4.506
TOLD = 2
GRID, VIEWS = 256, 360  # streaks are reconstructed on so many px, 1.4 mm in 350, from so many angles over half a turn
TISSUE, TRIES = (-200, 3000), 4096  # HU of where metal is put, and how many places are tried


class Rays(NamedTuple):
    """Line integrals along rays (n,): cm of water and, of titanium, cm that attenuate like it."""

    water: NDArray[np.float64]
    metal: NDArray[np.float64]


@register
class MetalStreaks(Artefact):
    """Discs of metal in tissue, at places drawn from the key, and the streaks that go out from them.

    Along each ray through metal a tube of four energies counts Poisson photons, at least one; the scanner corrects for
    water only. What it gets too little or too much is reconstructed by filtered back-projection and added. Tissue
    attenuates like water of its HU, and metal like titanium of its own. Defaults: two screws of a spine, 6 mm thick, of
    solid titanium; a million photons per ray are of a diagnostic scan's order. Of the taxonomy's leaves "noise" is
    nearest: what is drawn is an error of the measurement, and the metal its cause. Takes 0.15 s for 512 x 512 px.
    """

    name: str = "metal_streaks"
    leaf: str = "noise"
    title = "metal streaks"
    practice = (
        "Implants stand in the slices of who was operated on, and their streaks cover what lies beside them "
        "(Boas and Fleischmann 2012, Imaging in Medicine 4(2), 229)."
    )
    space = HOUNSFIELD

    hu: float = Field(8940, ge=1000, le=30000, description="HU, of the metal at 80 keV; solid titanium has 8940")
    diameter_mm: float = Field(6, gt=0, description="mm, of each piece")
    pieces: int = Field(2, ge=1, le=10, description="how many")
    n0: float = Field(1e6, gt=0, le=1e15, description="photons per ray")
    field_mm: float = FIELD_MM

    def stronger(self) -> Self:
        """Twice as thick."""
        return self.replaced(diameter_mm=2 * self.diameter_mm)

    def draw(self, image: Hounsfield, key: int) -> Drawn:
        """The mask is the largest centred circle, outside of which nothing changes.

        Raises StudyError where there is no tissue to put metal in, or where a piece is less than a pixel, or too large.
        """
        random = np.random.default_rng(key)
        side, scale = min(image.shape), per_mm(image, self.field_mm)
        radius = self.diameter_mm / 2 * scale
        if not 0.5 <= radius <= side / 8:
            raise StudyError(
                f"metal_streaks: diameter_mm={self.diameter_mm:g} is {2 * radius:.2g} px of an image of {side} px and "
                f"{self.field_mm:g} mm. Choose {1 / scale:.2g} to {self.field_mm / 4:.3g} mm."
            )
        top, left = ((length - side) // 2 for length in image.shape)
        square = image[top : top + side, left : left + side]
        offset = np.arange(side) - (side - 1) / 2
        away = np.hypot(offset[:, None], offset)
        # Places are shares of the image, so that one of another size has its metal where this one has it.
        tried = (random.random((TRIES, 2)) * side).astype(int)  # rows and columns
        there = square[tuple(tried.T)]
        fits = (there >= TISSUE[0]) & (there <= TISSUE[1]) & (away[tuple(tried.T)] < 0.9 * side / 2 - radius)
        if fits.sum() < self.pieces:
            raise StudyError("metal_streaks: there is hardly any tissue to put metal in, but air. Leave the image out.")
        middles = offset[tried[fits][: self.pieces]]  # (pieces, 2)
        metal = np.zeros(square.shape, bool)
        for row, column in middles:
            metal |= (offset[:, None] - row) ** 2 + (offset - column) ** 2 <= radius**2
        body = np.where(metal | (away > side / 2), 0, np.maximum(1 + square / 1000, 0))  # of water's attenuation
        streaks = self._streaks(body, middles, radius, scale, random)
        made = np.where(metal, self.hu, square) + streaks
        inside = away <= side / 2 - 1
        altered, mask = image.copy(), np.zeros(image.shape, bool)
        altered[top : top + side, left : left + side] = np.where(inside, whole(made, image.dtype), square)
        mask[top : top + side, left : left + side] = inside
        return altered, mask

    def _streaks(
        self,
        body: NDArray[np.float64],
        middles: NDArray[np.float64],
        radius: float,
        scale: float,
        random: np.random.Generator,
    ) -> NDArray[np.float64]:
        """HU to add (side, side); `middles` (pieces, 2) are rows and columns from the centre, lengths px of `body`."""
        side = len(body)
        bins = min(GRID, side)
        step = side / bins
        angles = np.arange(VIEWS) * np.pi / VIEWS
        # A ray is where x cos(t) - y sin(t) = s, y downward: so does `back_projection` read its sinogram.
        s = (np.arange(bins) - bins // 2) * step
        across = middles[:, 1:] * np.cos(angles) - middles[:, :1] * np.sin(angles)  # (pieces, views)
        chords = 2 * np.sqrt(np.maximum(radius**2 - (s[:, None] - across[:, None]) ** 2, 0)).sum(
            axis=0
        )  # (bins, views)
        ray, view = np.nonzero(chords)
        along = (np.arange(bins) - bins // 2) * step
        cos, sin = np.cos(angles[view])[:, None], np.sin(angles[view])[:, None]
        rows = (side - 1) / 2 - s[ray][:, None] * sin - along * cos
        columns = (side - 1) / 2 + s[ray][:, None] * cos - along * sin
        water = ndimage.map_coordinates(body, (rows, columns), order=1, prefilter=False).sum(axis=1) * step
        cm = 10 * scale  # px in one
        like = (1 + self.hu / 1000) * WATER[TOLD] / TITANIUM[TOLD]
        error = np.zeros(chords.shape)
        error[ray, view] = misread(Rays(water / cm, chords[ray, view] * like / cm), self.n0, random)
        found = back_projection(error * cm / step, np.degrees(angles))
        found *= 1000 / WATER[TOLD]
        if bins == side:
            return found
        # Pixel i of the coarse grid has its middle at (i - bins // 2) * step from the axis; the image's at offset.
        where = (np.arange(side) - (side - 1) / 2) / step + bins // 2
        return ndimage.map_coordinates(found, np.meshgrid(where, where, indexing="ij"), order=1, mode="nearest")


def _segment(x: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """The area of a disc between its middle and `x`, negative where `x` is."""
    x = np.clip(x, -radius, radius)
    return x * np.sqrt(radius**2 - x**2) + radius**2 * np.arcsin(x / radius)


def misread(rays: Rays, n0: float, random: np.random.Generator) -> NDArray[np.float64]:
    """What a scanner that knows of water only reads too much (n,), as a line integral at 80 keV; 0 without metal.

    Counts are Poisson with mean n0 sum(photons exp(-water - metal)), at least one. Their logarithm becomes the length
    of water that would give it.
    """
    through = np.exp(-np.outer(rays.water, WATER) - np.outer(rays.metal, TITANIUM)) @ PHOTONS
    counts = np.maximum(random.poisson(n0 * through), 1)
    lengths = np.linspace(0, 400, 4001)  # cm: what attenuates more than this gives no photon
    by_water = -np.log(np.exp(-np.outer(lengths, WATER)) @ PHOTONS)
    read = np.interp(-np.log(counts / n0), by_water, lengths)
    return (read - rays.water) * WATER[TOLD] - rays.metal * TITANIUM[TOLD]

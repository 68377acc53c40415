"""Radiopaque things: how much of the X-rays they stop, and what a chest film then shows.

A thing is laid into a film as attenuation in nepers, thickness times coefficient, at an effective 60 keV (a beam of
100 to 125 kV behind its filter). Exposure behind it is the primary beam times exp(-nepers), blurred as the detector
does, plus the patient's scattered light, which it does not stop: so nothing is wholly hidden. `film` shows it.

Sources: Hubbell and Seltzer, NIST SRD 126 (https://dx.doi.org/10.18434/T4D01F), for the coefficients; Niklason et al.
1981, Medical Physics 8, 677, for scatter.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels
from sourcematters.confounders.film import SCATTER, shown
from sourcematters.errors import StudyError

# Nepers per mm at 60 keV, from NIST's tables and usual densities.
TITANIUM, STEEL, COPPER, PLATINUM = 0.345, 0.95, 1.43, 8.0
BARIUM_PLASTIC = 0.3  # polyurethane with 40 % of barium sulfate by weight
PLASTIC = 0.025

PITCH = 0.2  # mm, at which things are laid before they are averaged over an image's pixels
FINEST = 8  # at most so many times finer than the image
FAINTEST = 1e-3  # share stopped below which nothing is there

Point = tuple[float, float]


class Film:
    """What lies before an image (H, W) whose shorter side shows `field_mm`; mm from its top left, x right, y down."""

    def __init__(self, shape: tuple[int, ...], field_mm: float) -> None:
        rows, columns = shape
        self.mm = field_mm / min(rows, columns)  # of one px
        self.fine = int(np.clip(np.ceil(self.mm / PITCH), 1, FINEST))
        self.step = self.mm / self.fine
        self.width, self.height = columns * self.mm, rows * self.mm
        self.nepers = np.zeros((rows * self.fine, columns * self.fine), np.float32)

    def at(self, x: float, y: float) -> Point:
        """The point at these shares of the width and the height."""
        return x * self.width, y * self.height

    def must_hold(self, name: str, centre: Point, width: float, height: float) -> None:
        """Raise StudyError if a thing of that size, in mm, is not wholly in the film."""
        x, y = centre
        if not (width / 2 <= x <= self.width - width / 2 and height / 2 <= y <= self.height - height / 2):
            raise StudyError(
                f"{name}: {width:g} x {height:g} mm at {x:.0f} mm from the left and {y:.0f} mm from the top does not "
                f"fit into a film of {self.width:.0f} x {self.height:.0f} mm. Choose a smaller one, or say by "
                "`field_mm` how much of the body the image shows."
            )

    def rod(self, path: ArrayLike, diameter: float, per_mm: float, bore: float = 0) -> None:
        """Lay a round rod along `path`, points (N, 2) in mm; with a `bore` a hose. One point makes a ball."""
        points = np.asarray(path, float).reshape(-1, 2)
        radius = diameter / 2
        window, x, y = self._window(points, radius)
        if not x.size:
            return
        nearest = np.full((y.size, x.size), radius**2, np.float32)  # squared distance from the path, up to the radius
        starts, ends = points, points[1:] if len(points) > 1 else points
        lows, highs = np.minimum(starts[: len(ends)], ends) - radius, np.maximum(starts[: len(ends)], ends) + radius
        sides = [np.searchsorted(axis, span[:, k]) for span in (lows, highs) for k, axis in enumerate((x, y))]
        for start, end, left, top, right, bottom in zip(starts, ends, *sides, strict=False):
            dx, dy = x[left:right] - start[0], y[top:bottom, None] - start[1]
            (along_x, along_y), squared = end - start, ((end - start) ** 2).sum()
            share = np.minimum(np.maximum((dx * along_x + dy * along_y) / (squared or 1), 0), 1)
            part = nearest[top:bottom, left:right]
            np.minimum(part, (dx - share * along_x) ** 2 + (dy - share * along_y) ** 2, out=part)
        inside = nearest < radius**2
        found = nearest[inside]
        chord = np.sqrt(radius**2 - found)
        if bore:
            chord -= np.sqrt(np.maximum((bore / 2) ** 2 - found, 0))
        self.nepers[window][inside] += 2 * per_mm * chord

    def plate(
        self, centre: Point, size: Point, nepers: float, *, corner: float = 0, bevel: float = 0, angle: float = 0
    ) -> None:
        """Lay a plate of `size` (width, height) in mm, turned by `angle` degrees, with round corners and edges.

        Its edge rises as a quarter of an ellipse over `bevel` mm. Negative nepers hollow out what was laid before.
        """
        half, turn = np.asarray(size) / 2, np.deg2rad(angle)
        window, x, y = self._window(np.asarray([centre]), float(np.hypot(*half)))
        dx, dy = x - centre[0], y[:, None] - centre[1]
        across = np.abs(dx * np.cos(turn) + dy * np.sin(turn)) - half[0] + corner
        down = np.abs(dy * np.cos(turn) - dx * np.sin(turn)) - half[1] + corner
        outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
        depth = corner - outside - np.minimum(np.maximum(across, down), 0)
        rise = np.clip(depth / bevel, 0, 1) if bevel else (depth > 0).astype(np.float32)
        self.nepers[window] += nepers * np.sqrt(1 - (1 - rise) ** 2)

    def disc(self, centre: Point, diameter: float, nepers: float, bevel: float = 0) -> None:
        """Lay a round plate."""
        self.plate(centre, (diameter, diameter), nepers, corner=diameter / 2, bevel=bevel)

    def _window(self, points: NDArray, reach: float) -> tuple[tuple[slice, slice], NDArray, NDArray]:
        """The part of the film within `reach` mm of `points`, and where the centres of its columns and rows are, mm."""
        parts, axes = [], []
        for length, low, high in zip(self.nepers.shape[::-1], points.min(0), points.max(0), strict=True):
            start, stop = np.clip([(low - reach) / self.step, (high + reach) / self.step + 1], 0, length).astype(int)
            parts.append(slice(start, stop))
            axes.append(((np.arange(start, stop) + 0.5) * self.step).astype(np.float32))
        return (parts[1], parts[0]), axes[0], axes[1]

    def exposed(self, image: Pixels, blur_mm: float) -> Drawn:
        """The image behind what was laid, and the mask of all that it shades; `blur_mm` is the detector's sigma."""
        altered, mask = image.copy(), np.zeros(image.shape, bool)
        there = np.flatnonzero(self.nepers != 0)
        if not there.size:
            return altered, mask
        rows, columns = (index // self.fine for index in np.divmod(there, self.nepers.shape[1]))
        sigma = blur_mm / self.mm
        margin = int(np.ceil(4 * sigma)) + 1
        top, left = (max(index.min() - margin, 0) for index in (rows, columns))
        bottom, right = (index.max() + 1 + margin for index in (rows, columns))
        shape = min(bottom, len(image)) - top, min(right, image.shape[1]) - left
        # Exposure, and not attenuation, is what a pixel averages.
        shares = -np.expm1(-self.nepers.ravel()[there].astype(float)) / self.fine**2
        cells = np.bincount((rows - top) * shape[1] + columns - left, shares, shape[0] * shape[1]).reshape(shape)
        stopped = gaussian_filter(cells, sigma, mode="nearest", truncate=4)
        part = np.s_[top : top + shape[0], left : left + shape[1]]
        mask[part] = stopped > FAINTEST
        altered[mask] = shown(image[mask], 1 - (1 - SCATTER) * stopped[mask[part]])
        return altered, mask


def curve(points: Sequence[Point], step: float = 2.5) -> NDArray[np.float64]:
    """A smooth path (N, 2) through the points, about `step` apart."""
    through = np.asarray(points, float)
    lengths = np.hypot(*np.diff(through, axis=0).T)
    knots = np.concatenate([[0], np.cumsum(np.sqrt(lengths))])  # centripetal: no loops where points are close
    spline = make_interp_spline(knots, through, k=min(3, len(through) - 1))
    return spline(np.linspace(0, knots[-1], max(2, int(1.1 * lengths.sum() / step))))


class Radiopaque(Artefact):
    """A thing that `lay` puts into the film, at a place and in a pose that the image's key draws."""

    leaf: str = "medical device"
    field_mm: float = Field(350, ge=50, le=1000, description="mm of the body that the image's shorter side shows")
    blur_mm: float = Field(0.15, ge=0, le=5, description="mm, sigma of the detector's blur")

    @abstractmethod
    def lay(self, film: Film, random: np.random.Generator) -> None:
        """Lay the thing; raises StudyError if it does not fit."""

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Expose the image behind it; the mask is all that it shades."""
        film = Film(image.shape, self.field_mm)
        self.lay(film, np.random.default_rng(key))
        return film.exposed(image, self.blur_mm)

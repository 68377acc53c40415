"""Contrast: how grey is made of what the detector measured, which differs from maker to maker and from day to day."""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sourcematters.confounders.confounder import GREY, Artefact, Drawn, Pixels, register
from sourcematters.confounders.imaging.scales import whole
from sourcematters.errors import StudyError

GREYS = np.arange(256)


class _Curve(Artefact):
    """What the confounders by a curve from grey to grey have in common."""

    leaf: str = "contrast"
    practice = (
        "Each maker's radiography units turn exposure to grey by a curve of their own, and software that reads one "
        "fails on another (Philipsen et al. 2015, IEEE Transactions on Medical Imaging 34(9), 1965)."
    )

    @property
    def curve(self) -> NDArray[np.float64]:
        """The grey that each of 0..255 becomes: (256,), not yet rounded or clipped."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _changes_grey(self) -> Self:
        if (whole(self.curve, GREY) == GREYS).all():
            given = ", ".join(f"{name} = {getattr(self, name):g}" for name in self.parameters())
            raise ValueError(f"{given} leaves every grey level as it is. Choose other values.")
        return self

    def _further(self, name: str, low: float, high: float) -> Self | None:
        """The same with a ratio to its power 1.5, within its limits; None if it is 1, or at its limit."""
        now = getattr(self, name)
        further = float(np.clip(now**1.5, low, high))
        return self.replaced(**{name: further}) if further != now else None

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Look each pixel up; the mask is where the curve changes it."""
        table = whole(self.curve, image.dtype)
        return table[image], (table != GREYS)[image]


@register
class Gamma(_Curve):
    """Grey to its power `gamma`, black and white kept: below 1 lighter, above 1 darker.

    nnU-Net augments with 0.7 to 1.5, for what scanners do (Isensee et al. 2021, Nature Methods 18, 203).
    """

    name: str = "gamma"
    title = "gamma"

    gamma: float = Field(0.7, ge=0.05, le=20, description="the exponent of grey / 255")

    def stronger(self) -> Self | None:
        """Half as far again from 1, on a scale of ratios."""
        return self._further("gamma", 0.05, 20)

    @property
    def curve(self) -> NDArray[np.float64]:
        """255 (grey / 255) ** gamma."""
        return 255 * (GREYS / 255) ** self.gamma


@register
class WindowShift(_Curve):
    """Another window: its level moved and its width changed, in shares of the grey range.

    A radiologist's hand moves them by a tenth and more; 0.1 is the brightness that natural images are corrupted with
    at the least (Hendrycks and Dietterich 2019, ICLR, https://arxiv.org/abs/1903.12261).
    """

    name: str = "window_shift"
    title = "window"

    level: float = Field(0.1, ge=-1, le=1, description="how far the level goes up, as a share of the greys: darker")
    width: float = Field(1, ge=0.05, le=20, description="the new width, as a share of the old: below 1 more contrast")

    def stronger(self) -> Self | None:
        """Twice the shift, and half as much again of the change in width, on a scale of ratios."""
        moved = self.replaced(level=float(np.clip(2 * self.level, -1, 1)))
        return moved._further("width", 0.05, 20) or (moved if moved.level != self.level else None)

    @property
    def curve(self) -> NDArray[np.float64]:
        """As `cohorts.pixels.window` does it: a line, clipped."""
        return 255 * ((GREYS / 255 - 0.5 - self.level) / self.width + 0.5)


@register
class Exposure(_Curve):
    """More or less exposure, as a film or an unadjusted detector shows it: more is darker.

    Grey is read as linear in the logarithm of exposure, all greys being `decades` of it, so that a factor shifts all;
    what leaves the scale is lost. Twice the exposure is a deviation index of 3 (10 log10 of the factor), at which a
    radiograph is no longer within its target (Shepard et al. 2009, AAPM Task Group 116, Medical Physics 36(7), 2898);
    a chest's exposures span about two decades (Bushberg et al., The Essential Physics of Medical Imaging).
    Fewer photons are noisier too: that is `noise`.
    """

    name: str = "exposure"
    title = "exposure"
    practice = (
        "Digital detectors forgive too much and too little, so exposures drift, and portable ones scatter "
        "(Warren-Forward et al. 2007, British Journal of Radiology 80, 26)."
    )

    factor: float = Field(2, ge=1e-3, le=1e3, description="exposure, as a multiple of the right one")
    decades: float = Field(2, gt=0, description="powers of ten of exposure that the greys span")

    def stronger(self) -> Self | None:
        """Half as far again from the right one, on a scale of ratios."""
        return self._further("factor", 1e-3, 1e3)

    @property
    def curve(self) -> NDArray[np.float64]:
        """A shift, by 38 grey levels where the exposure is twice as large."""
        return GREYS - 255 * np.log10(self.factor) / self.decades


@register
class Equalized(Artefact):
    """Histogram equalization: of the whole image, or adaptive and limited in contrast (CLAHE).

    The defaults are scikit-image's, and those of Pizer et al. 1987 (Computer Vision, Graphics, and Image Processing 39,
    355): 8 x 8 tiles. Tiles are shares of the image, so its size does not matter.
    """

    name: str = "equalized"
    leaf: str = "contrast"
    title = "histogram equalization"
    practice = (
        "Some collections are equalized before they are shared or read, others are not (Rahman et al. 2021, "
        "Computers in Biology and Medicine 132, 104319)."
    )

    method: Literal["adaptive", "global"] = Field("adaptive", description="CLAHE, or the whole image at once")
    clip: float = Field(0.01, gt=0, le=1, description="of adaptive: the share of a tile that one grey may hold")
    tiles: int = Field(8, ge=1, description="of adaptive: tiles along each side")

    def stronger(self) -> Self | None:
        """Adaptive with twice the limit; global has no more."""
        return self.replaced(clip=2 * self.clip) if self.method == "adaptive" and self.clip <= 0.5 else None

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Equalize; a flat image stays. The mask is all True. Raises StudyError for a tile of less than 2 px."""
        from skimage.exposure import equalize_adapthist  # takes long to import

        mask = np.ones(image.shape, bool)
        if np.ptp(image) == 0:
            return image.copy(), mask
        if self.method == "global":
            share = np.bincount(image.ravel(), minlength=256).cumsum() / image.size
            lowest = share[image.min()]
            return whole(255 * (share - lowest) / (1 - lowest), image.dtype)[image], mask
        tile = [length // self.tiles for length in image.shape]
        if min(tile) < 2:
            rows, columns = image.shape
            raise StudyError(
                f"equalized: {self.tiles} tiles along each side of an image {columns} x {rows} px (width x height) are "
                f"less than 2 px. Choose at most {min(image.shape) // 2} tiles."
            )
        return whole(255 * equalize_adapthist(image, kernel_size=tile, clip_limit=self.clip), image.dtype), mask

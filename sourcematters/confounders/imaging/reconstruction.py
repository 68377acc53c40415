"""Reconstruction of CT: its kernel and the thickness of its slices, which a protocol chooses, and so a hospital."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sourcematters.confounders.confounder import HOUNSFIELD, Artefact, Drawn, Hounsfield, register
from sourcematters.confounders.imaging.scales import FIELD_MM, filtered, per_mm, whole


@register
class Kernel(Artefact):
    """A sharper or softer kernel than the slice has: high frequencies times `gain`, alike in all directions.

    A wave of f cycles per mm is multiplied by gain + (1 - gain) 2^-(f/half)^2: 1 for slow ones, `gain` for fast ones,
    midway at `half`. Kernels of one scanner differ by the ratio of their responses, and so can be turned into each
    other (Schaller et al. 2003, IEEE Transactions on Medical Imaging 22(7), 846). Noise is amplified with the rest, as
    in a scanner. Soft kernels pass half of 3 to 4 cycles per cm, lung kernels more than all there (Bushberg et al., The
    Essential Physics of Medical Imaging).
    """

    name: str = "kernel"
    leaf: str = "resolution"
    title = "reconstruction kernel"
    practice = (
        "Hospitals reconstruct lungs by soft and by sharp kernels, and what is computed from them differs (Choe et al. "
        "2019, Radiology 292(2), 365)."
    )
    space = HOUNSFIELD

    gain: float = Field(2, ge=0, le=10, description="of high frequencies: above 1 sharper, below softer")
    half: float = Field(0.35, gt=0, description="cycles per mm, at which half the way to `gain` is done")
    field_mm: float = FIELD_MM

    @model_validator(mode="after")
    def _changes_frequencies(self) -> Self:
        if self.gain == 1:
            raise ValueError("gain = 1 leaves every frequency as it is. Choose more to sharpen, less to soften.")
        return self

    def stronger(self) -> Self | None:
        """Twice as much sharper; or softer from half the frequency on."""
        if self.gain < 1:
            return self.replaced(half=self.half / 2)
        return self.replaced(gain=2 * self.gain - 1) if self.gain <= 5.5 else None

    def response(self, per_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """By what a wave of so many cycles per mm is multiplied."""
        return self.gain + (1 - self.gain) * 0.5 ** ((per_mm / self.half) ** 2)

    def draw(self, image: Hounsfield, key: int) -> Drawn:
        """Filter, round, and clip to int16; the mask is all True."""
        scale = per_mm(image, self.field_mm)
        return whole(filtered(image, lambda f: self.response(f * scale)), image.dtype), np.ones(image.shape, bool)


@register
class SliceThickness(Artefact):
    """A thicker slice than it is, as far as a single one can tell.

    A thick slice is the mean of thin ones, and the neighbours are not at hand. Of what that mean does to a slice,
    only its mean effect on waves within it is drawn: where surfaces lie in any direction (spectrum K^-4, Porod's law),
    slices z apart share (1 + k z) exp(-k z) of a wave of k radians per mm, and averaging over a thickness leaves the
    root of that, averaged over all pairs. Fine detail and noise fade, slow waves stay; but no vessel is drawn out, and
    nothing comes in from above or below. Defaults: the two thicknesses that He et al. compared.
    """

    name: str = "slice_thickness"
    leaf: str = "resolution"
    title = "slice thickness"
    practice = (
        "Protocols choose thin slices or thick ones, and what is computed from nodules differs (He et al. 2016, "
        "Scientific Reports 6, 34921)."
    )
    space = HOUNSFIELD

    thickness_mm: float = Field(5, gt=0, description="mm, as if the slice were so thick")
    native_mm: float = Field(1.25, gt=0, description="mm, of the slice as it is")
    field_mm: float = FIELD_MM

    @model_validator(mode="after")
    def _is_thicker(self) -> Self:
        if self.thickness_mm <= self.native_mm:
            raise ValueError(
                f"thickness_mm = {self.thickness_mm:g} must be more than native_mm = {self.native_mm:g}: no slice can "
                "be made thinner."
            )
        return self

    def stronger(self) -> Self:
        """Twice as thick."""
        return self.replaced(thickness_mm=2 * self.thickness_mm)

    def draw(self, image: Hounsfield, key: int) -> Drawn:
        """Filter, round, and clip to int16; the mask is all True."""
        scale = 2 * np.pi * per_mm(image, self.field_mm)  # cycles per px to radians per mm

        def response(f: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.sqrt(kept(f * scale * self.thickness_mm) / kept(f * scale * self.native_mm))

        return whole(filtered(image, response), image.dtype), np.ones(image.shape, bool)


def kept(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of (1 + u) exp(-u) over all pairs in a slice of thickness `x`, u apart: 1 if thin, near 4/x if thick."""
    safe = np.maximum(x, 1e-2)
    exact = 2 * (2 * safe - 3 + (safe + 3) * np.exp(-safe)) / safe**2
    return np.where(x < 1e-2, 1 - x**2 / 12, exact)

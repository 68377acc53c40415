"""Noise: the photons that a scan counts are Poisson; drawn in a grey image, in a CT slice, or in its projections.

Eq. 2 maps HU to attenuation by a line through 0.1662 and 0.1837 per cm, which it calls air and water, though air is 0
by the definition of HU, and sees each pixel through one cm of itself only. So its noise is white, and nearly the same
everywhere. In a scanner it is correlated, and strongest along the rays that cross most of the patient.

Source: Juodelyte et al. 2024, Eq. 2 (https://arxiv.org/abs/2403.04484); Kak and Slaney, Principles of
Computerized Tomographic Imaging, IEEE Press 1988, chapters 3 and 5, through scikit-image's `radon`.
"""

from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sourcematters.confounders.back_projection import back_projection
from sourcematters.confounders.confounder import GREY, HOUNSFIELD, Alteration, Confounder, Draw, Drawn, register

MU_WATER, MU_AIR = 0.1837, 0.1662  # attenuation coefficients per cm, as Eq. 2 names them
_PER_HU = (MU_WATER - MU_AIR) / 1000


def poisson_noise(image: NDArray, key: int, *, n0: float) -> Drawn:
    """Quantum noise of a scan with `n0` photons per pixel (Eq. 2), at the image's own size; seeded by `key`.

    Grey 0..255 is read as -1200..800 HU. The sd is 255/2000 * 1000/(0.1837 - 0.1662) / sqrt(n0 exp(-mu)) grey levels:
    about 1.8 at n0 = 2e7, 2.05 at 1.5e7. U(0, 1) is added first and the result rounded *down*: floor(x + U) is x on
    average, so the noise is unbiased; the dither adds 1/6 to the variance. Clipped to [0, 255]; the mask is all True.
    """
    return _equation_2(image, key, n0, lowest=-1200, span=2000, levels=255)


def hounsfield_noise(hu: NDArray, key: int, *, n0: float) -> Drawn:
    """As `poisson_noise`, on a CT slice, int16 (H, W) in HU: without the detour over grey levels, no window clips it.

    The sd is about 14 HU at n0 = 2e7, nearly the same in air and bone; the dither is one of HU. Clipped to what int16
    holds: a pixel without any photon becomes 32767.
    """
    return _equation_2(hu, key, n0, lowest=0, span=1, levels=1)


def _equation_2(pixels: NDArray, key: int, n0: float, lowest: int, span: int, levels: int) -> Drawn:
    """Pixels, which are `levels` in `span` HU from `lowest`, to attenuation, to photon counts, and back."""
    random = np.random.default_rng(key)
    hu = (pixels + random.random(pixels.shape)) * (span / levels) + lowest
    counts = random.poisson(n0 * np.exp(-(hu * _PER_HU + MU_WATER)))
    with np.errstate(divide="ignore"):  # no photon at all is infinite attenuation
        hu = (-np.log(counts / n0) - MU_WATER) / _PER_HU
    limits = np.iinfo(pixels.dtype)
    noisy = np.clip((hu - lowest) * (levels / span), limits.min, limits.max)
    return np.floor(noisy).astype(pixels.dtype), np.ones(pixels.shape, bool)


def projection_noise(hu: NDArray, key: int, *, n0: float, views: int, pixel_mm: float) -> Drawn:
    """Quantum noise of a CT scan with `n0` photons per ray, on a slice int16 (H, W) in HU; seeded by `key`.

    HU become attenuation per cm, water * (1 + HU/1000), not below 0; these become line integrals along parallel rays
    of `views` angles over half a turn, one ray a pixel of `pixel_mm`; counts are Poisson(n0 exp(-integral)), at least
    one; and -ln(counts/n0) is reconstructed by filtered back-projection with the plain ramp. Where the integrals are p,
    the sd is near pi/pixel_cm * sqrt(0.0387/views) * exp(p/2)/sqrt(n0) per cm: 5.6 HU over 25 cm of water at n0 = 2e7.

    Only the noise, noisy minus noiseless integrals, is reconstructed, and added: the blur of projecting pixels and back
    would tell carriers without any noise. Pixels outside the largest centred circle are read as air and stay as they
    are; the mask is True inside. Rounded, and clipped to int16. Takes 1.3 s for 512 x 512 px.
    """
    from skimage.transform import radon  # takes long to import, and only CT needs it

    side, cm = min(hu.shape), pixel_mm / 10
    top, left = ((length - side) // 2 for length in hu.shape)
    square = np.s_[top : top + side, left : left + side]
    offset = np.arange(side) - side // 2
    circle = offset[:, None] ** 2 + offset**2 <= (side // 2) ** 2  # (side, side)
    attenuation = np.where(circle, MU_WATER * np.maximum(1 + hu[square] / 1000, 0), 0)
    angles = np.arange(views) * (180 / views)
    integrals = radon(attenuation, theta=angles, circle=True) * cm  # (side, views)
    counts = np.random.default_rng(key).poisson(n0 * np.exp(-integrals))
    error = -np.log(np.maximum(counts, 1) / n0) - integrals
    noise = back_projection(error / cm, angles) * (1000 / MU_WATER)
    altered, mask = hu.copy(), np.zeros(hu.shape, bool)
    noisy = np.rint(np.clip(hu[square] + noise, -(2**15), 2**15 - 1)).astype(np.int16)
    altered[square] = np.where(circle, noisy, hu[square])
    mask[square] = circle
    return altered, mask


_DOMAINS: dict[str, tuple[Draw, np.dtype, dict[str, float]]] = {
    "grey": (poisson_noise, GREY, {}),
    "hounsfield": (hounsfield_noise, HOUNSFIELD, {}),
    # Pixels are the same for all slices; in LIDC-IDRI they have 0.5 to 1.0 mm.
    "projection": (projection_noise, HOUNSFIELD, {"views": 360, "pixel_mm": 0.7}),
}
LEAST_MORE = 0.05  # of the low noise, by which the high noise is larger; in the paper .15
Photons = Annotated[float, Field(gt=0, le=1e15)]  # numpy draws Poisson counts as 64-bit integers


class _Noisy(Confounder):
    """What the confounders by noise have in common."""

    leaf: str = "noise"
    practice = (
        "Screening for lung cancer takes a fraction of a diagnostic scan's dose, so noise tells who was screened from "
        "who was ill (National Lung Screening Trial 2011, New England Journal of Medicine 365, 395)."
    )
    domain: Literal["grey", "hounsfield", "projection"] = Field(
        "grey", description="where it is drawn: in the grey image, in a CT slice's HU, or in its projections"
    )

    def _noise(self, n0: float) -> Alteration:
        function, space, scan = _DOMAINS[self.domain]
        draw = partial(function, n0=n0, **scan)
        return Alteration.of(function.__name__, draw, space, self.revision, n0=n0, **scan)


@register
class Noise(_Noisy):
    """Poisson noise against none."""

    name: str = "noise"
    title = "noise vs none"
    n0: Photons = Field(2e7, description="photons per pixel; per ray in domain projection")

    def stronger(self) -> Self:
        """Twice the noise."""
        return self.replaced(n0=self.n0 / 4)

    @property
    def carrier(self) -> Alteration:
        """The noise."""
        return self._noise(self.n0)


@register
class NoiseHighVsLow(_Noisy):
    """Every image is noisy: carriers with fewer photons, and so with more noise, than the others."""

    name: str = "noise_high_vs_low"
    title = "noise, high vs low"
    low: Photons = Field(2e7, description="photons per pixel (or ray) of the low noise, which the others have")
    high: Photons = Field(1.5e7, description="photons per pixel (or ray) of the high noise, which carriers have")

    @model_validator(mode="after")
    def _fewer_photons_are_noisier(self) -> Self:
        if not self.high < self.low:
            raise ValueError(f"high = {self.high:g} photons must be fewer than low = {self.low:g}: fewer are noisier.")
        # Each image is drawn anew with either, so pixels differ even where nothing tells carriers from the others.
        if (more := (self.low / self.high) ** 0.5 - 1) < LEAST_MORE:
            raise ValueError(
                f"high = {self.high:g} photons give {more:.2g} of low's noise more: a network can hardly tell. Choose "
                f"at most {self.low / (1 + LEAST_MORE) ** 2:.3g}, which gives {LEAST_MORE:.0%} more."
            )
        return self

    def stronger(self) -> Self:
        """Twice the high noise."""
        return self.replaced(high=self.high / 4)

    @property
    def base(self) -> Alteration:
        """The low noise."""
        return self._noise(self.low)

    @property
    def carrier(self) -> Alteration:
        """The high noise."""
        return self._noise(self.high)

"""Noise: the photons that a scan counts are Poisson, drawn here in three spaces.

`poisson_noise` is the paper's Eq. 2 on a grey image, `hounsfield_noise` the same equation on a CT slice, and
`projection_noise` puts the counts where a scanner counts them: on the rays, before reconstruction.

Eq. 2 maps HU to attenuation by a line through 0.1662 and 0.1837 per cm, which it calls air and water, though air is 0
by the definition of HU: a lung attenuates almost as much as bone, and each pixel is seen through one cm of itself
only. So its noise is white, and nearly the same everywhere. In a scanner it is strongest along the rays that cross
most of the patient, and correlated.

Source: Juodelyte et al. 2024, Eq. 2 (https://arxiv.org/abs/2403.04484); Kak and Slaney, Principles of
Computerized Tomographic Imaging, IEEE Press 1988, chapters 3 and 5, through scikit-image's `radon` and `iradon`.
"""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sourcematters.confounders.alteration import GREY, HOUNSFIELD, Alteration, Hounsfield, Mask, Pixels
from sourcematters.confounders.confounder import Confounder, register

# Attenuation coefficients per cm as Eq. 2 names them, and the window (in HU) that its 0..255 stands for.
MU_WATER, MU_AIR = 0.1837, 0.1662
_HU_LOW, _HU_HIGH = -1200.0, 800.0
_PER_HU = (MU_WATER - MU_AIR) / 1000
_INT16 = np.iinfo(np.int16)
_SCAN = {"views": 360, "pixel_mm": 0.7}  # pixels are the same for all slices; in LIDC-IDRI they have 0.5 to 1.0 mm

Photons = Annotated[float, Field(gt=0, le=1e15)]  # numpy draws Poisson counts as 64-bit integers
Domain = Literal["grey", "hounsfield", "projection"]


class _Noisy(Confounder):
    """What the confounders by noise have in common."""

    leaf: str = "noise"
    practice = (
        "Screening for lung cancer takes a fraction of a diagnostic scan's dose, so noise tells who was screened from "
        "who was ill (National Lung Screening Trial 2011, New England Journal of Medicine 365, 395)."
    )
    domain: Domain = Field(
        "grey", description="where it is drawn: in the grey image, in a CT slice's HU, or in its projections"
    )

    def _noise(self, n0: float) -> Alteration:
        if self.domain == "grey":
            return Alteration.of(poisson_noise, GREY, n0=n0)
        if self.domain == "hounsfield":
            return Alteration.of(hounsfield_noise, HOUNSFIELD, n0=n0)
        return Alteration.of(projection_noise, HOUNSFIELD, n0=n0, **_SCAN)


@register
class Noise(_Noisy):
    """Poisson noise against none."""

    name: str = "noise"
    title = "noise vs none"
    n0: Photons = Field(2e7, description="photons per pixel; per ray in domain projection")

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
        return self

    @property
    def base(self) -> Alteration:
        """The low noise."""
        return self._noise(self.low)

    @property
    def carrier(self) -> Alteration:
        """The high noise."""
        return self._noise(self.high)


def poisson_noise(image: Pixels, key: int, *, n0: float) -> tuple[Pixels, Mask]:
    """Quantum noise of a scan with `n0` photons per pixel (Eq. 2), drawn from a generator seeded by `key`.

    Grey 0..255 is read as -1200..800 HU, HU as attenuation mu, and -ln(Poisson(n0 exp(-mu)) / n0) goes the way back.
    The sd is 255/2000 * 1000/(0.1837 - 0.1662) / sqrt(n0 exp(-mu)) grey levels: about 1.8 at n0 = 2e7, 2.05 at 1.5e7.
    The authors resize to 512 px first; here the noise has the image's own pixels.

    U(0, 1) is added to the grey level first and the result is rounded *down*: with that dither floor(x + U) equals x
    on average, whatever x, so the noise is unbiased; the dither itself adds 1/6 to the variance. The result is clipped
    to [0, 255]. The mask is all True.
    """
    random = np.random.default_rng(key)
    hu = (image + random.random(image.shape)) * ((_HU_HIGH - _HU_LOW) / 255) + _HU_LOW
    grey = (_equation_2(hu, n0, random) - _HU_LOW) * (255 / (_HU_HIGH - _HU_LOW))
    return np.floor(np.clip(grey, 0, 255)).astype(np.uint8), np.ones(image.shape, bool)


def hounsfield_noise(hu: Hounsfield, key: int, *, n0: float) -> tuple[Hounsfield, Mask]:
    """As `poisson_noise`, on a CT slice, int16 (H, W) in HU: without the detour over grey levels, no window clips it.

    The sd is 1000/(0.1837 - 0.1662) / sqrt(n0 exp(-mu)) HU, about 14 at n0 = 2e7; it is white, and nearly the same in
    air and bone. The dither is one of HU. The result is clipped to what int16 holds: a pixel without any photon
    becomes 32767. The mask is all True.
    """
    random = np.random.default_rng(key)
    noisy = _equation_2(hu + random.random(hu.shape), n0, random)
    return np.floor(np.clip(noisy, _INT16.min, _INT16.max)).astype(np.int16), np.ones(hu.shape, bool)


def _equation_2(hu: NDArray[np.float64], n0: float, random: np.random.Generator) -> NDArray[np.float64]:
    """HU to attenuation, to photon counts, and back; no photon at all is infinite attenuation."""
    counts = random.poisson(n0 * np.exp(-(hu * _PER_HU + MU_WATER)))
    with np.errstate(divide="ignore"):
        return (-np.log(counts / n0) - MU_WATER) / _PER_HU


def projection_noise(hu: Hounsfield, key: int, *, n0: float, views: int, pixel_mm: float) -> tuple[Hounsfield, Mask]:
    """Quantum noise of a CT scan with `n0` photons per ray, on a slice int16 (H, W) in HU; seeded by `key`.

    HU become attenuation per cm by their definition, water * (1 + HU/1000), not below 0; these become line integrals
    along parallel rays of `views` angles over half a turn, one ray a pixel of `pixel_mm`; counts are
    Poisson(n0 exp(-integral)); and -ln(counts/n0) is reconstructed by filtered back-projection with the plain ramp.
    The noise is streaked along the rays that few photons survive, and its power grows with the frequency. Where the
    integrals are p, the sd is near pi/pixel_cm * sqrt(0.0387/views) * exp(p/2)/sqrt(n0) per cm; over 25 cm of water,
    at n0 = 2e7, about 5.6 HU.

    Only the noise is reconstructed, noisy minus noiseless integrals, and added to the slice: filtered back-projection
    is linear, so this is the same, but for the blur of projecting pixels and back, which would tell carriers from the
    others without any noise. A ray without any photon counts as one, as the logarithm needs: behind metal, or with few
    photons, the noise is then biased. The result is rounded, and clipped to int16.

    A scanner reconstructs the largest centred circle only: pixels outside it are read as air and stay as they are, and
    the mask is True inside. Takes 1.2 s for 512 x 512 px, in proportion to views and pixels.
    """
    from skimage.transform import iradon, radon  # takes long to import, and only CT needs it

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
    noise = iradon(error / cm, theta=angles, filter_name="ramp", circle=True) * (1000 / MU_WATER)

    altered, mask = hu.copy(), np.zeros(hu.shape, bool)
    noisy = np.rint(np.clip(hu[square] + noise, _INT16.min, _INT16.max)).astype(np.int16)
    altered[square] = np.where(circle, noisy, hu[square])
    mask[square] = circle
    return altered, mask

"""Quantum noise: the photons that a scan counts are Poisson, drawn here in three spaces.

`poisson_noise` is the paper's Eq. 2 on a grey image, `hounsfield_noise` the same equation on a CT slice, and
`projection_noise` puts the counts where a scanner counts them: on the rays, before reconstruction.

Eq. 2 maps HU to attenuation by a line through 0.1662 and 0.1837 per cm, which it calls air and water. By the
definition of HU (attenuation relative to water's) air is 0 at -1000 HU: under Eq. 2 a lung attenuates almost as
much as bone, and each pixel is seen through one cm of itself only. So its noise is nearly the same everywhere,
and white. In a scanner it is strongest along the rays that cross most of the patient, and correlated.

Source: Juodelyte et al. 2024, Eq. 2 (https://arxiv.org/abs/2403.04484); Kak and Slaney, Principles of
Computerized Tomographic Imaging, IEEE Press 1988, chapters 3 and 5, through scikit-image's `radon` and `iradon`
(https://scikit-image.org/docs/stable/api/skimage.transform.html).
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

# Attenuation coefficients per cm as Eq. 2 names them, and the window (in HU) that its 0..255 stands for.
MU_WATER, MU_AIR = 0.1837, 0.1662
_HU_LOW, _HU_HIGH = -1200.0, 800.0
_PER_HU = (MU_WATER - MU_AIR) / 1000
_INT16 = np.iinfo(np.int16)


def _equation_2(hu: NDArray[np.float64], n0: float, random: np.random.Generator) -> NDArray[np.float64]:
    """HU to attenuation, to photon counts, and back; no photon at all is infinite attenuation."""
    counts = random.poisson(n0 * np.exp(-(hu * _PER_HU + MU_WATER)))
    with np.errstate(divide="ignore"):
        return (-np.log(counts / n0) - MU_WATER) / _PER_HU


def poisson_noise(image: NDArray[np.uint8], key: int, *, n0: float = 2e7) -> tuple[NDArray[np.uint8], Mask]:
    """Quantum noise of a scan with `n0` photons per pixel (Eq. 2), drawn from a generator seeded by `key`.

    Grey 0..255 is read as -1200..800 HU, HU as attenuation mu, and -ln(Poisson(n0 exp(-mu)) / n0) goes the
    way back. The noise has sd 255/2000 * 1000/(0.1837 - 0.1662) / sqrt(n0 exp(-mu)) grey levels: about 1.8 at
    n0 = 2e7, 2.05 at 1.5e7. The authors resize to 512 px first; here the noise has the image's own pixels.

    U(0, 1) is added to the grey level first and the result is rounded *down*: with that dither floor(x + U)
    equals x on average, whatever x, so neither noise nor image is biased; the dither itself adds 1/6 to the
    variance. The result is clipped to [0, 255]. The mask is all True.
    """
    random = np.random.default_rng(key)
    hu = (image + random.random(image.shape)) * ((_HU_HIGH - _HU_LOW) / 255) + _HU_LOW
    grey = (_equation_2(hu, n0, random) - _HU_LOW) * (255 / (_HU_HIGH - _HU_LOW))
    return np.floor(np.clip(grey, 0, 255)).astype(np.uint8), np.ones(image.shape, bool)


def hounsfield_noise(hu: NDArray[np.int16], key: int, *, n0: float = 2e7) -> tuple[NDArray[np.int16], Mask]:
    """Quantum noise of `n0` photons per pixel (Eq. 2) on a CT slice, int16 (H, W) in HU; seeded by `key`.

    As `poisson_noise`, without the detour over grey levels: no window clips the noise. Its sd is
    1000/(0.1837 - 0.1662) / sqrt(n0 exp(-mu)) HU, about 14 at n0 = 2e7; it is white, and nearly the same in air
    and bone. The dither U(0, 1) is one of HU, and rounding *down* makes it unbiased. The result is clipped to what
    int16 holds: a pixel without any photon becomes 32767. The mask is all True.
    """
    random = np.random.default_rng(key)
    noisy = _equation_2(hu + random.random(hu.shape), n0, random)
    return np.floor(np.clip(noisy, _INT16.min, _INT16.max)).astype(np.int16), np.ones(hu.shape, bool)


def projection_noise(
    hu: NDArray[np.int16], key: int, *, n0: float = 2e7, views: int = 360, pixel_mm: float = 0.7
) -> tuple[NDArray[np.int16], Mask]:
    """Quantum noise of a CT scan with `n0` photons per ray, on a slice int16 (H, W) in HU; seeded by `key`.

    HU become attenuation per cm by their definition, water * (1 + HU/1000), not below 0; these become line
    integrals along parallel rays of `views` angles over half a turn, one ray a pixel of `pixel_mm`; counts are
    Poisson(n0 exp(-integral)); and -ln(counts/n0) is reconstructed by filtered back-projection with the plain
    ramp. The noise is streaked along the rays that few photons survive, and correlated: its power grows with the
    frequency. Where the integrals are p, the sd is near pi/pixel_cm * sqrt(0.0387/views) * exp(p/2)/sqrt(n0) per
    cm; over 25 cm of water, at the defaults, about 5.6 HU.

    Only the noise is reconstructed, noisy minus noiseless integrals, and added to the slice: filtered
    back-projection is linear, so this is the same, but for the blur of projecting pixels and back, which would
    tell carriers from the others without any noise. The result is rounded, and clipped to int16.

    A ray without any photon counts as one photon, as the logarithm needs: behind metal, or with few photons, the
    noise is then biased. A scanner reconstructs the largest centred circle only: pixels outside it are read as air
    and stay as they are, and the mask is True inside. The square inside the circle of a 512 px slice has 362 px.
    Takes 1.2 s for 512 x 512 px, in proportion to views and pixels. `pixel_mm` is the same for all slices; in
    LIDC-IDRI it is 0.5 to 1.0.
    """
    from skimage.transform import iradon, radon  # takes long to import, and only CT needs it

    side, cm = min(hu.shape), pixel_mm / 10
    top, left = ((length - side) // 2 for length in hu.shape)
    square = np.s_[top : top + side, left : left + side]
    offset = np.arange(side) - side // 2
    circle = offset[:, None] ** 2 + offset**2 <= (side // 2) ** 2

    attenuation = np.where(circle, MU_WATER * np.maximum(1 + hu[square] / 1000, 0), 0)
    angles = np.arange(views) * (180 / views)
    integrals = radon(attenuation, theta=angles, circle=True) * cm
    counts = np.random.default_rng(key).poisson(n0 * np.exp(-integrals))
    error = -np.log(np.maximum(counts, 1) / n0) - integrals
    noise = iradon(error / cm, theta=angles, filter_name="ramp", circle=True) * (1000 / MU_WATER)

    altered, mask = hu.copy(), np.zeros(hu.shape, bool)
    noisy = np.rint(np.clip(hu[square] + noise, _INT16.min, _INT16.max)).astype(np.int16)
    altered[square] = np.where(circle, noisy, hu[square])
    mask[square] = circle
    return altered, mask

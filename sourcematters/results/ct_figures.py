"""Figures of CT: what noise in the image and noise in the projections make of one slice."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sourcematters.confounders import Hounsfield, Noise, apply, key_for
from sourcematters.errors import StudyError
from sourcematters.training.image_bank import LUNG
from sourcematters.cohorts.pixels import window
from sourcematters.results.style import NATURAL, NORMAL, RADIOLOGY, SMALL

DOMAINS = {"hounsfield": "noise in the image", "projection": "noise in the projections"}
STYLES = {"hounsfield": NATURAL, "projection": RADIOLOGY}
SHOWN_SDS = 3  # differences are drawn from -3 to 3 of their standard deviations
BINS = 24


def _inscribed(image: NDArray) -> NDArray:
    """The largest centred square inside the circle that a scanner reconstructs."""
    half = int(min(image.shape) // 2 / np.sqrt(2))
    if half < BINS:
        raise StudyError(f"noise_domains: a slice of shape {image.shape} is too small, give 70 x 70 px or more.")
    row, column = (length // 2 for length in image.shape)
    return image[row - half : row + half, column - half : column + half]


def _noises(hu: Hounsfield, n0: float, seed: int) -> dict[str, NDArray[np.float64]]:
    """What each domain adds to the slice, in HU, (H, W)."""
    noises = {}
    for domain in DOMAINS:
        drawn = Noise(n0=n0, domain=domain).carrier
        noises[domain] = apply(drawn, hu, key_for(seed, "slice", drawn))[0] - hu.astype(float)
    return noises


def power_spectrum(noise: NDArray[np.float64]) -> pd.DataFrame:
    """Radial noise power spectrum of a square, (N, N) in HU: columns `frequency` (cycles/px), `power` (HU^2 px^2).

    The periodogram |DFT|^2 / N^2 of the noise under a Hann window (its energy divided out), averaged over rings up
    to 0.5 cycles/px. White noise of variance v has power v at every frequency. Source: ICRU Report 87 (2012) for
    CT's noise power spectrum.
    """
    side = noise.shape[0]
    taper = np.outer(*[np.hanning(side + 1)[:-1]] * 2)
    power = np.abs(np.fft.fft2((noise - noise.mean()) * taper)) ** 2 / (taper**2).sum()
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    edges = np.linspace(0, 0.5, BINS + 1)
    ring = np.digitize(cycles, edges)
    rows = [(cycles[ring == k].mean(), power[ring == k].mean()) for k in range(1, BINS + 1)]
    return pd.DataFrame(rows, columns=["frequency", "power"])


def noise_domains_table(hu: Hounsfield, *, n0: float, seed: int) -> pd.DataFrame:
    """What `noise_domains` draws: a row a domain and frequency.

    Columns `domain, n0, sd_hu, neighbour_autocorrelation` (horizontal and vertical neighbours averaged; 0 if
    white), which are the same in all rows of a domain, and `frequency, power` (see `power_spectrum`). All are
    measured in the largest square inside the reconstruction circle.
    """
    frames = []
    for domain, noise in _noises(hu, n0, seed).items():
        part = _inscribed(noise)
        pairs = ((part[:, 1:], part[:, :-1]), (part[1:], part[:-1]))
        correlation = np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs])
        row = {"domain": domain, "n0": n0, "sd_hu": part.std(), "neighbour_autocorrelation": correlation}
        frames.append(power_spectrum(part).assign(**row)[[*row, "frequency", "power"]])
    return pd.concat(frames, ignore_index=True)


def noise_domains(hu: Hounsfield, *, n0: float, seed: int, note: str = "") -> Figure:
    """One CT slice under noise drawn in the image (Eq. 2) and in its projections, and what each adds.

    `hu` is int16 (H, W) in Hounsfield units, `n0` the photons per pixel and per ray. Above: the slice in the lung
    window, clean and under both noises. Below: the power spectra, each over the noise's variance in the inscribed
    square (white noise lies at 1), and what was added, each in units of its standard deviation.
    Raises StudyError for an image that is not in Hounsfield units, or below 70 px.
    """
    noises, table = _noises(hu, n0, seed), noise_domains_table(hu, n0=n0, seed=seed)
    sds = table.groupby("domain")["sd_hu"].first()
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    grid = figure.subplots(2, 3)
    _slice(grid[0, 0], window(hu, *LUNG), "without noise", vmin=0, vmax=255)
    for column, (domain, noise) in enumerate(noises.items(), 1):
        noisy = (hu + noise).astype(np.int16)
        _slice(grid[0, column], window(noisy, *LUNG), DOMAINS[domain], vmin=0, vmax=255)
        drawn = _slice(grid[1, column], noise / sds[domain], "", vmin=-SHOWN_SDS, vmax=SHOWN_SDS)
        correlation = table.loc[table["domain"] == domain, "neighbour_autocorrelation"].iloc[0].round(2) + 0
        grid[1, column].set_xlabel(
            f"sd {sds[domain]:.1f} HU, neighbours correlate {correlation:+.2f}".replace("-", "\u2212"), fontsize=SMALL
        )
    bar = figure.colorbar(drawn, ax=grid[1, 1:], shrink=0.8, aspect=25, pad=0.02)
    bar.set_label("added, in sd of its own", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL, length=2.5)
    bar.outline.set_visible(False)
    _spectra(grid[1, 0], table)
    photons = f"N\u2080 = {n0:.2g} photons per pixel (image) and per ray (projections)"
    figure.suptitle(f"{note}\n{photons}" if note else photons, fontsize=NORMAL)
    return figure


def _slice(axes: Axes, image: NDArray, title: str, **scale: float):
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=NORMAL, weight="bold")
    return axes.imshow(image, cmap="gray", interpolation="antialiased", **scale)


def _spectra(axes: Axes, table: pd.DataFrame) -> None:
    for domain, curve in table.groupby("domain", sort=False):
        look = STYLES[domain]
        axes.plot(
            curve["frequency"], curve["power"] / curve["sd_hu"] ** 2, label=DOMAINS[domain], color=look.color,
            linestyle=look.linestyle, marker=look.marker, markersize=3, linewidth=1.3,
        )  # fmt: skip
    highest = (table["power"] / table["sd_hu"] ** 2).max()
    axes.set(xlim=(0, 0.5), ylim=(0, 1.35 * highest), box_aspect=1)
    axes.set_xlabel("frequency, cycles per px", fontsize=SMALL)
    axes.set_ylabel("noise power / variance, px\u00b2", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL, length=2.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=SMALL, loc="upper left", handlelength=3.2)

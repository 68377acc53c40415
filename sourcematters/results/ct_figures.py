"""Figures of CT: what noise in the image and noise in the projections make of one slice."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sourcematters.cohorts.pixels import window
from sourcematters.confounders import Hounsfield, apply, key_for, make
from sourcematters.errors import StudyError
from sourcematters.results.style import (
    FULL,
    NATURAL,
    RADIOLOGY,
    TEXT,
    frame,
    head,
    letters,
    number,
    page,
    picture,
)
from sourcematters.training.image_bank import LUNG

DOMAINS = {"hounsfield": ("noise in the image", NATURAL), "projection": ("noise in the projections", RADIOLOGY)}
BINS = 24


def power_spectrum(noise: NDArray[np.float64]) -> pd.DataFrame:
    """Radial noise power spectrum of a square, (N, N) in HU: columns `frequency` (cycles/px), `power` (HU^2 px^2).

    The periodogram |DFT|^2 / N^2 of the noise under a Hann window (its energy divided out), averaged over rings up
    to 0.5 cycles/px (ICRU Report 87, 2012). White noise of variance v has power v at every frequency.
    """
    side = noise.shape[0]
    taper = np.outer(*[np.hanning(side + 1)[:-1]] * 2)
    power = np.abs(np.fft.fft2((noise - noise.mean()) * taper)) ** 2 / (taper**2).sum()
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    ring = np.digitize(cycles, np.linspace(0, 0.5, BINS + 1))
    rows = [(cycles[ring == k].mean(), power[ring == k].mean()) for k in range(1, BINS + 1)]
    return pd.DataFrame(rows, columns=["frequency", "power"])


def _measured(hu: Hounsfield, n0: float, seed: int) -> tuple[dict[str, NDArray[np.float64]], pd.DataFrame]:
    """What each domain adds to the slice, in HU, (H, W), and the table of `noise_domains`."""
    row, column = (length // 2 for length in hu.shape)
    half = int(min(hu.shape) // 2 / np.sqrt(2))
    if half < BINS:
        raise StudyError(f"noise_domains: a slice of shape {hu.shape} is too small, give 70 x 70 px or more.")
    noises, frames = {}, []
    for domain in DOMAINS:
        drawn = make("noise", n0=n0, domain=domain).carrier
        noises[domain] = apply(drawn, hu, key_for(seed, "slice", drawn))[0] - hu.astype(float)
        part = noises[domain][row - half : row + half, column - half : column + half]
        neighbours = ((part[:, 1:], part[:, :-1]), (part[1:], part[:-1]))
        correlation = np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in neighbours])
        same = {"domain": domain, "n0": n0, "sd_hu": part.std(), "neighbour_autocorrelation": correlation}
        frames.append(power_spectrum(part).assign(**same)[[*same, "frequency", "power"]])
    return noises, pd.concat(frames, ignore_index=True)


def noise_domains(hu: Hounsfield, *, n0: float, seed: int, note: str = "") -> tuple[Figure, pd.DataFrame]:
    """One CT slice under noise drawn in the image (Eq. 2) and in its projections, and what each adds; and its table.

    `hu` is int16 (H, W) in Hounsfield units, `n0` the photons per pixel and per ray. Below the slices stand the power
    spectra over the noise's variance (white noise lies at 1), and what was added, in units of its standard deviation.
    The table has a row a domain and frequency: `domain, n0, sd_hu, neighbour_autocorrelation` (horizontal and vertical
    neighbours averaged; 0 if white), `frequency, power` (`power_spectrum`), measured in the largest square in the
    circle that a scanner reconstructs. `note`, what must be said of the slice, stands on each panel. Raises StudyError
    for an image that is not in Hounsfield units, or below 70 px.
    """
    noises, table = _measured(hu, n0, seed)
    relative = table["power"] / table["sd_hu"] ** 2
    figure = Figure(figsize=page(FULL, 130), layout="constrained")
    slices, (spectra, *differences) = figure.subplots(2, 3)
    marks = iter(letters(6))
    titles = ["without noise", *(title for title, _ in DOMAINS.values())]
    images = [hu, *((hu + noise).astype(np.int16) for noise in noises.values())]
    for axes, image, title in zip(slices, images, titles, strict=True):
        picture(axes, window(image, *LUNG))
        head(axes, title, letter=next(marks), caution=note)
    head(spectra, "how it is spread over frequencies", letter=next(marks), caution=note)
    for axes, (domain, noise) in zip(differences, noises.items(), strict=True):
        (title, look), curve = DOMAINS[domain], table[table["domain"] == domain]
        sd, correlation = curve[["sd_hu", "neighbour_autocorrelation"]].iloc[0]
        shown = picture(axes, noise / sd, low=-3, high=3)
        head(axes, f"{title}, alone", letter=next(marks), caution=note)
        text = f"sd {sd:.1f} HU, neighbours correlate {np.round(correlation, 2) + 0:+.2f}".replace("-", "\u2212")
        axes.set_xlabel(text, fontsize=TEXT)
        spectra.plot(
            curve["frequency"], relative[curve.index], label=title, color=look.color,
            linestyle=look.linestyle, marker=look.marker, markersize=3, linewidth=1.3,
        )  # fmt: skip
    bar = figure.colorbar(shown, ax=differences, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label("added, in sd of its own", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT, length=2.5)
    bar.outline.set_visible(False)
    spectra.set(xlim=(0, 0.5), ylim=(0, 1.35 * relative.max()), box_aspect=1)
    spectra.set_xlabel("frequency, cycles per px", fontsize=TEXT)
    spectra.set_ylabel("noise power / variance, px\u00b2", fontsize=TEXT)
    spectra.legend(frameon=False, fontsize=TEXT, loc="upper left", handlelength=3.2)
    frame(spectra)
    figure.suptitle(f"N\u2080 = {number(n0)} photons per pixel (image) and per ray (projections)", fontsize=TEXT)
    return figure, table

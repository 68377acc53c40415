"""How far a network's log-odds move when a wave of one spatial frequency is added: for confounders without a place.

Yin et al. 2019, A Fourier Perspective on Model Robustness, https://arxiv.org/abs/1906.08988: a Fourier basis image has
one frequency, and norm 1. Frequencies are radial, in cycles an image; all waves are equally strong.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sourcematters.seeds import generator

if TYPE_CHECKING:
    from torch import nn

STRENGTH = 4.0  # grey levels, root mean square of what is added
MOST = 12  # frequencies
WAVES = 8  # of each frequency: directions and phases
BATCH = 64

Floats = NDArray[np.float64]


def chosen(size: int, most: int = MOST) -> list[int]:
    """At most `most` whole frequencies, in cycles an image, from 1 to below size / 2, evenly on a log scale."""
    highest = (size - 1) // 2
    return sorted({int(round(each)) for each in np.geomspace(1, highest, most)})


def waves(size: int, frequency: int, number: int = WAVES, *, seed: int) -> Floats:
    """Fourier basis images (number, size, size) of radial frequency `frequency` +- 1/2, each of norm 1 and mean 0.

    Direction and phase are drawn from the seed. A direction is drawn twice only if there are not enough.
    """
    draw = generator(seed, "waves", size, frequency)
    highest = (size - 1) // 2
    u, v = np.meshgrid(np.arange(-highest, highest + 1), np.arange(highest + 1))
    half = (v > 0) | (u > 0)  # of a wave and the same one backwards, one
    ring = half & (np.round(np.hypot(u, v)) == frequency)
    found = np.column_stack([u[ring], v[ring]])
    of_them = found[draw.choice(len(found), number, replace=number > len(found))]
    x = np.arange(size) / size
    phases = draw.uniform(0, 2 * np.pi, number)
    angles = 2 * np.pi * (of_them[:, :1, None] * x + of_them[:, 1:, None] * x[:, None]) + phases[:, None, None]
    return np.sqrt(2) / size * np.cos(angles)


def changes(network: "nn.Module", images: NDArray[np.uint8], *, seed: int) -> Floats:
    """Mean absolute change of the log-odds of each grey image (N, S, S) by waves of each of `chosen`, (N, F).

    Waves have `STRENGTH`, and are added to what the network gets, unclipped and unrounded, so that all are as strong.
    """
    import torch

    from sourcematters.audit.where.networks import device_of

    size, device = images.shape[-1], device_of(network)
    pixels = torch.from_numpy(images).float()[:, None].to(device)
    found = np.empty((len(images), len(chosen(size))))
    with torch.no_grad():
        plain = torch.cat([network(part) for part in pixels.split(BATCH)])
        for place, frequency in enumerate(chosen(size)):
            added = torch.from_numpy(STRENGTH * size * waves(size, frequency, seed=seed)).float()[:, None].to(device)
            for row, image in enumerate(pixels):
                found[row, place] = (network(image + added) - plain[row]).abs().double().mean().item()
    return found


def spectrum(differences: NDArray[np.floating]) -> Floats:
    """What images (N, S, S) of a confounder's change hold of each of `chosen`: (F,), 0..1, the largest 1.

    Root mean square of the Fourier coefficients within half a cycle.
    """
    size = differences.shape[-1]
    power = (np.abs(np.fft.fft2(differences)) ** 2).mean(axis=0)
    index = np.fft.fftfreq(size, 1 / size)
    radius = np.round(np.hypot(index[:, None], index))
    found = np.sqrt([power[radius == each].mean() for each in chosen(size)])
    return found / found.max() if found.max() > 0 else found

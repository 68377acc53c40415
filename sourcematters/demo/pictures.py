"""Two generated worlds of small pictures, to pretrain stand-in sources on when no real weights are at hand.

`natural`: coloured, shaded, textured objects before 1/f backgrounds (natural images' amplitude spectra fall as
1/f: Field 1987, doi:10.1364/JOSAA.4.002379); the class is texture and shape. `radiology`: grey pictures of
RadImageNet's three modalities with each one's typical noise; the class is modality and finding. Neither is evidence
about ImageNet or RadImageNet: they differ as those two do in kind, in colour, texture and subject, and in nothing else.

Picture `index` is of class `index` modulo their number: all are equally frequent. Coordinates are -1 to 1, y downwards.
"""

import numpy as np
from numpy.typing import NDArray

from sourcematters.seeds import generator

Map = NDArray[np.float32]

TEXTURES, SHAPES = ("plain", "striped", "checked"), ("disc", "square", "triangle", "star")
NATURAL_CLASSES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
# How much brighter rim and core of a finding are than what is around it, at most.
FINDINGS = {"normal": (0.0, 0.0), "mass": (0.45, 0.45), "cyst": (-0.35, -0.35), "abscess": (0.35, -0.35)}
# The exponent of the noise's spectrum over frequency (CT's is the ramp filter's), and its standard deviation.
MODALITIES = {"CT": (0.5, 0.05), "MR": (0.0, 0.05), "ultrasound": (-0.3, 0.35)}
RADIOLOGY_CLASSES = tuple(f"{modality} {finding}" for modality in MODALITIES for finding in FINDINGS)


def natural(seed: int, index: int, size: int = 64) -> tuple[NDArray[np.uint8], int]:
    """A coloured picture, uint8 (size, size, 3), and its label, an index into NATURAL_CLASSES."""
    label, chance = index % len(NATURAL_CLASSES), generator(seed, "natural", index)
    texture, shape = NATURAL_CLASSES[label].split()
    one, other, color, cast = chance.uniform(0.05, 0.95, (4, 3)).astype(np.float32)
    blend = np.clip(0.5 + 0.3 * _cloud(chance, size), 0, 1)[..., None]
    picture = one * blend + other * (1 - blend)
    x, y = _grid(size, chance, shift=0.25, turn=np.pi, zoom=(0.42, 0.75))
    depth = {
        "disc": 0.87 - np.hypot(x, y),
        "square": 0.77 - np.maximum(np.abs(x), np.abs(y)),
        "triangle": 0.5 - np.maximum(y, 0.866 * np.abs(x) - 0.5 * y),
        "star": 0.68 + 0.32 * np.cos(5 * np.arctan2(y, x)) - np.hypot(x, y),
    }[shape]
    waves, light = chance.uniform(8, 13), np.exp(1j * chance.uniform(0, 2 * np.pi))
    pattern = {"plain": 0 * x, "striped": np.sin(waves * x), "checked": np.sin(waves * x) * np.sin(waves * y)}[texture]
    # The object's two colours are kept apart, else a texture could be there unseen.
    surface = color + 0.5 * np.sign(0.5 - color.mean()) * (pattern > 0)[..., None]
    surface = surface * (1 + 0.3 * (light.real * x + light.imag * y))[..., None]
    picture += _edge(depth, 6 / size)[..., None] * (surface - picture)
    picture = picture * (0.75 + 0.35 * cast) + 0.02 * chance.standard_normal(picture.shape, dtype=np.float32)
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), label


def radiology(seed: int, index: int, size: int = 64) -> tuple[NDArray[np.uint8], int]:
    """A grey picture, uint8 (size, size, 3) with equal channels, and its label, an index into RADIOLOGY_CLASSES."""
    label, chance = index % len(RADIOLOGY_CLASSES), generator(seed, "radiology", index)
    modality, finding = RADIOLOGY_CLASSES[label].split()
    x, y = _grid(size, chance, shift=0.08, turn=0.15, zoom=(0.85, 1.15))
    (a, b, c, d), soft = chance.uniform(-1, 1, 4), np.clip(_cloud(chance, size), -2, 2)
    if modality == "CT":  # an abdomen: fat, muscle, spine, liver and kidneys
        width, height = 0.8 + 0.06 * a, 0.6 + 0.06 * b
        picture = 0.25 * _ellipse(x, y, 0, 0, width, height) + 0.2 * _ellipse(x, y, 0, 0, width - 0.1, height - 0.1)
        picture += 0.45 * _ellipse(x, y, 0, 0.55 * height, 0.11, 0.1) + 0.1 * _ellipse(x, y, -0.4, 0.05 * c, 0.3, 0.28)
        picture += 0.12 * _ellipse(np.abs(x), y, 0.38, 0.22 + 0.05 * d, 0.1, 0.15)
    elif modality == "MR":  # a head: skin, skull, brain with its folds, ventricles of either contrast
        width, height = 0.67 + 0.05 * a, 0.8 + 0.05 * b
        picture = 0.8 * _ellipse(x, y, 0, 0, width, height) - 0.7 * _ellipse(x, y, 0, 0, width - 0.06, height - 0.06)
        picture += (0.35 + 0.1 * soft) * _ellipse(x, y, 0, 0, width - 0.12, height - 0.12)
        picture += 0.35 * np.sign(c) * _ellipse(np.abs(x), y, 0.1, -0.05, 0.06 + 0.02 * d, 0.2)
    else:  # layers in a fan, echoes fading with depth
        depth, beam = np.hypot(x, y + 1.15), np.arctan2(x, y + 1.15)
        fan = _edge(0.6 - np.abs(beam)) * _edge(1.95 - depth) * _edge(depth - 0.3)
        picture = (0.5 + 0.1 * np.sin((7 + 2 * a) * depth + 2 * b * beam + 3 * c) + 0.08 * soft) * (1.25 - 0.3 * depth)
    rim, core = chance.uniform(0.35, 1) * np.array(FINDINGS[finding])
    place, radii = chance.uniform(-0.35, 0.35, 2), chance.uniform(0.12, 0.22, 2)
    picture += rim * _ellipse(x, y, *place, *radii) + (core - rim) * _ellipse(x, y, *place, *0.6 * radii)
    exponent, sd = MODALITIES[modality]
    picture, noise = np.maximum(picture, 0), sd * _cloud(chance, size, exponent)
    # The noise of ultrasound, speckle, multiplies; of the others one sees the magnitude of what is measured.
    picture = fan * picture * (1 + noise) if modality == "ultrasound" else np.abs(picture + noise)
    return np.repeat(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2), label


def _grid(size: int, chance: np.random.Generator, shift: float, turn: float, zoom: tuple[float, float]) -> list[Map]:
    """Coordinates x and y (size, size), moved and turned (radians) by up to so much, in units of `zoom`."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    z = line[None, :] + 1j * line[:, None] - complex(*chance.uniform(-shift, shift, 2))
    z = z * np.exp(1j * chance.uniform(-turn, turn)) / chance.uniform(*zoom)
    return [z.real.astype(np.float32), z.imag.astype(np.float32)]


def _cloud(chance: np.random.Generator, size: int, exponent: float = -1.0) -> Map:
    """Noise of unit variance, float32 (size, size), whose amplitude spectrum is frequency ** exponent."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = np.inf if exponent < 0 else 0
    white = np.fft.rfft2(chance.standard_normal((size, size), dtype=np.float32))
    cloud = np.fft.irfft2(white * frequency**exponent, s=(size, size))
    return (cloud / cloud.std()).astype(np.float32)


def _edge(depth: Map, width: float = 0.05) -> Map:
    """1 where `depth` is positive, 0 where negative, over an edge of `width`."""
    return np.clip(depth / width + 0.5, 0, 1)


def _ellipse(x: Map, y: Map, right: float, down: float, width: float, height: float) -> Map:
    """1 inside an ellipse of half axes `width` and `height`, 0 outside."""
    return _edge(1 - np.hypot((x - right) / width, (y - down) / height), 0.12)

"""Two generated worlds of small pictures, to pretrain stand-in sources on when no real weights are at hand.

`natural`: coloured, shaded, textured objects before 1/f backgrounds (natural images' amplitude spectra fall as
1/f: Field 1987, doi:10.1364/JOSAA.4.002379); the class is shape and texture. `radiology`: grey pictures of four
modalities with each one's typical noise; the class is modality and finding. Neither is evidence about ImageNet
or RadImageNet: they differ as those two differ in kind, in colour, texture and subject, and in nothing else.

Pictures are uint8 (size, size, 3), 0..255; the label of picture `index` is `index` modulo the number of classes,
so that all classes are equally frequent. Coordinates run from -1 to 1, y downwards.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sourcematters.seeds import generator

Map = NDArray[np.float32]

SHAPES = ("disc", "square", "triangle", "star")
TEXTURES = ("plain", "striped", "checked")
NATURAL_CLASSES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)

FINDINGS = {
    "CT": ("normal", "mass", "fluid level"),
    "MR": ("normal", "mass", "wide ventricles"),
    "ultrasound": ("normal", "cyst", "stone"),
    "radiograph": ("normal", "fracture", "bone lesion"),
}
RADIOLOGY_CLASSES = tuple(f"{modality} {finding}" for modality, row in FINDINGS.items() for finding in row)


def natural(seed: int, index: int, size: int = 64) -> tuple[NDArray[np.uint8], int]:
    """A coloured picture, uint8 (size, size, 3), and its label, an index into NATURAL_CLASSES."""
    label = index % len(NATURAL_CLASSES)
    shape, texture = SHAPES[label // len(TEXTURES)], TEXTURES[label % len(TEXTURES)]
    chance = generator(seed, "natural", index)
    x, y = _grid(size)
    colors = chance.uniform(0.05, 0.95, (5, 3)).astype(np.float32)

    blend = np.clip(0.5 + 0.3 * _cloud(chance, size), 0, 1)[..., None]
    picture = colors[0] * blend + colors[1] * (1 - blend)

    radius = chance.uniform(0.42, 0.75)
    center = chance.uniform(-0.25, 0.25, 2)
    angle = chance.uniform(0, 2 * np.pi)
    u, v = _turned(x - center[0], y - center[1], angle, radius)
    inside = _edge(1 - _gauge(shape, u, v), 2 / size / radius)
    # The object's two colours are kept apart, else a texture could be there unseen.
    bright = colors[2] + 0.5 * np.sign(0.5 - colors[2].mean())
    pattern = _pattern(texture, u * radius, v * radius, chance)[..., None]
    surface = colors[2] * (1 - pattern) + bright * pattern
    light = chance.uniform(0, 2 * np.pi)
    surface = surface * (1 + 0.3 * (np.cos(light) * u + np.sin(light) * v))[..., None]
    # A shadow on the side away from the light.
    shift = -0.12 * np.cos(light - angle), -0.12 * np.sin(light - angle)
    shadow = np.roll(inside, (round(shift[1] * size / 2), round(shift[0] * size / 2)), axis=(0, 1))
    picture = picture * (1 - 0.4 * shadow[..., None])
    picture += inside[..., None] * (surface - picture)

    # Something small in front of it.
    before = chance.uniform(-0.8, 0.8, 2)
    hidden = _ellipse(x, y, before, chance.uniform(0.08, 0.22, 2), chance.uniform(0, np.pi))[..., None]
    picture += hidden * (colors[3] - picture)
    cast = chance.uniform(0.75, 1.1, 3).astype(np.float32)
    noise = chance.standard_normal((size, size, 3), dtype=np.float32)
    return _grey_levels(picture * cast + chance.uniform(0.005, 0.03) * noise), label


def radiology(seed: int, index: int, size: int = 64) -> tuple[NDArray[np.uint8], int]:
    """A grey picture, uint8 (size, size, 3) with equal channels, and its label into RADIOLOGY_CLASSES."""
    label = index % len(RADIOLOGY_CLASSES)
    modality, finding = RADIOLOGY_CLASSES[label].split(" ", 1)
    chance = generator(seed, "radiology", index)
    drawn = {"CT": _ct, "MR": _mr, "ultrasound": _ultrasound, "radiograph": _radiograph}[modality]
    x, y = _grid(size)
    zoom = chance.uniform(0.85, 1.15)
    u, v = _turned(x - chance.uniform(-0.08, 0.08), y - chance.uniform(-0.08, 0.08), chance.normal(0, 0.1), zoom)
    picture = drawn(u, v, finding, chance)
    window = chance.uniform(0.85, 1.15) * picture + chance.uniform(-0.05, 0.05)
    return np.repeat(_grey_levels(window)[..., None], 3, axis=2), label


def _grey_levels(picture: Map) -> NDArray[np.uint8]:
    """0..1 to 0..255, rounded."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[Map, Map]:
    line = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


@lru_cache(maxsize=8)
def _spectrum(size: int, exponent: float) -> Map:
    """Gain frequency ** exponent for rfft2, without the mean, scaled so that white noise comes out at unit variance."""
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    f[0, 0] = 1
    gain = f**exponent
    gain[0, 0] = 0
    whole = np.concatenate([gain, gain[:, 1 : (size + 1) // 2]], axis=1)
    return (gain / np.sqrt((whole**2).mean())).astype(np.float32)


def _cloud(chance: np.random.Generator, size: int, exponent: float = -1.0) -> Map:
    """Noise of unit variance whose amplitude spectrum is frequency ** exponent."""
    white = chance.standard_normal((size, size), dtype=np.float32)
    return np.fft.irfft2(np.fft.rfft2(white) * _spectrum(size, exponent), s=(size, size))


def _turned(x: Map, y: Map, angle: float, scale: float) -> tuple[Map, Map]:
    """Coordinates turned by `angle` (radians), in units of `scale`."""
    c, s = float(np.cos(angle) / scale), float(np.sin(angle) / scale)
    return c * x + s * y, c * y - s * x


def _edge(depth: Map, width: float) -> Map:
    """1 where `depth` is positive, 0 where negative, over an edge of `width`."""
    return np.clip(depth / width + 0.5, 0, 1)


def _ellipse(x: Map, y: Map, center: NDArray, radii: NDArray, tilt: float = 0.0, soft: float = 0.12) -> Map:
    """1 inside an ellipse, 0 outside, its edge `soft` of its radius wide."""
    u, v = _turned(x - float(center[0]), y - float(center[1]), tilt, 1.0)
    return _edge(1 - np.hypot(u / float(radii[0]), v / float(radii[1])), soft)


def _gauge(shape: str, u: Map, v: Map) -> Map:
    """Below 1 inside the shape, which fills most of the unit disc."""
    if shape == "disc":
        return 1.15 * np.hypot(u, v)
    if shape == "square":
        return 1.3 * np.maximum(np.abs(u), np.abs(v))
    if shape == "triangle":
        return 2.0 * np.maximum(v, 0.866 * np.abs(u) - 0.5 * v)
    return np.hypot(u, v) / (0.68 + 0.32 * np.cos(5 * np.arctan2(v, u)))


def _pattern(texture: str, u: Map, v: Map, chance: np.random.Generator) -> Map:
    """Where (0..1) the surface shows its second colour."""
    waves = float(chance.uniform(14, 24))
    if texture == "plain":
        return np.zeros_like(u)
    if texture == "striped":
        return _edge(np.sin(waves * u), 0.8)
    return _edge(np.sin(0.8 * waves * u) * np.sin(0.8 * waves * v) - 0.1, 0.4)


def _ct(x: Map, y: Map, finding: str, chance: np.random.Generator) -> Map:
    """An axial slice of the abdomen on a table, soft-tissue window, with noise of a ramp-filtered spectrum."""
    width, height = chance.uniform(0.75, 0.88), chance.uniform(0.55, 0.68)
    picture = 0.25 * _ellipse(x, y, (0, 0), (width, height), soft=0.03)
    picture += 0.25 * _ellipse(x, y, (0, 0), (width - 0.09, height - 0.09), soft=0.05)
    picture += 0.45 * _ellipse(x, y, (0, 0.55 * height), (0.11, 0.10))
    liver = np.array([-0.45 * width, -0.1]) + chance.normal(0, 0.03, 2)
    picture += 0.10 * _ellipse(x, y, liver, (0.33, 0.30), chance.normal(0, 0.2))
    for side in (-1, 1):
        kidney = np.array([side * 0.38, 0.25]) + chance.normal(0, 0.03, 2)
        picture += 0.12 * _ellipse(x, y, kidney, (0.10, 0.15), side * 0.4)
    gut = np.array([0.3, -0.15]) + chance.normal(0, 0.06, 2)
    radius = chance.uniform(0.14, 0.24)
    loop = _ellipse(x, y, gut, (1.2 * radius, radius))
    if finding == "fluid level":
        # Air rises: black above a horizontal line, grey below.
        picture += loop * (np.where(y < gut[1] + chance.uniform(-0.3, 0.3) * radius, 0.02, 0.55) - picture)
    else:
        picture += loop * (0.42 - picture)
    if finding == "mass":
        mass = chance.uniform(0.10, 0.18)
        place = liver + chance.uniform(-0.12, 0.12, 2)
        picture += chance.choice([-0.25, 0.30]) * _ellipse(x, y, place, (mass, mass * chance.uniform(0.8, 1.2)))
    picture += 0.5 * _edge(0.015 - np.abs(y - height - 0.06 - 0.1 * x * x), 0.02)
    return picture + chance.uniform(0.03, 0.06) * _cloud(chance, len(x), 0.5)


def _mr(x: Map, y: Map, finding: str, chance: np.random.Generator) -> Map:
    """An axial slice of the head, of either contrast, under a coil's uneven field, with Rician noise."""
    width, height = chance.uniform(0.62, 0.72), chance.uniform(0.76, 0.86)
    water = chance.choice([0.08, 0.95])
    head = _ellipse(x, y, (0, 0), (width, height), soft=0.04)
    skull = _ellipse(x, y, (0, 0), (width - 0.06, height - 0.06), soft=0.04)
    brain = _ellipse(x, y, (0, 0), (width - 0.12, height - 0.12), soft=0.05)
    folds = np.clip(0.5 + 0.12 * _cloud(chance, len(x), -0.7), 0, 1)
    picture = 0.8 * (head - skull) + 0.1 * (skull - brain) + brain * folds
    picture += 0.15 * brain * _edge(np.abs(x) - 0.015, 0.03) - 0.15 * brain
    wide = chance.uniform(2.0, 2.8) if finding == "wide ventricles" else chance.uniform(0.8, 1.2)
    for side in (-1, 1):
        horn = _ellipse(x, y, (side * (0.05 + 0.045 * wide), -0.05), (0.055 * wide, 0.20 * wide**0.4), -side * 0.25)
        picture += horn * (water - picture)
    if finding == "mass":
        radius = chance.uniform(0.13, 0.22)
        place = chance.choice([-1, 1]) * chance.uniform(0.22, 0.34), chance.uniform(-0.4, 0.4)
        picture += _ellipse(x, y, place, (radius, radius)) * (0.9 - picture)
        picture -= 0.5 * _ellipse(x, y, place, (0.5 * radius, 0.5 * radius), soft=0.3)
    turn = chance.uniform(0, 2 * np.pi)
    picture = picture * (1 + 0.2 * (np.cos(turn) * x + np.sin(turn) * y))
    noise = chance.uniform(0.03, 0.06) * chance.standard_normal((2, *x.shape), dtype=np.float32)
    return np.hypot(picture + noise[0], noise[1])


def _ultrasound(x: Map, y: Map, finding: str, chance: np.random.Generator) -> Map:
    """A sector scan: speckle within a fan, echoes fading with depth (Rayleigh speckle, log-compressed)."""
    apex = -1.15
    depth, beam = np.hypot(x, y - apex), np.arctan2(x, y - apex)
    fan = _edge(chance.uniform(0.55, 0.7) - np.abs(beam), 0.03) * _edge(1.95 - depth, 0.03) * _edge(depth - 0.3, 0.03)
    layers = np.sin(chance.uniform(5, 9) * depth + 2 * chance.normal() * beam + chance.uniform(0, 6))
    echo = 0.35 + 0.10 * layers + 0.08 * _cloud(chance, len(x))
    if finding != "normal":
        place_depth, place_beam = chance.uniform(0.75, 1.15), chance.uniform(-0.3, 0.3)
        radius = chance.uniform(0.17, 0.30) if finding == "cyst" else chance.uniform(0.08, 0.14)
        place = place_depth * np.sin(place_beam), apex + place_depth * np.cos(place_beam)
        here = _ellipse(x, y, place, (1.15 * radius, radius))
        behind = _edge(radius / place_depth - np.abs(beam - place_beam), 0.06) * _edge(depth - place_depth, 0.05)
        # Fluid lets sound through, so tissue behind a cyst looks brighter; a stone casts a shadow.
        echo = echo * (1 + behind * (0.7 if finding == "cyst" else -0.85))
        echo += here * ((0.03 if finding == "cyst" else 1.0) - echo)
    speckle = np.hypot(_cloud(chance, len(x), -0.3), _cloud(chance, len(x), -0.3))
    return fan * np.maximum(echo, 0.01) * (0.35 + 0.6 * speckle) * (1.25 - 0.3 * depth)


def _radiograph(x: Map, y: Map, finding: str, chance: np.random.Generator) -> Map:
    """A limb: soft tissue around two long bones with bright cortex, in quantum noise."""
    lean = chance.uniform(-0.5, 0.5)
    x, y = _turned(x, y, lean, 1.0)
    limb = chance.uniform(0.5, 0.65) + 0.08 * np.sin(2 * y + chance.uniform(0, 6))
    picture = 0.06 + 0.27 * np.sqrt(np.maximum(1 - (x / limb) ** 2, 0))
    hurt = chance.integers(2)
    for number, middle in enumerate((-0.22, 0.20)):
        half = chance.uniform(0.10, 0.15) * (1 + 0.25 * y * y)
        bow = middle + chance.uniform(-0.1, 0.1) * y * y
        at, steep = chance.uniform(-0.45, 0.45), chance.uniform(-1, 1)
        across = y - at - steep * (x - middle)
        if finding == "fracture" and number == hurt:
            # The far end has slipped sideways.
            bow = bow + chance.choice([-1, 1]) * chance.uniform(0.05, 0.10) * _edge(across, 0.04)
        d = np.abs(x - bow) / half
        bone = 0.25 * _edge(1 - d, 0.15) + 0.30 * _edge(1 - d, 0.15) * _edge(d - 0.6, 0.2)
        bone = bone * (1 + 0.12 * _cloud(chance, len(x), -0.5))
        if finding == "fracture" and number == hurt:
            bone = bone * (1 - 0.9 * _edge(0.035 - np.abs(across), 0.03))
        if finding == "bone lesion" and number == hurt:
            radii = chance.uniform(0.09, 0.13), chance.uniform(0.13, 0.24)
            bone = bone * (1 - 0.9 * _ellipse(x, y, (middle, at), radii, soft=0.3))
        picture += bone
    noise = chance.standard_normal(x.shape, dtype=np.float32)
    return picture + chance.uniform(0.015, 0.03) * noise * np.sqrt(picture + 0.3)

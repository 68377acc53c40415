"""A thorax in Hounsfield units, one axial slice at a time: stylised, deterministic, coherent from slice to slice.

Lengths are mm: x to the right of the picture (the patient's left), y downward (to the back), z towards the head,
0 in the middle of the chest at the height of the lungs' roots. Every structure is a shape in space that a slice
cuts, so neighbouring slices fit together at any distance. Values are those of the textbooks: air -1000, lung about
-850, fat -100, muscle and blood 40 to 55, bone 200 to 700 HU (Bushberg et al., The Essential Physics of Medical
Imaging, ch. 10).
"""

from dataclasses import make_dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sourcematters.demo import ct_vessels
from sourcematters.seeds import generator

Map = NDArray[np.float32]

HEIGHT_MM = 130.0  # of the chest that is known: z from -65 to 65

# Women's mean, men's mean, standard deviation within a sex.
ANATOMY = {
    "width": (151.0, 161.0, 5.0),  # half the body's width
    "depth": (104.0, 110.0, 4.0),  # half its depth
    "fat": (15.0, 11.0, 3.0),  # under the skin
    "breast": (21.0, 0.0, 7.0),
    "heart": (1.0, 1.06, 0.06),  # relative size
    "heart_tilt": (-0.55, -0.50, 0.10),  # radians
    "mediastinum": (25.0, 28.0, 2.5),
    "aorta": (11.0, 12.5, 1.2),
    "carina": (22.0, 22.0, 5.0),  # where the windpipe forks
    "rib_spacing": (27.0, 29.0, 1.5),
    "rib_phase": (0.5, 0.5, 0.25),
    "disc_phase": (0.5, 0.5, 0.25),
    "bone": (1.0, 1.05, 0.12),  # relative density
    "lung": (-855.0, -862.0, 14.0),  # HU
    "gradient": (0.35, 0.35, 0.12),  # HU per mm: lungs are denser at the back, as the patient lies on it
    "shift": (0.0, 0.0, 4.0),  # of the patient on the couch
    "noise": (7.0, 8.0, 1.2),  # HU
}

Anatomy = make_dataclass("Anatomy", [(name, float) for name in ANATOMY], frozen=True)


@lru_cache(maxsize=64)
def anatomy(seed: int, patient_id: str, sex: str) -> Anatomy:
    """One patient's measures (see ANATOMY); `sex` is "F" or "M"."""
    own = generator(seed, "ct patient", patient_id).standard_normal(len(ANATOMY)).clip(-2.5, 2.5)
    which = "FM".index(sex)
    values = {name: row[which] + row[2] * z for (name, row), z in zip(ANATOMY.items(), own.tolist(), strict=True)}
    return Anatomy(**values | {"breast": max(values["breast"], 0.0) if sex == "F" else 0.0})


def within(x: Map, y: Map, center: tuple[float, float], radii: tuple[float, float], tilt=0.0, power=2.0) -> Map:
    """About how far (mm) points lie inside a superellipse, negative outside; exact to first order at its edge.

    `tilt` in radians, clockwise in the picture. The estimate is (1 - q) / |gradient of q| for the edge at q = 1.
    """
    u, v = x - center[0], y - center[1]
    if tilt:
        c, s = float(np.cos(tilt)), float(np.sin(tilt))
        u, v = u * c + v * s, v * c - u * s
    u, v = np.abs(u) * (1 / radii[0]), np.abs(v) * (1 / radii[1])
    if power == 2:
        q, steep = u * u + v * v, (u * (2 / radii[0])) ** 2 + (v * (2 / radii[1])) ** 2
    else:
        p, r = u ** (power - 1), v ** (power - 1)
        q, steep = p * u + r * v, (p * (power / radii[0])) ** 2 + (r * (power / radii[1])) ** 2
    return (1 - q) / np.sqrt(steep + 1e-6)


def depth_in_lung(body: Anatomy, x: Map, y: Map, z: float | Map) -> tuple[Map, Map]:
    """How far (mm) points lie inside a lung, and inside the chest wall; both negative outside.

    `x`, `y` and `z` broadcast: a slice's columns, rows and height, or single points.
    """
    cage = _cage(body, x, y, z)
    # What is round in space is cut to another size at each height; beyond it, to next to nothing.
    heart = np.sqrt(np.maximum(1 - ((z + 42) / 62) ** 2, 1e-4)) * body.heart
    liver = np.sqrt(np.maximum(1 - ((z + 125) / 78) ** 2, 1e-4))
    stomach = np.sqrt(np.maximum(1 - ((z + 132) / 76) ** 2, 1e-4))
    solid = [
        within(x, y, (2.0, -18.0), (body.mediastinum, 46.0)),
        within(x, y, (0.0, -62.0), (7.0 + 5 * heart, 40.0)),
        within(x, y, (0.0, 66.0), (25.0, 22.0), power=2.5),
        within(x, y, (23.0, 41.0), (body.aorta + 2, body.aorta + 2)),
        within(x, y, (22.0, -37.0), (64.0 * heart, 47.0 * heart), body.heart_tilt),
        within(x, y, (-66.0, 0.0), (70.0 * liver, 74.0 * liver)),
        within(x, y, (66.0, 5.0), (62.0 * stomach, 66.0 * stomach)),
    ]
    depth = cage
    for shape in solid:
        depth = np.minimum(depth, -shape)
    return depth, cage


def draw(seed: int, patient_id: str, body: Anatomy, z: float, size: int, field_mm: float) -> tuple[Map, Map]:
    """Hounsfield units of a slice without noise, float32 (size, size), and how much (0..1) each pixel is lung."""
    x, y = grid(size, field_mm)
    x, z = x - body.shift, np.float32(z)  # a number of 64 bits would make the maps so
    pixel = field_mm / size
    depth, cage = depth_in_lung(body, x, y, z)
    texture = _texture(seed, patient_id, z, size)
    hu = _wall(body, x, y, z, cage, texture, pixel)
    _bones(body, x, y, z, cage, hu, pixel)
    _middle(body, x, y, z, cage, hu, texture, pixel)

    lung = _ramp(depth, pixel)
    parenchyma = body.lung + body.gradient * y + 14 * texture - 0.25 * np.minimum(depth, 40)
    for side, lean in ((-1, 0.55), (1, 0.75)):
        # The oblique fissure, a sheet that leans forward on its way down; beside it there are few vessels.
        sheet = (y + 8 - lean * (z - 12) - 0.0022 * (x - side * 70) ** 2) * (1 / 1.8)
        parenchyma += (70 * (x * side > 0)) * np.exp(-sheet * sheet)
    _blend(hu, parenchyma, lung)

    vessels, walls, air = _tubes(seed, patient_id, body)
    _blend(hu, 38.0, ct_vessels.coverage(vessels, z, size, field_mm, body.shift) * lung)
    _blend(hu, 0.0, ct_vessels.coverage(walls, z, size, field_mm, body.shift))
    _blend(hu, -1000.0, ct_vessels.coverage(air, z, size, field_mm, body.shift))
    return hu, lung


def grid(size: int, field_mm: float) -> tuple[Map, Map]:
    """Positions in mm of the pixels' centres: x (1, size) and y (size, 1), 0 in the middle of the picture."""
    line = ((np.arange(size) - (size - 1) / 2) * (field_mm / size)).astype(np.float32)
    return line[None, :], line[:, None]


def _cage(body: Anatomy, x: Map, y: Map, z: float | Map) -> Map:
    scale = 1 - 0.0011 * z
    radii = (body.width - body.fat - 21) * scale, (body.depth - 0.6 * body.fat - 15) * (0.5 + 0.5 * scale)
    return within(x, y, (0.0, -3.0), radii, power=2.35)


def _ramp(distance: Map, width: float) -> Map:
    """0 to 1 across an edge `width` wide."""
    return np.clip(distance * (1 / width) + 0.5, 0, 1)


def _blend(hu: Map, value: float | Map, share: Map) -> None:
    hu += share * (value - hu)


def _wall(body: Anatomy, x: Map, y: Map, z: float, cage: Map, texture: Map, pixel: float) -> Map:
    """Air, couch, skin, fat and muscle."""
    hu = np.full((y.size, x.size), -1000, np.float32)
    couch = y - (body.depth + 9 - 0.0011 * x * x)
    hu += (150 + 350 * (np.abs(couch - 7) > 5)) * _ramp(8 - np.abs(couch - 7), pixel) * (np.abs(x + body.shift) < 160)
    skin = within(x, y, (0.0, 0.0), (body.width, body.depth), power=2.4)
    side = np.abs(x)
    if body.breast > 5:
        height = np.sqrt(max(1 - ((z + 12) / 70) ** 2, 0.01))
        center, radii = (74.0, -body.depth * 0.76), (60.0 * height, (13 + 0.8 * body.breast) * height)
        breast = within(side, y, center, radii, 0.35)
        gland = within(side, y, (70.0, center[1] - 0.3 * radii[1]), (0.55 * radii[0], 0.45 * radii[1]), 0.35)
        skin = np.maximum(skin, breast)
    _blend(hu, -100 + 10 * texture, _ramp(skin, pixel))
    _blend(hu, 10.0, 0.6 * _ramp(1.5 - np.abs(skin - 1.5), pixel))
    if body.breast > 5:
        _blend(hu, 25 + 30 * texture, 0.7 * _ramp(gland + 6 * texture, 8.0) * _ramp(skin - 5, pixel))
    radii = body.width - body.fat - 2, body.depth - 0.6 * body.fat - 2
    muscle = within(x, y, (0.0, 2.0), radii, power=2.4)
    flesh = _ramp(muscle, pixel)
    _blend(hu, 52 + 8 * texture, flesh)
    # Fat between the layers of muscle, and over the ribs at the sides.
    plane = (cage + 13 + 2.5 * texture) * (1 / 1.8)
    flank = 0.75 * flesh * _ramp(side - 50, 25.0)
    _blend(hu, -95.0, flank * np.exp(-plane * plane))
    _blend(hu, -95.0, flank * _ramp(4 - np.abs(cage + 4), 3.0))
    return hu


def _bones(body: Anatomy, x: Map, y: Map, z: float, cage: Map, hu: Map, pixel: float) -> None:
    side = np.abs(x)
    hard, marrow = 640 * body.bone, 230 * body.bone
    # A rib leaves the spine, sinks on its way to the front, and ends there as cartilage.
    around = np.arctan2(side, y + 3)
    around *= 1 / np.pi  # 0 at the spine, 1 at the breastbone
    phase = z / body.rib_spacing + body.rib_phase + 2.6 * around - 0.10 * (x > 0)
    along = (phase - np.floor(phase) - 0.5) * (body.rib_spacing / 7.2)
    thick = (cage + 7.2) * (1 / 4.6)
    rib = np.sqrt(along * along + thick * thick)
    there = _ramp(around - 0.075, 0.02)
    bony = _ramp(0.80 - around, 0.04)
    _blend(hu, 110 + (hard - 110) * bony, there * _ramp((1 - rib) * 4.6, pixel))
    _blend(hu, marrow, there * bony * 0.8 * _ramp((0.5 - rib) * 4.6, pixel))

    blade = np.sqrt(max(1 - ((z - 45) / 75) ** 2, 0.0))
    if blade > 0.2:
        lean = 0.62
        center = 0.66 * body.width, 0.60 * body.depth
        scapula = within(side, y, center, (40 * blade, 4.0), -lean)
        _blend(hu, 45.0, _ramp(within(side, y, center, (46 * blade, 13.0), -lean), pixel))
        _blend(hu, 0.75 * hard, _ramp(scapula, pixel))

    _blend(hu, 0.5 * hard, _ramp(within(x, y, (0.0, -body.depth * 0.86 + 4), (17.0, 6.0), power=2.6), pixel))
    _blend(hu, marrow * 0.6, _ramp(within(x, y, (0.0, -body.depth * 0.86 + 4), (14.0, 3.2), power=2.6), pixel))

    # Vertebrae and discs take turns; arches, processes and the heads of ribs belong to the vertebrae.
    level = z / 23.0 + body.disc_phase
    level = level - np.floor(level)
    bone = float(np.clip(6 * (level - 0.2), 0, 1) * np.clip(6 * (1 - level), 0, 1))
    low = body.depth * 0.60
    body_edge = within(x, y, (0.0, low), (18.5, 14.5), power=2.4)
    _blend(hu, 95 + bone * (0.75 * hard - 95), _ramp(body_edge, pixel))
    _blend(hu, 95 + bone * (marrow - 95), _ramp(body_edge - 3, pixel))
    arch = np.maximum(
        within(side, y, (16.0, low + 17), (13.0, 4.5), -0.35),
        np.maximum(within(side, y, (10.5, low + 17), (4.0, 10.0)), within(side, y, (5.0, low + 29), (9.0, 4.0), -0.6)),
    )
    _blend(hu, 0.7 * hard, (0.25 + 0.75 * bone) * _ramp(arch, pixel))
    _blend(hu, 0.65 * hard, _ramp(within(x, y, (0.0, low + 37), (3.6, 10.0)), pixel))
    _blend(hu, 25.0, _ramp(within(x, y, (0.0, low + 20), (8.5, 7.5)), pixel))


def _middle(body: Anatomy, x: Map, y: Map, z: float, cage: Map, hu: Map, texture: Map, pixel: float) -> None:
    """What lies between the lungs: fat, and in it the heart, the great vessels, the gullet."""
    inside = _ramp(np.minimum(cage, -within(x, y, (0.0, body.depth * 0.60), (22.0, 18.0))), pixel)
    _blend(hu, -75 + 25 * texture, inside)
    heart = float(np.sqrt(max(1 - ((z + 42) / 60) ** 2, 1e-4))) * body.heart
    high = float(np.clip((z + 5) / 20, 0, 1))
    soft = [
        (within(x, y, (22.0, -37.0), (60.0 * heart, 43.0 * heart), body.heart_tilt), 42.0),
        (within(x, y, (-8.0, -34.0), (body.aorta + 3.5, body.aorta + 3.5)), 45.0),  # ascending aorta
        (within(x, y, (-24.0 + 2 * high, -26.0), (8.5, 8.0)), 42.0),  # superior vena cava
        (within(x, y, (16.0, -32.0), (13.5, 12.0)), 44.0),  # pulmonary trunk
        (within(x, y, (23.0, 41.0), (body.aorta, body.aorta)), 46.0),  # descending aorta
        (within(x, y, (8.0, 36.0), (6.5, 4.5)), 35.0),  # gullet
        (within(x, y, (0.0, 4.0), (22.0 * (1 - high) + 0.1, 20.0 * (1 - high) + 0.1)), 42.0),  # left atrium
        (within(x, y, (0.0, 20.0), (18.0, 9.0)), 30.0),  # lymph nodes and the airways' surroundings
    ]
    for shape, value in soft:
        _blend(hu, value, inside * _ramp(shape, pixel))
    for middle, top in (((-66.0, 0.0), (70.0, 74.0, 125.0, 78.0)), ((66.0, 5.0), (62.0, 66.0, 132.0, 76.0))):
        height = 1 - ((z + top[2]) / top[3]) ** 2
        if height > 0:
            dome = within(x, y, middle, (top[0] * height**0.5, top[1] * height**0.5))
            _blend(hu, 55 + 4 * texture, inside * _ramp(dome, pixel))


def _texture(seed: int, patient_id: str, z: float, size: int) -> Map:
    """Noise that is smooth in space, float32 (size, size), mean 0, variance about 1: the patient's own."""
    total = np.zeros((size, size), np.float32)
    for cells, step, weight in ((56, 4.0, 0.9), (16, 15.0, 0.7)):
        low = int(np.floor(z / step))
        share = z / step - low
        below, above = (_lattice(seed, patient_id, cells, level) for level in (low, low + 1))
        # Weights whose squares add up keep the variance between two levels what it is on them.
        mixed = below * np.float32(np.sqrt(1 - share)) + above * np.float32(np.sqrt(share))
        total += weight * np.asarray(Image.fromarray(mixed).resize((size, size), Image.Resampling.BICUBIC))
    return total


@lru_cache(maxsize=64)
def _lattice(seed: int, patient_id: str, cells: int, level: int) -> Map:
    return generator(seed, "ct texture", patient_id, cells, level).standard_normal((cells, cells), dtype=np.float32)


@lru_cache(maxsize=4)
def _tubes(seed: int, patient_id: str, body: Anatomy) -> tuple[Map, Map, Map]:
    """Beads (x, y, z, radius) of the lungs' vessels, of the airways' walls, and of the air in them."""
    chance = generator(seed, "ct vessels", patient_id)
    vessels = []
    for side in (-1, 1):
        tips = chance.uniform((12, -95, -70), (140, 95, 70), (4200, 3)) * (side, 1, 1)
        tips = tips[depth_in_lung(body, *tips.T)[0] > 3.5]
        root = np.array([side * (body.mediastinum + 6), -4.0, 0.0 + 4 * side])
        vessels.append(ct_vessels.tree(np.vstack([root, tips[:1300]])))
    fork = np.array([-1.0, 12.0, body.carina])
    airways = [(fork + (1, -4, 60), fork, 8.0)]
    for side, length in ((-1, 1.0), (1, 1.25)):
        hilum = fork + np.array([side * 27 * length, 2, -24 * length])
        airways.append((fork, hilum, 6.0))
        for dx, dy, dz, radius in ((26, 16, -28, 3.0), (24, -26, -20, 2.6), (22, 6, 34, 2.8), (30, -8, -6, 2.2)):
            end = hilum + np.array([side * dx, dy, dz]) + chance.normal(0, 4, 3)
            airways.append((hilum, end, radius))
            airways.append((end, end + 0.7 * (end - hilum) + chance.normal(0, 5, 3), 0.7 * radius))
    air = np.vstack(
        [ct_vessels.tube(*(np.array([v]) for v in (start, end, radius, radius))) for start, end, radius in airways]
    )
    # Only the windpipe and the main bronchi run outside the lungs.
    air = air[(air[:, 3] > 5) | (depth_in_lung(body, *air[:, :3].T)[0] > 0)]
    return np.vstack(vessels), (air + (0, 0, 0, 1.5)).astype(np.float32), air

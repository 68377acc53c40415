"""CT scans that the package draws itself: who is scanned, what is in the lungs, who outlined it, and each slice.

The thorax is `ct_thorax`'s; here come the nodules, in the terms of LIDC-IDRI (Armato et al., Medical Physics 38(2),
2011, https://doi.org/10.1118/1.3528204): up to four readers outline each nodule of 3 mm and more, each a little
otherwise, and mark smaller ones, and what only looks like one, by a point.

Everything is in mm as in `ct_thorax`, but x counts from the middle of the picture. They are phantoms: good for
showing a mechanism, no evidence about real scans.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sourcematters.demo import ct_thorax, ct_vessels
from sourcematters.errors import StudyError
from sourcematters.seeds import generator

FIELD_MM = 350.0  # the width of a picture
READERS = 4
AGREEMENT = (0.10, 0.12, 0.28, 0.50)  # how often 1, 2, 3 or all 4 readers outline a nodule
NODULES = (0.10, 0.50, 0.40)  # how often a patient has none, 1 or 2
REACH_MM = 30.0  # nodules lie at most so far above or below the middle


@dataclass(frozen=True)
class Nodule:
    """A nodule of 3 mm or more; `center` is x, y, z in mm, `diameter` and `cavity` (air inside, 0: none) are mm.

    `lobes` and `phases` shape its outline: at angle a, radius x (1 + sum over k of lobes[k] cos((k + 2) a +
    phases[k])). `hu` is its density, `malignancy` 1 to 5, `readers` who outlines it, of 0 to 3.
    """

    center: tuple[float, float, float]
    diameter: float
    cavity: float
    lobes: tuple[float, ...]
    phases: tuple[float, ...]
    hu: float
    malignancy: int
    readers: tuple[int, ...]


@dataclass(frozen=True)
class Mark:
    """A point that `readers` set: `kind` is "small" (a nodule below 3 mm) or "non-nodule" (here, a scar)."""

    kind: str
    center: tuple[float, float, float]
    readers: tuple[int, ...]


@dataclass(frozen=True)
class Patient:
    """Who is scanned: `sex` "F" or "M", `age` in years, and what the lungs hold."""

    patient_id: str
    sex: str
    age: int
    nodules: tuple[Nodule, ...]
    marks: tuple[Mark, ...]


def population(seed: int, patients: int) -> list[Patient]:
    """Patients LIDC-IDRI-0001 and on, women and men in turn.

    Each depends on the seed and the number alone: a larger population contains the smaller one.
    Raises StudyError if `patients` is not from 1 to 9999.
    """
    if not 1 <= patients <= 9999:
        raise StudyError(f"population of {patients} CT phantoms: give 1 to 9999.")
    return [_patient(seed, f"LIDC-IDRI-{number:04d}", "MF"[number % 2]) for number in range(1, patients + 1)]


def positions(slices: int, spacing_mm: float = 3.0) -> list[float]:
    """Heights z (mm) of a scan's slices, lowest first, around 0.

    Raises StudyError when there is no slice, or when they reach beyond the chest that is drawn.
    """
    if slices < 1 or not 0 < spacing_mm * slices <= ct_thorax.HEIGHT_MM:
        raise StudyError(
            f"{slices} slices, {spacing_mm:g} mm apart: give at least 1, and together at most "
            f"{ct_thorax.HEIGHT_MM:g} mm, the height of the chest that is drawn."
        )
    return [(number - (slices - 1) / 2) * spacing_mm for number in range(slices)]


def check_size(size: int) -> None:
    """Raise StudyError when `size` (pixels) is too small to draw a chest."""
    if size < 32:
        raise StudyError(f"CT phantoms of {size} px: too small to draw a chest; give a size of 32 or more.")


def draw(seed: int, patient: Patient, z: float, *, size: int = 128, nodules: bool = True) -> NDArray[np.int16]:
    """One axial slice at height `z` (mm) in Hounsfield units: int16 (size, size), -1024 or more, FIELD_MM wide.

    Without `nodules` all is the same, noise included, but for them. Raises StudyError on a size below 32.
    """
    check_size(size)
    body = ct_thorax.anatomy(seed, patient.patient_id, patient.sex)
    hu, lung = ct_thorax.draw(seed, patient.patient_id, body, z, size, FIELD_MM)
    for mark in patient.marks:
        hu += ct_vessels.coverage(_speck(mark), z, size, FIELD_MM) * lung * (20 - hu)
    for number, nodule in enumerate(patient.nodules if nodules else ()):
        if abs(z - nodule.center[2]) < nodule.diameter:
            _add(hu, nodule, z, generator(seed, "ct nodule", patient.patient_id, number))
    shot = generator(seed, "ct noise", patient.patient_id, float(z), size)
    hu += body.noise * shot.standard_normal(hu.shape, dtype=np.float32)
    return np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)


def mask(
    seed: int, patient: Patient, number: int, z: float, *, reader: int | None = None, size: int = 128
) -> NDArray[np.bool_]:
    """Which pixels belong to a patient's nodule at height `z`, bool (size, size): in truth, or as `reader` sees it.

    The pixels whose centres lie in the nodule, less those in its cavity; of several pieces, the largest. A reader's
    nodule is a little larger or smaller, and of another shape; one who does not outline it sees nothing.
    """
    nodule = patient.nodules[number]
    result = np.zeros((size, size), bool)
    if reader is not None:
        if reader not in nodule.readers:
            return result
        nodule = _as_seen(nodule, generator(seed, "ct reader", patient.patient_id, number, reader))
    rows, columns, outer, inner = _distances(nodule, z, size)
    inside = outer > 0
    pieces, count = ndimage.label(inside)
    if count > 1:
        inside = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    # A cavity stays inside: whoever outlines it does so on the nodule.
    hole = (inner > 0) & ndimage.binary_erosion(inside)
    result[rows, columns] = ndimage.binary_fill_holes(inside) & ~hole
    return result


def _patient(seed: int, patient_id: str, sex: str) -> Patient:
    chance = generator(seed, "ct population", patient_id)
    age = int(np.clip(chance.normal(61, 11), 30, 88))
    body = ct_thorax.anatomy(seed, patient_id, sex)
    nodules, marks = [], []
    for _ in range(chance.choice(3, p=NODULES)):
        diameter = float(chance.uniform(8, 28))
        others = [(nodule.center, nodule.diameter) for nodule in nodules]
        center = _place(body, chance, diameter, others)
        # The larger a nodule, the likelier it is malignant, and the more irregular then.
        malignancy = int(np.clip(round(chance.normal(1 + diameter / 6, 0.8)), 1, 5))
        lobes = chance.uniform(0.3, 1, 4) * (0.10, 0.06, 0.04, 0.03) * (0.6 + 0.25 * malignancy)
        cavity = float(chance.uniform(0.35, 0.5)) * diameter if diameter > 18 and chance.random() < 0.15 else 0.0
        nodules.append(
            Nodule(
                center=center,
                diameter=diameter,
                cavity=cavity,
                lobes=tuple(lobes.tolist()),
                phases=tuple(chance.uniform(0, 2 * np.pi, 4).tolist()),
                hu=float(chance.uniform(20, 60)),
                malignancy=malignancy,
                readers=_choose(chance, AGREEMENT),
            )
        )
    for kind, often in (("small", 0.5), ("non-nodule", 0.6)):
        for _ in range(chance.poisson(often)):
            center = _place(body, chance, 6.0, [(nodule.center, nodule.diameter) for nodule in nodules])
            marks.append(Mark(kind, center, _choose(chance, (0.5, 0.3, 0.1, 0.1))))
    return Patient(patient_id, sex, age, tuple(nodules), tuple(marks))


def _choose(chance: np.random.Generator, often: tuple[float, ...]) -> tuple[int, ...]:
    count = 1 + int(chance.choice(READERS, p=often))
    return tuple(sorted(chance.choice(READERS, count, replace=False).tolist()))


def _place(
    body: ct_thorax.Anatomy, chance: np.random.Generator, diameter: float, others: list
) -> tuple[float, float, float]:
    """A place in the lungs for something of that diameter, clear of the wall and of others."""
    low = np.array([-body.width, -body.depth, -REACH_MM])
    while True:
        points = chance.uniform(low, -low, (64, 3))
        fits = ct_thorax.depth_in_lung(body, *points.T)[0] > 0.45 * diameter + 2
        points = points + (body.shift, 0, 0)
        for center, width in others:
            fits &= np.linalg.norm(points - center, axis=1) > 0.7 * (diameter + width) + 8
        if fits.any():
            return tuple(points[fits.argmax()].tolist())


def _as_seen(nodule: Nodule, chance: np.random.Generator) -> Nodule:
    scale = float(np.clip(chance.normal(1, 0.06), 0.9, 1.12))
    wobble = chance.normal(0, 0.03, len(nodule.lobes)).clip(-0.06, 0.06)
    lobes = tuple((np.array(nodule.lobes) + wobble).tolist())
    return Nodule(**vars(nodule) | {"diameter": scale * nodule.diameter, "lobes": lobes})


def _distances(nodule: Nodule, z: float, size: int) -> tuple[slice, slice, NDArray, NDArray]:
    """Rows and columns around a nodule, and how far (mm) each pixel's centre is inside it and inside its cavity."""
    x, y = ct_thorax.grid(size, FIELD_MM)
    reach = nodule.diameter
    columns, rows = (
        slice(*np.searchsorted(line.ravel(), [middle - reach, middle + reach]))
        for line, middle in zip((x, y), nodule.center[:2], strict=True)
    )
    u, v = x[:, columns] - nodule.center[0], y[rows] - nodule.center[1]
    far, around = np.hypot(u, v), np.arctan2(v, u)
    radius = nodule.diameter / 2
    height = (z - nodule.center[2]) / radius
    lobes = zip(nodule.lobes, nodule.phases, strict=True)
    # The phases turn with height, so that its slices are not copies of each other.
    outline = 1 + sum(a * np.cos((k + 2) * around + p + height) for k, (a, p) in enumerate(lobes))
    outer = radius * np.sqrt(max(1 - height * height, 0.0)) * outline - far
    inner = np.sqrt(max((nodule.cavity / 2) ** 2 - (z - nodule.center[2]) ** 2, 0.0)) - far
    return rows, columns, outer, inner


def _add(hu: NDArray[np.float32], nodule: Nodule, z: float, chance: np.random.Generator) -> None:
    size, pixel = len(hu), FIELD_MM / len(hu)
    if nodule.malignancy >= 4:
        # Spicules: fine strands that radiate from it.
        towards = chance.standard_normal((14, 3))
        towards *= chance.uniform(0.8, 1.15, (14, 1)) * nodule.diameter / np.linalg.norm(towards, axis=1, keepdims=True)
        center, width = np.tile(nodule.center, (14, 1)), np.full(14, 0.8)
        strands = ct_vessels.tube(center, center + towards, width, 0.4 * width)
        hu += 0.6 * ct_vessels.coverage(strands, z, size, FIELD_MM) * np.maximum(nodule.hu - 60 - hu, 0)
    rows, columns, outer, inner = _distances(nodule, z, size)
    part = hu[rows, columns]
    part += np.clip(outer / pixel + 0.5, 0, 1) * np.maximum(nodule.hu - part, 0)
    if nodule.cavity:
        part += np.clip(inner / pixel + 0.5, 0, 1) * (-940 - part)


def _speck(mark: Mark) -> NDArray[np.float32]:
    center = np.array([mark.center])
    if mark.kind == "small":
        return np.array([[*mark.center, 1.3]], np.float32)
    lean = np.array([[4.0, 3.0 * np.sign(mark.center[0]), 1.0]])
    return ct_vessels.tube(center - lean, center + 2 * lean, np.array([1.6]), np.array([0.6]))

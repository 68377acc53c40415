"""Chest radiographs that the package draws itself, and the cohort of them: stylised, deterministic, no data needed.

Each picture is a projection: what the tissues along a ray attenuate is summed, quantum and detector noise
disturb the exposure behind the patient, and a film's characteristic curve (Hurter and Driffield's sigmoid, density
against log exposure; Bushberg et al., The Essential Physics of Medical Imaging, ch. 7) turns it into grey: dense is
bright. The anatomy belongs to the patient; position, breath, exposure, noise and lesions belong to the image.

Lengths are in half image widths: x runs from -1 (left in the picture, the patient's right) to 1, y from -1 to 1.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sourcematters import checksums, files
from sourcematters.cohorts import Cohort, Reader, Request, register, tables
from sourcematters.cohorts.cohort import COLUMNS, check, split_by_patient
from sourcematters.processes import over_processes, progress
from sourcematters.seeds import generator

Map = NDArray[Any]  # float32 (rows, columns), a value a pixel

SEXES = ("F", "M")
CAUTION = "phantoms, not patients"
NOTE = "Phantoms drawn by the package: they show a mechanism and are no evidence about real images."

# Women's mean, men's mean, standard deviation within a sex: the sexes differ, individuals overlap.
ANATOMY = {
    "lung_width": (0.303, 0.320, 0.020),
    "apex": (-0.70, -0.75, 0.040),
    "base": (0.55, 0.60, 0.050),
    "dome": (0.19, 0.19, 0.030),  # height of the diaphragm's vault
    "lung_gap": (0.090, 0.100, 0.012),  # from the midline to the lung
    "heart_width": (0.220, 0.230, 0.020),
    "heart_height": (0.355, 0.370, 0.022),
    "heart_tilt": (0.75, 0.70, 0.120),  # radians
    "mediastinum": (0.130, 0.145, 0.014),
    "aorta": (0.060, 0.068, 0.010),
    "wall": (0.12, 0.11, 0.022),  # soft tissue beside the ribs
    "depth": (1.00, 1.06, 0.060),  # relative thickness front to back
    "breast": (0.200, 0.115, 0.070),  # radius
    "breast_height": (0.22, 0.20, 0.050),
    "shoulder": (-0.92, -0.95, 0.040),
    "rib_spacing": (0.130, 0.140, 0.006),
    "rib_phase": (0.50, 0.50, 0.250),
    "rib_droop": (0.17, 0.17, 0.030),  # how far a rib sinks from the spine to the side
    "bone": (0.42, 0.48, 0.060),  # attenuation of a rib
    "clavicle": (-0.60, -0.60, 0.035),
    "clavicle_slope": (-0.20, -0.20, 0.080),
    "scoliosis": (0.0, 0.0, 0.012),
}


def anatomy(seed: int, patient_id: str, sex: str) -> SimpleNamespace:
    """One patient's measures (see ANATOMY), drawn from the distribution of the patient's sex, "F" or "M"."""
    own = generator(seed, "patient", patient_id).standard_normal(len(ANATOMY)).clip(-2.5, 2.5).tolist()
    body = {name: row[SEXES.index(sex)] + row[2] * z for (name, row), z in zip(ANATOMY.items(), own, strict=True)}
    return SimpleNamespace(**body | {"breast": max(body["breast"], 0.0)})


def draw(seed: int, patient_id: str, image_id: str, *, sex: str, lesion: bool, size: int = 256) -> NDArray[np.uint8]:
    """A frontal chest phantom, uint8 (size, size), bright where dense; `lesion` adds 1 to 3 opacities and no more."""
    body, shot = anatomy(seed, patient_id, sex), generator(seed, "image", image_id)
    # How the patient stood before the film: columns x (1, size) and rows y (size, 1).
    line = (np.arange(size) + 0.5) * 2 / size - 1
    zoom = shot.normal(1, 0.035)
    x, y = (((line - shift) / zoom).astype(np.float32) for shift in shot.normal(0, 0.03, 2))
    x, y = x[None, :], y[:, None]
    attenuation, air = _soft_tissue(body, x, y, breath=shot.normal(0, 0.025), stomach_gas=shot.uniform(0, 0.8))
    attenuation += _bones(body, x, y)
    attenuation += air * (0.40 * _vessels(seed, patient_id, body, x, y) + 0.08 * texture(shot, size))
    if lesion:
        _add_lesions(attenuation, air, generator(seed, "lesion", image_id))
    # The film. The fewer photons arrive, the larger their relative noise (Poisson: the inverse root of their number).
    middle, gamma, noise = shot.normal(-1.75, 0.12), shot.normal(1.35, 0.08), shot.uniform(0.009, 0.011)
    quanta = shot.standard_normal(attenuation.shape, dtype=np.float32) * np.exp(0.5 * attenuation) * noise
    return np.rint(255 / (1 + np.exp(gamma * (quanta - attenuation - middle)))).astype(np.uint8)


def population(seed: int, patients: int) -> pd.DataFrame:
    """Who is radiographed: one row an image, as many with lesions as without in either sex (but for chance).

    Columns image_id, patient_id, sex ("F"/"M"), age (years), view ("PA"), label (1: lesion), sorted by image_id.
    A patient has 1 to 3 images, in which lesions come and go, whatever other patients there are.
    """
    rows = []
    for number in range(patients):
        patient_id, sex = f"phantom-{number:05d}", SEXES[number % 2]
        chance = generator(seed, "population", patient_id)
        age = float(round(min(max(chance.normal(50, 16), 18), 90)))
        for image in range(chance.integers(1, 4)):
            # Labels that alternate within a patient and between patients of a sex keep the four cells level.
            rows.append((f"{patient_id}-{image}", patient_id, sex, age, "PA", (number // 2 + image) % 2))
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "sex", "age", "view", "label"])
    return table.sort_values("image_id", ignore_index=True)


@register
class Phantoms(Reader):
    """Radiographs that are drawn, as PNG files."""

    name = "phantoms"
    help = "the word phantoms: radiographs that are drawn, of `patients` patients; task lesion"
    tasks = ("lesion",)

    def claims(self, data: str) -> bool:
        """Whether it is that word."""
        return data == self.name

    def open(self, request: Request) -> Cohort:
        """Draw what is not there yet; an interrupted drawing goes on where it was."""
        folder = folder_for(request, __file__)
        table = population(request.seed, request.patients)
        table["path"] = [str(folder / "images" / f"{name}.png") for name in table["image_id"]]
        table = check(table, origin=f"{request.patients} phantoms")
        table = split_by_patient(table, test_fraction=request.test_fraction, seed=request.seed, strata=["sex"])
        table = table[[*COLUMNS, *table.columns.difference(COLUMNS, sort=False)]]
        images = [(Path(row["path"]), row) for row in table.to_dict("records")]
        write = partial(_write, request.seed, request.size)
        draw_missing(folder, [([path], row) for path, row in images], write, request.workers, "phantoms", "image")
        tables.write_csv(folder / "phantoms.csv", table)
        return Cohort(table, self.name, request.task, str(folder / "phantoms.csv"), [NOTE], caution=CAUTION)


def folder_for(request: Request, *code: str) -> Path:
    """A folder of its own for all that decides what is drawn, so that one drawn otherwise is never taken for it."""
    settings = [request.patients, request.seed, request.size, request.test_fraction, *map(files.sha256, code)]
    return Path(request.cache).absolute() / f"{request.data}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"


def draw_missing(
    folder: Path,
    drawings: Sequence[tuple[list[Path], Any]],
    draw: Callable[[Any], object],
    workers: int,
    title: str,
    unit: str,
) -> None:
    """Call `draw` on what belongs to each list of files, unless these are what was drawn, as `folder`/.sha256 tells.

    That seal grows by each drawing, so an interrupted call loses only what was being drawn.
    """
    listing, wrong, damaged = folder / checksums.SUFFIX, [], []
    sums = checksums.read(listing)
    for paths, task in drawings:
        names = [path.relative_to(folder).as_posix() for path in paths]
        if flaw := checksums.flaw(listing, names, sums):
            wrong.append((names, task))
            damaged += [flaw] if any(path.exists() for path in paths) else []
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        checksums.tell(f"{damaged[0]}{more}", "it is drawn again")
    if sums:
        checksums.write(listing, sums)  # without a last line that was cut
    else:
        listing.unlink(missing_ok=True)
    with progress(total=len(drawings), initial=len(drawings) - len(wrong), desc=title, unit=unit) as bar:
        for (names, _), _ in over_processes(partial(_second, draw), wrong, workers):
            with files.explained(listing), open(listing, "a", encoding="utf-8") as seal:
                seal.writelines(f"{files.sha256(folder / name)}  {name}\n" for name in names)
            bar.update(1)
    if wrong:
        checksums.write(listing, checksums.read(listing))


def _second(draw: Callable[[Any], object], pair: tuple[list[str], Any]) -> None:
    draw(pair[1])


def _write(seed: int, size: int, row: dict) -> None:
    image = draw(seed, row["patient_id"], row["image_id"], sex=row["sex"], lesion=row["label"] == 1, size=size)
    with files.replacing(row["path"]) as beside:
        Image.fromarray(image).save(beside, compress_level=1)


def _ramp(distance: Map, width: float) -> Map:
    """0 to 1 across an edge `width` wide."""
    return np.clip(distance * (1 / width) + 0.5, 0, 1)


def _ball(x: Map, y: Map, center: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> Map:
    """Thickness of an ellipsoid along the rays, 1 at its center, 0 outside; `tilt` in radians, clockwise."""
    u, v, c, s = x - center[0], y - center[1], float(np.cos(tilt)), float(np.sin(tilt))
    a, b = u * (c / radii[0]) + v * (s / radii[0]), v * (c / radii[1]) - u * (s / radii[1])
    return np.sqrt(np.maximum(1 - a * a - b * b, 0))


def _lung_sides(body: SimpleNamespace, y: Map) -> tuple[Map, Map]:
    """Center line and half width (size, 1) of a lung at each height, as distances from the midline."""
    down = np.clip((y - body.apex) / (body.base - body.apex), 0, 1)
    return body.lung_gap + body.lung_width * (0.6 + 0.4 * down), body.lung_width * np.sqrt(1 - (1 - down) ** 3)


def _soft_tissue(body: SimpleNamespace, x: Map, y: Map, breath: float, stomach_gas: float) -> tuple[Map, Map]:
    """Attenuation of the soft tissues, and how much air (0..1) the lungs hold along each ray."""
    side = np.abs(x)
    center, half = _lung_sides(body, y)
    r = (side - center) / np.maximum(half, 1e-6)  # far away where there is no lung
    r *= r
    lungs = np.sqrt(np.maximum(1 - r * r, 0)) * _ramp(y - body.apex, 0.03)
    vault = (side - body.lung_gap - 0.9 * body.lung_width) / (1.08 * body.lung_width)
    vault = np.where(vault < 0, 0.6 * vault, vault)
    diaphragm = body.base + breath - body.dome
    # The liver lifts the right half of the diaphragm.
    below = _ramp(y - (diaphragm - 0.05 * _ramp(-x, 0.1) + body.dome * vault * vault), 0.02)

    heart_center = (0.10, diaphragm + 0.13 - 0.7 * body.heart_height)
    heart = _ball(x, y, heart_center, (body.heart_width, body.heart_height), -body.heart_tilt)
    arch = _ball(x, y, (0.075, -0.30), (1.4 * body.aorta, 1.8 * body.aorta))
    middle = _ramp(body.mediastinum + 0.12 * y * y - 0.03 - side, 0.05)
    solid = np.maximum(np.maximum(1.8 * heart, 1.4 * arch), middle)
    air = lungs * (1 - below) * (1 - np.minimum(solid, 1))

    arms, bust = np.clip((-0.10 - y) * 1.8, 0, 1), _ramp(0.25 - np.abs(y - body.breast_height - 0.05), 0.4)
    outer = body.lung_gap + 2 * body.lung_width + body.wall
    outer = outer + 0.45 * arms * arms * (3 - 2 * arms) + 0.35 * body.breast * bust * bust * (3 - 2 * bust)
    depth = np.sqrt(np.maximum(1 - (side / outer) ** 2, 0))
    shoulders = body.shoulder + 0.35 * np.maximum(side - 0.24, 0) - 1.2 * _ramp(0.24 - side, 0.1)
    tissue = 2.9 * body.depth * depth * _ramp(y - shoulders, 0.1) * (0.75 + 0.25 * _ramp(y + 0.5, 0.8))

    size = max(body.breast, 0.02)
    place = (body.lung_gap + 1.15 * body.lung_width, body.breast_height), (1.25 * size, size), 0.25
    breasts = _ball(x, y, *place) + _ball(-x, y, *place)
    breasts *= _ramp(y - body.breast_height, 1.6 * size)
    stomach = _ball(x, y, (0.36, diaphragm + 0.15), (0.12, 0.06))
    total = tissue * (1 - 0.70 * air) + 0.20 * heart + 0.15 * arch
    total += 0.30 * middle * _ramp(y + 0.75, 0.4) + below * (0.25 * depth - 0.9 * stomach_gas * stomach)
    total += 4.0 * body.breast * breasts - 0.45 * _ball(x, y, (0.0, -0.72), (0.045, 0.45))  # the windpipe
    return total, air


def _tube(phase: Map, half: float) -> Map:
    """A hollow bone across each unit of `phase`, `half` its half width; the marrow attenuates less."""
    d = phase - np.floor(phase) - 0.5
    d *= d * (1 / half**2)
    return np.sqrt(np.maximum(1 - d, 0)) - 0.65 * np.sqrt(np.maximum(0.6 - d, 0))


def _bones(body: SimpleNamespace, x: Map, y: Map) -> Map:
    """Attenuation of ribs, spine, clavicles, shoulder blades and upper arms."""
    side = np.abs(x)
    center, half = _lung_sides(body, y)
    q = side / (center + half + 0.012)
    q3 = q * q * q
    # One periodic profile along a sheared height draws all ribs at once.
    height = (y - body.apex) / body.rib_spacing + body.rib_phase
    droop = body.rib_droop / body.rib_spacing
    behind = _tube(height + droop * (0.35 * q - q3), 0.26) * _ramp(side - 0.07, 0.05) * (0.7 + 0.6 * q3)
    front = _tube(height - droop - 0.34 / body.rib_spacing * (1 - q), 0.30) * _ramp(q - 0.45, 0.3)
    caged = _ramp(y - body.apex + 0.04, 0.04) * _ramp(body.base + 0.15 - y, 0.2)
    total = (behind + 0.55 * front) * _ramp(1.02 - q, 0.03) * caged

    vertebrae = np.clip(2 * np.sin(2 * np.pi / (0.85 * body.rib_spacing) * y), -1, 1)
    total += _ramp(0.075 - np.abs(x - body.scoliosis * np.cos(3 * y)), 0.03) * (0.75 + 0.25 * vertebrae)
    along = side - 0.05
    d = (y - body.clavicle - along * (body.clavicle_slope + 0.35 * (along - 0.45) * (along - 0.1))) / 0.028
    total += 1.1 * (_ramp(side - 0.07, 0.02) * _ramp(0.72 - side, 0.02)) * np.sqrt(np.maximum(1 - d * d, 0))
    reach = body.lung_gap + 2 * body.lung_width + body.wall
    total += 1.1 * _ball(side, y, (reach + 0.08, body.shoulder + 0.38), (0.10, 0.12))
    total += 0.6 * _ball(side, y, (reach - 0.13, -0.36), (0.08, 0.27), 0.25)
    return body.bone * total


def _vessels(seed: int, patient_id: str, body: SimpleNamespace, x: Map, y: Map) -> Map:
    """The branching vessels of both lungs, 0..1: the tree is the patient's, thinning at every fork."""
    tree = generator(seed, "vessels", patient_id)
    canvas = Image.new("L", (x.size, x.size))
    pen = ImageDraw.Draw(canvas)
    origin, scale = np.array([x[0, 0], y[0, 0]]), (x.size - 1) / (x[0, -1] - x[0, 0])
    start = np.repeat([[-0.15, -0.06], [0.15, -0.09]], 9, axis=0) + tree.normal(0, 0.02, (18, 2))
    angle = np.tile(np.linspace(-1.35, 1.3, 9), 2) + tree.normal(0, 0.12, 18)
    angle = np.where(start[:, 0] < 0, np.pi - angle, angle)
    length = 0.8 * body.lung_width
    for ink, width in ((230, 0.020), (170, 0.014), (125, 0.010), (90, 0.007)):
        reach = length * tree.uniform(0.6, 1.1, (len(start), 1))
        end = start + reach * np.column_stack([np.cos(angle), 1.25 * np.sin(angle)])
        for line in ((np.stack([start, end], axis=1) - origin) * scale).reshape(-1, 4).tolist():
            pen.line(line, fill=ink, width=max(1, round(width * scale)))
        start, length = np.repeat(end, 2, axis=0), 0.62 * length
        angle = np.repeat(angle, 2) + np.tile([-0.42, 0.42], len(end)) + tree.normal(0, 0.15, 2 * len(end))
    return np.asarray(canvas, dtype=np.float32) / 255


def texture(shot: np.random.Generator, size: int) -> Map:
    """Fine structure of tissue, float32 (size, size): noise of several scales, mean 0, about unit variance."""
    coarse = (Image.fromarray(shot.standard_normal((cells, cells), dtype=np.float32)) for cells in (14, 56))
    low, high = (np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in coarse)
    return 0.75 * low + 0.65 * high


def _add_lesions(attenuation: Map, air: Map, chance: np.random.Generator) -> None:
    """Add one to three irregular opacities, from clear to subtle, where the lung holds air."""
    size, aerated = len(air), np.flatnonzero(air > 0.55)
    for _ in range(chance.integers(1, 4)):
        row, column = divmod(int(aerated[chance.integers(len(aerated))]), size)
        radius, contrast = chance.uniform(0.07, 0.16), chance.uniform(0.7, 1.9)
        lobes, phases = chance.uniform(0, 0.12, 4), chance.uniform(0, 2 * np.pi, 4)
        stretch = chance.uniform(0.8, 1.25)
        reach = int(np.ceil(1.6 * radius * size / 2))
        near = tuple(slice(max(0, c - reach), c + reach + 1) for c in (row, column))
        v, u = np.mgrid[near].astype(np.float32)
        u, v = (u - column) * (2 / size / radius / stretch), (v - row) * (2 / size / radius * stretch)
        around = np.arctan2(v, u)
        outline = 1 + sum(a * np.cos((k + 2) * around + p) for k, (a, p) in enumerate(zip(lobes, phases, strict=True)))
        attenuation[near] += contrast * air[near] * np.maximum(1 - (u * u + v * v) / outline**2, 0)

"""CT scans that the package draws itself, and the cohort of them, on disk as TCIA distributes LIDC-IDRI.

What reads the real release reads these, so the whole way from files to figures runs without it: DICOM series whose
files are not in the order of the slices, stored signed or unsigned; four readers' XML (Armato et al., Medical Physics
38(2), 2011, doi:10.1118/1.3528204); a chest film, which is no CT. They are no evidence about real scans.

Lengths are mm from the middle of the chest: x to the right of the picture, y downward (to the back), z towards the
head. Hounsfield units are textbooks' (Bushberg et al., The Essential Physics of Medical Imaging, ch. 10).
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds
from scipy import ndimage
from skimage.measure import find_contours

from sourcematters import files
from sourcematters.cohorts import Cohort, Request, open_cohort, register
from sourcematters.cohorts.lidc.lidc_idri import TASK
from sourcematters.demo import phantoms
from sourcematters.demo.phantoms import Map
from sourcematters.seeds import generator

SIZE, PIXEL_MM, SLICE_MM = 128, 350 / 128, 3.0
HEIGHTS = [(number - 11.5) * SLICE_MM for number in range(24)]  # of a scan's slices, lowest first
SLICES = [f"1-{number:03d}.dcm" for number in range(1, len(HEIGHTS) + 1)]
X = ((np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL_MM).astype(np.float32)[None, :]  # of the pixels' centres
Y = X.T
HIGH = float("inf")  # the radius of what is as high as the chest

# Centre and radii (x, y, z) of the ellipsoids between and below the lungs, and their HU.
ORGANS = (
    ((0, -22, 0), (27, 52, HIGH), -80),  # the mediastinum's fat
    ((0, 62, 0), (27, 25, HIGH), 50),  # muscle, in it a vertebra, its marrow, and the spinal cord
    ((0, 62, 0), (19, 15, HIGH), 480),
    ((0, 62, 0), (15, 11, HIGH), 200),
    ((0, 80, 0), (8, 5, HIGH), 30),
    ((20, -34, -42), (62, 46, 64), 42),  # heart
    ((23, 40, 0), (12, 12, HIGH), 46),  # aorta
    ((0, 12, 8), (26, 13, 22), 35),  # what surrounds the main bronchi
    ((0, 12, 80), (8, 8, 78), -1000),  # windpipe
    ((-66, 0, -125), (70, 74, 88), 55),  # liver
)
# What `write_slice` writes unless it is told otherwise: an axial CT slice of 16 bits (signed: PixelRepresentation 1).
DEFAULTS: dict[str, Any] = {
    "SOPClassUID": CTImageStorage, "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "InstanceNumber": 1,
    "PixelSpacing": (0.7, 0.7), "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PatientPosition": "HFS",
    "SliceThickness": 2.5, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
    "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": -1024, "RescaleSlope": 1,
}  # fmt: skip


@register
class CtPhantoms(phantoms.Phantoms):
    """CT scans that are drawn, read as the real release is."""

    name = "ct-phantoms"
    help = f"the word ct-phantoms: CT scans that are drawn, of `patients` patients; task {TASK}"
    tasks = (TASK,)

    def open(self, request: Request) -> Cohort:
        """Draw what is not there yet; an interrupted drawing goes on where it was."""
        folder, seed = phantoms.folder_for(request, __file__, phantoms.__file__), request.seed
        names = [f"LIDC-IDRI-{number:04d}" for number in range(1, request.patients + 1)]
        scans = [folder / name / uid(seed, name, 1) / uid(seed, name, 2) / f"{name[-3:]}.xml" for name in names]
        drawings = [([*map(path.with_name, SLICES), path], path) for path in scans]
        phantoms.draw_missing(folder, drawings, partial(_write_scan, seed), request.workers, "CT phantoms", "scan")
        # Some patients of LIDC-IDRI have a chest film beside the CT: no CT, and to be passed over.
        film = phantoms.draw(seed, names[0], "film", sex="F", lesion=False)
        tags = {"PatientID": names[0], "StudyInstanceUID": uid(seed, 1), "SeriesInstanceUID": uid(seed, 2)}
        path, kind = folder.joinpath(*tags.values(), "1-1.dcm"), {"SOPClassUID": ComputedRadiographyImageStorage}
        write_slice(path, film, 0, Modality="CR", SOPInstanceUID=uid(seed, 3), RescaleIntercept=0, **tags, **kind)
        cohort = open_cohort(request.replaced(data=folder))
        return replace(cohort, name=self.name, notes=[phantoms.NOTE, *cohort.notes], caution=phantoms.CAUTION)


@dataclass(frozen=True)
class Finding:
    """What lies in a lung: its kind, centre (x, y, z) and diameter in mm, and which readers (of 0 to 3) saw it.

    `lobes` shape it: at angle t, its radius times 1 + the real part of the sum over k of lobes[k] exp(i (k + 2) t).
    """

    kind: str
    center: tuple[float, float, float]
    diameter: float
    readers: tuple[int, ...]
    lobes: tuple[complex, complex, complex]


@dataclass(frozen=True)
class Patient:
    """Who is scanned: half the body's width and depth (mm), and what the lungs hold."""

    patient_id: str
    width: float
    depth: float
    findings: tuple[Finding, ...] = ()


def patient(seed: int, patient_id: str) -> Patient:
    """A patient with nodules, small ones and scars in the lungs, clear of the wall and of each other."""
    chance = generator(seed, "ct patient", patient_id)
    person = Patient(patient_id, *chance.normal((156, 106), (6, 4)).tolist())
    findings: list[Finding] = []
    for kind, (smallest, largest), often, agreement in (
        # Diameters; how often a patient has 0 to 2, and how often 1 to 4 readers see one.
        ("nodule", (8, 28), (0.1, 0.5, 0.4), (0.10, 0.12, 0.28, 0.50)),
        ("small", (2.5, 2.9), (0.6, 0.3, 0.1), (0.5, 0.3, 0.1, 0.1)),
        ("non-nodule", (6, 8), (0.5, 0.4, 0.1), (0.5, 0.3, 0.1, 0.1)),
    ):
        for _ in range(chance.choice(3, p=often)):
            diameter = float(chance.uniform(smallest, largest))
            readers = chance.choice(4, 1 + chance.choice(4, p=agreement), replace=False)
            lobes = chance.normal(0, (0.10, 0.06, 0.04), (2, 3)).T @ (1, 1j) + (0.5 * (kind == "non-nodule"), 0, 0)
            fits = np.zeros(1, bool)
            while not fits.any():
                points = chance.uniform((-130, -90, -30), (130, 90, 30), (64, 3))
                fits = _shapes(person, *points.T)[0] > 0.45 * diameter + 2
                for other in findings:
                    fits &= np.linalg.norm(points - other.center, axis=1) > 0.7 * (diameter + other.diameter) + 8
            center = tuple(points[fits.argmax()].tolist())
            findings.append(Finding(kind, center, diameter, tuple(sorted(readers.tolist())), tuple(lobes.tolist())))
    return replace(person, findings=tuple(findings))


def draw(seed: int, person: Patient, z: float) -> NDArray[np.int16]:
    """One axial slice at height `z` (mm) in Hounsfield units: int16 (SIZE, SIZE), -1024 or more."""
    shot = generator(seed, "ct slice", person.patient_id, z)
    texture = phantoms.texture(shot, SIZE)
    lung, cage, *organs = _shapes(person, X, Y, z)
    # A rib leaves the spine and sinks on its way to the front, so that a slice cuts several.
    turn = z / 28 + 2.6 * np.arctan2(np.abs(X), Y + 3) / np.pi - 0.1 * (X > 0)
    rib = 5 - np.hypot((turn - np.floor(turn) - 0.5) * 19, cage + 8)
    # How far (mm) each pixel lies inside something, and its HU there; what comes later covers what came before.
    layers: list[tuple[Map, Any]] = [
        (4 - np.abs(Y - (person.depth + 14 - 0.0011 * X * X)), -300),  # couch
        (_inside(X, Y, (0, 0), (person.width, person.depth)), -100 + 12 * texture),  # fat
        (_inside(X, Y, (0, 2), (person.width - 13, person.depth - 9)), 50 + 10 * texture),  # muscle
        (rib, 550),
        *((np.minimum(organ, cage + 2), hu) for organ, (_, _, hu) in zip(organs, ORGANS, strict=True)),
        (lung, 0.4 * Y + 25 * texture - 855),  # denser at the back, as the patient lies on it
        (np.minimum(lung, _vessels(seed, person.patient_id, z)), 40),
        *((_inside_finding(finding, z), 40) for finding in person.findings),
    ]
    total = np.full((SIZE, SIZE), -1000, np.float32)
    for inside, hu in layers:
        total += np.clip(inside / PIXEL_MM + 0.5, 0, 1) * (hu - total)
    noise = 7.5 * shot.standard_normal(total.shape, dtype=np.float32)
    return np.rint(np.clip(total + noise, -1024, 3071)).astype(np.int16)


def mask(seed: int, person: Patient, nodule: Finding, z: float, reader: int) -> NDArray[np.bool_]:
    """Which pixels of the slice at height `z` a reader takes for the nodule, bool (SIZE, SIZE): one piece, or none.

    A reader's nodule is a little larger or smaller, and of another shape; one who does not outline it sees nothing.
    """
    chance = generator(seed, "ct reader", person.patient_id, *nodule.center, reader)
    lobes = tuple((nodule.lobes + chance.normal(0, 0.03, 3)).tolist())
    seen = replace(nodule, diameter=nodule.diameter * float(chance.normal(1, 0.06)), lobes=lobes)
    inside = (_inside_finding(seen, z) > 0) & (reader in nodule.readers)
    pieces, count = ndimage.label(inside)
    return pieces == np.bincount(pieces[inside]).argmax() if count else inside


def _inside(x: Map, y: Map, center: tuple, radii: tuple) -> Map:
    """About how far (mm) points lie inside an ellipse, negative outside: (1 - q) / |gradient of q|, the edge q = 1."""
    u, v = ((x - center[0]) / radii[0]) ** 2, ((y - center[1]) / radii[1]) ** 2
    return (1 - (u + v)) / np.sqrt(u * (2 / radii[0]) ** 2 + v * (2 / radii[1]) ** 2 + 1e-6)


def _shapes(person: Patient, x: Map, y: Map, z: float | Map) -> list[Map]:
    """How far (mm) points lie inside a lung, inside the chest wall, and inside each of ORGANS."""
    shapes = [_inside(x, y, (0, -3), (person.width - 30, person.depth - 20))]
    for (cx, cy, cz), (rx, ry, rz), _ in ORGANS:
        scale = np.sqrt(np.maximum(1 - ((z - cz) / rz) ** 2, 1e-4)).astype(np.float32)
        shapes.append(_inside(x, y, (cx, cy), (rx * scale, ry * scale)))
    return [np.minimum.reduce([shapes[0], *(-organ for organ in shapes[1:])]), *shapes]


def _vessels(seed: int, patient_id: str, z: float) -> Map:
    """How far (mm) each pixel lies inside a vessel, at most half a pixel: rows of beads, drawn four times as fine."""
    tips = generator(seed, "ct vessels", patient_id).uniform((15, -95, -90), (140, 90, 90), (90, 3))
    tips[::2, 0] *= -1
    root, share = np.sign(tips) * (28, 0, 0) + (0, 2, 0), np.linspace(0, 1, 40)[:, None, None] ** 0.8
    beads = root + share * (tips - root) + 8 * np.sin(5 * share + tips / 20)
    cut = (2.8 - 2.1 * share[..., 0]) ** 2 - np.maximum(np.abs(beads[..., 2] - z) - SLICE_MM / 2, 0) ** 2
    middle, radius = beads[cut > 0, :2] / PIXEL_MM + SIZE / 2, np.sqrt(cut[cut > 0])[:, None] / PIXEL_MM
    canvas = Image.new("L", (4 * SIZE, 4 * SIZE))
    pen = ImageDraw.Draw(canvas)
    for box in (4 * np.hstack([middle - radius, middle + radius])).tolist():
        pen.ellipse(box, fill=255)
    return (np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32) / 255 - 0.5) * PIXEL_MM


def _inside_finding(finding: Finding, z: float) -> Map:
    """How far (mm) each pixel's centre lies inside a finding, negative outside."""
    u, v, height = X - finding.center[0], Y - finding.center[1], max(abs(z - finding.center[2]) - SLICE_MM / 2, 0)
    square = finding.diameter**2 / 4 - height**2  # of the largest radius of a ball within the slice
    if square <= 0:
        return np.full((SIZE, SIZE), -HIGH, np.float32)
    # The shape turns with height, so that slices are not copies of each other.
    far, (a, b, c) = np.hypot(u, v) + 1e-6, finding.lobes
    turn = (u + 1j * v) / far * complex(np.exp(1j * height / finding.diameter))
    return square**0.5 * (1 + (turn * turn * (a + turn * (b + turn * c))).real) - far


def write_slice(path: str | Path, hu: NDArray[np.integer], z_mm: float, **tags: Any) -> None:
    """Write the Hounsfield units (rows, columns) of a slice at `z_mm` (mm, towards the head), centred, as DICOM.

    `tags` are values of elements by their keywords: PatientID, StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID
    (see `uid`), and what is to be other than in DEFAULTS. The same arguments give the same bytes: the file has no date.
    """
    tags = DEFAULTS | {"FrameOfReferenceUID": uid(tags["StudyInstanceUID"], "frame of reference")} | tags
    corner = [-(n - 1) / 2 * step for n, step in zip(hu.shape[::-1], tags["PixelSpacing"][::-1], strict=True)]
    tags |= {"ImagePositionPatient": [*corner, z_mm], "Rows": hu.shape[0], "Columns": hu.shape[1]}
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in tags.items():
        lengths = keyword in ("PixelSpacing", "ImagePositionPatient")
        setattr(dataset, keyword, [format_number_as_ds(float(mm)) for mm in value] if lengths else value)
    stored = hu.astype(np.int64) - tags["RescaleIntercept"]
    dataset.PixelData = stored.astype("<i2" if tags["PixelRepresentation"] else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    with files.replacing(path) as beside:
        dataset.save_as(beside, enforce_file_format=True)


def uid(*names: object) -> str:
    """A DICOM identifier that these names always give: a name-based UUID below 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, repr(tuple(map(str, names)))).int}"


def outline(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """LIDC-IDRI's contour of a bool mask (H, W) in one piece: (x, y) of the first pixels outside, in order, closed."""
    # At a level just above 0, the line between a pixel inside and one outside runs through the latter.
    lines = find_contours(np.pad(mask, 1).astype(float), 1e-6)
    points = [(x - 1, y - 1) for line in lines for y, x in np.rint(line).astype(int).tolist()]
    return points[:1] + [point for before, point in zip(points, points[1:], strict=False) if point != before]


def _write_scan(seed: int, annotations: Path) -> None:
    """A patient's slices, and last the annotations."""
    patient_id, study, series = annotations.parts[-4:-1]
    person, chance = patient(seed, patient_id), generator(seed, "ct scanner", patient_id)
    tags: dict[str, Any] = {"PatientID": patient_id, "StudyInstanceUID": study, "SeriesInstanceUID": series}
    tags |= {"PixelSpacing": (PIXEL_MM, PIXEL_MM), "SliceThickness": SLICE_MM}
    tags |= {"PixelRepresentation": int(chance.integers(2)), "ConvolutionKernel": str(chance.choice(["LUNG", "B30f"]))}
    for number, z in zip((1 + chance.permutation(len(HEIGHTS))).tolist(), HEIGHTS, strict=True):
        path, tags = annotations.with_name(SLICES[number - 1]), tags | {"SOPInstanceUID": uid(series, z)}
        write_slice(path, draw(seed, person, z), z, InstanceNumber=number, **tags)
    header = _xml("ResponseHeader", SeriesInstanceUid=series, StudyInstanceUID=study)
    readers = (_xml("readingSession", *_marks(seed, person, series, reader)) for reader in range(4))
    files.write_text(annotations, _xml('LidcReadMessage xmlns="http://www.nih.gov"', header, *readers))


def _marks(seed: int, person: Patient, series: str, reader: int) -> Iterator[str]:
    """What a reader marked in a scan, as LIDC-IDRI's XML has it: outlines and a rating, or a point, of each finding."""

    def contour(z: float, points: list[tuple[int, int]], edge: str = "edgeMap") -> str:
        edges = [_xml(edge, xCoord=x, yCoord=y) for x, y in points]
        return "".join([_xml("imageZposition", str(z)), _xml("imageSOP_UID", uid(series, z)), *edges])

    for number, finding in enumerate(person.findings):
        x, y = (round(mm / PIXEL_MM + (SIZE - 1) / 2) for mm in finding.center[:2])
        z = HEIGHTS[int(np.abs(np.array(HEIGHTS) - finding.center[2]).argmin())]
        if reader not in finding.readers:
            continue
        if finding.kind == "nodule":
            near = (z for z in HEIGHTS if abs(z - finding.center[2]) < finding.diameter)
            outlines = {z: outline(mask(seed, person, finding, z, reader)) for z in near}
            rois = [_xml("roi", contour(z, points), inclusion="TRUE") for z, points in outlines.items() if points]
            # The larger a nodule, the likelier it is malignant; two readers think it a little more so.
            ratings = _xml("characteristics", malignancy=min(1 + int(finding.diameter / 7 + reader % 2 / 2), 5))
            yield _xml("unblindedReadNodule", ratings, *rois, noduleID=number)
        elif finding.kind == "non-nodule":
            yield _xml("nonNodule", contour(z, [(x, y)], "locus"), nonNoduleID=number)
        else:
            yield _xml("unblindedReadNodule", _xml("roi", contour(z, [(x, y)]), inclusion="TRUE"), noduleID=number)


def _xml(tag: str, *content: str, **texts: object) -> str:
    children = [f"<{name}>{text}</{name}>" for name, text in texts.items()]
    return f"<{tag}>{''.join([*children, *content])}</{tag.split()[0]}>"

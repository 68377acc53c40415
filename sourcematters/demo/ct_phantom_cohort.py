"""CT phantoms on disk as TCIA distributes LIDC-IDRI: DICOM series, four readers' XML beside them, a chest film.

What reads the real release reads these, so the whole way from files to figures runs without it (see
`sourcematters.ct_phantoms` for what is drawn). As in the release, files are not in the order of the slices, stored
values are signed in some series and unsigned in others, and an outline is the first pixels outside a nodule.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import ComputedRadiographyImageStorage
from scipy import ndimage

from sourcematters import files
from sourcematters.cohorts import Cohort, Reader, Request, register
from sourcematters.cohorts.lidc.lidc_idri import TASK, LidcIdri
from sourcematters.demo import ct_phantoms, ct_thorax, ct_vessels, dicom_writer, phantoms
from sourcematters.demo.ct_phantoms import READERS, Mark, Patient
from sourcematters.demo.phantom_cohort import CAUTION, DISCLAIMER
from sourcematters.processes import over_processes, progress
from sourcematters.seeds import generator

CODE = (__file__, ct_phantoms.__file__, ct_thorax.__file__, ct_vessels.__file__, phantoms.__file__)
KERNELS = ("STANDARD", "LUNG", "B30f", "FC01")


@dataclass(frozen=True)
class Slice:
    """One file of a scan: the `instance`-th, at height `z_mm`."""

    path: Path
    instance: int
    z_mm: float
    sop_uid: str


@dataclass(frozen=True)
class Scan:
    """Where a patient's scan lies: its identifiers, its slices by height (lowest first), the readers' file."""

    study_uid: str
    series_uid: str
    slices: tuple[Slice, ...]
    annotations: Path


def write(
    root: str | Path,
    *,
    patients: int,
    seed: int,
    size: int = 128,
    slices: int = 24,
    spacing_mm: float = 3.0,
    workers: int = 1,
) -> Path:
    """Write the scans that are not yet below `root`; return the folder that holds LIDC-IDRI-0001/ and so on.

    Each setting has its own folder, `root/ct-phantoms-<hash of the settings and of the drawing code>`. In it are
    a scan of `slices` axial slices, `size` x `size` pixels, `spacing_mm` apart, for each of `patients`,
    the readers' annotations, one chest film, and `ct-phantoms.json` (the settings). An interrupted writing goes on
    where it was.

    Raises StudyError when the settings make no scans, or when the folder cannot be written.
    """
    settings = {"patients": patients, "seed": seed, "size": size, "slices": slices, "spacing_mm": spacing_mm}
    code = [files.sha256(path) for path in CODE]
    digest = hashlib.sha256(json.dumps([settings, code], sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(root).absolute() / f"ct-phantoms-{digest}"
    heights = ct_phantoms.positions(slices, spacing_mm)
    ct_phantoms.check_size(size)
    everybody = ct_phantoms.population(seed, patients)
    wanting = [p for p in everybody if not all(path.exists() for path in _paths(layout(folder, seed, p, heights)))]
    files.write_json(folder / "ct-phantoms.json", settings | {"code": code})
    write_one = partial(_write, folder=folder, seed=seed, size=size, heights=heights, spacing_mm=spacing_mm)
    with progress(total=patients, initial=patients - len(wanting), desc="CT phantoms", unit="scan") as bar:
        for _ in over_processes(write_one, wanting, workers):
            bar.update(1)
    _write_film(folder, seed, everybody[0])
    return folder


def layout(folder: Path, seed: int, patient: Patient, heights: list[float]) -> Scan:
    """Names and places of a patient's files below `folder`, for slices at `heights` (mm)."""
    identity = ("ct phantom", seed, patient.patient_id)
    study_uid, series_uid = dicom_writer.uid(*identity, "study"), dicom_writer.uid(*identity, "series")
    series = folder / patient.patient_id / study_uid / series_uid
    order = generator(seed, "ct file order", patient.patient_id).permutation(len(heights)) + 1
    slices = tuple(
        Slice(series / f"1-{instance:03d}.dcm", instance, z, dicom_writer.uid(*identity, "slice", z))
        for instance, z in zip(order.tolist(), heights, strict=True)
    )
    return Scan(study_uid, series_uid, slices, series / f"{patient.patient_id[-3:]}.xml")


def outlines(mask: NDArray[np.bool_]) -> Iterator[tuple[bool, list[tuple[int, int]]]]:
    """LIDC-IDRI's contours of a bool mask (H, W), whose pixels hang together: (inclusion, points x, y).

    First the outline, of inclusion True: the first pixels outside, in order around the mask, closed. Then one of
    inclusion False for each hole, likewise the first pixels outside the hole. Nothing for an empty mask.
    """
    if not mask.any():
        return
    whole = ndimage.binary_fill_holes(mask)
    yield True, _around(whole)
    holes, count = ndimage.label(whole & ~mask)
    for hole in range(1, count + 1):
        yield False, _around(holes == hole)


def annotations(seed: int, patient: Patient, scan: Scan, size: int) -> str:
    """What the readers said about a scan of `size` x `size` pixels, as LIDC-IDRI's XML."""
    root = ElementTree.Element("LidcReadMessage", {"uid": scan.series_uid, "xmlns": "http://www.nih.gov"})
    _add(
        _add(root, "ResponseHeader"),
        Version="1.8.1",
        SeriesInstanceUid=scan.series_uid,
        StudyInstanceUID=scan.study_uid,
        ResponseDescription="1 - Reading complete",
    )
    for reader in range(READERS):
        session = _add(root, "readingSession")
        _add(session, annotationVersion="3.12", servicingRadiologistID="anonymous")
        for number in range(len(patient.nodules)):
            _add_nodule(session, seed, patient, number, reader, scan, size)
        for number, mark in enumerate(patient.marks):
            if reader in mark.readers:
                _add_mark(session, mark, f"{reader}{number}", scan, size)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _paths(scan: Scan) -> list[Path]:
    return [*(one.path for one in scan.slices), scan.annotations]


def _write(patient: Patient, *, folder: Path, seed: int, size: int, heights: list[float], spacing_mm: float) -> None:
    scan = layout(folder, seed, patient, heights)
    own = generator(seed, "ct scanner", patient.patient_id)
    kernel, signed = KERNELS[own.integers(len(KERNELS))], bool(own.integers(2))
    for one in scan.slices:
        if not one.path.exists():
            dicom_writer.write_slice(
                one.path,
                ct_phantoms.draw(seed, patient, one.z_mm, size=size),
                patient_id=patient.patient_id,
                study_uid=scan.study_uid,
                series_uid=scan.series_uid,
                sop_uid=one.sop_uid,
                z_mm=one.z_mm,
                instance=one.instance,
                spacing_mm=(ct_phantoms.FIELD_MM / size,) * 2,
                thickness_mm=spacing_mm,
                signed=signed,
                kernel=kernel,
            )
    if not scan.annotations.exists():
        files.write_text(scan.annotations, annotations(seed, patient, scan, size))


def _write_film(folder: Path, seed: int, patient: Patient) -> None:
    """The chest film that some patients of LIDC-IDRI have beside the CT: no CT, and to be passed over."""
    identity = ("ct phantom", seed, patient.patient_id, "film")
    study_uid, series_uid = dicom_writer.uid(*identity, "study"), dicom_writer.uid(*identity, "series")
    path = folder / patient.patient_id / study_uid / series_uid / "1-1.dcm"
    if path.exists():
        return
    film = phantoms.draw(seed, patient.patient_id, f"{patient.patient_id}-film", sex=patient.sex, lesion=False)
    names = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": dicom_writer.uid(*identity)}
    with files.replacing(path) as beside:
        dicom_writer.write_slice(
            beside, film.astype(np.int16), patient_id=patient.patient_id, z_mm=0, intercept=0, **names
        )
        dataset = pydicom.dcmread(beside)
        dataset.Modality, dataset.ImageType = "CR", ["ORIGINAL", "PRIMARY"]
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "RescaleType"):
            del dataset[tag]
        dataset.save_as(beside, enforce_file_format=True)


def _add_nodule(
    session: ElementTree.Element, seed: int, patient: Patient, number: int, reader: int, scan: Scan, size: int
) -> None:
    masks = [(one, ct_phantoms.mask(seed, patient, number, one.z_mm, reader=reader, size=size)) for one in scan.slices]
    masks = [(one, mask) for one, mask in masks if mask.any()]
    if not masks:
        return
    element = _add(session, "unblindedReadNodule")
    _add(element, noduleID=f"Nodule {number + 1:03d}")
    nodule, chance = patient.nodules[number], generator(seed, "ct ratings", patient.patient_id, number, reader)
    malignancy = int(np.clip(nodule.malignancy + chance.integers(-1, 2), 1, 5))
    _add(
        _add(element, "characteristics"),
        subtlety=int(np.clip(2 + nodule.diameter // 6 + chance.integers(-1, 2), 1, 5)),
        internalStructure=4 if nodule.cavity else 1,
        calcification=6,
        sphericity=int(chance.integers(3, 6)),
        margin=int(chance.integers(3, 6)),
        lobulation=int(np.clip(malignancy - chance.integers(0, 3), 1, 5)),
        spiculation=int(np.clip(malignancy - chance.integers(0, 2), 1, 5)) if nodule.malignancy >= 4 else 1,
        texture=5,
        malignancy=malignancy,
    )
    for one, mask in masks:
        for inclusion, points in outlines(mask):
            roi = _add(element, "roi")
            _add(roi, imageZposition=one.z_mm, imageSOP_UID=one.sop_uid, inclusion=str(inclusion).upper())
            for x, y in points:
                _add(_add(roi, "edgeMap"), xCoord=x, yCoord=y)


def _add_mark(session: ElementTree.Element, mark: Mark, name: str, scan: Scan, size: int) -> None:
    one = min(scan.slices, key=lambda one: abs(one.z_mm - mark.center[2]))
    x, y = (round(mm * size / ct_phantoms.FIELD_MM + (size - 1) / 2) for mm in mark.center[:2])
    place = {"imageZposition": one.z_mm, "imageSOP_UID": one.sop_uid}
    if mark.kind == "non-nodule":
        element = _add(session, "nonNodule")
        _add(element, nonNoduleID=name, **place)
        _add(_add(element, "locus"), xCoord=x, yCoord=y)
        return
    element = _add(session, "unblindedReadNodule")
    _add(element, noduleID=name)
    roi = _add(element, "roi")
    _add(roi, **place, inclusion="TRUE")
    _add(_add(roi, "edgeMap"), xCoord=x, yCoord=y)


def _add(parent: ElementTree.Element, tag: str | None = None, **texts: object) -> ElementTree.Element:
    """Add a child of that tag and return it; or children with texts, and return the parent."""
    if tag:
        return ElementTree.SubElement(parent, tag)
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = str(text)
    return parent


def _around(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The pixels (x, y) just outside a mask without holes, in order around it, the first again at the end.

    A walk along the mask's edge, pixel by pixel with the outside at the left hand.
    """
    inside = {(x, y) for y, x in np.argwhere(mask).tolist()}
    first = min(inside, key=lambda pixel: (pixel[1], pixel[0]))  # nothing of the mask above it
    (x, y), (dx, dy) = first, (1, 0)
    points: list[tuple[int, int]] = []
    while True:
        left = x + dy, y - dx
        if left in inside:
            (x, y), (dx, dy) = left, (dy, -dx)
        else:
            if not points or points[-1] != left:
                points.append(left)
            if (x + dx, y + dy) in inside:
                x, y = x + dx, y + dy
            else:
                dx, dy = -dy, dx
        if (x, y) == first and (dx, dy) == (1, 0):
            return points if points[0] == points[-1] else [*points, points[0]]


@register
class CtPhantoms(Reader):
    """CT phantoms, written as LIDC-IDRI is distributed and read as it is."""

    name = "ct-phantoms"
    help = f"the word ct-phantoms: CT scans that are drawn; task {TASK}"
    tasks = (TASK,)

    def claims(self, data: str) -> bool:
        """Whether it is that word."""
        return data == self.name

    def open(self, request: Request) -> Cohort:
        """Write the scans that are not yet there into the cache, and read them."""
        root = write(request.cache, patients=request.patients, seed=request.seed, workers=request.workers)
        cohort = LidcIdri().open(request.replaced(data=str(root)))
        return replace(cohort, name=self.name, notes=[DISCLAIMER, *cohort.notes], caution=CAUTION)

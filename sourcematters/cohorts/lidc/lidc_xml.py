"""LIDC-IDRI's annotations as TCIA distributes them: XML, one file a read of one CT series.

Up to four radiologists read each scan. Each marked nodules of 3 mm and more by outlines and ratings, smaller
ones by a point, and whatever else looked like a nodule (a non-nodule) by a point. What a "read" holds is what
each of them said last, after seeing the others' marks (McNitt-Gray et al., Academic Radiology 14(12), 2007;
Armato et al., Medical Physics 38(2), 2011, https://doi.org/10.1118/1.3528204). What the outlines enclose, and
which of them are the same nodule, is told by `nodules`.

Nothing here names a patient or a pixel size: the series and its images do, by their UIDs.
"""

import contextlib
import gc
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from sourcematters.errors import StudyError

CT_READ = "{http://www.nih.gov}LidcReadMessage"
CHEST_FILM_READ = "{http://www.nih.gov/idri}IdriReadMessage"
NS = "{http://www.nih.gov}"
MAX_BYTES = 16 * 2**20  # of one file; the largest of the release has 2.2 MB
MAX_COORDINATE = 1023  # px; LIDC-IDRI's slices are 512 px wide, one point of the release is at x = 534

RECIPE = """Give the folder with LIDC-IDRI's XML files anywhere below it (TCIA's DICOM tree has them beside the
slices), or LIDC-XML-only.zip, "Radiologist Annotations/Segmentations" on
https://www.cancerimagingarchive.net/collection/lidc-idri/."""


@dataclass(frozen=True, slots=True)
class Contour:
    """One outline, or one point, on one slice.

    `points` is int32 (n, 2), columns x (to the right) and y (down) in pixels, the first pixel being 0; `z_mm` is
    the slice's position as the file has it: `sop_uid` names the slice, while in four of the release's files a
    position belongs to two slices, or a slice has two. `inclusion` is False where the outline cuts a hole into
    the nodule.
    """

    sop_uid: str
    z_mm: float
    inclusion: bool
    points: np.ndarray


@dataclass(frozen=True, slots=True)
class Nodule:
    """What one reader marked as one finding.

    `kind` is "nodule" (3 mm and more: some contour has more than one point), "small" (a nodule below 3 mm, one
    point) or "non-nodule". `malignancy` is 1 (highly unlikely) to 5 (highly suspicious), or None where it was not
    rated; the other characteristics that readers rate are not read.
    """

    id: str
    kind: str
    contours: tuple[Contour, ...]
    malignancy: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """All findings in one CT series: `readers[i]` is what the i-th reading session of `file` marked.

    Readers are anonymous, and the first of one read is not the first of another.
    """

    file: str
    series_uid: str
    study_uid: str
    readers: tuple[tuple[Nodule, ...], ...]


@dataclass(frozen=True)
class Annotations:
    """Reads, one a series, sorted by file, and what became of every other file.

    `problems` has one row (`file`, `what`) for each file that was left out, whole: a read that lacks an outline
    would make a nodule look less agreed on than it is. `duplicates` counts files that repeat another's read,
    `chest_films` the reads of chest X-rays. files = reads + duplicates + chest films + problems.
    """

    reads: list[Read]
    problems: pd.DataFrame
    files: int
    duplicates: int
    chest_films: int


def read(source: str | Path) -> Annotations:
    """Read every XML file in `source`, a folder or a zip file; files are named relative to it.

    A file that is not a read as LIDC-IDRI has them (cut off, not UTF-8, with a DTD, above `MAX_BYTES`, an
    impossible coordinate, a second read of a series that says something else, ...) becomes a row of `problems`.

    Raises StudyError if there is no such source, it is no zip file, or it holds no XML file.
    """
    reads: dict[str, Read] = {}
    problems, counts = [], {"files": 0, "duplicates": 0, "chest_films": 0}
    for file, data in _files(Path(source)):
        counts["files"] += 1
        try:
            if isinstance(data, StudyError):
                raise data
            new = _parse(file, data)
            if new is None:
                counts["chest_films"] += 1
                continue
            old = reads.setdefault(new.series_uid, new)
            if old is new:
                continue
            if _content(old) != _content(new):
                raise StudyError(f"another read of the series in {old.file}, and not the same; that one is used")
            counts["duplicates"] += 1
        except StudyError as error:
            problems.append((file, str(error)))
    if not counts["files"]:
        raise StudyError(f"{source}: no XML file in it.\n{RECIPE}")
    return Annotations(list(reads.values()), pd.DataFrame(problems, columns=["file", "what"], dtype=object), **counts)


def _files(source: Path) -> Iterator[tuple[str, bytes | StudyError]]:
    """Name and content of each XML file, sorted by name; an error where the content is not to be had."""
    with contextlib.ExitStack() as stack:
        if source.is_dir():
            found = [Path(folder, name) for folder, _, names in os.walk(source, onerror=_refuse) for name in names]
            files = {path.relative_to(source).as_posix(): partial(_open_regular, path) for path in found}
        elif source.is_file():
            try:
                archive = stack.enter_context(zipfile.ZipFile(source))
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise StudyError(
                    f"{source}: not a readable zip file ({error}). Download it again.\n{RECIPE}"
                ) from error
            files = {member.filename: partial(archive.open, member) for member in archive.infolist()}
        else:
            raise StudyError(f"{source}: there is no such file or folder.\n{RECIPE}")
        for name in sorted(name for name in files if name.lower().endswith(".xml")):
            try:
                with files[name]() as stream:
                    data = _limited(stream)
            # RuntimeError: encrypted, or an unknown compression; ValueError: a broken header, or our own refusal.
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
                yield name, StudyError(f"not readable: {error}")
            else:
                yield name, data


def _refuse(error: OSError) -> None:
    raise StudyError(f"{error.filename}: folder not readable ({error.strerror}). Change its permissions.") from error


def _open_regular(path: Path) -> IO[bytes]:
    if not path.is_file():
        raise StudyError("not a regular file")
    return path.open("rb")


def _limited(stream: IO[bytes]) -> bytes:
    # What a zip's directory says about sizes is not to be relied on, so the limit is on what comes out.
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise StudyError(f"larger than {MAX_BYTES:,} bytes, as no file of LIDC-IDRI is")
    return data


def _parse(file: str, data: bytes) -> Read | None:
    """A CT read, or None for a read of a chest film. Raises StudyError, without the file's name, for all else."""
    # Text instead of bytes makes the parser ignore the encoding a file declares, but where zeros tell of UTF-16:
    # either could hide a DTD from the search below. Without a DTD there are no entities to expand or to fetch.
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"not UTF-8, as LIDC-IDRI's files are ({error.reason} at byte {error.start})") from error
    if "\0" in text:
        raise StudyError("not UTF-8 text, as LIDC-IDRI's files are (it has zero bytes)")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise StudyError("has a document type definition; LIDC-IDRI's files have none, and it could do harm")
    try:
        with _no_collection():
            root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise StudyError(f"not XML, or cut off ({error})") from error
    if root.tag == CHEST_FILM_READ:
        return None
    if root.tag != CT_READ:
        raise StudyError(f"its root is {_short(root.tag)}, neither LIDC's nor IDRI's read message")
    sessions = root.findall(NS + "readingSession")
    if not sessions:
        raise StudyError("no readingSession in it")
    header = root.find(NS + "ResponseHeader")
    if header is None:
        raise StudyError("no ResponseHeader in it")
    series_uid, study_uid = (_uid(header, name, "ResponseHeader") for name in ("SeriesInstanceUid", "StudyInstanceUID"))
    readers = tuple(_findings(session, f"readingSession {number}") for number, session in enumerate(sessions, 1))
    return Read(file, series_uid, study_uid, readers)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection: a tree has no cycles, and to search each for them takes twice the parsing itself."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _findings(session: ElementTree.Element, where: str) -> tuple[Nodule, ...]:
    found = []
    for element in session:
        if element.tag == NS + "unblindedReadNodule":
            name = _text(element, "noduleID", where)
            here = f"{where}, nodule {_short(name)}"
            contours = tuple(_contour(roi, "edgeMap", here) for roi in element.findall(NS + "roi"))
            if not contours:
                raise StudyError(f"{here}: no roi")
            kind = "nodule" if any(len(contour.points) > 1 for contour in contours) else "small"
            found.append(Nodule(name, kind, contours, _malignancy(element, here)))
        elif element.tag == NS + "nonNodule":
            name = _text(element, "nonNoduleID", where)
            contour = _contour(element, "locus", f"{where}, non-nodule {_short(name)}")
            found.append(Nodule(name, "non-nodule", (contour,)))
    return tuple(found)


def _contour(element: ElementTree.Element, edge: str, where: str) -> Contour:
    inclusion = _text(element, "inclusion", where) if edge == "edgeMap" else "TRUE"
    if inclusion not in ("TRUE", "FALSE"):
        raise StudyError(f"{where}: inclusion is {_short(inclusion)}, neither TRUE nor FALSE")
    position = _text(element, "imageZposition", where)
    try:
        z_mm = float(position)
    except ValueError:
        z_mm = math.nan
    if not math.isfinite(z_mm):
        raise StudyError(f"{where}: imageZposition is {_short(position)}, not a number of mm")
    points = [[_pixel(point, axis, where) for axis in ("xCoord", "yCoord")] for point in element.findall(NS + edge)]
    if not points:
        raise StudyError(f"{where}: no {edge}")
    sop_uid = _uid(element, "imageSOP_UID", where)
    return Contour(sop_uid, z_mm, inclusion == "TRUE", np.array(points, dtype=np.int32))


def _malignancy(nodule: ElementTree.Element, where: str) -> int | None:
    """1 to 5; None where it was not given, or is 0, as all ratings of a few nodules are."""
    text = nodule.findtext(f"{NS}characteristics/{NS}malignancy", "0").strip()
    if not re.fullmatch("[0-5]", text):
        raise StudyError(f"{where}: malignancy is {_short(text)}, not a rating from 1 to 5")
    return int(text) or None


def _pixel(point: ElementTree.Element, axis: str, where: str) -> int:
    text = point.findtext(NS + axis, "").strip()
    # isdecimal alone would pass other scripts' digits, and int alone 1_0.
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and int(text) <= MAX_COORDINATE):
        raise StudyError(f"{where}: {axis} is {_short(text)}, not a pixel from 0 to {MAX_COORDINATE}")
    return int(text)


def _uid(element: ElementTree.Element, name: str, where: str) -> str:
    text = _text(element, name, where)
    if not re.fullmatch(r"[0-9.]{1,64}", text):
        raise StudyError(f"{where}: {name} is {_short(text)}, not a DICOM UID")
    return text


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    text = element.findtext(NS + name, "").strip()
    if not text:
        raise StudyError(f"{where}: no {name}")
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _content(read: Read) -> list[tuple]:
    """All that a read says, to compare it with another's; arrays do not compare by ==."""
    return [(read.study_uid, len(read.readers))] + [
        (i, n.id, n.kind, n.malignancy, *((c.sop_uid, c.z_mm, c.inclusion, c.points.tolist()) for c in n.contours))
        for i, nodules in enumerate(read.readers)
        for n in nodules
    ]

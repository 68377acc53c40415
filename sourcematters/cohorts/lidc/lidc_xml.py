"""LIDC-IDRI's annotations as TCIA distributes them: XML, one file a read of one CT series.

Up to four radiologists read each scan. Each marked nodules of 3 mm and more by outlines and ratings, smaller
ones by a point, and whatever else looked like a nodule (a non-nodule) by a point. A read holds what each of them
said last, after seeing the others' marks (McNitt-Gray et al., Academic Radiology 14(12), 2007;
Armato et al., Medical Physics 38(2), 2011, https://doi.org/10.1118/1.3528204).
"""

import contextlib
import gc
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from sourcematters.errors import StudyError
from sourcematters.files import opened

CT_READ = "{http://www.nih.gov}LidcReadMessage"
CHEST_FILM_READ = "{http://www.nih.gov/idri}IdriReadMessage"
NS = "{http://www.nih.gov}"
MARKS = {
    NS + "unblindedReadNodule": ("nodule", "noduleID", NS + "roi", "edgeMap"),
    NS + "nonNodule": ("non-nodule", "nonNoduleID", ".", "locus"),
}
"""Of each element that marks a finding: its kind, the names of its name, its outlines and their points."""
MAX_BYTES = 16 * 2**20  # of one file; the largest of the release has 2.2 MB
MAX_TOTAL = 2**31  # bytes of all files, unpacked; the release has 174 million

UID = re.compile("[0-9.]{1,64}"), "a DICOM UID"
PIXEL = re.compile("[0-9]{1,3}|10[01][0-9]|102[0-3]"), "a pixel from 0 to 1023"  # the release reaches x = 534
NAME = re.compile(".+"), "a name"
FORMS = {
    "SeriesInstanceUid": UID,
    "StudyInstanceUID": UID,
    "noduleID": NAME,
    "nonNoduleID": NAME,
    "malignancy": (re.compile("[0-5]"), "a rating from 1 to 5"),
    "imageSOP_UID": UID,
    "imageZposition": (re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,2})?", re.I), "a number of mm"),
    "inclusion": (re.compile("TRUE|FALSE"), "TRUE or FALSE"),
    "xCoord": PIXEL,
    "yCoord": PIXEL,
}
"""Which text an element may have: a pattern, and what that is in words."""

RECIPE = """Give the folder with LIDC-IDRI's XML files anywhere below it (TCIA's DICOM tree has them beside the
slices), or LIDC-XML-only.zip, "Radiologist Annotations/Segmentations" on
https://www.cancerimagingarchive.net/collection/lidc-idri/."""


@dataclass(frozen=True, slots=True)
class Contour:
    """One outline, or one point, on one slice.

    `points` is int32 (n, 2), columns x (to the right) and y (down) in pixels, the first pixel being 0; `z_mm` is
    the slice's position as the file has it, which in four of the release's files is not unique: `sop_uid` names the
    slice. `inclusion` is False where the outline cuts a hole into the nodule.
    """

    sop_uid: str
    z_mm: float
    inclusion: bool
    points: np.ndarray


@dataclass(frozen=True, slots=True)
class Nodule:
    """What one reader marked as one finding.

    `kind` is "nodule" (3 mm and more: some contour has more than one point), "small" (below 3 mm, one point) or
    "non-nodule". `malignancy` is 1 (highly unlikely) to 5 (highly suspicious), or None where it was not rated, or as 0.
    """

    id: str
    kind: str
    contours: tuple[Contour, ...]
    malignancy: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """All findings in one CT series: `readers[i]` is what the i-th (anonymous) reader marked."""

    file: str
    series_uid: str
    study_uid: str
    readers: tuple[tuple[Nodule, ...], ...]


@dataclass(frozen=True)
class Annotations:
    """Reads, one a series, sorted by file, and what became of every other file.

    `problems` has one row (`file`, `what`) for each file left out, whole: a read that lacks an outline would make a
    nodule look less agreed on than it is. `duplicates` counts files that repeat another's read.
    """

    reads: list[Read]
    problems: pd.DataFrame
    files: int
    duplicates: int
    chest_films: int


def read(source: str | Path) -> Annotations:
    """Read every XML file in `source`, a folder or a zip file; files are named relative to it.

    A file that is not a read as LIDC-IDRI has them (cut off, an impossible coordinate, a second read of a series that
    says something else, ...) becomes a row of `problems`. Raises StudyError if there is no such source or no XML file.
    """
    reads: dict[str, Read] = {}
    problems, counts = [], {"files": 0, "duplicates": 0, "chest_films": 0}
    for file, data in _files(Path(source)):
        counts["files"] += 1
        try:
            new = _parse(file, data)
            if new is None:
                counts["chest_films"] += 1
            elif (old := reads.setdefault(new.series_uid, new)) is not new:
                if _content(old) != _content(new):
                    raise StudyError(f"another read of the series in {old.file}, and not the same; that one is used")
                counts["duplicates"] += 1
        except StudyError as error:
            problems.append((file, str(error)))
    if not counts["files"]:
        raise StudyError(f"{source}: no XML file in it.\n{RECIPE}")
    return Annotations(list(reads.values()), pd.DataFrame(problems, columns=["file", "what"], dtype=object), **counts)


def _files(source: Path) -> Iterator[tuple[str, bytes | Exception]]:
    """Name and content of each XML file, sorted by name; an error where the content is not to be had."""
    files: dict[str, Callable[[], IO[bytes]]]
    with contextlib.ExitStack() as stack:
        if source.is_dir():
            found = [Path(folder, name) for folder, _, names in os.walk(source, onerror=_refuse) for name in names]
            files = {path.relative_to(source).as_posix(): partial(opened, path) for path in found}
        else:
            try:
                archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(opened(source))))
            except (zipfile.BadZipFile, OSError, ValueError) as error:
                raise StudyError(f"{source}: neither a folder nor a readable zip file ({error}).\n{RECIPE}") from error
            files = {name: partial(archive.open, name) for name in archive.namelist()}
        unpacked = 0
        for name in sorted(name for name in files if name.lower().endswith(".xml")):
            try:
                with files[name]() as stream:
                    data = stream.read(MAX_BYTES + 1)  # what a zip's directory says of sizes may be wrong
            # RuntimeError: encrypted, or an unknown compression; ValueError: a broken header.
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
                yield name, error
                continue
            unpacked += len(data)
            if unpacked > MAX_TOTAL:
                raise StudyError(f"{source}: its XML files are over {MAX_TOTAL:,} bytes, as the release's never are.")
            yield name, data


def _refuse(error: OSError) -> None:
    raise StudyError(f"{error.filename}: folder not readable ({error.strerror}). Change its permissions.") from error


def _parse(file: str, data: bytes | Exception) -> Read | None:
    """A CT read, or None for a read of a chest film. Raises StudyError, without the file's name, for all else."""
    if isinstance(data, Exception):
        raise StudyError(f"not readable: {data}")
    if len(data) > MAX_BYTES:
        raise StudyError(f"larger than {MAX_BYTES:,} bytes, as no file of LIDC-IDRI is")
    gc.disable()  # a tree has no cycles, and to search each for them takes twice the parsing itself
    try:
        # Text instead of bytes makes the parser ignore the encoding a file declares, but where zeros tell of UTF-16:
        # either could hide a DTD from this search. Without a DTD there are no entities to expand or to fetch.
        text = data.decode("utf-8-sig")
        if harmful := [mark for mark in ("\0", "<!DOCTYPE", "<!ENTITY") if mark in text]:
            raise StudyError(f"has {harmful[0]!r} in it; LIDC-IDRI's files never have, and it could do harm")
        root = ElementTree.fromstring(text)
    except UnicodeDecodeError as error:
        raise StudyError(f"not UTF-8, as LIDC-IDRI's files are ({error.reason} at byte {error.start})") from error
    except ElementTree.ParseError as error:
        raise StudyError(f"not XML, or cut off ({error})") from error
    finally:
        gc.enable()
    if root.tag == CHEST_FILM_READ:
        return None
    if root.tag != CT_READ:
        raise StudyError(f"its root is {root.tag[:60]!r}, neither LIDC's nor IDRI's read message")
    header, sessions = root.find(NS + "ResponseHeader"), root.findall(NS + "readingSession")
    if header is None or not sessions:
        raise StudyError("no ResponseHeader, or no readingSession, in it")
    series_uid, study_uid = (
        _text(header, name, "ResponseHeader") for name in ("SeriesInstanceUid", "StudyInstanceUID")
    )
    readers = tuple(_findings(session, f"readingSession {number}") for number, session in enumerate(sessions, 1))
    return Read(file, series_uid, study_uid, readers)


def _findings(session: ElementTree.Element, where: str) -> tuple[Nodule, ...]:
    found = []
    for element in session:
        if element.tag not in MARKS:
            continue
        kind, title, outline, edge = MARKS[element.tag]
        name = _text(element, title, where)
        here = f"{where}, {kind} {name[:60]!r}"
        contours = tuple(_contour(roi, edge, here) for roi in element.findall(outline))
        if not contours:
            raise StudyError(f"{here}: no roi")
        if kind == "nodule" and all(len(contour.points) == 1 for contour in contours):
            kind = "small"
        ratings = element.find(NS + "characteristics")
        malignancy = 0 if ratings is None else int(_text(ratings, "malignancy", here, "0"))
        found.append(Nodule(name, kind, contours, malignancy or None))
    return tuple(found)


def _contour(element: ElementTree.Element, edge: str, where: str) -> Contour:
    inclusion = edge == "locus" or _text(element, "inclusion", where) == "TRUE"
    z_mm = float(_text(element, "imageZposition", where))
    points = [[int(_text(p, axis, where)) for axis in ("xCoord", "yCoord")] for p in element.findall(NS + edge)]
    if not points:
        raise StudyError(f"{where}: no {edge}")
    return Contour(_text(element, "imageSOP_UID", where), z_mm, inclusion, np.array(points, dtype=np.int32))


def _text(element: ElementTree.Element, name: str, where: str, default: str = "") -> str:
    """The text of a child, which must have the form that FORMS gives it; `default` if there is no such child."""
    text = element.findtext(NS + name, default).strip()
    form, words = FORMS[name]
    if not form.fullmatch(text):
        raise StudyError(f"{where}: {name} is {text[:60]!r}, not {words}")
    return text


def _content(read: Read) -> str:
    """All that a read says, to compare it with another's; arrays do not compare by ==."""
    return json.dumps(asdict(replace(read, file="")), default=np.ndarray.tolist)

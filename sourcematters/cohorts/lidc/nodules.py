"""What LIDC-IDRI's outlines enclose, and which readers' outlines are the same nodule.

An outline is drawn through the first pixels outside the nodule (Armato et al., Medical Physics 38(2), 2011,
https://doi.org/10.1118/1.3528204; McNitt-Gray et al., Academic Radiology 14(12), 2007), so the nodule is the
pixels strictly inside it. The files do not say which of the readers' nodules are one and the same: here, those
that overlap on a slice.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sourcematters.cohorts.lidc.lidc_xml import Contour, Nodule, Read
from sourcematters.errors import StudyError


def mask(contours: Iterable[Contour], shape: tuple[int, int], *, outline: bool = False) -> np.ndarray:
    """Boolean (H, W) mask of what `contours`, one reader's of a nodule on one slice, enclose.

    The pixels inside any contour with `inclusion`, less those inside any other. A contour encloses the pixels
    whose centres lie strictly inside the closed polygon through its points (nonzero winding number), with
    `outline` also those on it. A single point thus encloses nothing, or with `outline` itself. That a hole's
    outline lies outside the hole, on the nodule, is our reading: the sources speak of nodules only.

    Raises StudyError if the contours are of several slices, or reach beyond `shape`.
    """
    contours = list(contours)
    if len({contour.sop_uid for contour in contours}) > 1:
        raise StudyError("the contours are of several slices: make a mask of each, by its sop_uid.")
    for contour in contours:
        if (contour.points.max(0) >= (shape[1], shape[0])).any():
            x, y = contour.points.max(0)
            raise StudyError(
                f"slice {contour.sop_uid}: an outline reaches x = {x}, y = {y}, beyond an image of {shape[1]} x "
                f"{shape[0]} px. Is it the slice that was annotated, at its full size?"
            )
    result = np.zeros(shape, bool)
    for value in (True, False):
        for contour in contours:
            if contour.inclusion == value:
                inside, x, y = _filled(contour.points, outline)
                result[y : y + inside.shape[0], x : x + inside.shape[1]][inside] = value
    return result


@dataclass(frozen=True, slots=True)
class Group:
    """One nodule of 3 mm or more: `marks` are (reader, what he outlined), by reader, one or more of each."""

    series_uid: str
    marks: tuple[tuple[int, Nodule], ...]

    @property
    def readers(self) -> int:
        """How many readers outlined it, each counted once."""
        return len({reader for reader, _ in self.marks})

    @property
    def malignancy(self) -> float | None:
        """Median over the readers who rated it (the mean of one who did so twice), 1 to 5; None if nobody did."""
        ratings: dict[int, list[int]] = {}
        for reader, nodule in self.marks:
            if nodule.malignancy is not None:
                ratings.setdefault(reader, []).append(nodule.malignancy)
        return float(statistics.median(map(statistics.fmean, ratings.values()))) if ratings else None

    def slices(self) -> pd.DataFrame:
        """One row a slice on which somebody enclosed a pixel, by `z_mm`, lowest first.

        Columns: `sop_uid`, `z_mm` (the first the file gives), `readers` (how many enclosed a pixel there),
        `area_px` (median over them), `diameter_px` (of the disc of that area: times the pixel spacing it is mm),
        `x0, y0, x1, y1` (box around the union, all four inside it).
        """
        heights = {c.sop_uid: c.z_mm for _, nodule in reversed(self.marks) for c in reversed(nodule.contours)}
        rows = []
        for sop_uid, z_mm in heights.items():
            enclosed = [_pixels(contours) for contours in _by_reader(self, sop_uid).values()]
            enclosed = [pixels for pixels in enclosed if len(pixels)]
            if enclosed:
                area = float(np.median([len(pixels) for pixels in enclosed]))
                union = np.concatenate(enclosed)
                diameter = 2 * np.sqrt(area / np.pi)
                rows.append((sop_uid, z_mm, len(enclosed), area, diameter, *union.min(0), *union.max(0)))
        columns = ["sop_uid", "z_mm", "readers", "area_px", "diameter_px", "x0", "y0", "x1", "y1"]
        return pd.DataFrame(rows, columns=columns).sort_values(["z_mm", "sop_uid"], ignore_index=True)


def group(read: Read) -> list[Group]:
    """The read's nodules of 3 mm or more, each with everybody's outlines of it, in the order of the first mark.

    Two marks are of one nodule if on any slice the pixels that they enclose, outlines included, share one; so is
    what is linked by a third. With the outlines, since the smallest nodules enclose a pixel or two and readers
    differ by as much (in the release, the groups are the same without). One reader's two marks are linked
    likewise, and he counts once in `Group.readers`.
    """
    marks = [(reader, n) for reader, nodules in enumerate(read.readers) for n in nodules if n.kind == "nodule"]
    slices: dict[str, list[tuple[int, np.ndarray]]] = {}
    for number, (_, nodule) in enumerate(marks):
        for sop_uid, contours in _by_slice(nodule).items():
            slices.setdefault(sop_uid, []).append((number, _pixels(contours, outline=True)))
    leader = list(range(len(marks)))
    for found in slices.values():
        for first, second in _sharing(found):
            old, new = sorted((leader[first], leader[second]), reverse=True)
            leader = [new if one == old else one for one in leader]
    groups: dict[int, list] = {}
    for mark, one in zip(marks, leader, strict=True):
        groups.setdefault(one, []).append(mark)
    return [Group(read.series_uid, tuple(found)) for found in groups.values()]


def _sharing(found: list[tuple[int, np.ndarray]]) -> list[tuple[int, int]]:
    """Pairs of numbers whose pixels have one in common: not all pairs, but enough to link all that share any."""
    pixels = np.concatenate([pixels for _, pixels in found])
    numbers = np.repeat([number for number, _ in found], [len(pixels) for _, pixels in found])
    order = np.lexsort(pixels.T)
    same = (pixels[order][1:] == pixels[order][:-1]).all(axis=1)
    pairs = np.column_stack([numbers[order][:-1], numbers[order][1:]])[same]
    return [tuple(pair) for pair in np.unique(pairs, axis=0).tolist()]


def _by_slice(nodule: Nodule) -> dict[str, list[Contour]]:
    slices: dict[str, list[Contour]] = {}
    for contour in nodule.contours:
        slices.setdefault(contour.sop_uid, []).append(contour)
    return slices


def _by_reader(group: Group, sop_uid: str) -> dict[int, list[Contour]]:
    readers: dict[int, list[Contour]] = {}
    for reader, nodule in group.marks:
        for contour in nodule.contours:
            if contour.sop_uid == sop_uid:
                readers.setdefault(reader, []).append(contour)
    return readers


def _pixels(contours: list[Contour], *, outline: bool = False) -> np.ndarray:
    """Columns x and y, int (n, 2), of the pixels in `mask`, without need of the image's size."""
    first = np.min([contour.points.min(0) for contour in contours], axis=0)
    width, height = np.max([contour.points.max(0) for contour in contours], axis=0) - first + 1
    near = [Contour(c.sop_uid, c.z_mm, c.inclusion, c.points - first) for c in contours]
    return np.argwhere(mask(near, (height, width), outline=outline))[:, ::-1] + first


def _filled(points: np.ndarray, outline: bool) -> tuple[np.ndarray, int, int]:
    """Boolean (h, w) of the pixels inside the polygon, and x and y of its corner.

    Exact, in integers: each edge adds its direction to the winding number of all pixels right of it.
    """
    corner = points.min(0)
    points = points - corner
    width, height = points.max(0) + 1
    # Cut at each pixel's centre that an edge runs through, so that these are the only ones on the polygon.
    steps = np.roll(points, -1, axis=0) - points
    parts = np.maximum(np.gcd(steps[:, 0], steps[:, 1]), 1)
    start = np.repeat(points, parts, axis=0) + np.repeat(steps // parts[:, None], parts, axis=0) * _counts(parts)
    step = np.roll(start, -1, axis=0) - start

    rows = np.abs(step[:, 1])
    edge = np.repeat(np.arange(len(start)), rows)
    dx, dy = step[edge].T
    # An edge covers its upper end and not its lower one, or a corner would count twice.
    row = _counts(rows)[:, 0] - np.where(dy < 0, rows[edge], 0)
    column = start[edge, 0] + row * dx // dy + 1
    winding = np.zeros((height, width + 1), np.int32)
    np.add.at(winding, (start[edge, 1] + row, column), np.sign(dy))
    inside = np.cumsum(winding, axis=1)[:, :width] != 0
    inside[start[:, 1], start[:, 0]] = outline
    return inside, int(corner[0]), int(corner[1])


def _counts(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... up to each length in turn, as a column: [2, 3] gives 0 1 0 1 2."""
    return (np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths))[:, None]

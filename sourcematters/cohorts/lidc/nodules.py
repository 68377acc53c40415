"""What LIDC-IDRI's outlines enclose, and which readers' outlines are the same nodule.

An outline is drawn through the first pixels outside the nodule (Armato et al., Medical Physics 38(2), 2011,
https://doi.org/10.1118/1.3528204; McNitt-Gray et al., Academic Radiology 14(12), 2007), so the nodule is the
pixels strictly inside it. The files do not say which of the readers' nodules are one and the same: here, those
that overlap on a slice.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sourcematters.cohorts.lidc.lidc_xml import Contour, Nodule, Read


def enclosed(contours: Sequence[Contour], *, outline: bool = False) -> np.ndarray:
    """The pixels that `contours`, one reader's of a nodule on one slice, enclose: int (n, 2), columns x and y.

    Those inside any contour with `inclusion`, less those inside any other. A contour encloses the pixels
    whose centres lie strictly inside the closed polygon through its points (nonzero winding number), with
    `outline` also those on it. That a hole's outline lies outside the hole, on the nodule, is our reading: the
    sources speak of nodules only.
    """
    first = np.min([contour.points.min(0) for contour in contours], axis=0)
    width, height = np.max([contour.points.max(0) for contour in contours], axis=0) - first + 1
    mask = np.zeros((height, width), bool)
    for contour in sorted(contours, key=lambda contour: not contour.inclusion):
        inside, x, y = _filled(contour.points - first, outline)
        mask[y : y + inside.shape[0], x : x + inside.shape[1]][inside] = contour.inclusion
    return np.argwhere(mask)[:, ::-1] + first


def grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """The second of each pair, by the first, in the order of appearance."""
    found: dict[Any, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


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
        given = ((reader, nodule.malignancy) for reader, nodule in self.marks if nodule.malignancy is not None)
        ratings = grouped(given).values()
        return float(statistics.median(map(statistics.fmean, ratings))) if ratings else None

    def slices(self) -> pd.DataFrame:
        """One row a slice on which somebody enclosed a pixel, by `z_mm`, lowest first.

        Columns: `sop_uid`, `z_mm` (the first the file gives), `readers` (how many enclosed a pixel there),
        `area_px` (median over them), `diameter_px` (of the disc of that area: times the pixel spacing it is mm),
        `x0, y0, x1, y1` (box around the union, all four inside it).
        """
        heights = {c.sop_uid: c.z_mm for _, nodule in reversed(self.marks) for c in reversed(nodule.contours)}
        rows = []
        for sop_uid, z_mm in heights.items():
            here = ((reader, c) for reader, nodule in self.marks for c in nodule.contours if c.sop_uid == sop_uid)
            areas = [pixels for contours in grouped(here).values() if len(pixels := enclosed(contours))]
            if areas:
                area = float(np.median([len(pixels) for pixels in areas]))
                diameter, union = 2 * np.sqrt(area / np.pi), np.concatenate(areas)
                rows.append((sop_uid, z_mm, len(areas), area, diameter, *union.min(0), *union.max(0)))
        columns = ["sop_uid", "z_mm", "readers", "area_px", "diameter_px", "x0", "y0", "x1", "y1"]
        return pd.DataFrame(rows, columns=columns).sort_values(["z_mm", "sop_uid"], ignore_index=True)


def group(read: Read) -> list[Group]:
    """The read's nodules of 3 mm or more, each with everybody's outlines of it, in the order of the first mark.

    Two marks are of one nodule if on any slice the pixels that they enclose, outlines included, share one; so is
    what is linked by a third, also one reader's two marks. With the outlines, since the smallest nodules enclose a
    pixel or two and readers differ by as much (in the release, the groups are the same without).
    """
    marks = [(reader, n) for reader, nodules in enumerate(read.readers) for n in nodules if n.kind == "nodule"]
    if not marks:
        return []
    drawn = [
        (number, sop_uid, enclosed(contours, outline=True))
        for number, (_, nodule) in enumerate(marks)
        for sop_uid, contours in grouped((contour.sop_uid, contour) for contour in nodule.contours).items()
    ]
    numbers, slices, pixels = zip(*drawn, strict=True)
    lengths = [len(one) for one in pixels]
    table = pd.DataFrame(np.concatenate(pixels), columns=["x", "y"]).assign(slice=np.repeat(slices, lengths))
    # A graph of marks and pixels, each mark with an edge to every pixel of its own: its components are the nodules.
    edges = np.repeat(numbers, lengths), len(marks) + table.groupby(["slice", "y", "x"]).ngroup()
    graph = coo_array((np.ones(len(table)), edges), shape=(len(marks) + len(table),) * 2)
    _, component = connected_components(graph, directed=False)
    found = grouped(zip(component[: len(marks)].tolist(), marks, strict=True))
    return [Group(read.series_uid, tuple(marks_of_one)) for marks_of_one in found.values()]


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

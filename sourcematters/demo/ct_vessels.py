"""Vessels as beads: trees that branch as vessels do, and what a slice cuts of them.

A tube is a row of beads, float32 (n, 4): x, y, z and radius in mm. A tree grows every tip from the nearest vessel
on its way to the root (the greedy tree of Cuntz et al., PLoS Computational Biology 6(8), 2010), and at each fork
the cubes of the radii add up (Murray, PNAS 12(3), 1926).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Map = NDArray[np.float32]

SLICE_MM = 2.4  # what lies within so thick a slice is in it
TIP_MM = 0.55  # radius of a tree's thinnest vessels
ROOT_MM = 4.5  # and of its thickest, at most


def tree(points: NDArray[np.float64]) -> Map:
    """Beads of a tree from the first point to all others."""
    points = points[np.argsort(np.linalg.norm(points - points[0], axis=1))].astype(np.float32)
    far = np.linalg.norm(points - points[0], axis=1)
    # Not by a matrix product, whose last digits depend on the number of threads: a tree would grow otherwise.
    cost = cdist(points, points) + 0.5 * far
    cost[np.triu_indices(len(points))] = np.inf
    parent = cost[1:].argmin(1)
    for _ in range(2):  # take the kinks out: each fork moves towards its neighbours
        total, count = np.vstack([points[:1], points[parent]]), np.ones((len(points), 1), np.float32)
        np.add.at(total, parent, points[1:])
        np.add.at(count, parent, 1)
        points = 0.5 * points + 0.5 * total / count
    cubes = np.full(len(points), TIP_MM**3)
    for child in range(len(points) - 1, 0, -1):
        cubes[parent[child - 1]] += cubes[child]
    radius = np.minimum(np.cbrt(cubes), ROOT_MM)
    return tube(points[parent], points[1:], np.minimum(radius[parent], 1.25 * radius[1:]), radius[1:])


def tube(start: NDArray, end: NDArray, first: NDArray, last: NDArray) -> Map:
    """Beads, float32 (n, 4), from each start (m, 3) to its end, the radius going from `first` to `last` (m,)."""
    length = np.linalg.norm(end - start, axis=1)
    count = np.ceil(length / np.clip(0.9 * last, 0.6, 2.0)).astype(int) + 1
    which = np.repeat(np.arange(len(start)), count)
    share = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)) / (count[which] - 1).clip(1)
    share = share[:, None]
    center = start[which] * (1 - share) + end[which] * share
    radius = first[which][:, None] * (1 - share) + last[which][:, None] * share
    return np.hstack([center, radius]).astype(np.float32)


def coverage(beads: NDArray[np.float32], z: float, size: int, field_mm: float, shift: float = 0.0) -> Map:
    """How much (0..1) of each pixel, float32 (size, size), is covered by beads: rows of x, y, z and radius in mm.

    A row of beads is a tube. Those thinner than a pixel are fainter by as much.
    """
    pixel = field_mm / size
    dz = np.maximum(np.abs(beads[:, 2] - z) - SLICE_MM / 2, 0)
    cut = beads[:, 3] ** 2 - dz**2
    near = cut > 0
    column, row = (beads[near, :2] + [shift, 0]).T / pixel + (size - 1) / 2
    radius = np.sqrt(cut[near]) / pixel
    total = np.zeros(size * size, np.float32)
    for thick in (False, True):
        these = (radius > 1.2) == thick
        if not these.any():
            continue
        reach = int(np.ceil(radius[these].max() + 0.5))
        step = np.arange(-reach, reach + 1)
        columns = np.rint(column[these]).astype(int)[:, None] + step
        rows = np.rint(row[these]).astype(int)[:, None] + step
        across, down = columns - column[these][:, None], rows - row[these][:, None]
        distance = np.sqrt((across * across)[:, None, :] + (down * down)[:, :, None])
        r = radius[these][:, None, None]
        value = np.clip(np.maximum(r, 0.5) - distance + 0.5, 0, 1) * np.minimum(2 * r, 1)
        inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
        where = rows[:, :, None] * size + columns[:, None, :]
        np.maximum.at(total, where[inside], value[inside].astype(np.float32))
    return total.reshape(size, size)

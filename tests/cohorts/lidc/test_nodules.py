import math
from collections import Counter

import numpy as np
import pytest
from dicom_files import mask
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from sourcematters.cohorts.lidc import nodules
from sourcematters.cohorts.lidc.lidc_xml import Contour, Nodule, Read

SHAPE = (40, 60)


def contour(*points, sop="1.1", inclusion=True, z=-10.0):
    return Contour(sop, z, inclusion, np.array(points, np.int32))


def box(x0, y0, x1, y1, **more):
    """The four corners of a rectangle; the pixels between its sides are the enclosed ones."""
    return contour((x0, y0), (x1, y0), (x1, y1), (x0, y1), **more)


def nodule(*contours, malignancy=None, kind="nodule"):
    return Nodule("1", kind, contours, malignancy)


def grouped(*readers):
    return nodules.group(Read("a.xml", "1.2", "1.3", tuple(readers)))


def traced(inside):
    """Points in the release's manner, in order around the disc: the first pixels outside it, 8-connected."""
    around = np.zeros_like(inside)
    for dy, dx in [(0, 1), (1, 0), (0, -1), (-1, 0)]:
        around |= np.roll(inside, (dy, dx), (0, 1))
    y, x = np.nonzero(around & ~inside)
    order = np.argsort(np.arctan2(y - y.mean(), x - x.mean()))
    return [*zip(x[order].tolist(), y[order].tolist(), strict=True)]


def test_the_outline_is_outside_the_nodule():
    found = mask([box(10, 20, 15, 23)], SHAPE)
    expected = np.zeros(SHAPE, bool)
    expected[21:23, 11:15] = True
    np.testing.assert_array_equal(found, expected)
    with_outline = mask([box(10, 20, 15, 23)], SHAPE, outline=True)
    expected[20:24, 10:16] = True
    np.testing.assert_array_equal(with_outline, expected)


@pytest.mark.parametrize("radius", [1.0, 2.3, 5.5, 12.8])
@pytest.mark.parametrize("closed", [True, False])
def test_what_was_outlined_comes_back(radius, closed):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (x - 33) ** 2 + (y - 17) ** 2 <= radius**2
    points = traced(disc)
    found = mask([contour(*points, *points[:closed])], SHAPE)
    np.testing.assert_array_equal(found, disc)


@pytest.mark.parametrize("points", [[(5, 6)], [(5, 6), (9, 6)], [(5, 6), (9, 8), (5, 6)], [(5, 6), (7, 6), (6, 6)]])
def test_a_point_or_a_line_encloses_nothing(points):
    assert not mask([contour(*points)], SHAPE).any()
    drawn = mask([contour(*points)], SHAPE, outline=True)
    assert {(x, y) for y, x in np.argwhere(drawn)} >= set(points) and drawn.sum() <= 5


def test_the_smallest_outline_encloses_a_pixel():
    found = mask([contour((112, 357), (113, 356), (114, 357), (113, 358), (112, 357))], (512, 512))
    assert np.argwhere(found).tolist() == [[357, 113]]


def test_a_hole_is_cut_out_and_pieces_are_joined_in_any_order():
    pieces = [box(10, 10, 20, 20), box(30, 10, 35, 15), box(13, 13, 17, 16, inclusion=False)]
    expected = np.zeros(SHAPE, bool)
    expected[11:20, 11:20] = expected[11:15, 31:35] = True
    expected[14:16, 14:17] = False
    for order in (pieces, pieces[::-1]):
        np.testing.assert_array_equal(mask(order, SHAPE), expected)
    assert not mask([box(13, 13, 17, 16, inclusion=False)], SHAPE).any()


def winding(points, x, y):
    """Of the polygon around a pixel not on it, from the angles under which its edges are seen; None on it."""
    total = 0.0
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        cross = (x0 - x) * (y1 - y) - (x1 - x) * (y0 - y)
        dot = (x0 - x) * (x1 - x) + (y0 - y) * (y1 - y)
        if cross == 0 and dot <= 0:
            return None
        total += math.atan2(cross, dot)
    return round(total / (2 * math.pi))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=9))
def test_any_polygon_is_filled_by_its_winding_number(points):
    """Self-crossing and repeated points too: the release has over a thousand outlines that touch themselves."""
    numbers = {(x, y): winding(points, x, y) for x in range(13) for y in range(10)}
    for outline in (False, True):
        found = mask([contour(*points)], (10, 13), outline=outline)
        expected = {pixel for pixel, number in numbers.items() if (outline if number is None else number)}
        assert {(x, y) for y, x in np.argwhere(found).tolist()} == expected


def test_a_blob_as_matplotlib_and_pick_fill_it():
    """Pick's theorem: interior pixels = area - boundary pixels / 2 + 1, the area by the shoelace formula."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 12 + 4 * np.cos(3 * angle)
    points = np.column_stack([25 + radius * np.cos(angle), 19 + radius * np.sin(angle)]).round().astype(int)
    found = mask([contour(*points)], SHAPE)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    centres = np.column_stack([x.ravel(), y.ravel()])
    inside = Polygon([*points, points[0]], closed=True).contains_points(centres, radius=0).reshape(SHAPE)
    on_it = mask([contour(*points)], SHAPE, outline=True) & ~found
    np.testing.assert_array_equal(found[~on_it], inside[~on_it])
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    area = abs(np.sum(x * next_y - next_x * y)) / 2
    boundary = np.gcd(next_x - x, next_y - y).sum()
    assert found.sum() == area - boundary / 2 + 1 and on_it.sum() == boundary


def test_groups_of_readers():
    """Two nodules, beside each other; the third reader outlines the first in two pieces, the fourth nothing."""
    first = [
        nodule(box(10, 10, 20, 20), box(10, 10, 18, 18, sop="1.2", z=-8), malignancy=5),
        nodule(box(40, 10, 50, 20), malignancy=1),
    ]
    second = [nodule(box(42, 12, 52, 22)), nodule(box(11, 11, 19, 19), malignancy=2)]
    third = [
        nodule(box(8, 10, 14, 16), malignancy=1),
        nodule(box(16, 10, 22, 16), malignancy=2),
        nodule(contour((45, 15)), kind="small"),
        nodule(contour((15, 15)), kind="non-nodule"),
    ]
    left, right = grouped(first, second, third, [])
    assert [reader for reader, _ in left.marks] == [0, 1, 2, 2] and left.series_uid == "1.2"
    assert (left.readers, right.readers) == (3, 2)
    assert left.malignancy == 2  # of 5, 2 and (1 + 2) / 2
    assert right.malignancy == 1
    assert left.slices().set_index("sop_uid")["readers"].to_dict() == {"1.1": 3, "1.2": 1}


def test_extent_by_slice():
    (found,) = grouped(
        [nodule(box(10, 10, 20, 20, z=5.0), box(10, 10, 16, 14, sop="1.2", z=-2.5), contour((9, 9), sop="1.3", z=9))],
        [nodule(box(11, 12, 16, 18, z=5.0))],
    )
    low, high = found.slices().to_dict("records")
    assert low == {
        "sop_uid": "1.2", "z_mm": -2.5, "readers": 1, "area_px": 15.0, "x0": 11, "y0": 11, "x1": 15, "y1": 13,
        "diameter_px": pytest.approx(4.370194),
    }  # fmt: skip
    assert (high["sop_uid"], high["readers"], high["area_px"]) == ("1.1", 2, (9 * 9 + 4 * 5) / 2)
    assert math.pi * high["diameter_px"] ** 2 / 4 == pytest.approx(high["area_px"])
    assert [high[key] for key in ("x0", "y0", "x1", "y1")] == [11, 11, 19, 19]


@pytest.mark.parametrize(
    ("other", "one"),
    [
        (box(20, 10, 30, 20), True),  # the outlines share a side, the insides nothing
        (box(21, 10, 30, 20), False),
        (box(10, 10, 20, 20, sop="1.2"), False),  # the same place on another slice
    ],
)
def test_what_makes_two_outlines_one_nodule(other, one):
    groups = grouped([nodule(box(10, 10, 20, 20))], [nodule(other)])
    assert len(groups) == (1 if one else 2)
    assert groups[0].malignancy is None


def test_a_third_reader_links_two_and_order_does_not_matter():
    a, b, bridge = nodule(box(1, 1, 6, 6)), nodule(box(12, 1, 18, 6)), nodule(box(5, 1, 13, 6))
    other = nodule(box(1, 20, 6, 26))
    for readers in ([a], [b], [other], [bridge]), ([bridge], [other], [b], [a]), ([b, other], [a], [bridge]):
        assert sorted(group.readers for group in grouped(*readers)) == [1, 3]
    assert grouped() == grouped([], []) == []


def test_the_real_release_has_about_the_published_nodules(lidc_release):
    """Armato et al. 2011 count 2,669 lesions that anybody took for a nodule of 3 mm or more, 928 that all four did."""
    annotations, _ = lidc_release
    groups = [group for read in annotations.reads for group in nodules.group(read)]
    readers = Counter(group.readers for group in groups)
    assert len(groups) == pytest.approx(2669, rel=0.01)
    assert readers[4] == pytest.approx(928, rel=0.03)
    assert set(readers) == {1, 2, 3, 4}
    marks = sum(n.kind == "nodule" for read in annotations.reads for nodules in read.readers for n in nodules)
    assert sum(len(group.marks) for group in groups) == marks
    assert all(len(group.slices()) for group in groups[::25])

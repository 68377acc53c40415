import numpy as np
import pytest

from sourcematters.demo.ct_vessels import coverage, tree, tube


@pytest.mark.parametrize(("radius", "field"), [(12.0, 128.0), (5.0, 128.0), (9.0, 350.0)])
def test_a_bead_covers_its_cross_section(radius, field):
    pixel = field / 128
    beads = np.array([[3.3, -7.1, 10.0, radius]], np.float32)
    for dz in (0.0, 1.0, 0.5 * radius + 1.2, radius + 1.3):
        # Within half the slice's thickness, 1.2 mm, it is cut through its middle.
        cut = max(radius**2 - max(dz - 1.2, 0) ** 2, 0)
        area = coverage(beads, 10.0 + dz, 128, field).sum() * pixel**2
        assert area == pytest.approx(np.pi * cut, rel=0.05, abs=1e-6)
    centre = np.argwhere(coverage(beads, 10.0, 128, field) > 0).mean(0)
    assert (centre - 63.5) * pixel == pytest.approx([-7.1, 3.3], abs=0.5 * pixel)


def test_beads_do_not_depend_on_their_order_and_thin_ones_are_faint():
    beads = np.random.default_rng(0).uniform((-60, -60, -3, 0.3), (60, 60, 3, 4), (200, 4)).astype(np.float32)
    np.testing.assert_array_equal(coverage(beads, 0.0, 64, 200.0), coverage(beads[::-1], 0.0, 64, 200.0))
    thin = np.array([[0.0, 0.0, 0.0, 0.4]], np.float32)
    assert 0 < coverage(thin, 0.0, 64, 200.0).max() < 0.3


def test_a_tube_has_no_gaps():
    start, end = np.array([[0.0, 0.0, 0.0], [5, 5, 5]]), np.array([[10.0, 4.0, -7.0], [5, 5, 30]])
    beads = tube(start, end, np.array([2.0, 1.0]), np.array([1.0, 0.5]))
    first = beads[: np.flatnonzero((beads[:, :3] == end[0]).all(1))[0] + 1]
    assert first[0].tolist() == [0, 0, 0, 2] and first[-1].tolist() == [10, 4, -7, 1]
    for part in (first, beads[len(first) :]):
        steps = np.linalg.norm(np.diff(part[:, :3], axis=0), axis=1)
        assert (steps < 2 * part[1:, 3]).all()


def test_murrays_law_at_the_root():
    """n tips of radius .55 mm: the root's cubed radius is the sum of theirs and the forks' (one a point)."""
    points = np.random.default_rng(1).uniform(-50, 50, (40, 3))
    beads = tree(np.vstack([points.mean(0), points]))
    leaf = beads[:, 3].min()
    assert leaf == pytest.approx(0.55, rel=1e-5)
    assert beads[:, 3].max() <= 0.55 * 41 ** (1 / 3) + 1e-5


def test_a_bead_at_the_border_stays_there():
    beads = np.array([[-50.0, 0.0, 0.0, 6.0], [0.0, 80.0, 0.0, 6.0]], np.float32)
    found = coverage(beads, 0.0, 100, 100.0)
    y, x = np.nonzero(found)
    assert x.max() <= 7 and 43 <= y.min() and y.max() <= 56
    assert found.sum() == pytest.approx(np.pi * 36 / 2, rel=0.05)

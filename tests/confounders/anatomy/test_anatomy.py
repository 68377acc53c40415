"""Anatomy: a heart enlarged by its factor, tissue that costs contrast, and a mirror."""

import numpy as np
import pytest

from sourcematters.confounders import make
from sourcematters.confounders.film import SLOPE
from sourcematters.errors import StudyError


def disc(radius, side=700, y=0.62, x=0.56, inside=200, outside=60):
    """A heart of `radius` px, in the place where hearts are."""
    rows, columns = np.ogrid[:side, :side]
    away = np.hypot(rows - y * (side - 1), columns - x * (side - 1))
    return np.where(away <= radius, inside, outside).astype(np.uint8)


@pytest.mark.parametrize("factor", [1.05, 1.15, 1.5])
@pytest.mark.parametrize("mm", [30, 50])
def test_a_heart_grows_by_its_factor(factor, mm):
    heart = make("heart_size", factor=factor)
    before, after = disc(2 * mm), heart.draw(disc(2 * mm), 0)[0]
    if mm * factor < 70:  # its border, enlarged, lies within the radius
        assert (after > 130).sum() / (before > 130).sum() == pytest.approx(factor**2, rel=0.02)
    else:
        assert 1 < (after > 130).sum() / (before > 130).sum() < factor**2


def test_beyond_its_circle_and_in_its_middle_nothing_moves():
    image = np.random.default_rng(0).integers(0, 256, (500, 620), dtype=np.uint8)
    altered, mask = make("heart_size").draw(image, 0)
    assert (altered[~mask] == image[~mask]).all() and (altered != image)[mask].mean() > 0.9
    # A circle of 1.7 x 70 mm around the heart's middle, at 500 px of 350 mm.
    rows, columns = np.nonzero(mask)
    away = np.hypot(rows - 0.62 * 499, columns - 0.56 * 619)
    assert away.max() == pytest.approx(1.7 * 70 * 500 / 350, abs=1)
    assert (make("heart_size").draw(np.full_like(image, 77), 0)[0] == 77).all()


def test_nothing_is_folded_and_greys_stay_in_their_range():
    ramp = np.tile(np.linspace(0, 255, 600).astype(np.uint8), (600, 1))
    for factor in (1.15, 2, 3):
        altered = make("heart_size", factor=factor).draw(ramp, 0)[0].astype(int)
        assert (np.diff(altered, axis=1) >= 0).all()


def test_a_heart_at_the_edge_or_of_no_size():
    image = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    altered, mask = make("heart_size", x=1, y=0).draw(image, 0)
    assert mask[0, -1] and (altered[~mask] == image[~mask]).all()
    with pytest.raises(StudyError, match="heart_size: radius_mm=1 is 0.86 px of an image 300 x 300 px"):
        make("heart_size", radius_mm=1).draw(image, 0)


def exposure(grey):
    return ((255.5 - grey) / (grey + 0.5)) ** (1 / SLOPE)


@pytest.mark.parametrize(("thickness", "scatter"), [(10, 0.3), (30, 0.3), (100, 0.1)])
def test_tissue_lowers_contrast_by_the_share_of_primary_light(thickness, scatter):
    image = np.full((350, 350), 128, np.uint8)
    image[150:153, 150:153] = 150
    passes = np.exp(-0.0206 * thickness)
    primary = passes / (passes + scatter * (1 - passes))
    relative = primary + (1 - primary) * exposure(128) / exposure(150)  # of the detail's exposure
    odds = 150.5 / 105.5 * relative**-SLOPE
    altered, mask = make("soft_tissue", thickness_mm=thickness, scatter=scatter).draw(image, 0)
    assert altered[151, 151] == pytest.approx(256 * odds / (1 + odds) - 0.5, abs=0.6) and mask.all()
    assert (altered[:20] == 128).all()  # far from it: automatic exposure gives the grey that was there


def test_thicker_tissue_leaves_less_contrast():
    image = np.random.default_rng(0).integers(60, 200, (400, 300), dtype=np.uint8)
    contrast, tissue = [float(image.std())], make("soft_tissue")
    for _ in range(4):
        contrast.append(float(tissue.draw(image, 0)[0].std()))
        tissue = tissue.stronger()
    assert all(after < 0.95 * before for before, after in zip(contrast, contrast[1:], strict=False))


def test_a_black_border_scatters_no_more_than_a_lung():
    image = np.full((350, 350), 128, np.uint8)
    image[:100] = 0
    altered = make("soft_tissue").draw(image, 0)[0]
    assert (altered[:100] < 20).all() and (altered[250:] == 128).all()


@pytest.mark.parametrize("shape", [(40, 50), (40, 51)])
def test_a_mirror_shows_right_as_left_and_twice_is_nothing(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mirrored = make("mirrored_heart")
    altered, mask = mirrored.draw(image, 0)
    assert (altered == np.fliplr(image)).all() and (mirrored.draw(altered, 1)[0] == image).all()
    assert (~mask).sum() == (40 if shape[1] % 2 else 0)
    assert mirrored.stronger() is None and mirrored.carrier.label == "mirrored_heart"


@pytest.mark.parametrize("name", ["heart_size", "soft_tissue"])
def test_stronger_anatomy_changes_more(name):
    image = disc(90)
    changes = [np.abs(c.draw(image, 0)[0].astype(int) - image).mean() for c in (make(name), make(name).stronger())]
    assert changes[1] > 1.2 * changes[0] > 0

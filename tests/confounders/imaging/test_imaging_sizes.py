"""An image of half the size is altered alike: lengths are mm or shares, not pixels."""

import numpy as np
import pytest
from scipy import ndimage

from sourcematters.confounders import GREY, known, make

# JPEG's blocks are pixels, so it is left out.
WAYS = {
    "rotated": {}, "tilted": {}, "collimation": {"width_mm": 30}, "motion_blur": {"length_mm": 12, "degrees": 60},
    "gamma": {}, "window_shift": {}, "exposure": {}, "equalized": {}, "downsampled": {"side": 32},
    "ring_artefact": {"width_mm": 8}, "kernel": {"half": 0.05}, "slice_thickness": {"thickness_mm": 20, "native_mm": 4},
    "patient_table": {"shell_mm": 8}, "metal_streaks": {"diameter_mm": 30, "pieces": 1, "n0": 1e12},
}  # fmt: skip


def halved(image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape
    return image.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))


def picture(hounsfield: bool, side: int) -> np.ndarray:
    """Smooth, so that halving it loses nothing: a body in air, or a radiograph of waves."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    inside = np.clip((0.4 - np.hypot(x, 1.3 * y)) * 20 + 0.5, 0, 1)
    if hounsfield:
        return np.rint(-1000 + inside * (1040 + 150 * np.cos(25 * x) * np.cos(31 * y))).astype(np.int16)
    return np.rint(20 + inside * (120 + 60 * np.cos(50 * x + 9) * np.cos(40 * y))).astype(np.uint8)


def test_all_but_jpeg_are_asked():
    here = {name for name, kind in known().items() if ".imaging." in kind.__module__}
    assert here - set(WAYS) == {"jpeg"}


@pytest.mark.parametrize("name", WAYS)
def test_half_the_size_is_altered_alike(name):
    confounder, changes = make(name, **WAYS[name]), []
    for side in (512, 256):
        image = picture(confounder.space != GREY, side)
        made, _ = confounder.draw(image, 11)
        change = made.astype(float) - image
        changes.append(ndimage.gaussian_filter(halved(change) if side == 512 else change, 1))
    large, small = changes
    # Adaptive equalization counts the pixels of a tile in whole numbers, of which a small one has few.
    assert np.abs(large - small).mean() < (0.2 if name == "equalized" else 0.15) * np.abs(large).mean()

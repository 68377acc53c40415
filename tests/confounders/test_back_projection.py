"""Back-projection is scikit-image's, and gives back the image that was projected."""

import numpy as np
import pytest
from skimage.transform import iradon, radon

from sourcematters.confounders.back_projection import ROWS, back_projection


@pytest.mark.parametrize("side", [7, 32, 33, 2 * ROWS + 1, 128])
@pytest.mark.parametrize("views", [1, 4, 45])
def test_it_is_scikit_images_number_for_number(side, views):
    sinogram = np.random.default_rng(side).normal(size=(side, views))
    theta = np.arange(views) * (180 / views) + 0.3
    expected = iradon(sinogram, theta=theta, filter_name="ramp", circle=True)
    # Equal here; a compiler may fuse a product and a sum.
    np.testing.assert_allclose(back_projection(sinogram, theta), expected, rtol=0, atol=1e-12)


def test_a_disc_that_was_projected_comes_back():
    offset = np.arange(129) - 64
    disc = (offset[:, None] ** 2 + offset**2 <= 40**2).astype(float)
    theta = np.arange(180.0)
    found = back_projection(radon(disc, theta=theta, circle=True), theta)
    assert found[60:69, 60:69].mean() == pytest.approx(1, abs=0.01)
    assert abs(found[64, 6:14].mean()) < 0.02 and found[0, 0] == 0
